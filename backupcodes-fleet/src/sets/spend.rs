//! Spending a code.

use backupcodes_core::code::CodeNumber;
use backupcodes_core::set::SpentRecord;
use tokio::time::Instant;

use super::find::Found;
use super::stored::{StoredUse, json};
use super::{Sets, SetsError, prove_made};
use crate::etcd::messages::{KeyValue, TxnRequest};

impl Sets {
    /// Spends a code whose hash is still `hash`, and makes the notice of its use due. Returns the set and the number of codes left.
    pub(crate) async fn spend(
        &self,
        user: &str,
        number: CodeNumber,
        hash: &str,
        record: &SpentRecord,
        deadline: Instant,
    ) -> Result<(String, usize), SetsError> {
        let Found { set, .. } = self.find(user, None, deadline).await?;
        let set = set?.ok_or(SetsError::Changed)?;
        let unspent = set.slots.get(&number.get()).filter(|slot| set.is_unspent(slot));
        unspent.filter(|slot| slot.value == hash.as_bytes()).ok_or(SetsError::Changed)?;
        let left = set.left().saturating_sub(1);
        let record = record.clone().on_host(&self.host);
        let (nonce, text) = (nonce()?, record.text());
        let value = format!("{text}\n{nonce}");
        let (created, codes, id) = (set.created, set.codes, set.label.set.clone());
        let due = StoredUse { label: set.label, number: number.get(), record: text, left, taken: None };
        let key = || self.prefix.slot(user, &id, number);
        // The slot is as the administrator made it: in the revision that the label names, and never written since.
        let request = TxnRequest {
            compare: vec![
                self.prefix.set(user, &id).are_created_in(created),
                key().are_created_in(codes),
                key().have_version(1),
            ],
            success: vec![key().put(value.clone()), self.prefix.due_use(user, &id, number).put(json(&due)?)],
            failure: vec![key().read()],
        };
        let reply = self.change(request, deadline).await?;
        let is_ours = |slot: &KeyValue| {
            slot.value == value.as_bytes() && (slot.create_revision, slot.version) == (codes, 2)
        };
        prove_made(reply, is_ours)?;
        Ok((id, left))
    }
}

/// What tells our transaction from another one.
fn nonce() -> Result<String, SetsError> {
    use rand::TryRng;
    let random =
        rand::rngs::SysRng.try_next_u64().map_err(|error| SetsError::Unavailable(error.to_string()))?;
    Ok(format!("{random:016x}"))
}
