//! `rename`: gives the set of an account that was renamed to its new name.

use backupcodes_core::config::Config;
use backupcodes_core::store::{Sets, Store};
use serde::Serialize;

use super::account;
use crate::cli::Style;
use crate::commands::unlock::forget;
use crate::failure::{Failure, Outcome};
use crate::output;

#[derive(Serialize)]
struct Json<'a> {
    user: &'a str,
    was: &'a str,
    set: Option<&'a str>,
    renamed: bool,
}

pub(crate) fn run(config: &Config, old: &str, new: &str, format: Style) -> Result<Outcome, Failure> {
    let account = account(new)?;
    let store = Sets::new(config);
    let set = store.rename(old, &account)?;
    let user = &account.name;
    if set.is_some() {
        if let Some(complaint) = forget(config, old) {
            output::complain(&complaint);
        }
    }
    match (format, &set) {
        (Style::Json, set) => {
            output::print_json(&Json { user, was: old, set: set.as_deref(), renamed: set.is_some() })?;
        }
        (Style::Text, Some(set)) => {
            output::print(&format!("{user}: set {set} belongs to {user} now, not to {old}\n"))?;
        }
        (Style::Text, None) => output::print(&match store.read(user)? {
            Some(set) if old == user => format!("{user} has set {}: nothing to do\n", set.label.set),
            Some(set) => {
                format!("{old} has no backup codes; {user} has set {}: nothing to do\n", set.label.set)
            }
            None => format!("neither {old} nor {user} has backup codes\n"),
        })?,
    }
    Ok(if set.is_some() { Outcome::Done } else { Outcome::No })
}
