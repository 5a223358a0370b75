//! Backup codes for Linux logins: the rules, with no PAM and no terminal in them.
//!
//! The way of one attempt is [`verify`]: [`code`] reads what was typed, [`throttle`] counts it, [`store`] finds the user's
//! [`set`], [`hash`] runs Argon2id once, with one of the host's permits for it, and the store spends the code before anything
//! is said. [`mail`] tells the user afterwards. [`protocol`] is for programs that must ask the broker for all that.
//!
//! Arrows go down: `files` and the small files below it know nothing of sets, a set nothing of its store, a store nothing of logins.
#![forbid(unsafe_code)]

pub mod account;
pub mod clock;
pub mod code;
pub mod config;
pub mod explanation;
pub mod file_name;
pub mod files;
pub mod hash;
pub mod mail;
#[cfg(feature = "notice")]
pub mod new_set;
pub mod origin;
#[cfg(feature = "broker")]
pub mod protocol;
pub mod set;
pub mod store;
pub mod throttle;
mod toml_value;
pub mod verify;
pub mod visible;
