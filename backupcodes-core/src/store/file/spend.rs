//! Writes in place: the record of a spent code, and that its notice was delivered.

use super::FileStore;
use crate::code::CodeNumber;
use crate::files::lock::{Deadline, PATIENCE};
use crate::hash::CodeHash;
use crate::set::{Mail, SpentRecord};
use crate::store::{Accepted, SpendError, StoreError};

impl FileStore {
    /// See [`crate::store::Store::spend`].
    pub(super) fn spend_in_place(
        &self,
        user: &str,
        number: CodeNumber,
        hash: &CodeHash,
        record: &SpentRecord,
    ) -> Result<Accepted, SpendError> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let directory = self.open()?;
            let file = directory.find(user, deadline)?.ok_or(SpendError::NoLongerUnspent)?.lock(deadline)?;
            if !file.is_still_named_in(&directory)? {
                deadline.pause(&file.path)?;
                continue;
            }
            let mut set = file.read()?;
            let start = set.spend(number, hash, record).ok_or(SpendError::NoLongerUnspent)?;
            // While this process holds the lock, no other file gets the name.
            if !set.is_durable(file.stat.st_ino) {
                directory.flush()?;
                file.record_durable(&directory, &set);
            }
            file.overwrite(&directory, start, &record.padded_to(hash.phc().len()))?;
            return Ok(Accepted { number, left: set.left(), set: Some(set.label.set) });
        }
    }

    /// Marks the use of a code as notified, in place and on stable storage. `false`: its notice is no longer due.
    ///
    /// This takes no lock, so that a delivery that hangs keeps no login waiting. No other writer changes these three bytes of this
    /// file. A file that replaces it at this moment may still say that the notice is due; then
    /// the notice goes out twice.
    ///
    /// # Errors
    /// The set cannot be read or written.
    pub fn mark_notified(
        &self,
        user: &str,
        number: CodeNumber,
        record: &SpentRecord,
    ) -> Result<bool, StoreError> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let directory = self.open()?;
            let Some(file) = directory.find(user, deadline)? else { return Ok(false) };
            let Some(start) = file.read()?.mark_notified(number, record) else { return Ok(false) };
            file.overwrite(&directory, start, Mail::Ok.word())?;
            if file.is_still_named_in(&directory)? {
                return Ok(true);
            }
            deadline.pause(&file.path)?;
        }
    }
}
