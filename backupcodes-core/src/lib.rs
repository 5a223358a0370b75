//! Backup codes for Linux logins: the rules, with no PAM and no terminal in them.
//!
//! The way of one attempt: [`code`] reads what was typed, [`store`] finds the user's [`set`], [`hash`] runs
//! Argon2id once, and [`attempt`] joins them to a verdict that is given only after the code is spent on disk.
#![forbid(unsafe_code)]

pub mod account;
pub mod attempt;
pub mod clock;
pub mod code;
pub mod config;
pub mod hash;
pub mod mark;
pub mod set;
pub mod store;
mod trust;
mod value;
