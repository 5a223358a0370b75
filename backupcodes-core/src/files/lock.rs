//! Locks with a deadline.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::FlockArg;

use crate::files::FileError;

/// The longest wait for a lock: longer than 64 flushes of a slow disk, shorter than sshd's LoginGraceTime.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two attempts: a spend holds the lock for about one flush.
pub(crate) const PAUSE: Duration = Duration::from_millis(2);

/// The end of a wait.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    patience: Duration,
    end: Instant,
}

impl Deadline {
    pub(crate) fn after(patience: Duration) -> Self {
        let now = Instant::now();
        Self { patience, end: now.checked_add(patience).unwrap_or(now) }
    }

    /// Waits for [`PAUSE`].
    pub(crate) fn pause(self, path: &Path) -> Result<(), FileError> {
        if self.wait(PAUSE) {
            Ok(())
        } else {
            Err(FileError::Busy { path: path.into(), seconds: self.patience.as_secs() })
        }
    }

    /// The time that is left.
    pub(crate) fn left(self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Waits for `pause` and returns true, or returns false at once after the deadline.
    #[expect(clippy::disallowed_methods, reason = "the one place that waits")]
    pub(crate) fn wait(self, pause: Duration) -> bool {
        let in_time = Instant::now() < self.end;
        if in_time {
            std::thread::sleep(pause);
        }
        in_time
    }
}

/// An open file, locked by `flock` until this is dropped.
pub(crate) struct Locked(OwnedFd);

impl AsFd for Locked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // A child of the application may have inherited the file, so that closing it does not unlock it.
        let _ = flock(&self.0, FlockArg::Unlock);
    }
}

/// Locks an open file by `flock`. (The process loses a POSIX lock when it closes any other descriptor of the file.) The
/// lock is polled, so that no signal of the application must end the wait.
pub(crate) fn lock(mut file: OwnedFd, path: &Path, deadline: Deadline) -> Result<Locked, FileError> {
    loop {
        file = match try_lock(file).map_err(FileError::system(path, "lock"))? {
            Ok(locked) => return Ok(locked),
            Err(file) => file,
        };
        deadline.pause(path)?;
    }
}

/// Locks an open file by `flock`, or returns it unlocked if another process holds the lock.
pub(crate) fn try_lock(file: OwnedFd) -> Result<Result<Locked, OwnedFd>, Errno> {
    match flock(&file, FlockArg::LockExclusiveNonblock) {
        Ok(()) => Ok(Ok(Locked(file))),
        Err(Errno::EWOULDBLOCK | Errno::EINTR) => Ok(Err(file)),
        Err(errno) => Err(errno),
    }
}

#[expect(
    deprecated,
    reason = "nix's Flock panics if unlocking fails, which would reveal that a code was right"
)]
fn flock(file: &OwnedFd, how: FlockArg) -> Result<(), Errno> {
    nix::fcntl::flock(file.as_raw_fd(), how)
}
