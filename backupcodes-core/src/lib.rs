//! Backup codes for Linux logins: the rules, with no PAM and no terminal in them.
//!
//! The way of one attempt: [`code`] reads what was typed, [`throttle`] counts it, [`store`] finds the user's [`set`],
//! [`hash`] runs Argon2id once, in one of the host's [`slots`], and [`attempt`] joins them to a verdict that is given
//! only after the code is spent on disk. [`login`] is all of it, with what the log is told.
#![forbid(unsafe_code)]

/// The version that all parts have that belong together.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub mod account;
pub mod address;
pub mod attempt;
#[cfg(feature = "broker")]
pub mod broker;
pub mod clock;
pub mod code;
pub mod config;
mod directory;
pub mod hash;
#[cfg(feature = "notice")]
pub mod issue;
mod lock;
pub mod login;
mod look;
#[cfg(test)]
#[path = "../../tests/man/page.rs"]
mod man;
pub mod mark;
pub mod name;
#[cfg(feature = "notice")]
pub mod notice;
pub mod options;
pub mod outbox;
pub mod place;
pub mod set;
pub mod slots;
pub mod store;
pub mod throttle;
mod trust;
pub mod turn;
pub mod typed;
mod value;
pub mod visible;
