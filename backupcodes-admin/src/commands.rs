//! The commands of `backupcodes-admin`, one file each.

pub(crate) mod completions;
mod doctor;
mod email;
mod generate;
mod notify;
mod purge;
mod rename;
mod revoke;
pub(crate) mod status;
mod unlock;
mod verify;

use backupcodes_core::config::Config;

use crate::PROGRAM;
use crate::cli::{Cli, Command};
use crate::delivery::{self, process_state};
use crate::failure::{Failure, Outcome};

pub(crate) fn run(cli: &Cli) -> Result<Outcome, Failure> {
    if let Command::Notify = cli.command {
        process_state::leave()?;
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
        Command::Doctor(arguments) => doctor::run(cli, arguments),
        Command::Completions { shell } => completions::print::<Cli>(PROGRAM, *shell),
    }
}

/// A command that leaves notices, whose delivery is started then.
fn telling(cli: &Cli, run: impl FnOnce(&Config) -> Result<Outcome, Failure>) -> Result<Outcome, Failure> {
    let config = cli.configuration()?;
    let result = run(&config);
    if config.notify.spawn {
        delivery::start(cli.config.as_deref());
    }
    result
}
