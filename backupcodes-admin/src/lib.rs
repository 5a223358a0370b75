//! `backupcodes-admin`: makes, shows, checks and revokes the backup codes of this host's users; and `backupcodes`, by which
//! users do that with their own.
#![forbid(unsafe_code)]

mod cli;
#[allow(dead_code)]
mod doctor;
mod email;
mod failure;
mod generate;
mod notify;
mod output;
mod revoke;
mod sheet;
mod status;
mod terminal;
mod unlock;
pub mod user;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::failure::{Failure, Outcome};

/// In front of complaints.
const PROGRAM: &str = "backupcodes-admin";

/// `backupcodes-admin`, with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    output::exit(PROGRAM, run(Cli::parse()))
}

fn run(cli: Cli) -> Result<Outcome, Failure> {
    if let Command::Notify = cli.command {
        notify::leave_surroundings()?;
    }
    // Codes pass through here: no core dump may keep them.
    nix::sys::prctl::set_dumpable(false).map_err(Failure::Dumpable)?;
    let config = cli.configuration()?;
    let tells = matches!(cli.command, Command::Generate(_) | Command::Email { .. } | Command::Revoke { .. });
    let conf = cli.config.clone();
    let result = match cli.command {
        Command::Generate(arguments) => generate::run(&config, &arguments, cli.format),
        Command::Status { users } => status::run(&config, &users, cli.format),
        Command::Verify { user } => verify::run(&config, &user, cli.format),
        Command::Email { user, addresses } => email::run(&config, &user, &addresses, cli.format),
        Command::Notify => notify::run(&config),
        Command::Revoke { user } => revoke::run(&config, &user, cli.format),
        Command::Unlock { user } => unlock::run(&config, &user, cli.format),
    };
    if tells && config.notify.spawn {
        notify::start(conf.as_deref());
    }
    result
}
