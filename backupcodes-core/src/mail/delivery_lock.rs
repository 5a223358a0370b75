//! The lock of a delivery, so that each notice goes out once.

use std::path::Path;

use nix::fcntl::OFlag;

use crate::files::FileError;
use crate::files::directory::Directory;
use crate::files::lock::{Locked, try_lock};
use crate::files::trust::Requirement;

/// In the runtime directory.
const FOLDER: &str = "notify";
const NAME: &str = "lock";

/// The right to deliver, until it is dropped.
pub struct DeliveryLock {
    _locked: Locked,
}

impl DeliveryLock {
    /// Takes the lock. `None`: another delivery has it, and checks for new notices after it releases the lock.
    ///
    /// # Errors
    /// The runtime directory cannot be used.
    pub fn acquire(runtime: &Path) -> Result<Option<Self>, FileError> {
        let directory = Directory::runtime(runtime)?.inner(FOLDER)?;
        let (file, _) = directory.find_or_make_file(NAME, OFlag::O_RDWR, Requirement::Counter)?;
        let locked = try_lock(file).map_err(FileError::system(&directory.path_of(NAME), "lock"))?;
        Ok(locked.ok().map(|locked| Self { _locked: locked }))
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
}
