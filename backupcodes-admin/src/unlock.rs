//! `unlock`: forgets a user's failures.

use backupcodes_core::config::Config;
use backupcodes_core::throttle::Throttle;
use serde::Serialize;

use crate::cli::Format;
use crate::failure::{Failure, Outcome};
use crate::generate::account;
use crate::output;

#[derive(Serialize)]
struct Json<'a> {
    user: &'a str,
    cleared: usize,
}

pub(crate) fn run(config: &Config, user: &str, format: Format) -> Result<Outcome, Failure> {
    let user = &account(user)?.name;
    let cleared = Throttle::new(config).clear(user)?;
    match format {
        Format::Json => output::print_json(&Json { user, cleared })?,
        Format::Text => {
            output::print(&format!("{user}: counts of failures that are forgotten: {cleared}\n"))?;
        }
    }
    Ok(Outcome::Done)
}
