//! The kernel identifies callers (SO_PEERCRED). Their own claims do not count.

use std::os::fd::AsFd;

use backupcodes_core::account::Account;
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::error::Error;

/// The uid that connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(u32);

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

    /// The account of this user, for whom the caller must be allowed to act. Only root may ask for an unknown user: `None`.
    pub(crate) fn acts_for(self, user: &str) -> Result<Option<Account>, Error> {
        let account = Account::by_name(user).map_err(Error::unavailable)?;
        let is_own = account.as_ref().is_some_and(|account| account.uid == self.0);
        if self.is_root() || is_own { Ok(account) } else { Err(Error::NotYours) }
    }
}
