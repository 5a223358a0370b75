//! Where sets are kept. [`Store`] is all that the rules need of such a place; [`FileStore`] keeps one file per user.

mod error;
mod file;

use crate::account::Account;
use crate::code::CodeNumber;
use crate::hash::CodeHash;
use crate::mail::outbox::QueuedNotice;
use crate::set::{CodeSet, SpentRecord};

pub use self::error::{ReplaceError, SpendError, StoreError};
pub use self::file::FileStore;

/// Keeps sets: read one, spend a code of one, replace one.
pub trait Store {
    /// A replacement that waits for its commit.
    type Prepared<'a>: Prepared
    where
        Self: 'a;

    /// The user's set, or `None` only where it is proven that the user has none.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is known about the set.
    fn read(&self, user: &str) -> Result<Option<CodeSet>, StoreError>;

    /// Proves that no set of the account's uid exists under another name: a renamed account has its codes there.
    ///
    /// # Errors
    /// [`StoreError::OtherName`] where such a set exists, or nothing is known.
    fn prove_no_other_name(&self, account: &Account) -> Result<(), StoreError>;

    /// Overwrites the hash of code `number`, which must still be `hash`, with `record`. On return the record is on stable
    /// storage.
    ///
    /// # Errors
    /// [`SpendError`]: the code must not be accepted. It may be spent all the same.
    fn spend(
        &self,
        user: &str,
        number: CodeNumber,
        hash: &CodeHash,
        record: &SpentRecord,
    ) -> Result<Accepted, SpendError>;

    /// Prepares to replace what the user has, which must be as `expected`, with `new`, a whole set file, or with nothing.
    /// Nothing has changed until [`Prepared::commit`].
    ///
    /// # Errors
    /// [`ReplaceError`]: the old set is as it was.
    fn prepare(
        &self,
        user: &str,
        expected: Expected<'_>,
        new: Option<&str>,
    ) -> Result<Self::Prepared<'_>, ReplaceError>;
}

/// A replacement for which all is ready. Dropping it leaves the old set as it was.
pub trait Prepared {
    /// Replaces the set. From the call on, no code of the old set is spent; `notices` makes notices of what that set is in
    /// the end, for one of its uses may still be due. They are in the outbox before the set changes.
    ///
    /// # Errors
    /// [`ReplaceError`]: the old set is as it was, unless the error says otherwise.
    fn commit(self, notices: impl FnOnce(Option<&CodeSet>) -> Vec<QueuedNotice>) -> Result<(), ReplaceError>;
}

/// What the caller has seen and wants replaced; anything else stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected<'a> {
    /// No set.
    Nothing,
    /// The set with this id.
    Set(&'a str),
    /// Something that cannot be used as a set.
    Unusable,
}

/// Proof that a code is spent, so that the login may be accepted. Only a store makes one, when the spent record is on stable
/// storage, or [`crate::protocol`] from the broker's reply, whose store did.
#[derive(Debug, PartialEq, Eq)]
pub struct Accepted {
    number: CodeNumber,
    set: Option<String>,
    left: usize,
}

impl Accepted {
    /// What the broker has spent. Its reply does not name the set.
    #[cfg(feature = "broker")]
    pub(crate) const fn by_broker(number: CodeNumber, left: usize) -> Self {
        Self { number, set: None, left }
    }

    /// Which code of the set.
    #[must_use]
    pub const fn number(&self) -> CodeNumber {
        self.number
    }

    /// The id of the set, where this process knows it.
    #[must_use]
    pub fn set(&self) -> Option<&str> {
        self.set.as_deref()
    }

    /// How many codes are left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.left
    }
}
