//! The command line, as help, errors and documents show it.

use std::path::PathBuf;

use backupcodes_core::address;
use backupcodes_core::config::{Config, ConfigError};
use clap::{Args, Parser, Subcommand, ValueEnum};

const AFTER: &str = "\
Exit status: 0 done; 1 the answer is no (verify refused, no set); 2 usage; 3 could not.

Examples:
  backupcodes-admin generate alice        a new sheet for alice, shown once
  backupcodes-admin status                all sets of this host
  backupcodes-admin verify alice          would this code be accepted?
  backupcodes-admin revoke alice          no code of alice works any more
  backupcodes-admin email alice a@b.org   alice's notices go to this address
  backupcodes-admin unlock alice          alice need not wait after too many wrong codes
  backupcodes-admin notify                mails what is due";

/// Makes, shows, checks and revokes the backup codes of this host's users.
#[derive(Parser)]
#[command(name = "backupcodes-admin", version, after_help = AFTER, max_term_width = 100)]
pub(crate) struct Cli {
    /// Configuration file instead of /etc/security/backupcodes.conf.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// How to print.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// For people or for programs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes a new set for each user and shows its codes, once. The old set stops working.
    Generate(Generate),
    /// Shows sets: age, codes left, when, where and by which service each code was used.
    Status {
        /// Only these users; none: all sets of this host.
        #[arg(value_name = "USER")]
        users: Vec<String>,
    },
    /// Reads a code and says whether it would be accepted, spending nothing.
    Verify {
        #[arg(value_name = "USER")]
        user: String,
    },
    /// Shows where a user's notices go, or sets it. The old addresses and the new are told.
    Email {
        #[arg(value_name = "USER")]
        user: String,
        /// Where notices go from now on; none: only shows it.
        #[arg(value_name = "ADDRESS", value_parser = address)]
        addresses: Vec<String>,
    },
    /// Removes a user's set: none of its codes works any more.
    Revoke {
        #[arg(value_name = "USER")]
        user: String,
    },
    /// Forgets a user's failures: the next answer is looked at, from wherever it comes.
    Unlock {
        #[arg(value_name = "USER")]
        user: String,
    },
    /// Hands over to sendmail what is due: notices of uses, and of sets and addresses that changed. A unit or the module
    /// runs it; by hand it does no harm.
    Notify,
}

#[derive(Args)]
pub(crate) struct Generate {
    #[arg(value_name = "USER", required = true)]
    pub(crate) users: Vec<String>,

    /// Replace a set that has unspent codes without asking.
    #[arg(long)]
    pub(crate) yes: bool,

    /// Codes in the set, instead of codes.count of the configuration.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=31))]
    pub(crate) count: Option<u8>,

    /// Where notices go; may be given several times. Without it, addresses of the old set stay.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(crate) email: Vec<String>,
}

fn address(text: &str) -> Result<String, &'static str> {
    address::check(text).map(|()| text.into())
}

impl Cli {
    pub(crate) fn configuration(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref())
    }
}
