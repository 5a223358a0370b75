//! A new set of a user, from its codes to its file, with the notices about it.

use rand::rngs::{SysError, SysRng};

use crate::account::Account;
use crate::clock;
use crate::code::{Code, CodeNumber};
use crate::config::Config;
use crate::hash::{CodeHash, CreateError, Memory};
use crate::mail::notice::{self, Event, Writer};
use crate::mail::outbox::QueuedNotice;
use crate::set::{CodeSet, Label};
use crate::store::{Expected, Prepared, ReplaceError, Sets, Store, StoreError};

/// A new set, not yet in place.
pub struct NewSet {
    /// The owner and the id of the set.
    pub label: Label,
    /// Its codes, in the order of their numbers.
    pub codes: Vec<Code>,
    file: String,
}

impl NewSet {
    /// Makes `count` codes for the account. Notices go to `email`.
    ///
    /// # Errors
    /// A hash cannot be computed, or the kernel gives no random bytes.
    pub fn make(
        config: &Config,
        count: u8,
        account: &Account,
        email: Vec<String>,
        memory: &mut impl Memory,
    ) -> Result<Self, CreateError<SysError>> {
        let label = Label::new(account, clock::now(), email, &mut SysRng).map_err(CreateError::Random)?;
        let (mut codes, mut hashes) = (Vec::new(), Vec::new());
        for number in (1..=count).filter_map(CodeNumber::new) {
            let code =
                Code::generate(number, config.codes.length, &mut SysRng).map_err(CreateError::Random)?;
            hashes.push(CodeHash::create(&code, config.hash.cost, &mut SysRng, memory)?);
            codes.push(code);
        }
        let file = CodeSet::render(&label, &hashes);
        Ok(Self { label, codes, file })
    }

    /// Prepares to replace what is `expected` with this set: the codes may be shown now, and nothing changes before
    /// [`PreparedSet::put_in_place`].
    ///
    /// # Errors
    /// [`ReplaceError`]: the old set is unchanged.
    pub fn prepare<'a, S: Store>(
        &'a self,
        store: &'a S,
        account: &'a Account,
        expected: Expected<'_>,
    ) -> Result<PreparedSet<'a, S>, ReplaceError> {
        let replacement = store.prepare(&account.name, expected, Some(&self.file))?;
        Ok(PreparedSet { new: self, account, replacement })
    }

    /// The notices about the new set, and about the last state of the set that it replaces.
    fn notices(&self, writer: &Writer<'_>, last: Option<&CodeSet>, account: &Account) -> Vec<QueuedNotice> {
        let (label, total) = (&self.label, self.codes.len());
        // An earlier account of this name gets no notice about the new account's set.
        let own = last.filter(|set| set.label.judge_owner(account).is_ok());
        let mut notices = last.map(|set| writer.of_due_uses(set)).unwrap_or_default();
        let Some(Label { set: old, email, .. }) = own.map(|set| &set.label) else {
            notices.extend(writer.notices(label, &label.email, label.created, Event::Made { total }));
            return notices;
        };
        let lost = own.map_or(0, CodeSet::left);
        let (before, after) =
            (writer.addresses(&label.user, email), writer.addresses(&label.user, &label.email));
        let event = Event::Replaced { old, lost, total };
        notices.extend(writer.notices(label, &[before.as_slice(), &after].concat(), label.created, event));
        if before != after {
            let before = Label { email: before, ..label.clone() };
            notices.extend(writer.readdressed(&before, &label.email, (total, total), label.created));
        }
        notices
    }
}

/// The host where a user's codes are good, as their sheet names it.
///
/// # Errors
/// Nobody knows whether the user has a set on this host alone.
pub fn host_for_sheet(store: &Sets, user: &str) -> Result<String, StoreError> {
    let host = notice::host_name();
    Ok(if store.is_shared(user)? { format!("{host} and its fleet") } else { host })
}

/// A new set that is ready to replace the old one. Dropping it leaves the old set unchanged.
pub struct PreparedSet<'a, S: Store + 'a> {
    new: &'a NewSet,
    account: &'a Account,
    replacement: S::Prepared<'a>,
}

impl<S: Store> PreparedSet<'_, S> {
    /// Replaces the old set. The notices are in the outbox before anything changes.
    ///
    /// # Errors
    /// [`ReplaceError`]: the old set is unchanged, unless the error says otherwise.
    pub fn put_in_place(self, writer: &Writer<'_>) -> Result<(), ReplaceError> {
        let Self { new, account, replacement } = self;
        replacement.commit(|last| new.notices(writer, last, account))
    }
}

/// What a new set of an account would replace.
pub struct ExistingSet(Result<CodeSet, Expected<'static>>);

impl ExistingSet {
    /// Reads what the store holds for the account.
    ///
    /// # Errors
    /// It must not be replaced.
    pub fn find(store: &impl Store, account: &Account) -> Result<Self, StoreError> {
        match store.read(&account.name) {
            Ok(old) => Ok(Self(old.ok_or(Expected::Nothing))),
            Err(error) if error.can_be_replaced() => Ok(Self(Err(Expected::Unusable))),
            Err(error) => Err(error),
        }
    }

    /// What the store must still hold when a new set replaces it.
    #[must_use]
    pub fn expected(&self) -> Expected<'_> {
        self.0.as_ref().map_or_else(|expected| *expected, |set| Expected::Set(&set.label.set))
    }

    /// The set, if it is this account's own: a set of a deleted account is worthless.
    #[must_use]
    pub fn own(&self, account: &Account) -> Option<&CodeSet> {
        self.0.as_ref().ok().filter(|set| set.label.judge_owner(account).is_ok())
    }

    /// The set whose codes a new one would end for good: the account's own, or one that an interrupted rename, which can still
    /// be completed, left under its name.
    #[must_use]
    pub fn set_that_would_end(&self, account: &Account) -> Option<&CodeSet> {
        self.0.as_ref().ok().filter(|set| set.label.uid == account.uid)
    }

    /// The addresses of the account's notices so far. A deleted account's addresses are not this account's.
    #[must_use]
    pub fn email(&self, account: &Account) -> Vec<String> {
        self.own(account).map_or_else(Vec::new, |set| set.label.email.clone())
    }
}
