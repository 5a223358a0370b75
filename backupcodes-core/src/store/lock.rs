//! Locks that are waited for with an end.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::StoreError;

/// Between two tries: a spend holds the lock for about one flush.
const PAUSE: Duration = Duration::from_millis(2);

/// How long is waited, and until when.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    patience: Duration,
    end: Instant,
}

impl Deadline {
    pub(super) fn after(patience: Duration) -> Self {
        let now = Instant::now();
        Self { patience, end: now.checked_add(patience).unwrap_or(now) }
    }

    /// Waits a moment, if there is time left.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where there is none.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that waits")]
    pub(super) fn pause(self, path: &Path) -> Result<(), StoreError> {
        if Instant::now() >= self.end {
            return Err(StoreError::Busy { path: path.into(), seconds: self.patience.as_secs() });
        }
        std::thread::sleep(PAUSE);
        Ok(())
    }
}

/// Takes the `flock` of an open file. (POSIX locks would vanish when any other descriptor of the file closes in the
/// host.) It is polled, so that no signal of the host has to end the wait.
///
/// # Errors
/// [`StoreError::Busy`] after the deadline, or what the system says.
pub(super) fn lock(mut file: OwnedFd, path: &Path, deadline: Deadline) -> Result<Flock<OwnedFd>, StoreError> {
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
            Err((_, errno)) => return Err(StoreError::system(path, "lock")(errno)),
        };
        deadline.pause(path)?;
    }
}
