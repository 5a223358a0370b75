//! `pam_backupcodes.so`: a PAM module that accepts each backup code of a user once.
//!
//! Arrows go down: [`entry`] is what libpam calls; [`authenticate`] and [`session`] are the two calls that do something, with
//! [`response`], [`broker`], [`delivery`] and [`reminder`]; [`handle`] is the PAM handle, safe to use; [`sys`] has all unsafe
//! code.

mod authenticate;
mod broker;
mod delivery;
mod denial;
mod entry;
mod handle;
mod reminder;
mod response;
mod session;
#[expect(unsafe_code, reason = "the one room for it: libpam, memory by the page, signals and ids")]
mod sys;
