//! `doctor`: looks for all that can be wrong on this host.

pub(crate) mod finding;

use backupcodes_core::config::{Config, ConfigError};

use crate::cli::Doctor;
use crate::failure::{Failure, Outcome};

pub(crate) fn run(config: Result<Config, ConfigError>, _arguments: &Doctor) -> Result<Outcome, Failure> {
    config?;
    Ok(Outcome::Done)
}
