//! `email`: shows or sets where a user's notices go.

use backupcodes_core::clock;
use backupcodes_core::config::Config;
use backupcodes_core::mail::delivery_lock::DeliveryLock;
use backupcodes_core::mail::notice::{self, Writer};
use backupcodes_core::set::CodeSet;
use backupcodes_core::store::{Sets, Store};
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
    let store = Sets::new(config);
    let user = &name_of_set(&store, user)?;
    let writer = Writer::of_this_host(config, &notice::host_name());
    if !addresses.is_empty() {
        change_addresses(config, &store, &writer, user, addresses)?;
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

fn change_addresses(
    config: &Config,
    store: &Sets,
    writer: &Writer<'_>,
    user: &str,
    addresses: &[String],
) -> Result<(), Failure> {
    let told = writer.recipients(user, addresses);
    let outbox = store.files().outbox();
    // What waits for an address that refused notices and that the user no longer has goes to the new ones.
    let refused = outbox.refusal(user)?.map(|refusal| refusal.to).filter(|to| !told.contains(to));
    let waiting = refused.as_ref().map_or(Ok(Vec::new()), |to| outbox.names_to(user, to))?;
    let mut new_ones = told.clone();
    let notices = |set: &CodeSet| {
        let before = writer.recipients(user, &set.label.email);
        new_ones.retain(|to| !before.contains(to));
        let old = writer.addresses(user, &set.label.email);
        let new = writer.addresses(user, addresses);
        // Due notices stay due, and go to the new addresses; the other addresses get them too.
        let mut notices = writer.of_due_uses(set);
        notices.retain(|notice| !told.contains(&notice.to) && refused.as_ref() != Some(&notice.to));
        if old != new {
            let left = (set.left(), set.total());
            notices.extend(writer.readdressed(&set.label, addresses, left, clock::now()));
        }
        notices
    };
    if store.change_addresses(user, addresses, notices)? {
        outbox.send_on(&waiting, &new_ones)?;
        outbox.forget_refusal(user)?;
        // Where that fails, they go out in a day.
        let _ = DeliveryLock::forget_day(&config.runtime_directory);
    }
    Ok(())
}
