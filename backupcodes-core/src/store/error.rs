//! Errors of reading, spending and replacing. Each says what was found, what was expected, and what to do.

use crate::account::Account;
use crate::explanation::Explanation;
use crate::files::{FileError, ShownPath};
use crate::set::{BadSet, OwnerMismatch};
use crate::store::fleet::FleetError;

/// A set cannot be read.
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
    /// The set belongs to another account.
    #[error(transparent)]
    OwnerMismatch(#[from] OwnerMismatch),
    /// The account has no set, but its uid has one under another name.
    #[error("{}", self.explanation())]
    OtherName {
        /// The id of the set.
        set: String,
        /// The name of its owner.
        user: String,
        /// The account without a set.
        account: Account,
    },
    /// The sets that hosts share cannot be used.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

impl StoreError {
    /// The error in three parts.
    #[must_use]
    pub fn explanation(&self) -> Explanation {
        match self {
            Self::File(error) => error.explanation(),
            Self::Corrupt { path, reason } => Explanation::new(
                path,
                format!("not a set of codes: {reason}; expected what backupcodes-admin generate writes"),
                "make a new set with it",
            ),
            Self::OwnerMismatch(stale) => stale.explanation(),
            Self::Fleet(error) => error.explanation(),
            Self::OtherName { set, user, account: Account { name, uid } } => Explanation::new(
                name,
                format!("no set, but {user} with the same uid {uid} has set {set}; expected one name"),
                format!(
                    "if the account was renamed: backupcodes-admin rename {user} {name}; if {user} has left: \
                     backupcodes-admin revoke {user}; otherwise: backupcodes-admin generate {name}"
                ),
            ),
        }
    }

    /// Whether what is there is not a set and may be replaced by one. False for a file that cannot be reached, and for a set whose
    /// codes are good once its second name is removed.
    #[must_use]
    pub const fn can_be_replaced(&self) -> bool {
        match self {
            Self::File(FileError::Untrusted(untrusted)) => !untrusted.has_only_another_link,
            Self::Corrupt { .. } | Self::Fleet(FleetError::NoSet { .. }) => true,
            _ => false,
        }
    }
}

/// A code cannot be spent.
#[derive(Debug, thiserror::Error)]
pub enum SpendError {
    /// The entry is no longer the hash that matched: another attempt spent the code, or the set was replaced.
    #[error("another login took the code, or the set was replaced, at the same moment")]
    NoLongerUnspent,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A set cannot be replaced.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// It is no longer as expected.
    #[error(
        "the set of {user} was changed by another process meanwhile; nothing was done; look at it: \
             backupcodes-admin status {user}"
    )]
    Changed {
        /// The owner.
        user: String,
    },
    /// The change is made, but may not be on stable storage.
    #[error("{0}; the change is made, but a power cut may undo it: keep both sheets, and do it again")]
    Unflushed(StoreError),
    /// It is unknown whether the change is made.
    #[error(
        "{0}; it is unknown whether the change is made: keep both sheets, and look which set counts: backupcodes-admin status"
    )]
    Unknown(StoreError),
    /// The fleet has a set of the user already.
    #[error(
        "{user} has set {set} on this host and set {shared} in the fleet; nothing was done; to keep the fleet's: \
         backupcodes-admin revoke {user}"
    )]
    InFleet {
        /// The user.
        user: String,
        /// The id of the set on this host.
        set: String,
        /// The id of the fleet's.
        shared: String,
    },
    /// The set is on the host and in the fleet.
    #[error(
        "set {set} of {user} is also in the fleet, and its codes may have been used in both; it is unusable on this host now; for a \
         new one: backupcodes-admin revoke {user}, then: backupcodes-admin generate {user}"
    )]
    Copy {
        /// The user.
        user: String,
        /// The id of the set.
        set: String,
    },
    /// An import of the set was cut short, and the fleet does not have it.
    #[error(
        "an import of set {set} of {user} was cut short, and the fleet may have had the set and ended it since; nothing was done; for a \
         new one: backupcodes-admin revoke {user}, then: backupcodes-admin generate {user}"
    )]
    CutShort {
        /// The user.
        user: String,
        /// The id of the set.
        set: String,
    },
    /// Both names of a rename have a set.
    #[error(
        "{old} and {new} both have a set ({old_set}, {new_set}); nothing was done; to keep {new}'s: backupcodes-admin revoke {old}; \
         to keep {old}'s: backupcodes-admin revoke {new}, then: backupcodes-admin rename {old} {new}"
    )]
    Both {
        /// The old name.
        old: String,
        /// The id of its set.
        old_set: String,
        /// The new name.
        new: String,
        /// The id of its set.
        new_set: String,
    },
    /// The set that is to be renamed belongs to another account.
    #[error(
        "{old}: set {set} was made for {user} with uid {uid}; expected {old} with uid {new_uid}, as {new} has; nothing was \
         done; check both names, and find out what to do with the set: backupcodes-admin doctor"
    )]
    OfAnother {
        /// The id of the set.
        set: String,
        /// The user in the set.
        user: String,
        /// The uid in the set.
        uid: u32,
        /// The old name.
        old: String,
        /// The new name.
        new: String,
        /// Its uid.
        new_uid: u32,
    },
    /// The new text does not read back as a set.
    #[error("the new set of {1} would be unreadable: {0}; the old one is unchanged")]
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
