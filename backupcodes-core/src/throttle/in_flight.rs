//! Attempts that are counted and have no verdict yet. Each holds a lock on its own byte of the counter until it has one, so
//! that others can tell it from a refusal; whoever is killed lets go, and has counted as a refusal.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, c_int, c_short};
use nix::unistd::{Whence, lseek, write};

/// A byte in a counter, locked until this is dropped.
pub(super) struct InFlight {
    counter: OwnedFd,
    byte: u16,
}

impl InFlight {
    /// Counts one more in a counter that had so many when it was looked at, and says how many were counted before it.
    ///
    /// # Errors
    /// The system's: it has not counted.
    pub(super) fn count(counter: OwnedFd, seen: u16) -> Result<(Self, u32), Errno> {
        // From before the byte is there, so that nobody sees it without its lock.
        lock(&counter, libc::F_RDLCK, seen, TO_THE_END);
        if write(&counter, b"x")? != 1 {
            return Err(Errno::EIO);
        }
        // Behind our own byte, whoever else has written since.
        let end = lseek(&counter, 0, Whence::SeekCur)?;
        let before = u32::try_from(end.saturating_sub(1)).map_err(|_| Errno::EOVERFLOW)?;
        let byte = u16::try_from(before).map_err(|_| Errno::EOVERFLOW)?;
        if byte > seen {
            lock(&counter, libc::F_UNLCK, seen, byte.saturating_sub(seen));
        }
        lock(&counter, libc::F_UNLCK, byte.saturating_add(1), TO_THE_END);
        Ok((Self { counter, byte }, before))
    }

    /// The counter.
    pub(super) const fn counter(&self) -> &OwnedFd {
        &self.counter
    }

    /// How many of those that were counted before it have no verdict yet.
    pub(super) fn others(&self) -> u32 {
        if !is_locked(&self.counter, 0, self.byte) {
            return 0;
        }
        let locked = (0..self.byte).filter(|&byte| is_locked(&self.counter, byte, 1));
        u32::try_from(locked.count()).unwrap_or(u32::MAX)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // A child of the host's may have the file open as well, so that closing it does not unlock it.
        lock(&self.counter, libc::F_UNLCK, 0, TO_THE_END);
    }
}

/// As a length: to the end, wherever that will be.
const TO_THE_END: u16 = 0;

/// Locks of an open file, which other descriptors of the host's do not touch. Readers' locks do not exclude each other.
/// Without them an attempt that has no verdict yet counts as a refusal.
fn lock(counter: &OwnedFd, how: c_int, start: u16, length: u16) {
    let _ = fcntl(counter, FcntlArg::F_OFD_SETLK(&range(how, start, length)));
}

fn is_locked(counter: &OwnedFd, start: u16, length: u16) -> bool {
    let mut found = range(libc::F_WRLCK, start, length);
    let asked = length > 0 && fcntl(counter, FcntlArg::F_OFD_GETLK(&mut found)).is_ok();
    asked && c_int::from(found.l_type) != libc::F_UNLCK
}

fn range(how: c_int, start: u16, length: u16) -> libc::flock {
    libc::flock {
        l_type: c_short::try_from(how).unwrap_or_default(),
        l_whence: c_short::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: start.into(),
        l_len: length.into(),
        l_pid: 0,
    }
}
