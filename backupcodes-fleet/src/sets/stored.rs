//! The values in the store, and what they mean: hosts may have written anything into those of codes and notices.

use std::collections::{BTreeMap, BTreeSet};

use backupcodes_core::protocol::fleet::DueNotice;
use backupcodes_core::set::{CodeSet, Label, Mail, SpentRecord, State, printable};
use serde::{Deserialize, Serialize};

use super::SetsError;
use crate::authority::Signature;
use crate::etcd::messages::KeyValue;

/// The only format of labels so far.
pub(super) const FORMAT: u32 = 1;
/// The longest name in a spent record: of a host.
const LONGEST_NAME: usize = 255;

/// A set in the store.
pub(super) struct Stored {
    pub(super) label: StoredLabel,
    /// The revision in which it became the user's.
    pub(super) created: i64,
    /// The revision in which all of its codes were made.
    pub(super) codes: i64,
    pub(super) slots: BTreeMap<u8, KeyValue>,
    pub(super) due: BTreeSet<u8>,
}

/// The value of a set's key.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SignedLabel {
    pub(super) label: StoredLabel,
    /// The revision in which its codes were made: nobody can make codes in that one again.
    pub(super) codes: i64,
    pub(super) signature: Signature,
}

/// What an administrator signs of a set.
#[derive(Serialize)]
pub(super) struct Signed<'a> {
    /// Tells it from all else that this key signs.
    pub(super) purpose: &'a str,
    pub(super) prefix: &'a str,
    pub(super) cluster: u64,
    /// When the store was last restored: then its revisions come again.
    pub(super) restored: u64,
    pub(super) codes: i64,
    pub(super) label: &'a StoredLabel,
}

/// The value of the key that says that the store was restored.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredRestored {
    /// In seconds since 1970.
    pub(super) time: u64,
    pub(super) signature: Signature,
}

/// What an administrator signs of a restore.
#[derive(Serialize)]
pub(super) struct SignedRestored<'a> {
    pub(super) purpose: &'a str,
    pub(super) prefix: &'a str,
    pub(super) cluster: u64,
    pub(super) time: u64,
}

/// What a set is.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct StoredLabel {
    pub(super) format: u32,
    pub(super) set: String,
    pub(super) user: String,
    pub(super) uid: u32,
    pub(super) created: String,
    pub(super) email: Vec<String>,
    /// How many codes it has.
    pub(super) count: u8,
}

/// The value of a notice that is due.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct StoredUse {
    pub(super) label: StoredLabel,
    pub(super) number: u8,
    pub(super) record: String,
    pub(super) left: usize,
    /// The host that sends it instead of the one in the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) taken: Option<Taken>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Taken {
    pub(super) host: String,
    /// In seconds since 1970.
    pub(super) at: u64,
}

impl Stored {
    /// Whether the slot is as the administrator made it, with the set.
    pub(super) fn is_unspent(&self, slot: &KeyValue) -> bool {
        (slot.create_revision, slot.version) == (self.codes, 1)
    }

    pub(super) fn left(&self) -> usize {
        self.slots.values().filter(|slot| self.is_unspent(slot) && slot.value.starts_with(b"$")).count()
    }

    pub(super) fn text(&self) -> Result<String, SetsError> {
        let entries = (1..=self.label.count).map(|number| self.entry(number));
        Ok(CodeSet::render_entries(&self.label.label()?, entries))
    }

    /// What a set file would have for this code. A slot that was made at another time counts as spent, whatever is in it.
    fn entry(&self, number: u8) -> String {
        let Some(slot) = self.slots.get(&number).filter(|slot| slot.create_revision == self.codes) else {
            return State::Damaged.text();
        };
        let Ok(value) = std::str::from_utf8(&slot.value) else { return State::Damaged.text() };
        if self.is_unspent(slot) {
            return value.into();
        }
        let text = value.split('\n').next().unwrap_or_default();
        // A host may have written anything there.
        let Some(record) = SpentRecord::parse(text).filter(is_plain) else { return State::Damaged.text() };
        let mail = if self.due.contains(&number) { Mail::Due } else { Mail::Ok };
        SpentRecord { mail, ..record }.text()
    }
}

impl SignedLabel {
    pub(super) fn parse(value: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(value)
    }
}

impl StoredLabel {
    pub(super) fn of(label: &Label, count: usize) -> Result<Self, SetsError> {
        let Label { set, user, uid, created, email } = label.clone();
        let count = u8::try_from(count).map_err(|error| SetsError::Unavailable(error.to_string()))?;
        Ok(Self { format: FORMAT, set, user, uid, created: created.to_string(), email, count })
    }

    pub(super) fn label(&self) -> Result<Label, SetsError> {
        let Self { set, user, uid, created, email, .. } = self;
        let created = created.parse().map_err(|_| SetsError::Unavailable(format!("{created} is no time")))?;
        Ok(Label { set: set.clone(), user: user.clone(), uid: *uid, created, email: email.clone() })
    }
}

impl StoredUse {
    pub(super) fn notice(self, email: Vec<String>) -> DueNotice {
        let StoredLabel { set, user, uid, created, count, .. } = self.label;
        let (number, record, left, total) = (self.number, self.record, self.left, count);
        DueNotice { set, user, uid, created, email, number, record, left, total: total.into() }
    }
}

/// Whether each name in the record is as a host of ours writes it, so that the set can be read.
fn is_plain(SpentRecord { service, source, host, .. }: &SpentRecord) -> bool {
    let names = [Some(service), Some(source), host.as_ref()];
    names.into_iter().flatten().all(|name| name.len() <= LONGEST_NAME && printable(name) == *name)
}

pub(super) fn json(value: &impl Serialize) -> Result<Vec<u8>, SetsError> {
    serde_json::to_vec(value).map_err(|error| SetsError::Unavailable(error.to_string()))
}
