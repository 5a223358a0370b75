//! `pam_backupcodes.so`: a PAM module that accepts each backup code of a user once.
//!
//! Dependencies point down: libpam calls [`entry`]; [`authenticate`] and [`session`] do the work, with [`response`], [`broker`] and
//! [`reminder`]; [`handle`] is a safe PAM handle; [`sys`] has all unsafe code.

mod authenticate;
mod broker;
mod denial;
mod entry;
mod handle;
mod reminder;
mod response;
mod session;
#[expect(unsafe_code, reason = "the only place for it: libpam, memory mappings, signals and ids")]
mod sys;
