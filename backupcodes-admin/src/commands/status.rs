//! `status`: what is left of sets, and where their codes were used.
//!
//! Sets are read on all processors and printed in order as they come, so that memory does not grow with their number.

mod json;
mod report;
mod table;
mod text;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use backupcodes_core::account::Account;
use backupcodes_core::clock;
use backupcodes_core::config::Config;
use backupcodes_core::mail::outbox::{Refusal, Waiting};
use backupcodes_core::set::{CodeSet, SpentRecord, State};
use backupcodes_core::store::{FleetStore, Sets, Store, StoreError};
use backupcodes_core::throttle::{Throttle, Throttled, UsersWithCounters};

use crate::accounts::{name_of_set, without_set};
use crate::cli::{self, Status};
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::owner::what_became_of;
use crate::workers::slices_in_order;

use self::report::Report;
use self::table::Table;
pub(crate) use self::text::summary;

pub(crate) fn run(config: &Config, arguments: &Status) -> Result<Outcome, Failure> {
    let reader = Reader::new(config);
    if arguments.users.is_empty() { all(&reader, arguments) } else { named(&reader, arguments) }
}

fn all(reader: &Reader, arguments: &Status) -> Result<Outcome, Failure> {
    let own = reader.store.files().users()?;
    let (known, unknown) = reader.known();
    let mut failed = Vec::new();
    // A set on the host goes first. Where the fleet cannot be reached, those are all.
    let shared = reader.store.fleet().map_or(Ok(Vec::new()), FleetStore::users);
    let mut users = shared.unwrap_or_else(|error| {
        failed.push(error.into());
        Vec::new()
    });
    users.extend(own);
    users.sort_unstable();
    users.dedup();
    let mut report = Report::new(arguments.format, Some(Table::over(&users)));
    let mut printed = Ok(());
    let work = |users: &[String]| match reader.read_all(users) {
        Ok(sets) => {
            users.iter().zip(sets).map(|(name, set)| reader.look(name, set, &known)).collect::<Vec<_>>()
        }
        Err(error) => vec![Looked { shown: None, failures: vec![error.into()] }],
    };
    let take = |looked: Vec<Looked>| {
        for Looked { shown, failures } in looked {
            failed.extend(failures);
            if let Some(shown) = shown.filter(|shown| arguments.wants(shown)) {
                printed = report.print(&shown);
            }
            if printed.is_err() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    };
    slices_in_order(&users, work, take);
    let count = printed.and_then(|()| report.end()).map_err(Failure::Output)?;
    // If the sets cannot be read, the complaint about them is enough.
    if count == 0 && failed.is_empty() && arguments.format == cli::Report::Text {
        output::complain(&if users.is_empty() {
            "there are no sets; to make some: backupcodes-admin generate USER"
        } else {
            "no set matches; to show all: backupcodes-admin status"
        });
    }
    // If the sets cannot be read either, the complaint about them is enough.
    if failed.is_empty() {
        failed.extend(unknown);
    }
    // Users whose set is gone.
    for (user, Waiting { due, .. }) in known.waiting {
        if due > 0 && users.binary_search(&user).is_err() {
            output::complain(&format_args!("{user} has no backup codes; notices due: {due}"));
        }
    }
    output::report(failed, users.len()).map(|()| Outcome::Done)
}

fn named(reader: &Reader, arguments: &Status) -> Result<Outcome, Failure> {
    let (known, unknown) = reader.known();
    let (mut failed, mut outcome) = (Vec::new(), Outcome::Done);
    let mut report = Report::new(arguments.format, None);
    for user in &arguments.users {
        // A name that was typed may not be the one that the database, and so the file, has.
        let account = Account::by_name(user)?;
        let name = &name_of_set(&reader.store, user)?;
        let Looked { shown, failures } = reader.look(name, reader.store.read(name), &known);
        let is_known = shown.is_some() || !failures.is_empty();
        failed.extend(failures);
        if !is_known {
            output::complain(&without_set(user));
            outcome = Outcome::No;
        }
        let Some(shown) = shown else { continue };
        failed.extend(account.and_then(|account| reader.is_not_of(&account, name, &shown.set)));
        if arguments.wants(&shown) {
            report.print(&shown).map_err(Failure::Output)?;
        }
    }
    report.end().map_err(Failure::Output)?;
    // If the sets cannot be read either, the complaint about them is enough.
    if failed.is_empty() {
        failed.extend(unknown);
    }
    output::report(failed, arguments.users.len()).map(|()| outcome)
}

/// What there is to show of one user.
pub(crate) struct Shown {
    /// The name that the set stands under.
    file_of: String,
    set: CodeSet,
    throttled: Vec<Throttled>,
    notices: Notices,
    low: usize,
}

/// Notices that were not delivered.
struct Notices {
    due: usize,
    refusal: Option<Refusal>,
}

impl Shown {
    /// The use that came last.
    fn last_use(&self) -> Option<&SpentRecord> {
        let uses = self.set.entries().filter_map(|(_, entry)| match &entry.state {
            State::Spent(record) => Some(record),
            _ => None,
        });
        uses.max_by_key(|record| record.time)
    }

    /// Its name for people, which tells a copy from the set.
    fn name(&self) -> String {
        let (file_of, user) = (&self.file_of, &self.set.label.user);
        if file_of == user { user.clone() } else { format!("{file_of} (of {user})") }
    }

    fn is_low(&self) -> bool {
        self.set.left() <= self.low
    }
}

impl Status {
    fn wants(&self, shown: &Shown) -> bool {
        let last = shown
            .last_use()
            .map_or(shown.set.label.created, |record| record.time.max(shown.set.label.created));
        (!self.low || shown.is_low())
            && (!self.none || shown.set.left() == 0)
            && self.unused_since.is_none_or(|day| last < day)
            && (!self.throttled || !shown.throttled.is_empty())
    }
}

/// Reads what there is to show.
struct Reader {
    store: Sets,
    throttle: Throttle,
    low: usize,
}

/// What is listed once for all users: one look for each of them would take most of the time.
struct Known {
    waiting: BTreeMap<String, Waiting>,
    counted: Option<UsersWithCounters>,
}

/// What a look has found. No set and no failure: there is none.
struct Looked {
    shown: Option<Shown>,
    failures: Vec<Failure>,
}

impl Reader {
    fn new(config: &Config) -> Self {
        let store = Sets::new(config);
        Self { store, throttle: Throttle::new(config), low: config.codes.low }
    }

    /// What is known before the sets are read, and why something is not.
    fn known(&self) -> (Known, Vec<Failure>) {
        let mut failures = Vec::new();
        let waiting = self.store.files().outbox().waiting().unwrap_or_else(|error| {
            failures.push(error.into());
            BTreeMap::new()
        });
        let counted = self.throttle.counted().map_err(|error| failures.push(error.into())).ok();
        (Known { waiting, counted }, failures)
    }

    /// Why no code of the set under this name works for the account.
    fn is_not_of(&self, account: &Account, name: &str, set: &CodeSet) -> Option<Failure> {
        let stale = set.label.judge_owner(account).err()?;
        // The database has another name for this one.
        let is_alias = account.name != name && set.label.user == name;
        Some(if is_alias {
            let why = what_became_of(&self.store, name, set.label.uid, account);
            Failure::OfNobody { user: name.into(), set: set.label.set.clone(), why }
        } else {
            stale.into()
        })
    }

    fn read_all(&self, users: &[String]) -> Result<Vec<Result<Option<CodeSet>, StoreError>>, StoreError> {
        let own = self.store.files().read_all(users)?;
        let read = |(user, set): (&String, _)| match (set, self.store.fleet()) {
            (Ok(None), Some(fleet)) => fleet.read(user),
            (set, _) => set,
        };
        Ok(users.iter().zip(own).map(read).collect())
    }

    fn look(&self, file_of: &str, set: Result<Option<CodeSet>, StoreError>, known: &Known) -> Looked {
        let set = match set {
            Ok(Some(set)) => set,
            // Revoked since the directory was listed.
            Ok(None) => return Looked { shown: None, failures: Vec::new() },
            Err(error) => return Looked { shown: None, failures: vec![error.into()] },
        };
        let mut failures = Vec::new();
        let name = &set.label.user;
        let waiting = known.waiting.get(name).copied().unwrap_or_default();
        let mut throttled = Vec::new();
        if known.counted.as_ref().is_some_and(|counted| counted.has(name)) {
            match self.throttle.throttled(name, clock::precise()) {
                Ok(found) => throttled = found,
                Err(error) => failures.push(error.into()),
            }
        }
        let mut refusal = None;
        if waiting.has_refusal {
            match self.store.files().outbox().refusal(name) {
                Ok(found) => refusal = found,
                Err(error) => failures.push(error.into()),
            }
        }
        let notices = Notices { due: set.due().count().saturating_add(waiting.due), refusal };
        let file_of = file_of.into();
        Looked { shown: Some(Shown { file_of, set, throttled, notices, low: self.low }), failures }
    }
}
