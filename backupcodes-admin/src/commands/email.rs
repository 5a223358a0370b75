//! `email`: shows or sets where a user's notices go.

use backupcodes_core::clock;
use backupcodes_core::config::Config;
use backupcodes_core::mail::notice::{self, Writer};
use backupcodes_core::set::CodeSet;
use backupcodes_core::store::{FileStore, Store};
use serde::Serialize;

use crate::accounts::{name_of_set, without_set};
use crate::cli::Style;
use crate::failure::{Failure, Outcome};
use crate::output;

#[derive(Serialize)]
struct Json<'a> {
    user: &'a str,
    email: &'a [String],
}

pub(crate) fn run(
    config: &Config,
    user: &str,
    addresses: &[String],
    format: Style,
) -> Result<Outcome, Failure> {
    let store = FileStore::new(&config.directory);
    let user = &name_of_set(&store, user)?;
    let host = notice::host_name();
    let writer = Writer::of_this_host(config, &host);
    if !addresses.is_empty() {
        let told = writer.recipients(user, addresses);
        let mut new_ones = told.clone();
        let letters = |set: &CodeSet| {
            let before = writer.recipients(user, &set.label.email);
            new_ones.retain(|to| !before.contains(to));
            let old = writer.addresses(user, &set.label.email);
            let new = writer.addresses(user, addresses);
            // What is due stays so, and goes to the new addresses; the others are told of it as well.
            let mut letters = writer.of_due_uses(set);
            letters.retain(|letter| !told.contains(&letter.to));
            if old != new {
                letters.extend(writer.readdressed(
                    &set.label,
                    addresses,
                    (set.left(), set.total()),
                    clock::now(),
                ));
            }
            letters
        };
        if store.readdress(user, addresses, letters)? {
            store.outbox().send_on(user, &told, &new_ones)?;
        }
    }
    let Some(set) = store.read(user)? else {
        output::complain(&without_set(user));
        return Ok(Outcome::No);
    };
    let email = &set.label.email;
    match format {
        Style::Json => output::print_json(&Json { user, email })?,
        Style::Text => {
            let where_to = writer.addresses(user, email).join(", ");
            let why = if email.is_empty() { " (no address is set)" } else { "" };
            output::print(&format!("{user}: notices to {where_to}{why}\n"))?;
        }
    }
    Ok(Outcome::Done)
}
