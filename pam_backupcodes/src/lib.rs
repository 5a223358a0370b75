//! `pam_backupcodes.so`: a PAM module that takes each backup code of a user once.
//!
//! [`ffi`] is the C side, and the only place with unsafe code; [`attempt`] is the way of one login through the rules
//! of `backupcodes-core`, with the answer that [`answer`] gets; [`reminder`] is what the user reads at the start of a
//! session.

mod answer;
mod attempt;
mod broker;
#[expect(unsafe_code, reason = "the one room for it: libpam, memory by the page, signals and ids")]
mod ffi;
mod limits;
mod notify;
mod origin;
mod reminder;
