//! The lock of a delivery, so that each notice goes out once. A stalled delivery loses the lock after five minutes.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use nix::fcntl::OFlag;
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;

use crate::clock::precise;
use crate::files::FileError;
use crate::files::directory::Directory;
use crate::files::lock::{Deadline, Locked, PATIENCE, try_lock};
use crate::files::stat::{Stat, changed, same, stat};
use crate::files::trust::Requirement;

/// A delivery without a sign of progress for this time has stalled: it is stopped or frozen.
const STALLED_AFTER: Duration = Duration::from_secs(5 * 60);
/// The longest time from the lock to the first sign of progress.
const GRACE: Duration = Duration::from_secs(1);
/// In the runtime directory.
const FOLDER: &str = "notify";
const NAME: &str = "lock";

/// The right to deliver, until it is dropped.
pub struct DeliveryLock {
    file: Locked,
}

impl DeliveryLock {
    /// Takes the lock. `None`: another delivery has it and makes progress; it checks for new notices after it releases the lock.
    ///
    /// # Errors
    /// The runtime directory cannot be used.
    pub fn acquire(runtime: &Path) -> Result<Option<Self>, FileError> {
        let deadline = Deadline::after(PATIENCE);
        let directory = Directory::runtime(runtime)?.inner(FOLDER)?;
        let path = directory.path_of(NAME);
        loop {
            let (fd, stat) = directory.find_or_make_file(NAME, OFlag::O_RDWR, Requirement::Counter)?;
            let is_named = || directory.stat(NAME).is_ok_and(|now| same(&now, &stat));
            match try_lock(fd).map_err(FileError::system(&path, "lock"))? {
                Ok(file) if is_named() => {
                    let lock = Self { file };
                    if lock.touch() {
                        return Ok(Some(lock));
                    }
                }
                Err(_) if is_named() => {
                    if !has_stalled(&directory, &stat) {
                        return Ok(None);
                    }
                    // Only one process may remove the file, so that none removes a new one.
                    let _locked = directory.lock(deadline)?;
                    if is_named() {
                        directory.remove(NAME)?;
                    }
                }
                // Another process has replaced the file.
                _ => deadline.pause(&path)?,
            }
        }
    }

    /// Shows others that this delivery makes progress. `false`: it had stalled, and another delivery has the lock.
    #[must_use]
    pub fn touch(&self) -> bool {
        let now = precise().duration_since(UNIX_EPOCH).map_or(TimeSpec::UTIME_NOW, TimeSpec::from_duration);
        // If this fails, others take the lock in 5 minutes.
        let _ = futimens(&self.file, &now, &now);
        stat(&self.file).is_ok_and(|stat| stat.st_nlink > 0)
    }
}

/// Whether the holder of the lock has shown no progress for too long, and shows none now.
fn has_stalled(directory: &Directory, stat: &Stat) -> bool {
    let is_old = || {
        directory.stat(NAME).is_ok_and(|now| {
            let age = precise().duration_since(changed(&now)).unwrap_or_else(|ahead| ahead.duration());
            same(&now, stat) && age > STALLED_AFTER
        })
    };
    // It may have taken the lock just now.
    is_old() && Deadline::after(GRACE).wait(GRACE) && is_old()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::{UtimensatFlags, utimensat};

    #[test]
    fn one_delivery_has_the_lock_until_it_releases_it() {
        let runtime = tempfile::tempdir().unwrap();
        let lock = DeliveryLock::acquire(runtime.path()).unwrap().unwrap();
        assert!(DeliveryLock::acquire(runtime.path()).unwrap().is_none());
        drop(lock);
        assert!(DeliveryLock::acquire(runtime.path()).unwrap().is_some());
    }

    #[test]
    fn only_a_stalled_delivery_loses_the_lock() {
        let runtime = tempfile::tempdir().unwrap();
        let stopped = DeliveryLock::acquire(runtime.path()).unwrap().unwrap();
        let file = runtime.path().join(FOLDER).join(NAME);
        let stall = |seconds: u64| {
            let then = (precise() - Duration::from_secs(seconds)).duration_since(UNIX_EPOCH).unwrap();
            let then = TimeSpec::from_duration(then);
            utimensat(nix::fcntl::AT_FDCWD, &file, &then, &then, UtimensatFlags::NoFollowSymlink).unwrap();
        };
        stall(290);
        assert!(DeliveryLock::acquire(runtime.path()).unwrap().is_none());
        stall(302);
        let next = DeliveryLock::acquire(runtime.path()).unwrap().unwrap();
        // The stalled delivery still has the old file, and its actions there have no effect.
        assert!(!stopped.touch() && next.touch());
        assert!(DeliveryLock::acquire(runtime.path()).unwrap().is_none());
        drop(stopped);
        assert!(DeliveryLock::acquire(runtime.path()).unwrap().is_none());
        drop(next);
        assert!(DeliveryLock::acquire(runtime.path()).unwrap().is_some());
    }

    #[test]
    fn one_of_many_deliveries_replaces_a_stalled_one() {
        let runtime = tempfile::tempdir().unwrap();
        let stopped = DeliveryLock::acquire(runtime.path()).unwrap().unwrap();
        let long_ago = TimeSpec::from_duration(Duration::from_secs(1000));
        futimens(&stopped.file, &long_ago, &long_ago).unwrap();
        let taken: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..16).map(|_| scope.spawn(|| DeliveryLock::acquire(runtime.path()).unwrap())).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(taken.len(), 1);
    }
}
