//! `backupcodes-admin`: makes, shows, checks and revokes the backup codes of this host's users; and `backupcodes`, the command for
//! users.
#![forbid(unsafe_code)]

mod accounts;
mod cli;
mod commands;
mod delivery;
mod doctor;
mod failure;
mod interrupt;
mod misfiled;
mod mounts;
mod output;
mod owner;
mod progress;
mod sheet;
mod storage;
mod terminal;
pub mod user;
mod workers;

use std::process::ExitCode;

/// The start of complaints.
const PROGRAM: &str = "backupcodes-admin";

/// `backupcodes-admin`, with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    output::exit(PROGRAM, commands::run(&output::parse(PROGRAM)))
}
