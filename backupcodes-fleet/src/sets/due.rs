//! Notices that are due: the host where a code was used tells of it, or another one later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backupcodes_core::clock;
use backupcodes_core::code::CodeNumber;
use backupcodes_core::protocol::fleet::DueNotice;
use backupcodes_core::set::{SpentRecord, printable};
use tokio::time::Instant;

use super::stored::{SignedLabel, StoredLabel, StoredUse, Taken, json};
use super::{LARGEST, Sets, SetsError, ranges};
use crate::etcd::messages::{KeyValue, TxnRequest};

/// The time that a host has to tell of a use, before another one does.
const LEFT: Duration = Duration::from_secs(5 * 60);
/// The part of a call that reads where the notices go.
const FOR_ADDRESSES: Duration = Duration::from_secs(1);
/// The users of one transaction: etcd performs at most 128 operations in one (`--max-txn-ops`).
const AT_ONCE: usize = 100;

impl Sets {
    /// The notices that this host has to send: of codes that were used here, and those that another host has left for
    /// [`LEFT`]. These are this host's from then on.
    pub(crate) async fn due(&self, deadline: Instant) -> Result<Vec<DueNotice>, SetsError> {
        let host = printable(&self.host);
        // What is not taken over by then, the next call takes.
        let enough = deadline.checked_sub(FOR_ADDRESSES).unwrap_or(deadline);
        let mut mine = Vec::new();
        for found in self.all(vec![self.prefix.due().read()], deadline).await? {
            // A host may have written anything there.
            let Ok(due) = serde_json::from_slice::<StoredUse>(&found.value) else { continue };
            let StoredLabel { user, set, .. } = &due.label;
            let key = CodeNumber::new(due.number).map(|number| self.prefix.due_use(user, set, number));
            let Some((sender, since)) = due.sender().filter(|_| key.is_some_and(|key| key.is(&found.key)))
            else {
                continue;
            };
            // A late one is nobody's: also the host whose it was may have to leave it to another.
            let is_late = clock::now().seconds().abs_diff(since) >= LEFT.as_secs();
            let is_mine = if is_late {
                Instant::now() < enough
                    && self.take(&found, &due, &host, deadline).await.is_ok_and(|taken| taken)
            } else {
                sender == host
            };
            if is_mine {
                mine.push(due);
            }
        }
        self.with_addresses(mine, deadline).await
    }

    /// Takes a notice over, unless another host does: that one may already have sent it.
    async fn take(
        &self,
        found: &KeyValue,
        due: &StoredUse,
        host: &str,
        deadline: Instant,
    ) -> Result<bool, SetsError> {
        let StoredLabel { user, set, .. } = &due.label;
        let Some(number) = CodeNumber::new(due.number) else { return Ok(false) };
        let key = || self.prefix.due_use(user, set, number);
        let taken = Taken { host: host.into(), at: clock::now().seconds() };
        let request = TxnRequest {
            compare: vec![
                key().are_created_in(found.create_revision),
                key().are_unchanged_since(found.mod_revision),
            ],
            success: vec![key().put(json(&StoredUse { taken: Some(taken), ..due.clone() })?)],
            failure: vec![],
        };
        Ok(self.change(request, deadline).await?.succeeded)
    }

    /// Where the notices go, the administrators' labels say.
    async fn with_addresses(
        &self,
        due: Vec<StoredUse>,
        deadline: Instant,
    ) -> Result<Vec<DueNotice>, SetsError> {
        let users: BTreeSet<_> = due.iter().map(|due| due.label.user.clone()).collect();
        let users: Vec<_> = users.into_iter().collect();
        let mut addresses = BTreeMap::new();
        for users in users.chunks(AT_ONCE) {
            let success = users.iter().map(|user| self.prefix.sets_of(user).read()).collect();
            let (reply, header) = self.read_ranges(success, deadline, LARGEST).await?;
            for (user, labels) in users.iter().zip(ranges(reply)) {
                let labels = labels.iter().filter_map(|found| self.proven(user, found, header).ok());
                addresses
                    .extend(labels.map(|SignedLabel { label, .. }| ((label.user, label.set), label.email)));
            }
        }
        let notice = |due: StoredUse| {
            let email = addresses.get(&(due.label.user.clone(), due.label.set.clone())).cloned();
            due.notice(email.unwrap_or_default())
        };
        Ok(due.into_iter().map(notice).collect())
    }

    /// Ends the notice of a use: it was delivered.
    pub(crate) async fn notified(
        &self,
        user: &str,
        set: &str,
        number: CodeNumber,
        deadline: Instant,
    ) -> Result<(), SetsError> {
        let delete = self.prefix.due_use(user, set, number).delete();
        let request = TxnRequest { success: vec![delete], ..TxnRequest::default() };
        self.change(request, deadline).await.map(drop)
    }
}

impl StoredUse {
    /// The host that has to send it, and since when, in seconds since 1970. `None`: no host of ours has written this.
    fn sender(&self) -> Option<(String, u64)> {
        if let Some(Taken { host, at }) = &self.taken {
            return Some((host.clone(), *at));
        }
        let record = SpentRecord::parse(&self.record)?;
        Some((record.host?, record.time.seconds()))
    }
}
