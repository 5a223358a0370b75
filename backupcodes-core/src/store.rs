//! Where sets are kept. [`Store`] is all that the rules need of one; [`FileStore`] keeps a file a user.

mod file;

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

pub use self::file::FileStore;
use crate::account::Account;
use crate::code::CodeNumber;
use crate::files::trust::{ShownPath, Untrusted};
use crate::hash::CodeHash;
use crate::mail::outbox::QueuedNotice;
use crate::set::SpentRecord;
use crate::set::{BadSet, CodeSet};

/// How long a lock is waited for: longer than 64 flushes of a slow disk, shorter than sshd's LoginGraceTime.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Keeps sets: read one, spend a code of one, replace one.
pub trait Store {
    /// The user's set, or `None` only where it is proven that there is none.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is known about the set.
    fn read(&self, user: &str) -> Result<Option<CodeSet>, StoreError>;

    /// Proves that no set of the account's uid stands under another name: an account that was renamed has its codes there.
    ///
    /// # Errors
    /// [`StoreError::OtherName`] where one does, or nothing is known.
    fn prove_no_other_name(&self, account: &Account) -> Result<(), StoreError>;

    /// Overwrites the hash in `number`, which must still be `hash`, with `record`. On return that is on stable storage.
    /// The set as it now is comes back.
    ///
    /// # Errors
    /// [`SpendError`]: the code must not be accepted. It may be spent all the same.
    fn spend(
        &self,
        user: &str,
        number: CodeNumber,
        hash: &CodeHash,
        record: &SpentRecord,
    ) -> Result<CodeSet, SpendError>;

    /// Puts `new` (a whole set file) in the place of what is there, or removes what is there. `announce` is called
    /// when all is ready and nothing has changed yet; if it fails, nothing changes. Then the old set is locked, and what
    /// `notices` makes of it as it is in the end is in the outbox before anything changes: among its uses may be one
    /// whose notice is due.
    ///
    /// # Errors
    /// [`ReplaceError`]: the old set is as it was, but where the error says otherwise.
    fn replace(
        &self,
        user: &str,
        expected: Expected<'_>,
        new: Option<&str>,
        announce: &mut dyn FnMut() -> std::io::Result<()>,
        notices: &mut dyn FnMut(Option<&CodeSet>) -> Vec<QueuedNotice>,
    ) -> Result<(), ReplaceError>;
}

/// What whoever asked for a replacement has seen, and wants replaced; anything else is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected<'a> {
    /// No set.
    Nothing,
    /// The set with this id.
    Set(&'a str),
    /// Something that cannot be used as a set.
    Unusable,
}

/// A set could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory is not there, which proves nothing about any set.
    #[error(
        "{0}: no such directory; expected a directory of root's with mode 0700; \
             see that its file system is mounted, or make it: install -d -m 0700 -o root {0}"
    )]
    NoDirectory(ShownPath),
    /// Something about a file or directory must not be.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// The file is not a set.
    #[error(
        "{path}: not a set of codes: {reason}; expected what backupcodes-admin generate writes; make a new set with it"
    )]
    Corrupt {
        /// The file.
        path: ShownPath,
        /// What is wrong with it.
        reason: BadSet,
    },
    /// The set was made for an account that is no more.
    #[error(
        "set {set} was made for {user} with uid {uid}; expected {name} with uid {account_uid}, as the account is now; \
         an account that was made anew wants a new set: backupcodes-admin generate {name}",
        name = account.name,
        account_uid = account.uid
    )]
    Stale {
        /// The id of the set.
        set: String,
        /// The user in the file.
        user: String,
        /// The uid in the file.
        uid: u32,
        /// Who logs in.
        account: Account,
    },
    /// The account has no set, and its uid has one under another name.
    #[error(
        "{name}: no set, but set {set} is {user}'s, of the same uid {uid}; expected one name; where the account was renamed: \
         backupcodes-admin rename {user} {name}; where {user} is somebody who is gone: backupcodes-admin revoke {user}; else \
         {name} needs a set too: backupcodes-admin generate {name}",
        name = account.name,
        uid = account.uid
    )]
    OtherName {
        /// The id of the set.
        set: String,
        /// The name that it stands under.
        user: String,
        /// Who has none.
        account: Account,
    },
    /// The system refused.
    #[error(
        "{path}: cannot {action} ({errno}); see that the file system is in order and that this runs as root"
    )]
    System {
        /// The file.
        path: ShownPath,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        errno: Errno,
    },
    /// Somebody else held the lock for too long.
    #[error("{path}: locked by another process for {seconds} s; see who holds it: lslocks")]
    Busy {
        /// What is locked.
        path: ShownPath,
        /// How long was waited.
        seconds: u64,
    },
}

impl StoreError {
    /// Whether what is there is no set and may be replaced by one. What cannot be reached may not, nor a set whose codes are good
    /// once its other name is gone.
    #[must_use]
    pub const fn can_be_replaced(&self) -> bool {
        match self {
            Self::Untrusted(untrusted) => !untrusted.is_only_linked,
            Self::Corrupt { .. } => true,
            _ => false,
        }
    }

    /// Whether there is no room for what was to be written.
    pub(crate) const fn is_full(&self) -> bool {
        matches!(self, Self::System { errno: Errno::ENOSPC | Errno::EDQUOT, .. })
    }

    pub(crate) fn system(path: &Path, action: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::System { path: path.into(), action, errno }
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
    /// The announcement failed, such as the printing of the sheet.
    #[error("the sheet cannot be printed ({0}); the old set of {user} is as it was", user = .1)]
    Announce(std::io::Error, String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
