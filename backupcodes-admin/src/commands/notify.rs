//! `notify`: delivers the notices that are due.

use backupcodes_core::config::Config;

use crate::delivery;
use crate::failure::{Failure, Outcome};

pub(crate) fn run(config: &Config) -> Result<Outcome, Failure> {
    match delivery::run(config) {
        0 => Ok(Outcome::Done),
        failed => Err(Failure::Undelivered(failed)),
    }
}
