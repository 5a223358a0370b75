//! Replaces a user's set with a new one or with nothing, and changes the addresses of a set.

use std::os::fd::OwnedFd;

use nix::sys::stat::SFlag;

use super::set_file::{SetFile, name_of, parse_new};
use super::{FileStore, uid_index};
use crate::files::directory::{Directory, NewFile};
use crate::files::lock::{Deadline, Locked, PATIENCE};
use crate::files::trust::Requirement;
use crate::mail::outbox::QueuedNotice;
use crate::set::CodeSet;
use crate::store::{Expected, Prepared, ReplaceError, StoreError};

/// A new set before its rename. Only the holder of the directory's lock may touch it, so one name is enough, and the next
/// replacement removes what a crash left. No set can have this name.
pub(super) const NEW: &str = ".new";

/// A replacement under the lock of the directory. The new file is written and flushed, still under its temporary name.
pub struct Replacement<'a> {
    store: &'a FileStore,
    user: String,
    directory: Directory,
    _locked: Locked,
    old: ExistingFile,
    /// The uid of the new set; `None` removes the old one.
    uid: Option<u32>,
}

impl<'a> Replacement<'a> {
    pub(super) fn prepare(
        store: &'a FileStore,
        user: &str,
        expected: Expected<'_>,
        new: Option<&str>,
    ) -> Result<Self, ReplaceError> {
        let deadline = Deadline::after(PATIENCE);
        let directory = store.open()?;
        let locked = directory.lock(deadline)?;
        let old = ExistingFile::find(&directory, user, deadline)?;
        if old.seen() != expected {
            return Err(ReplaceError::Changed { user: user.into() });
        }
        let bad = |reason| ReplaceError::Unreadable(reason, user.into());
        let uid = new.map(parse_new).transpose().map_err(bad)?.map(|set| set.label.uid);
        if let Some(text) = new {
            NewFile::write(&directory, NEW, text)?.keep();
        }
        Ok(Self { store, user: user.into(), directory, _locked: locked, old, uid })
    }
}

impl Prepared for Replacement<'_> {
    fn commit(
        mut self,
        notices: impl FnOnce(Option<&CodeSet>) -> Vec<QueuedNotice>,
    ) -> Result<(), ReplaceError> {
        // A login that holds this lock spends its code of the old set before the set is replaced, or never.
        let locked = self.old.file.take().map(|file| file.lock(Deadline::after(PATIENCE))).transpose()?;
        let Self { store, user, directory, uid, .. } = &self;
        let last = match locked.as_ref().map(SetFile::read) {
            // A file that is not a set has no uses to report.
            Some(Err(error)) if error.can_be_replaced() => None,
            last => last.transpose()?,
        };
        let outbox = store.outbox();
        let queued = outbox.put(&notices(last.as_ref()))?;
        // This comes before the set: every set must be listed under its uid.
        uid.map_or(Ok(()), |uid| uid_index::add(directory, uid, user)).inspect_err(|_| queued.withdraw())?;
        let changed = match uid {
            Some(_) => directory.rename(NEW, &name_of(user)),
            None => directory.remove(&name_of(user)),
        };
        changed.inspect_err(|_| queued.withdraw())?;
        if let Some(last) = last.map(|last| last.label.uid).filter(|last| Some(*last) != *uid) {
            // A name that stays listed does no harm: it has no set.
            let _ = uid_index::remove(directory, last, user);
        }
        make_durable(directory, user)
    }
}

impl Drop for Replacement<'_> {
    fn drop(&mut self) {
        // After the rename this removes nothing.
        let _ = self.uid.map(|_| self.directory.remove(NEW));
    }
}

impl FileStore {
    /// Changes the addresses of the user's set. `notices` gets its last state and makes notices; they are in the outbox before the
    /// set changes. `false`: the user has no set.
    ///
    /// # Errors
    /// [`ReplaceError`]: the set is unchanged, unless the error says otherwise.
    pub fn change_addresses(
        &self,
        user: &str,
        email: &[String],
        notices: impl FnOnce(&CodeSet) -> Vec<QueuedNotice>,
    ) -> Result<bool, ReplaceError> {
        let deadline = Deadline::after(PATIENCE);
        let directory = self.open()?;
        let _locked = directory.lock(deadline)?;
        let Some(file) = directory.find(user, deadline)? else { return Ok(false) };
        // From here on, no code is spent in the old file.
        let file = file.lock(deadline)?;
        let bad = |reason| ReplaceError::Unreadable(reason, user.into());
        let text = CodeSet::change_addresses(&file.text()?, email).map_err(bad)?;
        parse_new(&text).map_err(bad)?;
        let new = NewFile::write(&directory, NEW, &text)?;
        let outbox = self.outbox();
        let set = file.read()?;
        let queued = outbox.put(&notices(&set))?;
        // A set from a backup may be unlisted.
        uid_index::add(&directory, set.label.uid, user).inspect_err(|_| queued.withdraw())?;
        new.rename(&name_of(user)).inspect_err(|_| queued.withdraw())?;
        make_durable(&directory, user)?;
        Ok(true)
    }
}

/// Flushes the change of a user's file name, and records in the set that the name is durable.
pub(super) fn make_durable(directory: &Directory, user: &str) -> Result<(), ReplaceError> {
    directory.flush().map_err(|error| ReplaceError::Unflushed(error.into()))?;
    // If this fails, the next spend flushes once more.
    if let Ok(Some(file)) = directory.find(user, Deadline::after(PATIENCE)) {
        let _ = file.read().map(|set| file.record_durable(directory, &set));
    }
    Ok(())
}

/// What the directory holds under the user's name.
struct ExistingFile {
    /// A file that can be locked, with any content.
    file: Option<SetFile<OwnedFd>>,
    set: Option<String>,
    exists: bool,
}

impl ExistingFile {
    /// A file that is not a usable set may be replaced. A directory, or a file that cannot be examined, may not.
    fn find(directory: &Directory, user: &str, deadline: Deadline) -> Result<Self, StoreError> {
        let file = match directory.find(user, deadline).map_err(StoreError::from) {
            Ok(None) => return Ok(Self { file: None, set: None, exists: false }),
            Ok(file) => file,
            Err(error) if error.can_be_replaced() => None,
            Err(error) => return Err(error),
        };
        let name = name_of(user);
        if directory
            .stat(&name)
            .is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits())
        {
            let found = "a directory, which must be removed by hand first";
            let untrusted = Requirement::PrivateFile.refuse(&directory.path.join(name), found);
            return Err(StoreError::File(untrusted.into()));
        }
        let set = match file.as_ref().map(SetFile::read) {
            Some(Ok(set)) => Some(set.label.set),
            None => None,
            Some(Err(error)) if error.can_be_replaced() => None,
            Some(Err(error)) => return Err(error),
        };
        Ok(Self { file, set, exists: true })
    }

    fn seen(&self) -> Expected<'_> {
        match &self.set {
            Some(set) => Expected::Set(set),
            None if self.exists => Expected::Unusable,
            None => Expected::Nothing,
        }
    }
}
