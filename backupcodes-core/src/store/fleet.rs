//! The sets that this host shares with others: `backupcodes-fleet` reads and changes them. Nothing here knows a network.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::file::judge_before_rename;
use super::{Accepted, Expected, Prepared, ReplaceError, SpendError, Store, StoreError};
use crate::account::Account;
use crate::code::CodeNumber;
use crate::config::Fleet;
use crate::explanation::Explanation;
use crate::files::lock::Deadline;
use crate::hash::CodeHash;
use crate::mail::outbox::{Outbox, Queued, QueuedNotice};
use crate::protocol::fleet::{
    DueNotice, DueReply, ErrorName, FLEET, NamesReply, Nothing, Notified, Read, Readdress, Replace, Restored,
    Spend, StatusReply, UnprovenReply,
};
use crate::protocol::{CallError, Connection, Reply, ServiceError};
use crate::set::{CodeSet, SpentRecord};

/// The longest wait beyond the configured one, which the service itself keeps to.
const MARGIN: Duration = Duration::from_millis(250);
/// The longest wait for a look at all sets.
const PATIENCE_FOR_ALL: Duration = Duration::from_secs(60);
/// No account has this name: reading its set takes as long as reading that of an account without one.
const NOBODY: &str = "/";

/// Sets that hosts share.
pub struct FleetStore {
    fleet: Fleet,
    /// For notices that no set holds.
    outbox: Outbox,
}

/// The sets that hosts share cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The service cannot be used.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The service refused.
    #[error("the fleet's sets: {reason}")]
    Refused {
        /// Why.
        reason: String,
        /// Whether it may have made the change.
        is_unknown: bool,
    },
    /// This host may not do that. Nothing was changed.
    #[error("the fleet's sets: {0}")]
    NotPermitted(String),
    /// What is there is not a set that this host accepts.
    #[error(
        "the fleet's set of {user} cannot be used ({reason}); if other hosts accept it, this one has an old fleet.ca; otherwise, on the \
         admin host: backupcodes-admin generate {user}"
    )]
    NoSet {
        /// Whose it is.
        user: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl FleetError {
    /// The error in three parts.
    #[must_use]
    pub fn explanation(&self) -> Explanation {
        Explanation::new(&"fleet", self.to_string(), "see its log: journalctl -t backupcodes-fleet")
    }
}

/// A replacement whose state was read.
pub struct FleetReplacement<'a> {
    store: &'a FleetStore,
    user: String,
    expected: Option<String>,
    new: Option<String>,
}

impl FleetStore {
    /// The sets of the configured fleet. Notices wait in `outbox`.
    #[must_use]
    pub const fn new(fleet: Fleet, outbox: Outbox) -> Self {
        Self { fleet, outbox }
    }

    /// The users with a set, sorted.
    ///
    /// # Errors
    /// Nothing is known.
    pub fn users(&self) -> Result<Vec<String>, StoreError> {
        let NamesReply { users } = self.call("List", &Nothing {})?;
        Ok(users)
    }

    /// The users with a set that this host does not accept, and what else lies among the sets.
    ///
    /// # Errors
    /// Nothing is known.
    pub fn unproven(&self) -> Result<UnprovenReply, StoreError> {
        Ok(self.call_within("ListUnproven", &Nothing {}, PATIENCE_FOR_ALL)?)
    }

    /// Removes what somebody may have hidden from [`read`](Store::read): the codes of a set whose label is gone.
    ///
    /// # Errors
    /// They may be there.
    pub fn end_hidden(&self, user: &str) -> Result<(), ReplaceError> {
        match self.prove_may_replace() {
            Ok(()) => self.prepare(user, Expected::Nothing, None)?.commit(|_| Vec::new()),
            // No set is known, and this host may not end any.
            Err(StoreError::Fleet(FleetError::NotPermitted(_))) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Proves that this host may replace sets.
    ///
    /// # Errors
    /// It may not.
    pub fn prove_may_replace(&self) -> Result<(), StoreError> {
        let Nothing {} = self.call("MayReplace", &Nothing {})?;
        Ok(())
    }

    /// The nodes of the store.
    ///
    /// # Errors
    /// Nothing is known.
    pub fn status(&self) -> Result<StatusReply, StoreError> {
        Ok(self.call("Status", &Nothing {})?)
    }

    /// Ends all sets, since the store was restored at `time`, in seconds since 1970.
    ///
    /// # Errors
    /// They may not have ended.
    pub fn restored(&self, time: u64) -> Result<(), StoreError> {
        let Nothing {} = self.call("Restored", &Restored { time })?;
        Ok(())
    }

    /// The uses whose notices are due, on all hosts.
    ///
    /// # Errors
    /// Nothing is known.
    pub fn due(&self) -> Result<Vec<DueNotice>, StoreError> {
        let DueReply { notices } = self.call("Due", &Nothing {})?;
        Ok(notices)
    }

    /// Ends the notice of a use.
    ///
    /// # Errors
    /// The notice may still be due.
    pub fn notified(&self, notice: &DueNotice) -> Result<(), StoreError> {
        let DueNotice { user, set, number, .. } = notice;
        let Nothing {} =
            self.call("Notified", &Notified { user: user.into(), set: set.into(), number: *number })?;
        Ok(())
    }

    /// Gives the set of `old` to `account`, its new name, which must have the set's uid. Returns the id of the set, or `None` if
    /// there is nothing to rename.
    ///
    /// # Errors
    /// [`ReplaceError`]: the set is unchanged, unless the error says otherwise.
    pub fn rename(&self, old: &str, account: &Account) -> Result<Option<String>, ReplaceError> {
        let new = account.name.as_str();
        let Found { set, revision, .. } = self.read_with(old, None)?;
        let Some(set) = set.map_err(StoreError::from)? else { return Ok(None) };
        judge_before_rename(&set, old, account)?;
        let id = set.label.set.clone();
        // What is no set there is replaced.
        if let Ok(Some(other)) = self.read_with(new, None)?.set {
            let (old, new) = (old.to_owned(), new.to_owned());
            return Err(ReplaceError::Both { old, old_set: id, new, new_set: other.label.set });
        }
        let bad = |reason| ReplaceError::Unreadable(reason, old.into());
        let text = CodeSet::rename(&set.text(), new).map_err(bad)?;
        let change = Replace {
            user: new.into(),
            expected: None,
            revision,
            new: Some(text.into()),
            from: Some(old.into()),
        };
        let Nothing {} = self.call("Replace", &change).map_err(|error| ReplaceError::of_fleet(error, old))?;
        Ok(Some(id))
    }

    /// Changes the addresses of the user's set. `notices` gets its state and makes notices. `false`: the user has no set.
    ///
    /// # Errors
    /// [`ReplaceError`]: the set is unchanged, unless the error says otherwise.
    pub fn change_addresses(
        &self,
        user: &str,
        email: &[String],
        notices: impl FnOnce(&CodeSet) -> Vec<QueuedNotice>,
    ) -> Result<bool, ReplaceError> {
        let Found { set, revision, .. } = self.read_with(user, None)?;
        let Some(set) = set.map_err(StoreError::from)? else { return Ok(false) };
        let queued = self.outbox.put(&notices(&set))?;
        let email = email.iter().map(|to| to.as_str().into()).collect();
        let change = Readdress { user: user.into(), set: set.label.set.into(), revision, email };
        self.change("Readdress", &change, user, &queued)?;
        Ok(true)
    }

    /// Makes a change, of which `queued` tells: it is withdrawn if the change is not made.
    fn change(
        &self,
        method: &str,
        change: &impl Serialize,
        user: &str,
        queued: &Queued<'_>,
    ) -> Result<(), ReplaceError> {
        let made: Result<Nothing, _> = self.call(method, change);
        made.map(drop).map_err(|error| {
            let error = ReplaceError::of_fleet(error, user);
            if !error.may_be_made() {
                queued.withdraw();
            }
            error
        })
    }

    /// What a user has.
    fn read_with(&self, user: &str, uid: Option<u32>) -> Result<Found, FleetCallError> {
        let uid = uid.filter(|_| !self.fleet.is_any_uid());
        let reply: Reply = self.call("Read", &Read { user: user.into(), uid })?;
        let revision = reply.revision.ok_or_else(|| missing("revision"))?;
        let set = reply.set.as_deref().map(CodeSet::parse).transpose();
        let set = match reply.unproven {
            Some(reason) => Err(reason),
            None => set.map_err(|reason| reason.to_string()),
        };
        let mut set = set.map_err(|reason| FleetError::NoSet { user: user.into(), reason });
        if self.fleet.is_any_uid() {
            if let (Ok(Some(set)), Ok(Some(account))) = (&mut set, Account::by_name(user)) {
                set.label.uid = account.uid;
            }
        }
        Ok(Found { set, revision, names: reply.names.ok_or_else(|| missing("names"))? })
    }

    fn call<P: Serialize, R: DeserializeOwned>(
        &self,
        method: &str,
        parameters: &P,
    ) -> Result<R, FleetCallError> {
        self.call_within(method, parameters, self.fleet.timeout.saturating_add(MARGIN))
    }

    fn call_within<P: Serialize, R: DeserializeOwned>(
        &self,
        method: &str,
        parameters: &P,
        patience: Duration,
    ) -> Result<R, FleetCallError> {
        let deadline = Deadline::after(patience);
        let mut connection =
            Connection::open(&FLEET, &self.fleet.socket, patience).map_err(FleetError::from)?;
        connection.call(method, parameters, deadline.left()).map_err(FleetCallError::from)
    }
}

/// What a user has in the fleet.
struct Found {
    set: Result<Option<CodeSet>, FleetError>,
    revision: i64,
    /// The names under which the uid has a set.
    names: Vec<String>,
}

impl Found {
    /// Whether it is what a caller of [`Store::prepare`] expects.
    fn is(&self, expected: Expected<'_>) -> bool {
        match (&self.set, expected) {
            (Ok(Some(set)), Expected::Set(expected)) => set.label.set == expected,
            (Ok(None), Expected::Nothing) | (Err(_), Expected::Unusable) => true,
            _ => false,
        }
    }
}

fn missing(field: &str) -> FleetError {
    FleetError::Refused { reason: format!("a reply without {field}"), is_unknown: false }
}

/// A call that failed.
enum FleetCallError {
    /// What the caller has seen is no longer so.
    Changed,
    Other(FleetError),
}

impl From<FleetError> for FleetCallError {
    fn from(error: FleetError) -> Self {
        Self::Other(error)
    }
}

impl From<CallError> for FleetCallError {
    fn from(error: CallError) -> Self {
        let name = ErrorName::of_call(&error);
        if name == Some(ErrorName::Changed) {
            return Self::Changed;
        }
        Self::Other(match error {
            CallError::Service(error) => error.into(),
            replied @ CallError::Replied { .. } => {
                let reason = replied.words().reason.unwrap_or_else(|| replied.to_string());
                match name {
                    Some(ErrorName::NotPermitted) => FleetError::NotPermitted(reason),
                    name => FleetError::Refused { reason, is_unknown: name == Some(ErrorName::Unknown) },
                }
            }
        })
    }
}

impl From<FleetCallError> for StoreError {
    fn from(error: FleetCallError) -> Self {
        match error {
            FleetCallError::Other(error) => error.into(),
            FleetCallError::Changed => FleetError::Refused {
                reason: "they were changed at the same moment; nothing was done; run it again".into(),
                is_unknown: false,
            }
            .into(),
        }
    }
}

impl From<FleetCallError> for SpendError {
    fn from(error: FleetCallError) -> Self {
        match error {
            FleetCallError::Changed => Self::NoLongerUnspent,
            FleetCallError::Other(error) => Self::Store(error.into()),
        }
    }
}

impl From<FleetCallError> for ReplaceError {
    fn from(error: FleetCallError) -> Self {
        Self::Store(error.into())
    }
}

impl ReplaceError {
    fn of_fleet(error: FleetCallError, user: &str) -> Self {
        match error {
            FleetCallError::Changed => Self::Changed { user: user.into() },
            // A connection that broke off may have broken off behind the change.
            FleetCallError::Other(
                error @ (FleetError::Refused { is_unknown: true, .. }
                | FleetError::Service(
                    ServiceError::NoReply { .. } | ServiceError::InvalidReply { .. },
                )),
            ) => Self::Unknown(error.into()),
            FleetCallError::Other(error) => Self::Store(error.into()),
        }
    }

    /// Whether the change may have been made all the same.
    const fn may_be_made(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Unflushed(_))
    }
}

impl Store for FleetStore {
    type Prepared<'a> = FleetReplacement<'a>;

    fn read(&self, user: &str) -> Result<Option<CodeSet>, StoreError> {
        Ok(self.read_with(user, None)?.set?)
    }

    /// One call, whatever it finds.
    fn own(&self, account: Option<&Account>) -> Result<Option<CodeSet>, StoreError> {
        let Some(account) = account else { return self.read(NOBODY) };
        let Found { set, names, .. } = self.read_with(&account.name, Some(account.uid))?;
        let set = set?;
        if set.is_some() {
            return Ok(set);
        }
        for user in names.into_iter().filter(|user| *user != account.name) {
            if let Some(set) = self.read(&user)?.filter(|set| set.label.uid == account.uid) {
                return Err(StoreError::OtherName { set: set.label.set, user, account: account.clone() });
            }
        }
        Ok(None)
    }

    fn spend(
        &self,
        user: &str,
        number: CodeNumber,
        hash: &CodeHash,
        record: &SpentRecord,
    ) -> Result<Accepted, SpendError> {
        let (hash, record) = (hash.phc(), record.text());
        let question =
            Spend { user: user.into(), number: number.get(), hash: hash.into(), record: record.into() };
        let Reply { set, left, .. } = self.call("Spend", &question)?;
        let left = left.ok_or_else(|| FleetCallError::from(missing("left")))?;
        Ok(Accepted { number, set, left })
    }

    fn prepare(
        &self,
        user: &str,
        expected: Expected<'_>,
        new: Option<&str>,
    ) -> Result<FleetReplacement<'_>, ReplaceError> {
        let bad = |reason| ReplaceError::Unreadable(reason, user.into());
        new.map(CodeSet::parse).transpose().map_err(bad)?;
        if !self.read_with(user, None)?.is(expected) {
            return Err(ReplaceError::Changed { user: user.into() });
        }
        let expected = match expected {
            Expected::Set(set) => Some(set.to_owned()),
            Expected::Nothing | Expected::Unusable => None,
        };
        Ok(FleetReplacement { store: self, user: user.into(), expected, new: new.map(Into::into) })
    }
}

impl Prepared for FleetReplacement<'_> {
    fn commit(self, notices: impl FnOnce(Option<&CodeSet>) -> Vec<QueuedNotice>) -> Result<(), ReplaceError> {
        let Self { store, user, expected, new } = self;
        let Found { set: last, revision, .. } = store.read_with(&user, None)?;
        let last = last.ok().flatten();
        let queued = store.outbox.put(&notices(last.as_ref()))?;
        let change = Replace {
            user: user.as_str().into(),
            expected: expected.map(Into::into),
            revision,
            new: new.map(Into::into),
            from: None,
        };
        store.change("Replace", &change, &user, &queued)
    }
}
