//! The sets and what lies around them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use backupcodes_core::config::Config;
use backupcodes_core::set::State;
use backupcodes_core::store::{FileStore, StoreError};
use backupcodes_core::throttle::Throttle;

use super::finding::{Finding, Level, some_of};
use super::mail;
use crate::accounts::Accounts;
use crate::workers::slices_in_order;

/// What is wrong with sets, and which users have one: nobody knows where the directory is not in order.
pub(super) fn check(config: &Config) -> (Vec<Finding>, Option<BTreeSet<String>>) {
    let store = FileStore::new(&config.directory);
    let mut found = Found::default();
    found.findings.extend(
        Throttle::new(config)
            .counted()
            .err()
            .map(|error| Finding::of_error(Level::Error, "runtime-directory", &error)),
    );
    let users = match store.users() {
        Ok(users) => users,
        Err(error) => {
            found.findings.push(Finding::of_error(Level::Error, "directory", &error));
            return (found.findings, None);
        }
    };
    let accounts = Accounts::list();
    let work = |users: &[String]| look(&store, &accounts, config.codes.low, users);
    slices_in_order(&users, work, |one| {
        found.add(one);
        ControlFlow::Continue(())
    });
    (found.findings(), Some(users.into_iter().collect()))
}

/// Findings of single sets, and users of whom there may be many.
#[derive(Default)]
struct Found {
    findings: Vec<Finding>,
    gone: Vec<String>,
    stale: Vec<String>,
    none: Vec<String>,
    few: Vec<String>,
    /// Whose notices of uses should be gone by now.
    late: Vec<String>,
}

impl Found {
    fn add(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.gone.extend(other.gone);
        self.stale.extend(other.stale);
        self.none.extend(other.none);
        self.few.extend(other.few);
        self.late.extend(other.late);
    }

    fn findings(&mut self) -> Vec<Finding> {
        let groups = [
            (
                Level::Warning,
                "set-orphaned",
                &self.gone,
                "their accounts are gone",
                "backupcodes-admin purge",
            ),
            (
                Level::Warning,
                "set-stale",
                &self.stale,
                "their accounts were made anew since (another uid), and have no codes",
                "backupcodes-admin generate USER, or purge",
            ),
            (
                Level::Warning,
                "no-codes",
                &self.none,
                "no code is left",
                "backupcodes-admin status --none; then: generate USER",
            ),
            (Level::Warning, "notices-stuck", &self.late, mail::LATE, mail::REMEDY),
            (Level::Note, "few-codes", &self.few, "few codes are left", "backupcodes-admin status --low"),
        ];
        let mut findings = std::mem::take(&mut self.findings);
        for (level, check, users, message, remedy) in groups {
            if !users.is_empty() {
                findings.push(Finding::new(level, check, some_of(users), message, remedy));
            }
        }
        findings
    }
}

fn look(store: &FileStore, accounts: &Accounts, low: usize, users: &[String]) -> Found {
    let mut found = Found::default();
    let sets = match store.read_all(users) {
        Ok(sets) => sets,
        Err(error) => {
            found.findings.push(Finding::of_error(Level::Error, "directory", &error));
            return found;
        }
    };
    for (user, set) in users.iter().zip(sets) {
        let set = match set {
            Ok(Some(set)) => set,
            Ok(None) => continue,
            Err(error) => {
                let check =
                    if matches!(error, StoreError::Busy { .. }) { "lock-held" } else { "set-unreadable" };
                found.findings.push(Finding::of_error(Level::Error, check, &error));
                continue;
            }
        };
        let damaged: Vec<_> = set
            .entries()
            .filter(|(_, entry)| matches!(entry.state, State::Damaged))
            .map(|(slot, _)| slot.to_string())
            .collect();
        if !damaged.is_empty() {
            let message = format!("damaged codes, which count as used: {}", damaged.join(", "));
            let remedy = format!("see what has written to the file, then: backupcodes-admin generate {user}");
            found.findings.push(Finding::new(Level::Warning, "set-damaged", user, message, remedy));
        }
        if set.due().any(|(_, mark)| mail::is_late(mark.time)) {
            found.late.push(user.clone());
        }
        match accounts.find(user) {
            Err(failure) => found.findings.push(Finding::of_error(Level::Warning, "accounts", &failure)),
            Ok(None) => found.gone.push(user.clone()),
            Ok(Some(account)) if set.label.judge_owner(&account).is_err() => found.stale.push(user.clone()),
            Ok(Some(_)) if set.left() == 0 => found.none.push(user.clone()),
            Ok(Some(_)) if set.left() <= low => found.few.push(user.clone()),
            Ok(Some(_)) => {}
        }
    }
    found
}
