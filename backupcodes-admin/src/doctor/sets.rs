//! The sets and their directories.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use backupcodes_core::clock::Time;
use backupcodes_core::config::Config;
use backupcodes_core::set::State;
use backupcodes_core::store::FileStore;
use backupcodes_core::throttle::Throttle;

use super::finding::{Finding, Level, some_of};
use super::homes::Homes;
use super::mail;
use crate::accounts::Accounts;
use crate::misfiled::Misfiled;
use crate::owner::{Owner, has_own_set};
use crate::workers::slices_in_order;

/// The faults of sets, and which users have one: that is not known if the directory cannot be used.
pub(super) fn check(config: &Config) -> (Vec<Finding>, Option<BTreeSet<String>>) {
    let store = FileStore::new(&config.directory);
    let mut found = Found::default();
    found.findings.extend(
        Throttle::new(config)
            .counted()
            .err()
            .map(|error| Finding::explained(Level::Error, "runtime-directory", error.explanation())),
    );
    let users = match store.users() {
        Ok(users) => users,
        Err(error) => {
            found.findings.push(Finding::explained(Level::Error, "directory", error.explanation()));
            return (found.findings, None);
        }
    };
    let accounts = Accounts::list();
    let host = Host { config, store, accounts: &accounts, homes: Homes::new(&accounts) };
    slices_in_order(
        &users,
        |users| look(&host, users),
        |one| {
            found.add(one);
            ControlFlow::Continue(())
        },
    );
    let users: BTreeSet<_> = users.into_iter().collect();
    found.nameless = without_own(&accounts.twins(), &users);
    (found.findings(), Some(users))
}

/// What sets are compared with.
struct Host<'a> {
    config: &'a Config,
    store: FileStore,
    accounts: &'a Accounts,
    homes: Homes<'a>,
}

/// Findings of single sets, and users of whom there may be many.
#[derive(Default)]
struct Found {
    findings: Vec<Finding>,
    gone: Vec<String>,
    stale: Vec<String>,
    /// Whose uid has another name by now.
    renamed: Vec<String>,
    /// The same, where the new name has a set of its own.
    superseded: Vec<String>,
    /// Whose set is not found by its uid.
    unlisted: Vec<String>,
    /// Whose home is younger than their set.
    anew: Vec<String>,
    /// Who has no set, but another name of their uid has.
    nameless: Vec<String>,
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
        self.renamed.extend(other.renamed);
        self.superseded.extend(other.superseded);
        self.unlisted.extend(other.unlisted);
        self.anew.extend(other.anew);
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
                "their accounts no longer exist",
                "backupcodes-admin purge",
            ),
            (
                Level::Warning,
                "set-stale",
                &self.stale,
                "their accounts now have another uid, so they have no codes",
                "backupcodes-admin generate USER, or revoke USER",
            ),
            (
                Level::Error,
                "set-renamed",
                &self.renamed,
                "their uids now have other names: no code works there, and nullok does not skip them",
                "for the same person: backupcodes-admin rename OLD NEW; for another: backupcodes-admin revoke OLD",
            ),
            (
                Level::Warning,
                "set-superseded",
                &self.superseded,
                "their uids now have other names with sets of their own: no code of these sets works",
                "to remove them: backupcodes-admin revoke OLD",
            ),
            (
                Level::Warning,
                "set-unlisted",
                &self.unlisted,
                "their sets have no links uid-UID beside them, as after a copy: nullok skips such an account after a rename",
                "backupcodes-admin email USER ADDRESS, or generate USER",
            ),
            (
                Level::Warning,
                "set-older-than-home",
                &self.anew,
                "the set is older than the user's home",
                "if the account was deleted and created again, another person has its sheet: backupcodes-admin generate USER; if only \
                 the home is new (moved, or created at a first login by pam_mkhomedir), ignore this",
            ),
            (
                Level::Warning,
                "set-of-same-uid",
                &self.nameless,
                "another name of the same uid has a set and these have none, so nullok does not skip them: a set belongs to a name",
                "backupcodes-admin generate USER",
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

/// Names of `twins` without a set, where one of theirs has one.
fn without_own(twins: &[Vec<&str>], with_set: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for names in twins {
        if let Some(other) = names.iter().find(|name| with_set.contains(**name)) {
            let without = names.iter().filter(|name| !with_set.contains(**name));
            found.extend(without.map(|name| format!("{name} (uid of {other})")));
        }
    }
    found
}

fn look(host: &Host<'_>, users: &[String]) -> Found {
    let mut found = Found::default();
    let sets = match host.store.read_all(users) {
        Ok(sets) => sets,
        Err(error) => {
            found.findings.push(Finding::explained(Level::Error, "directory", error.explanation()));
            return found;
        }
    };
    for (user, set) in users.iter().zip(sets) {
        let set = match set {
            Ok(Some(set)) => set,
            Ok(None) => continue,
            Err(error) => {
                found.findings.push(Finding::explained(Level::Error, "set-unreadable", error.explanation()));
                continue;
            }
        };
        let damaged: Vec<_> = set
            .entries()
            .filter(|(_, entry)| matches!(entry.state, State::Damaged))
            .map(|(number, _)| number.to_string())
            .collect();
        if !damaged.is_empty() {
            let message = format!("damaged codes (they count as used): {}", damaged.join(", "));
            let remedy = format!("find out what wrote to the file, then: backupcodes-admin generate {user}");
            found.findings.push(Finding::new(Level::Warning, "set-damaged", user, message, remedy));
        }
        if set.due().any(|(_, mark)| mail::is_late(mark.time)) {
            found.late.push(user.clone());
        }
        match Owner::of(host.accounts, user, &set.label) {
            Err(failure) => {
                found.findings.push(Finding::explained(Level::Warning, "accounts", failure.explanation()));
            }
            Ok(Owner::Misfiled(account)) => {
                let Misfiled { file, is_error, message, remedy } =
                    Misfiled::look(&host.config.directory, user, account.as_ref(), &set.label);
                let level = if is_error { Level::Error } else { Level::Warning };
                found.findings.push(Finding::new(level, "set-misfiled", file, message, remedy));
            }
            Ok(Owner::Gone) => found.gone.push(user.clone()),
            Ok(Owner::OtherUid(_)) => found.stale.push(user.clone()),
            Ok(Owner::Renamed(now)) => {
                let is_superseded = has_own_set(&host.store, &now);
                let group = if is_superseded { &mut found.superseded } else { &mut found.renamed };
                group.push(format!("{user} (now {})", now.name));
            }
            Ok(Owner::Lives(account)) => {
                if host.store.is_listed(&set.label).is_ok_and(|is_listed| !is_listed) {
                    found.unlisted.push(user.clone());
                }
                if host.homes.made(&account).is_some_and(|home| Time::from(home) > set.label.created) {
                    found.anew.push(user.clone());
                }
                match set.left() {
                    0 => found.none.push(user.clone()),
                    left if left <= host.config.codes.low => found.few.push(user.clone()),
                    _ => {}
                }
            }
        }
    }
    found
}
