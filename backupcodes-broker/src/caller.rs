//! Who calls, as the kernel tells it of the connection. Nothing that a caller says of itself counts.

use std::os::fd::AsFd;

use backupcodes_core::account::{Account, AccountError};
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// The uid that connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(u32);

/// For whom a caller acts.
pub(crate) enum For {
    /// This account.
    Account(Account),
    /// A user who does not exist: only root may ask for one.
    Nobody,
}

impl Caller {
    /// Who has opened the other end. It does not change where that end is handed on.
    ///
    /// # Errors
    /// It is no socket.
    pub fn of(socket: &impl AsFd) -> Result<Self, Errno> {
        Ok(Self(getsockopt(socket, PeerCredentials)?.uid()))
    }

    /// One that the kernel says nothing of, for the fuzzer.
    #[must_use]
    pub const fn with_uid(uid: u32) -> Self {
        Self(uid)
    }

    pub(crate) const fn uid(self) -> u32 {
        self.0
    }

    pub(crate) const fn is_root(self) -> bool {
        self.0 == 0
    }

    /// Whom the caller may act for under this name; `None` if it may not.
    ///
    /// # Errors
    /// The user database cannot be read.
    pub(crate) fn acts_for(self, user: &str) -> Result<Option<For>, AccountError> {
        Ok(match Account::by_name(user)? {
            Some(account) if self.is_root() || account.uid == self.0 => Some(For::Account(account)),
            None if self.is_root() => Some(For::Nobody),
            _ => None,
        })
    }
}
