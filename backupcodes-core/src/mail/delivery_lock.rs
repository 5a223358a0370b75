//! One delivery at a time, so that a notice goes out once; but a delivery that stands still keeps no other back for long.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use nix::fcntl::OFlag;
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;

use crate::clock::precise;
use crate::files::FileError;
use crate::files::directory::Directory;
use crate::files::lock::PATIENCE;
use crate::files::lock::{Deadline, Locked, try_lock};
use crate::files::stat::{Stat, changed, same, stat};
use crate::files::trust::Requirement;

/// A delivery that has not gone on for so long stands still: it is stopped or frozen.
const STANDSTILL: Duration = Duration::from_secs(5 * 60);
/// From the lock to the first sign of going on, at most.
const GRACE: Duration = Duration::from_secs(1);
/// In the runtime directory.
const FOLDER: &str = "notify";
const NAME: &str = "lock";

/// The right to deliver, until it is dropped.
pub struct DeliveryLock {
    file: Locked,
}

impl DeliveryLock {
    /// Takes the lock, or `None` where another delivery has it and goes on. That one looks again when it has let go.
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
                    if !stands_still(&directory, &stat) {
                        return Ok(None);
                    }
                    // Only one may take the place of the file, so that no new one is taken away.
                    let _locked = directory.lock(deadline)?;
                    if is_named() {
                        directory.remove(NAME)?;
                    }
                }
                // Somebody took its place meanwhile.
                _ => deadline.pause(&path)?,
            }
        }
    }

    /// A sign for others that this delivery does not stand still. `false`: it did, and another has the lock now.
    #[must_use]
    pub fn touch(&self) -> bool {
        let now = precise().duration_since(UNIX_EPOCH).map_or(TimeSpec::UTIME_NOW, TimeSpec::from_duration);
        // Without it others go ahead in 5 minutes.
        let _ = futimens(&self.file, &now, &now);
        stat(&self.file).is_ok_and(|stat| stat.st_nlink > 0)
    }
}

/// Whether whoever has the lock has given no sign of going on for too long, and gives none now.
fn stands_still(directory: &Directory, stat: &Stat) -> bool {
    let is_old = || {
        directory.stat(NAME).is_ok_and(|now| {
            let age = precise().duration_since(changed(&now)).unwrap_or_else(|ahead| ahead.duration());
            same(&now, stat) && age > STANDSTILL
        })
    };
    // It may have taken the lock in this very moment.
    is_old() && Deadline::after(GRACE).wait(GRACE) && is_old()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::{UtimensatFlags, utimensat};

    #[test]
    fn one_has_the_turn_until_it_lets_go() {
        let runtime = tempfile::tempdir().unwrap();
        let lock = DeliveryLock::acquire(runtime.path()).unwrap().unwrap();
        assert!(DeliveryLock::acquire(runtime.path()).unwrap().is_none());
        drop(lock);
        assert!(DeliveryLock::acquire(runtime.path()).unwrap().is_some());
    }

    #[test]
    fn who_stands_still_loses_the_turn_and_only_then() {
        let runtime = tempfile::tempdir().unwrap();
        let stopped = DeliveryLock::acquire(runtime.path()).unwrap().unwrap();
        let file = runtime.path().join(FOLDER).join(NAME);
        let stand = |seconds: u64| {
            let then = (precise() - Duration::from_secs(seconds)).duration_since(UNIX_EPOCH).unwrap();
            let then = TimeSpec::from_duration(then);
            utimensat(nix::fcntl::AT_FDCWD, &file, &then, &then, UtimensatFlags::NoFollowSymlink).unwrap();
        };
        stand(290);
        assert!(DeliveryLock::acquire(runtime.path()).unwrap().is_none());
        stand(302);
        let next = DeliveryLock::acquire(runtime.path()).unwrap().unwrap();
        // Its own place is another now, and what it does in the old one changes nothing.
        assert!(!stopped.touch() && next.touch());
        assert!(DeliveryLock::acquire(runtime.path()).unwrap().is_none());
        drop(stopped);
        assert!(DeliveryLock::acquire(runtime.path()).unwrap().is_none());
        drop(next);
        assert!(DeliveryLock::acquire(runtime.path()).unwrap().is_some());
    }

    #[test]
    fn of_many_at_once_one_takes_over() {
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
