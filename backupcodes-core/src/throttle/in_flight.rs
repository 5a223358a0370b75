//! Attempts that are counted and have no verdict yet. Each locks its own byte of the counter until its verdict, so that others
//! can tell it from a failure. A killed process loses the lock, and its attempt counts as a failure.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, c_int, c_short};
use nix::unistd::{Whence, lseek, write};

/// A byte in a counter, locked until this is dropped.
pub(super) struct InFlight {
    pub(super) counter: OwnedFd,
    byte: u16,
}

impl InFlight {
    /// Counts one more attempt in a counter whose length was `seen`. Returns the number of attempts counted before it.
    ///
    /// # Errors
    /// The error of the system call: the attempt is not counted.
    pub(super) fn count(counter: OwnedFd, seen: u16) -> Result<(Self, u32), Errno> {
        // The lock precedes the byte, so that nobody sees the byte without it.
        lock(&counter, libc::F_RDLCK, seen, TO_THE_END);
        if write(&counter, b"x")? != 1 {
            return Err(Errno::EIO);
        }
        // The end of our own byte, even if others have written since.
        let end = lseek(&counter, 0, Whence::SeekCur)?;
        let before = u32::try_from(end.saturating_sub(1)).map_err(|_| Errno::EOVERFLOW)?;
        let byte = u16::try_from(before).map_err(|_| Errno::EOVERFLOW)?;
        if byte > seen {
            lock(&counter, libc::F_UNLCK, seen, byte.saturating_sub(seen));
        }
        lock(&counter, libc::F_UNLCK, byte.saturating_add(1), TO_THE_END);
        Ok((Self { counter, byte }, before))
    }

    /// The number of earlier attempts without a verdict.
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
        // A child of the application may have inherited the file, so that closing it does not unlock it.
        lock(&self.counter, libc::F_UNLCK, 0, TO_THE_END);
    }
}

/// As a length: to the end, even if the file grows.
const TO_THE_END: u16 = 0;

/// Locks an open file description: other descriptors of the process do not affect it. Read locks do not exclude each other.
/// If this fails, an attempt without a verdict counts as a failure.
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
