//! `revoke`: removes a set. The account may be gone.

use backupcodes_core::clock;
use backupcodes_core::config::Config;
use backupcodes_core::mail::notice::{self, Event, Writer};
use backupcodes_core::set::CodeSet;
use backupcodes_core::store::{AnyReplacement, Expected, Prepared, Sets, Store};
use serde::Serialize;

use crate::accounts::name_of_set;
use crate::cli::{OneUser, Style};
use crate::commands::unlock::forget;
use crate::failure::{Failure, Outcome};
use crate::output;

#[derive(Serialize)]
struct Json<'a> {
    user: &'a str,
    set: Option<&'a str>,
    revoked: bool,
}

pub(crate) fn run(config: &Config, OneUser { user, format }: &OneUser) -> Result<Outcome, Failure> {
    let writer = Writer::of_this_host(config, &notice::host_name());
    let store = Sets::new(config);
    let user = &name_of_set(&store, user)?;
    let old = match store.read(user) {
        Ok(None) => None,
        Ok(Some(set)) => Some((set.left(), Some(set.label.set))),
        // What is no set is removed as well.
        Err(error) if error.can_be_replaced() => Some((0, None)),
        Err(error) => return Err(error.into()),
    };
    let mut is_clear = false;
    if let Some((_, set)) = &old {
        let expected = set.as_deref().map_or(Expected::Unusable, Expected::Set);
        let notices = |last: Option<&CodeSet>| {
            let Some(set) = last else { return Vec::new() };
            let mut notices = writer.of_due_uses(set);
            let event = Event::Revoked { lost: set.left() };
            notices.extend(writer.notices(&set.label, &set.label.email, clock::now(), event));
            notices
        };
        let prepared = store.prepare(user, expected, None)?;
        is_clear = matches!(prepared, AnyReplacement::Fleet(_));
        prepared.commit(notices)?;
    }
    // A set on the host goes first, and the fleet may have another one.
    if let Some(fleet) = store.fleet() {
        match fleet.read(user) {
            // Somebody may have hidden it from this command.
            Ok(None) if is_clear => {}
            Ok(None) => match (fleet.end_hidden(user), &old) {
                (Err(error), None) => return Err(error.into()),
                (Err(error), Some(_)) => output::complain(&error),
                (Ok(()), _) => {}
            },
            Ok(Some(CodeSet { label, .. })) => output::complain(&format_args!(
                "{user} has set {} in the fleet, which works now; to end it as well: backupcodes-admin revoke {user}",
                label.set
            )),
            Err(error) => output::complain(&error),
        }
    }
    // The next account of that name would have to wait.
    if let Some(complaint) = forget(config, user) {
        output::complain(&complaint);
    }
    let set = old.as_ref().and_then(|(_, set)| set.as_deref());
    match (format.style, &old) {
        (Style::Json, _) => output::print_json(&Json { user, set, revoked: old.is_some() })?,
        (Style::Text, Some((left, _))) => {
            let which = set.map_or_else(|| "what was no set".into(), |set| format!("set {set}"));
            output::print(&format!("{user}: {which} is removed, with {left} unspent codes\n"))?;
        }
        (Style::Text, None) => output::print(&format!("{user} has no backup codes\n"))?,
    }
    Ok(if old.is_some() { Outcome::Done } else { Outcome::No })
}
