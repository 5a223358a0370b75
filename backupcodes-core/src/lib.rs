//! Backup codes for Linux logins: the rules, without PAM and without a terminal.
//!
//! One attempt goes through [`verify`]: [`code`] reads what the user typed, [`throttle`] counts the attempt, [`store`] finds
//! the user's [`set`], [`hash`] runs Argon2id once under a hash permit, and the store spends the code before the verdict is
//! returned. [`mail`] notifies the user afterwards. [`protocol`] is for programs that must ask the broker for all this.
//!
//! Dependencies point down: `files` knows no set, a set knows no store, and a store knows no login.
#![forbid(unsafe_code)]

pub mod account;
pub mod clock;
pub mod code;
pub mod config;
pub mod explanation;
pub mod file_name;
pub mod files;
pub mod hash;
pub mod log;
pub mod mail;
#[cfg(feature = "notice")]
pub mod new_set;
pub mod origin;
pub mod protocol;
pub mod set;
pub mod store;
pub mod throttle;
mod toml_value;
pub mod verify;
pub mod visible;
