//! `backupcodes-admin`: makes, shows, checks and revokes the backup codes of this host's users; and `backupcodes`, by which
//! users do that with their own.
#![forbid(unsafe_code)]

mod accounts;
mod cli;
mod doctor;
mod email;
mod failure;
mod generate;
mod interrupt;
#[cfg(test)]
#[path = "../../tests/man/commands.rs"]
mod man;
mod misfiled;
mod notify;
mod output;
mod progress;
mod purge;
mod rename;
mod revoke;
mod sheet;
mod sheets;
mod status;
mod storage;
mod terminal;
mod unlock;
pub mod user;
mod verify;
mod workers;

use std::process::ExitCode;

use backupcodes_core::config::Config;

use crate::cli::{Cli, Command};
use crate::failure::{Failure, Outcome};

/// In front of complaints.
const PROGRAM: &str = "backupcodes-admin";

/// `backupcodes-admin`, with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    output::exit(PROGRAM, run(&output::parse(PROGRAM)))
}

fn run(cli: &Cli) -> Result<Outcome, Failure> {
    if let Command::Notify = cli.command {
        notify::leave_surroundings()?;
    }
    // Codes pass through here: no core dump may keep them.
    nix::sys::prctl::set_dumpable(false).map_err(Failure::Dumpable)?;
    match &cli.command {
        Command::Generate(arguments) => telling(cli, |config| generate::run(config, arguments)),
        Command::Status(arguments) => status::run(&cli.configuration()?, arguments),
        Command::Verify { user, format } => verify::run(&cli.configuration()?, user, format.style),
        Command::Email { user, addresses, format } => {
            telling(cli, |config| email::run(config, user, addresses, format.style))
        }
        Command::Rename { old, new, format } => rename::run(&cli.configuration()?, old, new, format.style),
        Command::Revoke { user, format } => telling(cli, |config| revoke::run(config, user, format.style)),
        Command::Unlock { user, format } => unlock::run(&cli.configuration()?, user, format.style),
        Command::Purge(arguments) => telling(cli, |config| purge::run(config, arguments)),
        Command::Notify => notify::run(&cli.configuration()?),
        // What is wrong with the configuration is a finding among others.
        Command::Doctor(arguments) => doctor::run(cli.config.as_deref(), cli.configuration(), arguments),
        Command::Completions { shell } => output::completions::<Cli>(PROGRAM, *shell),
    }
}

/// A command that leaves notices, whose delivery is started then.
fn telling(cli: &Cli, run: impl FnOnce(&Config) -> Result<Outcome, Failure>) -> Result<Outcome, Failure> {
    let config = cli.configuration()?;
    let result = run(&config);
    if config.notify.spawn {
        notify::start(cli.config.as_deref());
    }
    result
}
