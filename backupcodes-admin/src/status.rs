//! `status`: what is left of sets, and where their codes were used.

use std::collections::BTreeMap;
use std::fmt::Write;

use backupcodes_core::account::Account;
use backupcodes_core::clock::{self, Time};
use backupcodes_core::config::Config;
use backupcodes_core::mark::{Mail, Mark};
use backupcodes_core::outbox::{Refusal, Waiting};
use backupcodes_core::set::{CodeSet, Label, State};
use backupcodes_core::store::{FileStore, Store};
use backupcodes_core::throttle::{Throttle, Throttled, Wait};
use serde::Serialize;

use crate::cli::Format;
use crate::failure::{Failure, Outcome};
use crate::output;

pub(crate) fn run(config: &Config, users: &[String], format: Format) -> Result<Outcome, Failure> {
    let store = FileStore::new(&config.directory);
    let throttle = Throttle::new(config);
    let named = !users.is_empty();
    let users = if named { users.to_vec() } else { store.users()? };
    let (mut sets, mut failed) = (Vec::new(), Vec::new());
    let (mut waiting, unknown) = match store.outbox().waiting() {
        Ok(waiting) => (waiting, None),
        Err(error) => (BTreeMap::new(), Some(error)),
    };
    let mut outcome = Outcome::Done;
    for user in &users {
        // A name that was typed may not be the one that the database, and so the file, has.
        let account = if named { Account::by_name(user)? } else { None };
        match store.read(account.as_ref().map_or(user, |account| &account.name)) {
            Ok(Some(set)) => {
                failed.extend(
                    account.and_then(|account| set.label.judge_owner(&account).err()).map(Failure::from),
                );
                let throttled = throttle.throttled(&set.label.user, clock::precise());
                let throttled = throttled.unwrap_or_else(|error| {
                    failed.push(error.into());
                    Vec::new()
                });
                let refusal = store.outbox().refusal(&set.label.user).unwrap_or_else(|error| {
                    failed.push(error.into());
                    None
                });
                let waiting = waiting.remove(&set.label.user).unwrap_or_default();
                let notices = Notices { due: set.due().count().saturating_add(waiting.due), refusal };
                sets.push(Shown { set, throttled, notices, low: config.codes.low });
            }
            Ok(None) if named => {
                output::complain(&format_args!(
                    "{user} has no backup codes; make some: backupcodes-admin generate {user}"
                ));
                outcome = Outcome::No;
            }
            // Revoked since the directory was listed.
            Ok(None) => {}
            Err(error) => failed.push(error.into()),
        }
    }
    // Where the sets cannot be read either, that is said already.
    failed.extend(unknown.filter(|_| failed.is_empty()).map(Failure::from));
    if !named {
        // Users who have no set any more.
        for (user, Waiting { due, refused }) in waiting {
            output::complain(&format_args!(
                "{user} has no backup codes; notices that wait: {due} due, {refused} refused"
            ));
        }
    }
    match format {
        Format::Json => {
            output::print_json(&sets.iter().map(Json::of).collect::<Vec<_>>())?;
        }
        Format::Text => {
            sets.iter().try_for_each(|set| output::print(&text(set)))?;
        }
    }
    Failure::report(failed, users.len()).map(|()| outcome)
}

/// What there is to show of one user.
struct Shown {
    set: CodeSet,
    throttled: Vec<Throttled>,
    notices: Notices,
    low: usize,
}

/// What did not go out.
struct Notices {
    due: usize,
    refusal: Option<Refusal>,
}

/// What is said of any set.
pub(crate) fn summary(
    user: &str,
    set: &str,
    created: Time,
    (left, total): (usize, usize),
    low: bool,
) -> String {
    let days = clock::now().seconds().saturating_sub(created.seconds()) / 86_400;
    let warning = match left {
        0 => ", NONE LEFT",
        _ if low => ", LOW",
        _ => "",
    };
    format!("{user}: {left} of {total} codes left{warning}\n  set {set}, made {created} ({days} days ago)\n")
}

fn text(Shown { set, throttled, notices, low }: &Shown) -> String {
    let Label { set: id, user, created, email, .. } = &set.label;
    let mut text = summary(user, id, *created, (set.left(), set.total()), set.left() <= *low);
    // Writing to a String cannot fail.
    if !email.is_empty() {
        let _ = writeln!(text, "  notices to {}", email.join(", "));
    }
    if notices.due > 0 {
        let _ = writeln!(text, "  NOTICES DUE: {}; to deliver them: backupcodes-admin notify", notices.due);
    }
    if let Some(Refusal { time, to, said }) = &notices.refusal {
        let _ = writeln!(text, "  NOTICE REFUSED {time} for {to}: {}", said.replace(char::is_control, " "));
    }
    for Throttled { service, source, failures, until } in throttled {
        let _ = writeln!(text, "  THROTTLED for {service} from {source} {until}, after {failures} failures");
    }
    for (slot, entry) in set.entries() {
        let _ = match &entry.state {
            State::Unspent(_) => continue,
            State::Spent(Mark { time, mail, service, source, .. }) => {
                let notice = match mail {
                    Mail::Ok => "",
                    Mail::Due => ", notice due",
                    Mail::Refused => ", notice refused at first",
                };
                writeln!(text, "  code {slot} used {time} by {service} from {source}{notice}")
            }
            State::Damaged => writeln!(text, "  code {slot} DAMAGED, counts as used"),
        };
    }
    text
}

#[derive(Serialize)]
struct Json<'a> {
    user: &'a str,
    set: &'a str,
    created: String,
    total: usize,
    left: usize,
    low: bool,
    email: &'a [String],
    throttled: Vec<JsonThrottled<'a>>,
    /// Notices that wait for their delivery.
    due: usize,
    refused: Option<JsonRefusal<'a>>,
    codes: Vec<JsonCode<'a>>,
}

#[derive(Serialize)]
struct JsonRefusal<'a> {
    time: String,
    address: &'a str,
    said: &'a str,
}

#[derive(Serialize)]
struct JsonThrottled<'a> {
    service: &'a str,
    source: &'a str,
    failures: u32,
    /// None: until `unlock` or a new set.
    until: Option<String>,
}

#[derive(Serialize)]
struct JsonCode<'a> {
    slot: u8,
    state: &'static str,
    time: Option<String>,
    service: Option<&'a str>,
    source: Option<&'a str>,
    mailed: Option<bool>,
}

impl<'a> Json<'a> {
    fn of(Shown { set, throttled, notices, low }: &'a Shown) -> Self {
        let Label { set: id, user, created, email, .. } = &set.label;
        Self {
            user,
            set: id,
            created: created.to_string(),
            total: set.total(),
            left: set.left(),
            low: set.left() <= *low,
            email,
            throttled: throttled.iter().map(JsonThrottled::of).collect(),
            due: notices.due,
            refused: notices.refusal.as_ref().map(|Refusal { time, to, said }| JsonRefusal {
                time: time.to_string(),
                address: to,
                said,
            }),
            codes: set.entries().map(|(slot, entry)| JsonCode::of(slot.number(), &entry.state)).collect(),
        }
    }
}

impl<'a> JsonThrottled<'a> {
    fn of(throttled: &'a Throttled) -> Self {
        let Throttled { service, source, failures, until } = throttled;
        let until = match until {
            Wait::Until(time) => Some(time.to_string()),
            Wait::Unlock => None,
        };
        Self { service, source, failures: *failures, until }
    }
}

impl<'a> JsonCode<'a> {
    fn of(slot: u8, state: &'a State) -> Self {
        let blank = Self { slot, state: "", time: None, service: None, source: None, mailed: None };
        match state {
            State::Unspent(_) => Self { state: "unspent", ..blank },
            State::Damaged => Self { state: "damaged", ..blank },
            State::Spent(Mark { time, mail, service, source, .. }) => Self {
                state: "spent",
                time: Some(time.to_string()),
                service: Some(service),
                source: Some(source),
                mailed: Some(*mail == Mail::Ok),
                ..blank
            },
        }
    }
}
