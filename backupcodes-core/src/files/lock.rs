//! Locks that are waited for with an end.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::FlockArg;

use crate::files::FileError;

/// How long a lock is waited for: longer than 64 flushes of a slow disk, shorter than sshd's LoginGraceTime.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries: a spend holds the lock for about one flush.
pub(crate) const PAUSE: Duration = Duration::from_millis(2);

/// How long is waited, and until when.
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

    /// Waits a moment, if there is time left.
    ///
    /// # Errors
    /// [`FileError::Busy`] where there is none.
    pub(crate) fn pause(self, path: &Path) -> Result<(), FileError> {
        if self.wait(PAUSE) {
            Ok(())
        } else {
            Err(FileError::Busy { path: path.into(), seconds: self.patience.as_secs() })
        }
    }

    /// What is left of the time.
    #[cfg(feature = "broker")]
    pub(crate) fn left(self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Waits for `pause`, and says whether there was time for it.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that waits")]
    pub(crate) fn wait(self, pause: Duration) -> bool {
        let in_time = Instant::now() < self.end;
        if in_time {
            std::thread::sleep(pause);
        }
        in_time
    }
}

/// An open file whose `flock` is held until this is dropped.
pub(crate) struct Locked(OwnedFd);

impl AsFd for Locked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // A child of the host's may have the file open as well, so that closing it does not unlock it. If even that fails, all
        // is done and said already.
        let _ = flock(&self.0, FlockArg::Unlock);
    }
}

/// Takes the `flock` of an open file. (POSIX locks would vanish when any other descriptor of the file closes in the
/// host.) It is polled, so that no signal of the host has to end the wait.
///
/// # Errors
/// [`FileError::Busy`] after the deadline, or what the system says.
pub(crate) fn lock(mut file: OwnedFd, path: &Path, deadline: Deadline) -> Result<Locked, FileError> {
    loop {
        file = match try_lock(file).map_err(FileError::system(path, "lock"))? {
            Ok(locked) => return Ok(locked),
            Err(file) => file,
        };
        deadline.pause(path)?;
    }
}

/// Takes the `flock`, or gives the file back where another holds it.
///
/// # Errors
/// What the system says.
pub(crate) fn try_lock(file: OwnedFd) -> Result<Result<Locked, OwnedFd>, Errno> {
    match flock(&file, FlockArg::LockExclusiveNonblock) {
        Ok(()) => Ok(Ok(Locked(file))),
        Err(Errno::EWOULDBLOCK | Errno::EINTR) => Ok(Err(file)),
        Err(errno) => Err(errno),
    }
}

#[expect(
    deprecated,
    reason = "nix's Flock panics where unlocking fails, which would tell that a code was right"
)]
fn flock(file: &OwnedFd, how: FlockArg) -> Result<(), Errno> {
    nix::fcntl::flock(file.as_raw_fd(), how)
}
