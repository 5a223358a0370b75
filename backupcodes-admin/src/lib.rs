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
mod notify;
mod output;
mod progress;
mod purge;
mod revoke;
mod sheet;
mod sheets;
mod status;
mod terminal;
mod unlock;
pub mod user;
mod verify;
mod workers;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use clap_complete::Shell;

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
    if let Command::Completions { shell } = cli.command {
        return completions(shell);
    }
    let config = cli.configuration();
    if let Command::Doctor(arguments) = &cli.command {
        return doctor::run(config, arguments);
    }
    let config = config?;
    let tells = matches!(
        cli.command,
        Command::Generate(_) | Command::Email { .. } | Command::Revoke { .. } | Command::Purge(_)
    );
    let conf = cli.config.clone();
    let result = match cli.command {
        Command::Generate(arguments) => generate::run(&config, &arguments),
        Command::Status(arguments) => status::run(&config, &arguments),
        Command::Verify { user, format } => verify::run(&config, &user, format.style),
        Command::Email { user, addresses, format } => email::run(&config, &user, &addresses, format.style),
        Command::Notify => notify::run(&config),
        Command::Revoke { user, format } => revoke::run(&config, &user, format.style),
        Command::Unlock { user, format } => unlock::run(&config, &user, format.style),
        Command::Purge(arguments) => purge::run(&config, &arguments),
        Command::Doctor(_) | Command::Completions { .. } => Ok(Outcome::Done),
    };
    if tells && config.notify.spawn {
        notify::start(conf.as_deref());
    }
    result
}

fn completions(shell: Shell) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), PROGRAM, &mut script);
    output::write(|out| out.write_all(&script)).map_err(Failure::Output)?;
    Ok(Outcome::Done)
}
