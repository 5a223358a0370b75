//! Why a set cannot be read, spent from or replaced: each error says what was found, what was expected, and what to do.

use crate::account::Account;
use crate::explanation::Explanation;
use crate::files::{FileError, ShownPath};
use crate::set::{BadSet, Stale};

/// A set could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or its directory cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a set.
    #[error("{}", self.explanation())]
    Corrupt {
        /// The file.
        path: ShownPath,
        /// What is wrong with it.
        reason: BadSet,
    },
    /// The set is of another account.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// The account has no set, and its uid has one under another name.
    #[error("{}", self.explanation())]
    OtherName {
        /// The id of the set.
        set: String,
        /// The name that it stands under.
        user: String,
        /// Who has none.
        account: Account,
    },
}

impl StoreError {
    /// In the parts that its text has.
    #[must_use]
    pub fn explanation(&self) -> Explanation {
        match self {
            Self::File(error) => error.explanation(),
            Self::Corrupt { path, reason } => Explanation::new(
                path,
                format!("not a set of codes: {reason}; expected what backupcodes-admin generate writes"),
                "make a new set with it",
            ),
            Self::Stale(stale) => stale.explanation(),
            Self::OtherName { set, user, account: Account { name, uid } } => Explanation::new(
                name,
                format!("no set, but set {set} is {user}'s, of the same uid {uid}; expected one name"),
                format!(
                    "where the account was renamed: backupcodes-admin rename {user} {name}; where {user} is somebody who is gone: \
                     backupcodes-admin revoke {user}; else {name} needs a set too: backupcodes-admin generate {name}"
                ),
            ),
        }
    }

    /// Whether what is there is no set and may be replaced by one. What cannot be reached may not, nor a set whose codes are good
    /// once its other name is gone.
    #[must_use]
    pub const fn can_be_replaced(&self) -> bool {
        match self {
            Self::File(FileError::Untrusted(untrusted)) => !untrusted.is_only_linked,
            Self::Corrupt { .. } => true,
            _ => false,
        }
    }
}

/// A code could not be spent.
#[derive(Debug, thiserror::Error)]
pub enum SpendError {
    /// The entry is no longer what was hashed: another attempt took it, or a new set took its place.
    #[error("another login took the code, or the set was replaced, in the same moment")]
    Taken,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A set could not be replaced.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// It is not what was expected any more.
    #[error(
        "the set of {user} was changed by another process meanwhile; nothing was done; look at it: \
             backupcodes-admin status {user}"
    )]
    Changed {
        /// Whose set.
        user: String,
    },
    /// The new set is in place, or the old one is gone, but not surely on stable storage.
    #[error("{0}; the change is made, but a power cut may undo it: keep both sheets, and do it again")]
    Unflushed(StoreError),
    /// There is a set already where this one is to go.
    #[error(
        "{old} and {new} both have a set ({old_set}, {new_set}); nothing was done; to keep {new}'s: backupcodes-admin revoke {old}; \
         to keep {old}'s: backupcodes-admin revoke {new}, then: backupcodes-admin rename {old} {new}"
    )]
    Both {
        /// Whose set was to get another name.
        old: String,
        /// Its id.
        old_set: String,
        /// Who was to get it.
        new: String,
        /// The id of the set that they have.
        new_set: String,
    },
    /// A set that is to get another name is not the one that was meant.
    #[error(
        "{old}: set {set} was made for {user} with uid {uid}; expected {old} with uid {new_uid}, as {new} has; nothing was \
         done; see that both names are right, and what is to be done with the set: backupcodes-admin doctor"
    )]
    OfAnother {
        /// Its id.
        set: String,
        /// The user in it.
        user: String,
        /// The uid in it.
        uid: u32,
        /// Whose set was to get another name.
        old: String,
        /// Who was to get it.
        new: String,
        /// Their uid.
        new_uid: u32,
    },
    /// What was to be put in place is no set that could be read again.
    #[error("the new set of {1} would be no set: {0}; the old one is as it was")]
    Unreadable(BadSet, String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<FileError> for SpendError {
    fn from(error: FileError) -> Self {
        Self::Store(error.into())
    }
}

impl From<FileError> for ReplaceError {
    fn from(error: FileError) -> Self {
        Self::Store(error.into())
    }
}
