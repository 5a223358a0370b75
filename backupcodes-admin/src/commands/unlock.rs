//! `unlock`: forgets a user's failures.

use backupcodes_core::config::Config;
use backupcodes_core::throttle::Throttle;
use serde::Serialize;

use super::account;
use crate::cli::{OneUser, Style};
use crate::failure::{Failure, Outcome};
use crate::output;

#[derive(Serialize)]
struct Json<'a> {
    user: &'a str,
    cleared: usize,
}

/// Forgets the failures of a user whose set has changed. The change stays if that fails; this is the complaint then.
pub(crate) fn forget(config: &Config, user: &str) -> Option<String> {
    let error = Throttle::new(config).clear(user).err()?;
    Some(format!("the failures of {user} still count: {error}; then: backupcodes-admin unlock {user}"))
}

pub(crate) fn run(config: &Config, OneUser { user, format }: &OneUser) -> Result<Outcome, Failure> {
    let user = &account(user)?.name;
    let cleared = Throttle::new(config).clear(user)?;
    match format.style {
        Style::Json => output::print_json(&Json { user, cleared })?,
        Style::Text => {
            output::print(&format!("{user}: counters of failures removed: {cleared}\n"))?;
        }
    }
    Ok(Outcome::Done)
}
