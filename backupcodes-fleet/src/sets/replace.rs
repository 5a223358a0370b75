//! Changes of whole sets, which only an administrator's certificate may make.

use backupcodes_core::code::CodeNumber;
use backupcodes_core::set::{CodeSet, Entry, Label, Mail, SpentRecord, State};
use tokio::time::Instant;

use super::find::Found;
use super::stored::{Stored, StoredLabel, StoredRestored, StoredUse, json};
use super::{LARGEST, NOBODY, Sets, SetsError, prove_made, ranges};
use crate::etcd::messages::{Compare, Header, KeyValue, RequestOp, TxnRequest};
use crate::keys::Keys;

/// A transaction in the making: what must hold, and what is done then.
#[derive(Default)]
struct Change {
    compare: Vec<Compare>,
    success: Vec<RequestOp>,
}

impl Sets {
    /// Replaces the set of a user, which must be `expected` and unchanged since `revision`, with another or with nothing. The set
    /// of the user `from` ends with that: its codes have moved. What no administrator has signed is no set, and goes.
    pub(crate) async fn replace(
        &self,
        user: &str,
        expected: Option<&str>,
        revision: i64,
        new: Option<&CodeSet>,
        from: Option<&str>,
        deadline: Instant,
    ) -> Result<(), SetsError> {
        let old = self.find(user, None, deadline).await?.set.unwrap_or_default();
        if old.as_ref().map(|old| old.label.set.as_str()) != expected {
            return Err(SetsError::Changed);
        }
        let mut change = Change::default();
        change.compare.push(self.prefix.sets_of(user).are_unchanged_since(revision));
        let Some(new) = new else {
            self.end_all(&mut change, user, old.as_ref());
            let request = TxnRequest { compare: change.compare, success: change.success, failure: vec![] };
            // Performed once more after a lost reply, it ends nothing and succeeds.
            let reply = self.change(request, deadline).await?;
            return if reply.succeeded { Ok(()) } else { Err(SetsError::Changed) };
        };
        if let Some(old) = &old {
            self.end(&mut change, user, old, revision, new);
        }
        if let Some(from) = from {
            let old = self.find(from, None, deadline).await?.set?.ok_or(SetsError::Changed)?;
            self.move_from(&mut change, from, &old, revision, new)?;
            self.move_notices(&mut change, from, &old.label.set, new, deadline).await?;
        }
        let is_unchanged = || self.prefix.sets_of(user).are_unchanged_since(revision);
        let staged = match self.stage(user, new, is_unchanged(), deadline).await {
            // A host may have written something in the place of a set that keeps its id, or this one, whose reply was lost.
            Err(SetsError::Changed) => {
                self.clear_place(user, &new.label.set, is_unchanged(), deadline).await?;
                self.stage(user, new, is_unchanged(), deadline).await?
            }
            staged => staged?,
        };
        let begun = self.begin(change, user, new, staged, deadline).await;
        if !matches!(begun, Ok(()) | Err(SetsError::Unknown(_))) {
            let is_nobodys = self.prefix.set(user, &new.label.set).do_not_exist();
            // What remains of it, the next replacement removes.
            let _ = self.clear_place(user, &new.label.set, is_nobodys, deadline).await;
        }
        begun
    }

    /// Makes the codes of a set that is nobody's yet. The revision in which that happens cannot come again, and a label names it: so
    /// no one who may write anything can make one of its codes again. Returns what the store has said of that revision.
    async fn stage(
        &self,
        user: &str,
        new: &CodeSet,
        is_unchanged: Compare,
        deadline: Instant,
    ) -> Result<(i64, Header), SetsError> {
        let (prefix, id) = (&self.prefix, new.label.set.as_str());
        // A set that was on a host, or under another name, has spent ones. What is due of it lies elsewhere.
        let slot = |(number, entry): (_, &Entry)| {
            let text = match &entry.state {
                State::Spent(record) => SpentRecord { mail: Mail::Ok, ..record.clone() }.text(),
                state => state.text(),
            };
            prefix.slot(user, id, number).put(text)
        };
        let request = TxnRequest {
            compare: vec![
                is_unchanged,
                prefix.set(user, id).do_not_exist(),
                prefix.slots_of_set(user, id).do_not_exist(),
            ],
            success: new.entries().map(slot).collect(),
            failure: vec![],
        };
        let reply = self.change(request, deadline).await.map_err(of_nobodys)?;
        let header = reply.header.unwrap_or_default();
        if reply.succeeded { Ok((header.revision, header)) } else { Err(SetsError::Changed) }
    }

    /// Whatever hosts write meanwhile, all of it ends.
    fn end_all(&self, change: &mut Change, user: &str, old: Option<&Stored>) {
        change.success.extend([self.prefix.sets_of(user).delete(), self.prefix.slots_of(user).delete()]);
        if let Some(old) = old {
            change.success.push(self.prefix.name_of(old.label.uid, user).delete());
        }
    }

    /// Ends the old set, unless one of its codes was used since: each use is in the notices of the caller.
    fn end(&self, change: &mut Change, user: &str, old: &Stored, revision: i64, new: &CodeSet) {
        let (prefix, id) = (&self.prefix, old.label.set.as_str());
        change.compare.extend([
            prefix.set(user, id).are_created_in(old.created),
            prefix.slots_of_set(user, id).are_unchanged_since(revision),
        ]);
        change.success.push(prefix.due_of_set(user, id).delete());
        if new.label.uid != old.label.uid {
            change.success.push(prefix.name_of(old.label.uid, user).delete());
        }
    }

    /// Makes the new set the user's, if its codes are as they were made, and removes what else lies around.
    async fn begin(
        &self,
        change: Change,
        user: &str,
        new: &CodeSet,
        (codes, header): (i64, Header),
        deadline: Instant,
    ) -> Result<(), SetsError> {
        let (prefix, label) = (&self.prefix, StoredLabel::of(&new.label, new.total())?);
        let (slots, key) = (|| prefix.slots_of_set(user, &label.set), prefix.set(user, &label.set));
        let Change { mut compare, mut success } = change;
        compare.extend([
            key.clone().do_not_exist(),
            slots().are_created_in(codes),
            slots().have_version(1),
            // It is signed for the store as it was then.
            prefix.restored().are_unchanged_since(codes),
        ]);
        success.extend(prefix.sets_of(user).except(key.clone()).map(Keys::delete));
        success.extend(prefix.slots_of(user).except(slots()).map(Keys::delete));
        success.push(prefix.name_of(label.uid, user).put(user));
        success.push(key.clone().put(self.signed(label, codes, header)?));
        let reply = self.change(TxnRequest { compare, success, failure: vec![key.read()] }, deadline).await?;
        // Maybe with other addresses by now.
        let is_ours = |found: &KeyValue| self.proven(user, found, header).is_ok_and(|set| set.codes == codes);
        prove_made(reply, is_ours)
    }

    /// Ends the set of `from`, whose codes are as `new` has them.
    fn move_from(
        &self,
        change: &mut Change,
        from: &str,
        old: &Stored,
        revision: i64,
        new: &CodeSet,
    ) -> Result<(), SetsError> {
        let (prefix, Label { set, uid, .. }) = (&self.prefix, old.label.label()?);
        change.compare.extend([
            prefix.set(from, &set).are_created_in(old.created),
            prefix.sets_of(from).are_unchanged_since(revision),
            prefix.slots_of_set(from, &set).are_unchanged_since(revision),
        ]);
        // A slot that a host has deleted since is not unchanged, and must not come back as unspent.
        for (number, _) in new.entries().filter(|(_, entry)| matches!(entry.state, State::Unspent(_))) {
            let slot = || prefix.slot(from, &set, number);
            change.compare.extend([slot().are_created_in(old.codes), slot().have_version(1)]);
        }
        let ends = [
            prefix.set(from, &set),
            prefix.slots_of_set(from, &set),
            prefix.due_of_set(from, &set),
            prefix.name_of(uid, from),
        ];
        change.success.extend(ends.map(Keys::delete));
        Ok(())
    }

    /// Notices of uses under the old name go to the new one.
    async fn move_notices(
        &self,
        change: &mut Change,
        from: &str,
        set: &str,
        new: &CodeSet,
        deadline: Instant,
    ) -> Result<(), SetsError> {
        let Label { user, set: new_set, .. } = &new.label;
        for found in self.all(vec![self.prefix.due_of_set(from, set).read()], deadline).await? {
            // A host may have written anything there.
            let Ok(due) = serde_json::from_slice::<StoredUse>(&found.value) else { continue };
            let Some(number) = CodeNumber::new(due.number) else { continue };
            if self.prefix.due_use(from, set, number).is(&found.key) {
                let label = StoredLabel { user: user.clone(), set: new_set.clone(), ..due.label };
                let due = json(&StoredUse { label, ..due })?;
                change.success.push(self.prefix.due_use(user, new_set, number).put(due));
            }
        }
        Ok(())
    }

    /// Removes what lies in the place of a set that is nobody's.
    async fn clear_place(
        &self,
        user: &str,
        set: &str,
        is_nobodys: Compare,
        deadline: Instant,
    ) -> Result<(), SetsError> {
        let success = [self.prefix.set(user, set), self.prefix.slots_of_set(user, set)].map(Keys::delete);
        let request = TxnRequest { compare: vec![is_nobodys], success: success.into(), failure: vec![] };
        self.change(request, deadline).await.map(drop).map_err(of_nobodys)
    }

    /// Proves that this host's certificate may replace sets.
    pub(crate) async fn prove_may_replace(&self, deadline: Instant) -> Result<(), SetsError> {
        self.sign(b"nothing")?;
        self.prove_may_put(&self.prefix.set(NOBODY, "never"), deadline).await
    }

    /// Proves that this host's certificate may spend codes.
    pub(crate) async fn prove_may_spend(&self, deadline: Instant) -> Result<(), SetsError> {
        let Some(number) = CodeNumber::new(1) else { return Ok(()) };
        self.prove_may_put(&self.prefix.slot(NOBODY, "never", number), deadline).await?;
        self.prove_may_put(&self.prefix.due_use(NOBODY, "never", number), deadline).await
    }

    /// The store judges also what it does not perform.
    async fn prove_may_put(&self, never: &Keys, deadline: Instant) -> Result<(), SetsError> {
        let request = TxnRequest {
            compare: vec![never.clone().have_version(i64::MAX)],
            success: vec![never.clone().put("")],
            failure: vec![],
        };
        self.perform(request, deadline, LARGEST, SetsError::of_read).await.map(drop)
    }

    /// Changes the addresses of a set that is unchanged since `revision`. Its codes stay as they are.
    pub(crate) async fn readdress(
        &self,
        user: &str,
        set: &str,
        revision: i64,
        email: &[String],
        deadline: Instant,
    ) -> Result<(), SetsError> {
        let Found { set: found, header, .. } = self.find(user, None, deadline).await?;
        let found = found?.filter(|found| found.label.set == set).ok_or(SetsError::Changed)?;
        let label = StoredLabel { email: email.to_vec(), ..found.label };
        let key = || self.prefix.set(user, set);
        let name = self.prefix.name_of(label.uid, user);
        let value = self.signed(label, found.codes, header)?;
        let request = TxnRequest {
            compare: vec![key().are_created_in(found.created), key().are_unchanged_since(revision)],
            success: vec![key().put(value.clone()), name.put(user)],
            failure: vec![key().read()],
        };
        prove_made(self.change(request, deadline).await?, |found| found.value == value)
    }

    /// Ends all sets, and says to all hosts that the store was restored at `time`, in seconds since 1970.
    pub(crate) async fn restored(&self, time: u64, deadline: Instant) -> Result<(), SetsError> {
        let prefix = &self.prefix;
        // Not judged: this host remembers another store.
        let read = TxnRequest { success: vec![prefix.restored().read()], ..TxnRequest::default() };
        let reply = self.etcd.transaction(&read, deadline, LARGEST).await.map_err(SetsError::of_read)?;
        let header = reply.header.unwrap_or_default();
        let before = ranges(reply).concat();
        let revision = before.first().map_or(0, |found| found.mod_revision);
        // Later than all that a host may have seen, whatever the clock says.
        let seen = self.seen.state().restored.max(self.restored_in(&before, header));
        let time = time.max(seen.saturating_add(1));
        let signature = self.sign(&self.restored_message(time, header)?)?;
        let value = json(&StoredRestored { time, signature })?;
        // What a node performs late changes nothing.
        let compare = vec![prefix.restored().are_unchanged_since(revision)];
        let success =
            vec![prefix.sets().delete(), prefix.slots().delete(), prefix.restored().put(value.clone())];
        let failure = vec![prefix.restored().read()];
        let request = TxnRequest { compare, success, failure };
        let reply = self.etcd.transaction(&request, deadline, LARGEST).await.map_err(SetsError::of_change)?;
        prove_made(reply, |found| found.value == value)
    }
}

/// The user's set is unchanged, whether the change of what is nobody's was made or not.
fn of_nobodys(error: SetsError) -> SetsError {
    match error {
        SetsError::Unknown(reason) => SetsError::Unavailable(reason),
        error => error,
    }
}
