//! Moves a set from this host into another store.

use super::set_file::{name_of, parse_new};
use super::{FileStore, uid_index};
use crate::files::lock::{Deadline, PATIENCE};
use crate::mail::outbox::QueuedNotice;
use crate::set::CodeSet;
use crate::store::{ReplaceError, StoreError};

impl FileStore {
    /// Moves the user's set with `put`, which brings it into another store; its second argument says whether an earlier call was cut
    /// short, which may have done so. Returns the id of the set; `None`: there is none.
    ///
    /// From before `put` until the file is gone, the set is unusable here, so that no code works in both stores, whatever dies. It
    /// is not absent, which would be taken for proof that the user has no set. After a crash the same call goes on.
    ///
    /// # Errors
    /// [`ReplaceError`]: the set works here as before, unless the other store has it, or may have had it.
    pub fn move_away(
        &self,
        user: &str,
        put: impl FnOnce(&CodeSet, bool) -> Result<(), ReplaceError>,
        notices: impl FnOnce(&CodeSet) -> Vec<QueuedNotice>,
    ) -> Result<Option<String>, ReplaceError> {
        let deadline = Deadline::after(PATIENCE);
        let directory = self.open()?;
        let _locked = directory.lock(deadline)?;
        let Some(file) = directory.find(user, deadline)? else { return Ok(None) };
        // From here on, no code is spent in the file.
        let file = file.lock(deadline)?;
        let bad = |reason| ReplaceError::Unreadable(reason, user.into());
        let found = file.text()?;
        let (text, start) = CodeSet::of_any_use(&found).map_err(bad)?;
        let set = parse_new(&text).map_err(bad)?;
        // Nobody knows how far a move came that was cut short: the other store may have the set, or have ended it since.
        let was_cut_short = found != text;
        file.overwrite(&directory, start, CodeSet::UNUSABLE)?;
        if let Err(error) = put(&set, was_cut_short) {
            let may_be_there = matches!(error, ReplaceError::Unknown(_) | ReplaceError::Copy { .. });
            if !may_be_there && !was_cut_short {
                file.overwrite(&directory, start, CodeSet::USABLE)?;
            }
            return Err(error);
        }
        let outbox = self.outbox();
        let queued = outbox.put(&notices(&set))?;
        directory.remove(&name_of(user)).inspect_err(|_| queued.withdraw())?;
        // A name that stays listed does no harm: it has no set.
        let _ = uid_index::remove(&directory, set.label.uid, user);
        directory.flush().map_err(|error| ReplaceError::Unflushed(StoreError::from(error)))?;
        Ok(Some(set.label.set))
    }
}
