//! The kernel identifies callers (SO_PEERCRED). Their own claims do not count.

use std::os::fd::AsFd;

use backupcodes_core::account::{Account, AccountError};
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// The uid that connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(u32);

/// The user for whom a caller acts.
pub(crate) enum RequestedUser {
    /// An account.
    Account(Account),
    /// An unknown user, for whom only root may ask.
    Unknown,
}

impl Caller {
    /// The uid that opened the other end. It stays the same if that process passes the socket to another one.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn of(socket: &impl AsFd) -> Result<Self, Errno> {
        Ok(Self(getsockopt(socket, PeerCredentials)?.uid()))
    }

    /// A caller with this uid, for the fuzzer.
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

    /// The user of this name, if the caller may act for them.
    pub(crate) fn acts_for(self, user: &str) -> Result<Option<RequestedUser>, AccountError> {
        Ok(match Account::by_name(user)? {
            Some(account) if self.is_root() || account.uid == self.0 => Some(RequestedUser::Account(account)),
            None if self.is_root() => Some(RequestedUser::Unknown),
            _ => None,
        })
    }
}
