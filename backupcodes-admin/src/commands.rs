//! The commands of `backupcodes-admin`, one file each.

pub(crate) mod completions;
mod doctor;
mod email;
mod fleet;
mod generate;
mod notify;
mod purge;
mod rename;
mod revoke;
pub(crate) mod status;
mod unlock;
mod verify;

use backupcodes_core::account::Account;

use crate::PROGRAM;
use crate::cli::{Cli, Command};
use crate::failure::{Failure, Outcome};

pub(crate) fn run(cli: &Cli) -> Result<Outcome, Failure> {
    // Codes pass through here: no core dump may keep them.
    nix::sys::prctl::set_dumpable(false).map_err(Failure::Dumpable)?;
    match &cli.command {
        Command::Generate(arguments) => generate::run(&cli.configuration()?, arguments),
        Command::Status(arguments) => status::run(&cli.configuration()?, arguments),
        Command::Verify(arguments) => verify::run(&cli.configuration()?, arguments),
        Command::Email { user, addresses, format } => {
            email::run(&cli.configuration()?, user, addresses, format.style)
        }
        Command::Rename { old, new, format } => rename::run(&cli.configuration()?, old, new, format.style),
        Command::Revoke(arguments) => revoke::run(&cli.configuration()?, arguments),
        Command::Unlock(arguments) => unlock::run(&cli.configuration()?, arguments),
        Command::Purge(arguments) => purge::run(&cli.configuration()?, arguments),
        Command::Fleet(command) => fleet::run(&cli.configuration()?, cli.config.as_deref(), command),
        Command::Notify => notify::run(&cli.configuration()?),
        Command::Doctor(arguments) => doctor::run(cli, arguments),
        Command::Completions { shell } => completions::print::<Cli>(PROGRAM, *shell),
    }
}

/// The account of a user that the command line names.
fn account(user: &str) -> Result<Account, Failure> {
    Account::by_name(user)?.ok_or_else(|| Failure::NoUser { user: user.into() })
}
