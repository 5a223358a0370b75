//! The set of an account that has another name now.

use nix::errno::Errno;

use super::replace::{NEW, make_durable};
use super::set_file::{name_of, parse_new};
use super::{FileStore, names};
use crate::account::Account;
use crate::files::FileError;
use crate::files::directory::NewFile;
use crate::files::lock::{Deadline, PATIENCE};
use crate::set::{CodeSet, Label};
use crate::store::ReplaceError;

impl FileStore {
    /// Gives the set of `old` to the account that the user of that name has become, which must have its uid. The id of the set, or
    /// `None` where there is none, or the account has its own already and `old` has none.
    ///
    /// The set is renamed first, and says whose it is then: at no moment do its codes stand under two names. Between both it is
    /// nobody's; after a crash there the same call goes on.
    ///
    /// # Errors
    /// [`ReplaceError`]: the set is as it was, but where the error says otherwise.
    pub fn rename(&self, old: &str, account: &Account) -> Result<Option<String>, ReplaceError> {
        let deadline = Deadline::after(PATIENCE);
        let directory = self.open()?;
        let _locked = directory.lock(deadline)?;
        let (new, uid) = (account.name.as_str(), account.uid);
        if old == new {
            return Ok(None);
        }
        let there = match (directory.find(old, deadline)?, directory.find(new, deadline)?) {
            (None, None) => return Ok(None),
            (None, Some(file)) => file,
            (Some(file), Some(there)) => {
                let (set, there) = (file.read()?, there.read()?);
                judge_before_rename(&set, old, account)?;
                // Perhaps a copy: its codes would stand under both names.
                return Err(ReplaceError::Both {
                    old: old.into(),
                    old_set: set.label.set,
                    new: new.into(),
                    new_set: there.label.set,
                });
            }
            (Some(file), None) => {
                let file = file.lock(deadline)?;
                judge_before_rename(&file.read()?, old, account)?;
                names::add(&directory, uid, new)?;
                directory.rename(&name_of(old), &name_of(new))?;
                directory.flush()?;
                directory
                    .find(new, deadline)?
                    .ok_or(FileError::system(&file.path, "find again")(Errno::ESTALE))?
            }
        };
        let file = there.lock(deadline)?;
        let set = file.read()?;
        if set.label.user == new {
            // Nothing to do but what a crash at the very end has left.
            names::remove(&directory, set.label.uid, old)?;
            return Ok(None);
        }
        judge_before_rename(&set, old, account)?;
        let bad = |reason| ReplaceError::Unreadable(reason, old.into());
        let text = CodeSet::rename(&file.text()?, new).map_err(bad)?;
        parse_new(&text).map_err(bad)?;
        let renamed = NewFile::write(&directory, NEW, &text)?;
        names::add(&directory, uid, new)?;
        renamed.rename(&name_of(new))?;
        names::remove(&directory, uid, old)?;
        make_durable(&directory, new)?;
        Ok(Some(set.label.set))
    }
}

/// Only the account's own set is renamed: by its uid, from the old name, which it still says where it is under the new one.
fn judge_before_rename(set: &CodeSet, old: &str, account: &Account) -> Result<(), ReplaceError> {
    let Label { set, user, uid, .. } = set.label.clone();
    if (user.as_str(), uid) == (old, account.uid) {
        return Ok(());
    }
    let (new, new_uid) = (account.name.clone(), account.uid);
    Err(ReplaceError::OfAnother { set, user, uid, old: old.into(), new, new_uid })
}
