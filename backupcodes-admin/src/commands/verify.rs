//! `verify`: whether a code would be accepted, spending nothing.

use backupcodes_core::config::Config;
use backupcodes_core::hash::HeapMemory;
use backupcodes_core::store::Sets;
use backupcodes_core::verify::{Refusal, Request, judge};
use backupcodes_core::visible::shown;
use serde::Serialize;

use super::account;
use crate::cli::{OneUser, Style};
use crate::failure::{Failure, Outcome};
use crate::{output, terminal};

#[derive(Serialize)]
struct Json<'a> {
    user: &'a str,
    accepted: bool,
    number: Option<u8>,
    reason: Option<String>,
}

pub(crate) fn run(config: &Config, OneUser { user, format }: &OneUser) -> Result<Outcome, Failure> {
    let account = account(user)?;
    let store = Sets::new(config);
    let response = terminal::secret(&format!("Backup code of {} (it will not be spent): ", shown(user)))
        .map_err(Failure::Input)?;
    let request = Request { account: Some(&account), response: response.as_bytes(), cost: config.hash.cost };
    let verdict = match judge(&store, request, || Ok(()), &mut HeapMemory::default()) {
        Ok((found, ())) => Ok(found.number()),
        Err(Refusal::Store(error)) => return Err(error.into()),
        Err(Refusal::Hash(error)) => return Err(error.into()),
        Err(refusal) => Err(refusal),
    };
    match (format.style, &verdict) {
        (Style::Text, Ok(number)) => output::print(&format!("{user}: code {number} would be accepted\n"))?,
        (Style::Text, Err(refusal)) => output::print(&format!("{user}: would be refused: {refusal}\n"))?,
        (Style::Json, verdict) => output::print_json(&Json {
            user,
            accepted: verdict.is_ok(),
            number: verdict.as_ref().ok().map(|number| number.get()),
            reason: verdict.as_ref().err().map(ToString::to_string),
        })?,
    }
    Ok(if verdict.is_ok() { Outcome::Done } else { Outcome::No })
}
