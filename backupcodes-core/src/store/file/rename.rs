//! The set of a renamed account.

use nix::errno::Errno;

use super::replace::{NEW, make_durable};
use super::set_file::{name_of, parse_new};
use super::{FileStore, uid_index};
use crate::account::Account;
use crate::files::FileError;
use crate::files::directory::NewFile;
use crate::files::lock::{Deadline, PATIENCE};
use crate::set::{CodeSet, Label};
use crate::store::ReplaceError;

impl FileStore {
    /// Gives the set of `old` to `account`, its new name, which must have the set's uid. Returns the id of the
    /// set, or `None` if there is nothing to rename.
    ///
    /// The file is renamed first, and its text names the new owner afterwards, so the codes are never under two names. Between
    /// the two steps the set belongs to nobody; after a crash there, the same call completes the rename.
    ///
    /// # Errors
    /// [`ReplaceError`]: the set is unchanged, unless the error says otherwise.
    pub fn rename(&self, old: &str, account: &Account) -> Result<Option<String>, ReplaceError> {
        let deadline = Deadline::after(PATIENCE);
        let directory = self.open()?;
        let _locked = directory.lock(deadline)?;
        let (new, uid) = (account.name.as_str(), account.uid);
        if old == new {
            return Ok(None);
        }
        let file = match (directory.find(old, deadline)?, directory.find(new, deadline)?) {
            (None, None) => return Ok(None),
            (None, Some(file)) => file,
            (Some(old_file), Some(new_file)) => {
                let (set, new_set) = (old_file.read()?, new_file.read()?);
                judge_before_rename(&set, old, account)?;
                // One may be a copy: the codes would be under both names.
                return Err(ReplaceError::Both {
                    old: old.into(),
                    old_set: set.label.set,
                    new: new.into(),
                    new_set: new_set.label.set,
                });
            }
            (Some(file), None) => {
                let file = file.lock(deadline)?;
                judge_before_rename(&file.read()?, old, account)?;
                uid_index::add(&directory, uid, new)?;
                directory.rename(&name_of(old), &name_of(new))?;
                directory.flush()?;
                directory
                    .find(new, deadline)?
                    .ok_or(FileError::system(&file.path, "find again")(Errno::ESTALE))?
            }
        };
        let file = file.lock(deadline)?;
        let set = file.read()?;
        if set.label.user == new {
            // The rename is complete, but a crash may have left the old name listed.
            uid_index::remove(&directory, set.label.uid, old)?;
            return Ok(None);
        }
        judge_before_rename(&set, old, account)?;
        let bad = |reason| ReplaceError::Unreadable(reason, old.into());
        let text = CodeSet::rename(&file.text()?, new).map_err(bad)?;
        parse_new(&text).map_err(bad)?;
        let renamed = NewFile::write(&directory, NEW, &text)?;
        uid_index::add(&directory, uid, new)?;
        renamed.rename(&name_of(new))?;
        uid_index::remove(&directory, uid, old)?;
        make_durable(&directory, new)?;
        Ok(Some(set.label.set))
    }
}

/// Only the account's own set is renamed: it must have the account's uid and still name the old owner.
pub(in crate::store) fn judge_before_rename(
    set: &CodeSet,
    old: &str,
    account: &Account,
) -> Result<(), ReplaceError> {
    let Label { set, user, uid, .. } = set.label.clone();
    if (user.as_str(), uid) == (old, account.uid) {
        return Ok(());
    }
    let (new, new_uid) = (account.name.clone(), account.uid);
    Err(ReplaceError::OfAnother { set, user, uid, old: old.into(), new, new_uid })
}
