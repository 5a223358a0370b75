//! Storage of sets. [`Store`] is the interface that the rules use; [`FileStore`] keeps one file for each user.

mod error;
mod file;
mod fleet;
mod sets;

use crate::account::Account;
use crate::code::CodeNumber;
use crate::hash::CodeHash;
use crate::mail::outbox::QueuedNotice;
use crate::set::{CodeSet, SpentRecord};

pub use self::error::{ReplaceError, SpendError, StoreError};
pub use self::file::FileStore;
pub use self::fleet::{FleetError, FleetStore};
pub use self::sets::{AnyReplacement, Sets};

/// Stores sets: reads one, spends a code of one, replaces one.
pub trait Store {
    /// A replacement before its commit.
    type Prepared<'a>: Prepared
    where
        Self: 'a;

    /// The user's set. `None` is proof that the user has none.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is known about the set.
    fn read(&self, user: &str) -> Result<Option<CodeSet>, StoreError>;

    /// The set under the account's name. `None` is proof that the account has none under any name: a renamed account still has
    /// its codes under the old one. Where there is no account, this takes as long as where it has no set.
    ///
    /// # Errors
    /// [`StoreError::OtherName`] if the account's uid has a set under another name; any other error means that nothing is known.
    fn own(&self, account: Option<&Account>) -> Result<Option<CodeSet>, StoreError>;

    /// Overwrites the hash of code `number`, which must still be `hash`, with `record`. On return the record is on stable
    /// storage.
    ///
    /// # Errors
    /// [`SpendError`]: the code must not be accepted, even though it may be spent.
    fn spend(
        &self,
        user: &str,
        number: CodeNumber,
        hash: &CodeHash,
        record: &SpentRecord,
    ) -> Result<Accepted, SpendError>;

    /// Prepares to replace the user's set, which must be as `expected`, with `new`, the text of a set file, or with nothing.
    /// Nothing changes before [`Prepared::commit`].
    ///
    /// # Errors
    /// [`ReplaceError`]: the old set is unchanged.
    fn prepare(
        &self,
        user: &str,
        expected: Expected<'_>,
        new: Option<&str>,
    ) -> Result<Self::Prepared<'_>, ReplaceError>;
}

/// A replacement that is ready. Dropping it leaves the old set unchanged.
pub trait Prepared {
    /// Replaces the set. No code of the old set is spent after this call begins. `notices` gets the last state of the old set,
    /// whose uses may still be due, and makes notices. They are in the outbox before the set changes.
    ///
    /// # Errors
    /// [`ReplaceError`]: the old set is unchanged, unless the error says otherwise.
    fn commit(self, notices: impl FnOnce(Option<&CodeSet>) -> Vec<QueuedNotice>) -> Result<(), ReplaceError>;
}

/// What the caller has seen and wants to replace; anything else stays unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected<'a> {
    /// No set.
    Nothing,
    /// The set with this id.
    Set(&'a str),
    /// Something that is not a usable set.
    Unusable,
}

/// Proof that a code is spent, so that the login may be accepted. Only a store makes it, once the spent record is on stable
/// storage, or [`crate::protocol`], from the reply of a broker whose store did so.
#[derive(Debug, PartialEq, Eq)]
pub struct Accepted {
    number: CodeNumber,
    set: Option<String>,
    left: usize,
}

impl Accepted {
    /// A code that the broker has spent. Its reply does not name the set.
    pub(crate) const fn by_broker(number: CodeNumber, left: usize) -> Self {
        Self { number, set: None, left }
    }

    /// The number of the code.
    #[must_use]
    pub const fn number(&self) -> CodeNumber {
        self.number
    }

    /// The id of the set, if this process knows it.
    #[must_use]
    pub fn set(&self) -> Option<&str> {
        self.set.as_deref()
    }

    /// The number of codes left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.left
    }
}
