//! The sets that count on this host: its own, and then those that it shares with other hosts.

use super::file::Replacement;
use super::fleet::{FleetReplacement, FleetStore};
use super::{Accepted, Expected, FileStore, Prepared, ReplaceError, SpendError, Store, StoreError};
use crate::account::Account;
use crate::code::CodeNumber;
use crate::config::Config;
use crate::hash::CodeHash;
use crate::mail::outbox::QueuedNotice;
use crate::set::{CodeSet, SpentRecord};

/// A set on the host itself goes first, so that it works without a network.
pub struct Sets {
    files: FileStore,
    fleet: Option<FleetStore>,
}

/// A replacement in the place where the set is, or will be.
pub enum AnyReplacement<'a> {
    /// On this host.
    File(Box<Replacement<'a>>),
    /// In the fleet.
    Fleet(FleetReplacement<'a>),
}

impl Sets {
    /// The sets of the configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let files = FileStore::new(&config.directory);
        let fleet = config.fleet.is_used().then(|| FleetStore::new(config.fleet.clone(), files.outbox()));
        Self { files, fleet }
    }

    /// The sets on this host, as if it shared none.
    #[must_use]
    pub fn of_host(config: &Config) -> Self {
        Self { files: FileStore::new(&config.directory), fleet: None }
    }

    /// Proves that new sets may be put where they go: not each host may change the sets that hosts share.
    ///
    /// # Errors
    /// They may not.
    pub fn prove_may_replace(&self) -> Result<(), StoreError> {
        self.fleet.as_ref().map_or(Ok(()), FleetStore::prove_may_replace)
    }

    /// Proves that this user's set may be replaced where it is, or a first one put where it goes.
    ///
    /// # Errors
    /// It may not.
    pub fn prove_may_replace_of(&self, user: &str) -> Result<(), StoreError> {
        self.fleet_of(user)?.map_or(Ok(()), FleetStore::prove_may_replace)
    }

    /// Whether this user's set is shared with other hosts, or a first one would be.
    ///
    /// # Errors
    /// Nobody knows whether the user has a set on the host itself.
    pub fn is_shared(&self, user: &str) -> Result<bool, StoreError> {
        match self.fleet_of(user) {
            // It is replaced where it is.
            Err(error) if error.can_be_replaced() => Ok(false),
            fleet => Ok(fleet?.is_some()),
        }
    }

    /// The sets on this host alone.
    #[must_use]
    pub const fn files(&self) -> &FileStore {
        &self.files
    }

    /// The sets that this host shares with others, if it does.
    #[must_use]
    pub const fn fleet(&self) -> Option<&FleetStore> {
        self.fleet.as_ref()
    }

    /// Gives the set of `old` to `account`, its new name, which must have the set's uid. Returns the id of the set, or `None` if
    /// there is nothing to rename.
    ///
    /// # Errors
    /// [`ReplaceError`]: the set is unchanged, unless the error says otherwise.
    pub fn rename(&self, old: &str, account: &Account) -> Result<Option<String>, ReplaceError> {
        let renamed = self.files.rename(old, account)?;
        // An account may have a set in both places.
        let shared = match &self.fleet {
            Some(fleet) if old != account.name => fleet.rename(old, account)?,
            _ => None,
        };
        Ok(renamed.or(shared))
    }

    /// Changes the addresses of the user's set. `notices` gets its last state and makes notices; they are in the outbox before the
    /// set changes. `false`: the user has no set.
    ///
    /// # Errors
    /// [`ReplaceError`]: the set is unchanged, unless the error says otherwise.
    pub fn change_addresses(
        &self,
        user: &str,
        email: &[String],
        notices: impl FnOnce(&CodeSet) -> Vec<QueuedNotice>,
    ) -> Result<bool, ReplaceError> {
        match self.fleet_of(user)? {
            Some(fleet) => fleet.change_addresses(user, email, notices),
            None => self.files.change_addresses(user, email, notices),
        }
    }

    /// The same, without the sets on this host.
    #[must_use]
    pub fn into_fleet(self) -> Option<FleetStore> {
        self.fleet
    }

    /// The fleet, unless this user has a set on the host.
    fn fleet_of(&self, user: &str) -> Result<Option<&FleetStore>, StoreError> {
        match &self.fleet {
            Some(fleet) if self.files.read(user)?.is_none() => Ok(Some(fleet)),
            _ => Ok(None),
        }
    }
}

impl Store for Sets {
    type Prepared<'a> = AnyReplacement<'a>;

    fn read(&self, user: &str) -> Result<Option<CodeSet>, StoreError> {
        match (self.files.read(user)?, &self.fleet) {
            (None, Some(fleet)) => fleet.read(user),
            (set, _) => Ok(set),
        }
    }

    fn own(&self, account: Option<&Account>) -> Result<Option<CodeSet>, StoreError> {
        match (self.files.own(account)?, &self.fleet) {
            (None, Some(fleet)) => fleet.own(account),
            (set, _) => Ok(set),
        }
    }

    fn spend(
        &self,
        user: &str,
        number: CodeNumber,
        hash: &CodeHash,
        record: &SpentRecord,
    ) -> Result<Accepted, SpendError> {
        match self.fleet_of(user)? {
            Some(fleet) => fleet.spend(user, number, hash, record),
            None => self.files.spend(user, number, hash, record),
        }
    }

    fn prepare(
        &self,
        user: &str,
        expected: Expected<'_>,
        new: Option<&str>,
    ) -> Result<AnyReplacement<'_>, ReplaceError> {
        Ok(match self.fleet_of(user) {
            // What is unusable on the host goes first.
            Err(error) if expected != Expected::Unusable => return Err(error.into()),
            Ok(Some(fleet)) => AnyReplacement::Fleet(fleet.prepare(user, expected, new)?),
            Ok(None) | Err(_) => AnyReplacement::File(Box::new(self.files.prepare(user, expected, new)?)),
        })
    }
}

impl Prepared for AnyReplacement<'_> {
    fn commit(self, notices: impl FnOnce(Option<&CodeSet>) -> Vec<QueuedNotice>) -> Result<(), ReplaceError> {
        match self {
            Self::File(replacement) => replacement.commit(notices),
            Self::Fleet(replacement) => replacement.commit(notices),
        }
    }
}
