//! The command line, as help, errors and documents show it.

use std::path::PathBuf;

use backupcodes_core::clock::Time;
use backupcodes_core::config::{Config, ConfigError};
use backupcodes_core::mail::address;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::sheet::{Destination, Layout};
use crate::{PROGRAM, output};

/// Makes, shows, checks and revokes the backup codes of this host's users.
#[derive(Parser)]
#[command(
    name = "backupcodes-admin",
    version,
    disable_help_subcommand = true,
    after_help = "\
Exit status: 0 done; 1 negative result; 2 usage; 3 error. More: COMMAND --help"
)]
pub(crate) struct Cli {
    /// Instead of /etc/security/backupcodes.conf
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Generate(Generate),
    Status(Status),
    /// Checks a code without spending it
    #[command(after_help = "\
Examples:
  backupcodes-admin verify alice           asks for the code
  backupcodes-admin verify alice <FILE     reads it from there

A code is refused (exit status 1) if it is wrong, mistyped, used or damaged, or
if there is no set. verify does not check for throttling: see status.")]
    Verify(OneUser),
    /// Shows or sets where a user's notices go
    #[command(after_help = "\
Examples:
  backupcodes-admin email alice                      shows it
  backupcodes-admin email alice a@x.org a@y.org      sets it")]
    Email {
        #[arg(value_name = "USER", value_hint = ValueHint::Username)]
        user: String,
        /// Where notices go from now on; none: show the addresses
        #[arg(value_name = "ADDRESS", value_parser = address, value_hint = ValueHint::EmailAddress)]
        addresses: Vec<String>,
        #[command(flatten)]
        format: Format,
    },
    /// Gives the codes of a renamed account to its new name
    #[command(after_help = "\
Example: backupcodes-admin rename alice alicia   after usermod -l alicia alice

The account must still have the uid that the codes were made for.")]
    Rename {
        /// The old name of the account
        #[arg(value_name = "OLD", value_hint = ValueHint::Username)]
        old: String,
        /// The new name of the account
        #[arg(value_name = "NEW", value_hint = ValueHint::Username)]
        new: String,
        #[command(flatten)]
        format: Format,
    },
    /// Removes a user's set and ends all of its codes
    #[command(after_help = "Example: backupcodes-admin revoke alice   alice's sheet was lost")]
    Revoke(OneUser),
    /// Removes a user's counters of wrong codes: the wait ends
    #[command(after_help = "Example: backupcodes-admin unlock alice   ends alice's wait")]
    Unlock(OneUser),
    Purge(Purge),
    /// What an administrator does with sets that hosts share
    #[command(
        subcommand,
        after_help = "Example: backupcodes-admin fleet status   shows the nodes of the store"
    )]
    Fleet(Fleet),
    /// Delivers the notices that are due, with sendmail
    #[command(after_help = "Example: backupcodes-admin notify   delivers what is due now")]
    Notify,
    Doctor(Doctor),
    /// Prints a completion script for a shell
    #[command(after_help = "\
Examples:
  D=/usr/share/bash-completion/completions
  backupcodes-admin completions bash >$D/backupcodes-admin")]
    Completions {
        /// bash, elvish, fish, powershell or zsh
        #[arg(value_name = "SHELL", value_enum, hide_possible_values = true)]
        shell: Shell,
    },
}

// What a command about one user takes. A doc comment would be its help.
#[derive(Args)]
#[group(skip)]
pub(crate) struct OneUser {
    #[arg(value_name = "USER", value_hint = ValueHint::Username)]
    pub(crate) user: String,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum Fleet {
    /// Makes users, roles and permissions in etcd, and turns them on
    Init(Certificate),
    /// Gives hosts access, removes it, or lists them
    #[command(subcommand)]
    Host(FleetHost),
    /// Gives sets of this host to the fleet; sheets stay good
    Import {
        #[arg(value_name = "USER", value_hint = ValueHint::Username, required_unless_present = "all")]
        users: Vec<String>,
        /// All sets of this host
        #[arg(long, conflicts_with = "users")]
        all: bool,
    },
    /// Shows the nodes of the store
    Status {
        #[command(flatten)]
        format: Format,
    },
    /// Ends all sets, after the store was restored from a backup
    Restored {
        /// Without asking
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum FleetHost {
    /// Gives a host access, by the name in its certificate
    Add {
        #[arg(value_name = "HOST")]
        name: String,
        #[command(flatten)]
        root: Certificate,
    },
    /// Removes the access of a host, at once
    Remove {
        #[arg(value_name = "HOST")]
        name: String,
        #[command(flatten)]
        root: Certificate,
    },
    /// Lists the hosts that have access
    List {
        #[command(flatten)]
        root: Certificate,
    },
}

// The certificate of etcd's root, which no host has. A doc comment would be its help.
#[derive(Args)]
#[group(skip)]
pub(crate) struct Certificate {
    /// Certificate of etcd's user root
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) certificate: PathBuf,
    /// Its key
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key: PathBuf,
}

/// Makes new sets and shows each once; the old set stops working
#[derive(Args)]
#[group(skip)]
#[command(override_usage = "backupcodes-admin generate [OPTIONS] <USER... | --group NAME | --all>")]
#[command(after_help = "\
Examples:
  backupcodes-admin generate alice --print     on the default printer
  backupcodes-admin generate --all --missing --format html --output sheets")]
pub(crate) struct Generate {
    /// Accounts; `-` reads names from standard input, one a line
    #[arg(value_name = "USER", required_unless_present_any = ["group", "all"], value_hint = ValueHint::Username)]
    pub(crate) users: Vec<String>,
    /// All members of a group
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Vec<String>,
    /// All accounts of people, and root
    #[arg(long)]
    pub(crate) all: bool,
    /// Only accounts without a set
    #[arg(long)]
    pub(crate) missing: bool,
    /// On this host alone, also where hosts share sets
    #[arg(long)]
    pub(crate) host: bool,
    /// Replace sets that have unspent codes without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Codes in a set, 1 to 31
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=31))]
    pub(crate) count: Option<u8>,
    /// Where notices go (repeat it for more)
    #[arg(long, value_name = "ADDRESS", value_parser = address, value_hint = ValueHint::EmailAddress)]
    pub(crate) email: Vec<String>,
    #[arg(long, value_enum, default_value_t = Layout::Text, hide_possible_values = true)]
    /// text, html, json or csv
    pub(crate) format: Layout,
    /// A file for each user in this directory
    #[arg(long, value_name = "DIR", conflicts_with = "print", value_hint = ValueHint::DirPath)]
    output: Option<PathBuf>,
    /// Print on paper, with lp, and show nothing
    #[arg(long, value_name = "PRINTER", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "clap's form of an option whose value may be left out")]
    print: Option<Option<String>>,
}

/// Shows how many codes are left, and where codes were used
#[derive(Args)]
#[group(skip)]
#[command(after_help = "\
Examples:
  backupcodes-admin status alice               all about one user
  backupcodes-admin status --low               who needs a new sheet soon?
  backupcodes-admin status --unused-since 2025-01-01 --format csv")]
pub(crate) struct Status {
    /// These users in detail; none: a table of all sets
    #[arg(value_name = "USER", value_hint = ValueHint::Username)]
    pub(crate) users: Vec<String>,
    /// Only sets with few codes left (codes.low), or none
    #[arg(long)]
    pub(crate) low: bool,
    /// Only sets with no code left
    #[arg(long)]
    pub(crate) none: bool,
    /// Only sets neither made nor used since (YYYY-MM-DD)
    #[arg(long, value_name = "DATE", value_parser = day)]
    pub(crate) unused_since: Option<Time>,
    /// Only users who have to wait
    #[arg(long)]
    pub(crate) throttled: bool,
    /// text, json or csv
    #[arg(long, value_enum, default_value_t = Report::Text, hide_possible_values = true)]
    pub(crate) format: Report,
}

/// Removes sets without an account
#[derive(Args)]
#[group(skip)]
#[command(after_help = "\
Examples:
  backupcodes-admin purge          shows them, and asks
  backupcodes-admin purge --yes    for cron

With --yes it removes nothing if more than half of all sets have no account, or
if some accounts are not in files of this host: they may be out of reach.")]
pub(crate) struct Purge {
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Looks for faults on this host
#[derive(Args)]
#[group(skip)]
#[command(after_help = "\
Examples:
  backupcodes-admin doctor
  backupcodes-admin doctor --format json

Exit status 1 if an error was found; warnings and notes leave it at 0.")]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) format: Format,
}

/// For people or for programs.
#[derive(Args, Clone, Copy)]
pub(crate) struct Format {
    /// text or json
    #[arg(long = "format", value_name = "FORMAT", value_enum, default_value_t = Style::Text, hide_possible_values = true)]
    pub(crate) style: Style,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Style {
    Text,
    Json,
}

/// How `status` prints.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Report {
    Text,
    Json,
    Csv,
}

impl Cli {
    pub(crate) fn configuration(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref())
    }
}

impl Generate {
    /// Where sheets go. Options that exclude each other are wrong usage, which ends the program.
    pub(crate) fn destination(&self) -> Destination<PathBuf> {
        let wrong =
            |what: &str| output::refuse(PROGRAM, &Cli::command().error(ErrorKind::ArgumentConflict, what));
        match (self.format, &self.output, &self.print) {
            (layout, None, None) => Destination::Stream(layout),
            (Layout::Text | Layout::Html, Some(directory), _) => {
                Destination::Directory(directory.clone(), self.format)
            }
            (Layout::Json | Layout::Csv, Some(_), _) => {
                wrong("--output writes text or html; csv and json go to standard output")
            }
            (Layout::Text, None, Some(printer)) => Destination::Printer(printer.clone()),
            (_, None, Some(_)) => wrong("--print prints --format text"),
        }
    }
}

fn address(text: &str) -> Result<String, &'static str> {
    address::check(text).map(|()| text.into())
}

/// The start of a day in the time zone of this host.
fn day(text: &str) -> Result<Time, String> {
    let date: Date = text.parse().map_err(|_| "expected a day, such as 2026-01-31")?;
    let begin = date.to_zoned_datetime(TimeZone::system()).map_err(|error| error.to_string())?;
    Ok(Time::of_seconds(u64::try_from(begin.timestamp().as_second()).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_option_is_in_the_manual_and_no_other() {
        manual_pages::assert_documented(Cli::command(), include_str!("../../man/backupcodes-admin.8"));
    }
}
