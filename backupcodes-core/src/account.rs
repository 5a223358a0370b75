//! Accounts of the user database.

use nix::errno::Errno;
use nix::unistd::User;

use crate::explanation::Explanation;

/// An account of the user database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// `pw_name`: the name in the database, which may differ from the name that the user typed.
    pub name: String,
    /// `pw_uid`.
    pub uid: u32,
}

/// The user database cannot be read, which proves nothing about any account.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub struct AccountError(Errno);

impl AccountError {
    /// The error in three parts.
    #[must_use]
    pub fn explanation(&self) -> Explanation {
        Explanation::new(&"user database", format!("cannot be read ({})", self.0), "see nsswitch.conf(5)")
    }
}

impl Account {
    /// The account of this name, or `None` if the database (`getpwnam_r`, all sources of nsswitch.conf) has none.
    ///
    /// # Errors
    /// [`AccountError`].
    #[inline(never)] // for the module's size
    pub fn by_name(name: &str) -> Result<Option<Self>, AccountError> {
        Self::of(User::from_name(name))
    }

    /// The account of this uid, or `None`. If several accounts share the uid, the database chooses one.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn by_uid(uid: u32) -> Result<Option<Self>, AccountError> {
        Self::of(User::from_uid(uid.into()))
    }

    fn of(found: Result<Option<User>, Errno>) -> Result<Option<Self>, AccountError> {
        match found {
            Ok(found) => Ok(found.map(|user| Self { name: user.name, uid: user.uid.as_raw() })),
            // getpwnam(3): some sources of nsswitch.conf report "not found" with these.
            Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
            Err(error) => Err(AccountError(error)),
        }
    }
}
