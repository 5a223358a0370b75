//! The lock of a delivery, so that each notice goes out once.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use nix::fcntl::OFlag;
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;

use crate::clock::precise;
use crate::files::FileError;
use crate::files::directory::Directory;
use crate::files::lock::{Locked, try_lock};
use crate::files::stat::age;
use crate::files::trust::Requirement;

/// In the runtime directory.
const FOLDER: &str = "notify";
const NAME: &str = "lock";
/// A file beside it, whose time says when old notices were tried last.
const DAILY: &str = "daily";
/// How long old notices wait for another try.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The right to deliver, until it is dropped.
pub struct DeliveryLock {
    directory: Directory,
    _locked: Locked,
}

impl DeliveryLock {
    /// Takes the lock. `None`: another delivery has it, and checks for new notices after it releases the lock.
    ///
    /// # Errors
    /// The runtime directory cannot be used.
    pub fn acquire(runtime: &Path) -> Result<Option<Self>, FileError> {
        let directory = Directory::runtime(runtime)?.inner(FOLDER)?;
        let (file, _) = directory.find_or_make_file(NAME, OFlag::O_RDWR, Requirement::PrivateStamp)?;
        let locked = try_lock(file).map_err(FileError::system(&directory.path_of(NAME), "lock"))?;
        Ok(locked.ok().map(|locked| Self { directory, _locked: locked }))
    }

    /// Whether old notices were not tried for a day, or since the boot.
    #[must_use]
    pub fn is_new_day(&self) -> bool {
        self.directory.stat(DAILY).map_or(true, |stat| age(&stat) >= DAY)
    }

    /// Notes that old notices were tried now.
    pub fn note_day(&self) {
        let now = precise().duration_since(UNIX_EPOCH).map_or(TimeSpec::UTIME_NOW, TimeSpec::from_duration);
        // Without it the next delivery tries them again.
        if let Ok((file, _)) =
            self.directory.find_or_make_file(DAILY, OFlag::O_RDWR, Requirement::PrivateStamp)
        {
            let _ = futimens(&file, &now, &now);
        }
    }

    /// Lets the next delivery try old notices.
    ///
    /// # Errors
    /// The runtime directory cannot be used.
    pub fn forget_day(runtime: &Path) -> Result<(), FileError> {
        Directory::runtime(runtime)?.inner(FOLDER)?.remove(DAILY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_delivery_has_the_lock_until_it_releases_it() {
        let runtime = tempfile::tempdir().unwrap();
        let first = DeliveryLock::acquire(runtime.path()).unwrap().unwrap();
        assert!(DeliveryLock::acquire(runtime.path()).unwrap().is_none());
        drop(first);
        assert!(DeliveryLock::acquire(runtime.path()).unwrap().is_some());
    }

    #[test]
    fn old_notices_are_tried_once_a_day() {
        let runtime = tempfile::tempdir().unwrap();
        let lock = DeliveryLock::acquire(runtime.path()).unwrap().unwrap();
        assert!(lock.is_new_day());
        lock.note_day();
        assert!(!lock.is_new_day());
        let file = std::fs::File::open(runtime.path().join(FOLDER).join(DAILY)).unwrap();
        for (time, is_new_day) in [
            (precise() - DAY, true),
            (precise() - DAY / 2, false),
            (precise() + DAY / 2, false),
            (UNIX_EPOCH, true),
            (precise() + 2 * DAY, true),
        ] {
            file.set_modified(time).unwrap();
            assert_eq!(lock.is_new_day(), is_new_day, "{time:?}");
        }
        lock.note_day();
        DeliveryLock::forget_day(runtime.path()).unwrap();
        assert!(lock.is_new_day());
    }
}
