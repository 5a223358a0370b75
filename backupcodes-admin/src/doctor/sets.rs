//! The sets and their directories.

use std::collections::{BTreeMap, BTreeSet};
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
    found.put(Group::NoSetForName, without_own(&accounts.twins(), &users));
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
    users: BTreeMap<Group, Vec<String>>,
}

/// One finding for many users.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Gone,
    OtherUid,
    Renamed,
    Superseded,
    Unlisted,
    OlderThanHome,
    NoSetForName,
    NoCodes,
    Late,
    FewCodes,
}

impl Group {
    /// Level, check, message and remedy.
    const fn finding(self) -> (Level, &'static str, &'static str, &'static str) {
        match self {
            Self::Gone => {
                (Level::Warning, "set-orphaned", "their accounts no longer exist", "backupcodes-admin purge")
            }
            Self::OtherUid => (
                Level::Warning,
                "set-stale",
                "their accounts now have another uid, so they have no codes",
                "backupcodes-admin generate USER, or revoke USER",
            ),
            Self::Renamed => (
                Level::Error,
                "set-renamed",
                "their uids now have other names: no code works there, and nullok does not skip them",
                "for the same person: backupcodes-admin rename OLD NEW; for another: backupcodes-admin revoke OLD",
            ),
            Self::Superseded => (
                Level::Warning,
                "set-superseded",
                "their uids now have other names with sets of their own: no code of these sets works",
                "to remove them: backupcodes-admin revoke OLD",
            ),
            Self::Unlisted => (
                Level::Warning,
                "set-unlisted",
                "their sets have no links uid-UID beside them, as after a copy: nullok skips such an account after a rename",
                "backupcodes-admin email USER ADDRESS, or generate USER",
            ),
            Self::OlderThanHome => (
                Level::Warning,
                "set-older-than-home",
                "the set is older than the user's home",
                "if the account was deleted and created again, another person has its sheet: backupcodes-admin generate USER; if only \
                 the home is new (moved, or created at a first login by pam_mkhomedir), ignore this",
            ),
            Self::NoSetForName => (
                Level::Warning,
                "set-of-same-uid",
                "another name of the same uid has a set and these have none, so nullok does not skip them: a set belongs to a name",
                "backupcodes-admin generate USER",
            ),
            Self::NoCodes => (
                Level::Warning,
                "no-codes",
                "no code is left",
                "backupcodes-admin status --none; then: generate USER",
            ),
            Self::Late => (Level::Warning, "notices-stuck", mail::LATE, mail::REMEDY),
            Self::FewCodes => {
                (Level::Note, "few-codes", "few codes are left", "backupcodes-admin status --low")
            }
        }
    }
}

impl Found {
    fn put(&mut self, group: Group, users: impl IntoIterator<Item = String>) {
        self.users.entry(group).or_default().extend(users);
    }

    fn add(&mut self, other: Self) {
        self.findings.extend(other.findings);
        other.users.into_iter().for_each(|(group, users)| self.put(group, users));
    }

    fn findings(mut self) -> Vec<Finding> {
        for (group, users) in self.users.into_iter().filter(|(_, users)| !users.is_empty()) {
            let (level, check, message, remedy) = group.finding();
            self.findings.push(Finding::new(level, check, some_of(&users), message, remedy));
        }
        self.findings
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
        if set.due().any(|(_, record)| mail::is_late(record.time)) {
            found.put(Group::Late, [user.clone()]);
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
            Ok(Owner::Gone) => found.put(Group::Gone, [user.clone()]),
            Ok(Owner::OtherUid(_)) => found.put(Group::OtherUid, [user.clone()]),
            Ok(Owner::Renamed(now)) => {
                let is_superseded = has_own_set(&host.store, &now);
                let group = if is_superseded { Group::Superseded } else { Group::Renamed };
                found.put(group, [format!("{user} (now {})", now.name)]);
            }
            Ok(Owner::Lives(account)) => {
                if host.store.is_listed(&set.label).is_ok_and(|is_listed| !is_listed) {
                    found.put(Group::Unlisted, [user.clone()]);
                }
                if host.homes.made(&account).is_some_and(|home| Time::from(home) > set.label.created) {
                    found.put(Group::OlderThanHome, [user.clone()]);
                }
                match set.left() {
                    0 => found.put(Group::NoCodes, [user.clone()]),
                    left if left <= host.config.codes.low => found.put(Group::FewCodes, [user.clone()]),
                    _ => {}
                }
            }
        }
    }
    found
}
