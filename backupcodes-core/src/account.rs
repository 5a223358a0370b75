//! Who logs in, as the user database tells it.

use nix::errno::Errno;
use nix::unistd::User;

/// An account of the user database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// `pw_name`: the name as the database gives it, which may differ from the name that was typed.
    pub name: String,
    /// `pw_uid`.
    pub uid: u32,
}

/// Finds accounts by name.
pub trait Accounts {
    /// The account of this name, or `None` where the database says that there is none.
    ///
    /// # Errors
    /// The database could not be asked: this proves nothing about the account.
    fn by_name(&self, name: &str) -> Result<Option<Account>, AccountError>;
}

/// The user database could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("the user database cannot be read ({0}); see nsswitch.conf(5)")]
pub struct AccountError(Errno);

/// The user database of the host (`getpwnam_r`, so whatever nsswitch.conf names).
pub struct SystemAccounts;

impl Accounts for SystemAccounts {
    fn by_name(&self, name: &str) -> Result<Option<Account>, AccountError> {
        match User::from_name(name) {
            Ok(found) => Ok(found.map(|user| Account { name: user.name, uid: user.uid.as_raw() })),
            // getpwnam(3): sources of nsswitch.conf say "not found" with these two as well.
            Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
            // A name that cannot be a C string is no account's name.
            Err(Errno::EINVAL) if name.contains('\0') => Ok(None),
            Err(error) => Err(AccountError(error)),
        }
    }
}
