//! Sets in the store: how they are read, spent and replaced. Each change is one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backupcodes_core::code::CodeNumber;
use backupcodes_core::protocol::fleet::{DueNotice, Node, StatusReply};
use backupcodes_core::set::{CodeSet, Label, Mail, SpentRecord, State, printable};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tonic::Code;

use crate::etcd::messages::{
    Header, KeyValue, NoFields, Response, ResponseOp, Status, TxnRequest, TxnResponse,
};
use crate::etcd::{Etcd, EtcdError, at};
use crate::keys::{Keys, Prefix};
use crate::seen::{Seen, State as SeenState, WentBack};

/// The only format of labels so far.
const FORMAT: u32 = 1;
/// The longest name in a spent record: of a host.
const LONGEST_NAME: usize = 255;

/// The sets of the fleet.
pub(crate) struct Sets {
    pub(crate) etcd: Etcd,
    pub(crate) prefix: Prefix,
    pub(crate) seen: Seen,
    /// How long a call may take, with all that it asks of the store.
    pub(crate) patience: Duration,
    /// What this host calls itself.
    pub(crate) host: String,
}

/// A call was not performed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetsError {
    /// The code or the set is not as the caller has seen it. Nothing was changed.
    #[error("the set was changed meanwhile")]
    Changed,
    /// It is not known whether the change was made.
    #[error("it is unknown whether the store made the change: {0}")]
    Unknown(String),
    /// This host's certificate may not do that. Nothing was changed.
    #[error(
        "{0}; the certificate of this host may not do that: if the host is new: backupcodes-admin fleet host add NAME (the CN of \
         fleet.certificate); to change sets, use the host whose certificate is an administrator's"
    )]
    NotPermitted(String),
    /// Nothing is known, and nothing was changed.
    #[error("{0}")]
    Unavailable(String),
    /// The reply is too large to be read.
    #[error("{0}")]
    TooLarge(String),
    #[error(transparent)]
    WentBack(#[from] WentBack),
}

/// A set in the store.
struct Stored {
    label: StoredLabel,
    /// The revision in which the set was made, with all of its codes.
    created: i64,
    slots: BTreeMap<u8, KeyValue>,
    due: BTreeSet<u8>,
}

/// All of a user in the store.
struct Found {
    set: Option<Stored>,
    /// What else lies in the user's place: no administrator makes it, and a replacement removes it.
    sets: BTreeSet<String>,
    revision: i64,
    /// The names under which a uid has a set.
    names: Vec<String>,
}

/// The value of a set's key.
#[derive(Serialize, Deserialize)]
struct StoredLabel {
    format: u32,
    set: String,
    user: String,
    uid: u32,
    created: String,
    email: Vec<String>,
    /// How many codes it has.
    count: u8,
}

/// The value of a notice that is due.
#[derive(Serialize, Deserialize)]
struct StoredUse {
    label: StoredLabel,
    number: u8,
    record: String,
    left: usize,
}

/// A set as its text, and the revision of the store in which it was so.
pub(crate) struct Text {
    pub(crate) text: Option<String>,
    pub(crate) revision: i64,
    /// The names under which the uid has a set.
    pub(crate) names: Vec<String>,
}

impl Sets {
    /// The set of a user as the text of a set file.
    pub(crate) async fn read(&self, user: &str, uid: Option<u32>) -> Result<Text, SetsError> {
        let Found { set, revision, names, .. } = self.find(user, uid, self.deadline()).await?;
        let text = set.map(|set| set.text()).transpose()?;
        Ok(Text { text, revision, names })
    }

    /// The users with a set, in the order of their names.
    pub(crate) async fn users(&self) -> Result<Vec<String>, SetsError> {
        let request = TxnRequest { success: vec![self.prefix.sets().read()], ..TxnRequest::default() };
        let (reply, _) = self.known(request, self.deadline()).await?;
        let labels = ranges(reply).concat().into_iter();
        let labels = labels.filter_map(|found| serde_json::from_slice::<StoredLabel>(&found.value).ok());
        Ok(labels.map(|label| label.user).collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// Spends a code whose hash is still `hash`, and makes the notice of its use due. Returns the set and the number of codes left.
    pub(crate) async fn spend(
        &self,
        user: &str,
        number: CodeNumber,
        hash: &str,
        record: &SpentRecord,
    ) -> Result<(String, usize), SetsError> {
        let deadline = self.deadline();
        let Found { set, .. } = self.find(user, None, deadline).await?;
        let set = set.ok_or(SetsError::Changed)?;
        let unspent = set.slots.get(&number.get()).filter(|slot| set.is_unspent(slot));
        unspent.filter(|slot| slot.value == hash.as_bytes()).ok_or(SetsError::Changed)?;
        let left = set.left().saturating_sub(1);
        let record = record.clone().on_host(&self.host);
        let (nonce, text) = (nonce()?, record.text());
        let value = format!("{text}\n{nonce}");
        let (created, id) = (set.created, set.label.set.clone());
        let due = StoredUse { label: set.label, number: number.get(), record: text, left };
        let key = || self.prefix.slot(user, &id, number);
        // All three say that the slot is as the administrator made it: in the revision of the set, and never written since.
        let request = TxnRequest {
            compare: vec![
                self.prefix.set(user, &id).are_created_in(created),
                key().are_created_in(created),
                key().have_version(1),
            ],
            success: vec![key().put(value.clone()), self.prefix.due_use(user, &id, number).put(json(&due)?)],
            failure: vec![key().read()],
        };
        let (reply, _) = self.change(request, deadline).await?;
        // Of a transaction whose reply was lost, the next one finds the value.
        let is_ours = |slot: &KeyValue| {
            slot.value == value.as_bytes() && (slot.create_revision, slot.version) == (created, 2)
        };
        if reply.succeeded || ranges(reply).concat().iter().any(is_ours) {
            Ok((id, left))
        } else {
            Err(SetsError::Changed)
        }
    }

    /// Replaces the set of a user, which must be `expected` and unchanged since `revision`, with another or with nothing. The set
    /// of the user `from` ends with that: its codes have moved.
    pub(crate) async fn replace(
        &self,
        user: &str,
        expected: Option<&str>,
        revision: i64,
        new: Option<&CodeSet>,
        from: Option<&str>,
    ) -> Result<(), SetsError> {
        let deadline = self.deadline();
        let Found { set, sets, .. } = self.find(user, None, deadline).await?;
        if set.as_ref().map(|set| set.label.set.as_str()) != expected {
            return Err(SetsError::Changed);
        }
        let prefix = &self.prefix;
        let mut compare = vec![prefix.sets_of(user).are_unchanged_since(revision)];
        let mut success = Vec::new();
        if let Some(old) = &set {
            compare.push(prefix.set(user, &old.label.set).are_created_in(old.created));
            if new.is_none_or(|new| new.label.uid != old.label.uid) {
                success.push(prefix.name_of(old.label.uid, user).delete());
            }
        }
        match new {
            // Whatever hosts write meanwhile, all of it ends.
            None => success.extend([prefix.sets_of(user).delete(), prefix.slots_of(user).delete()]),
            Some(CodeSet { label: new, .. }) => {
                if let Some(StoredLabel { set: old, .. }) = set.as_ref().map(|set| &set.label) {
                    // Each use of the old set is in the notices of the caller.
                    compare.push(prefix.slots_of_set(user, old).are_unchanged_since(revision));
                    success.extend([prefix.set(user, old).delete(), prefix.due_of_set(user, old).delete()]);
                }
                let others = prefix.slots_of(user).except(prefix.slots_of_set(user, &new.set));
                success.extend(others.map(Keys::delete));
                if sets.contains(&new.set) {
                    self.clear_place(user, &new.set, deadline).await?;
                }
            }
        }
        if let Some(new) = new {
            let label = StoredLabel::of(&new.label, new.total())?;
            compare.extend([
                prefix.set(user, &label.set).do_not_exist(),
                prefix.slots_of_set(user, &label.set).do_not_exist(),
            ]);
            success.push(prefix.name_of(label.uid, user).put(user));
            success.push(prefix.set(user, &label.set).put(json(&label)?));
            for (number, entry) in new.entries() {
                // A set that was on a host, or under another name, has spent ones.
                success.push(prefix.slot(user, &label.set, number).put(entry.state.text()));
            }
        }
        if let Some(from) = from {
            let old = self.find(from, None, deadline).await?.set.ok_or(SetsError::Changed)?;
            let Label { set, uid, .. } = old.label.label()?;
            compare.extend([
                prefix.set(from, &set).are_created_in(old.created),
                prefix.sets_of(from).are_unchanged_since(revision),
                prefix.slots_of_set(from, &set).are_unchanged_since(revision),
            ]);
            // A slot that a host has deleted since is not unchanged, and must not come back as unspent.
            let unspent = new.into_iter().flat_map(CodeSet::entries);
            for (number, _) in unspent.filter(|(_, entry)| matches!(entry.state, State::Unspent(_))) {
                let slot = || prefix.slot(from, &set, number);
                compare.extend([slot().are_created_in(old.created), slot().have_version(1)]);
            }
            let ends = [prefix.set(from, &set), prefix.slots_of_set(from, &set), prefix.name_of(uid, from)];
            success.extend(ends.map(Keys::delete));
        }
        let id = new.map(|new| new.label.set.clone());
        let failure = vec![prefix.sets_of(user).read()];
        let (reply, _) = self.change(TxnRequest { compare, success, failure }, deadline).await?;
        // Of a transaction whose reply was lost, the next one finds the new set and no other, or none.
        let found: Vec<_> = if reply.succeeded { return Ok(()) } else { ranges(reply).concat() };
        let ids = found.iter().filter_map(|found| serde_json::from_slice::<StoredLabel>(&found.value).ok());
        let is_ours = ids.map(|label| label.set).eq(id);
        if is_ours { Ok(()) } else { Err(SetsError::Changed) }
    }

    /// Removes what a host has written in the place of a set that comes.
    async fn clear_place(&self, user: &str, set: &str, deadline: Instant) -> Result<(), SetsError> {
        let compare = vec![self.prefix.set(user, set).do_not_exist()];
        let success = vec![self.prefix.slots_of_set(user, set).delete()];
        self.change(TxnRequest { compare, success, failure: vec![] }, deadline).await.map(drop)
    }

    /// Proves that this host's certificate may replace sets: the store judges also what it does not perform.
    pub(crate) async fn prove_may_replace(&self) -> Result<(), SetsError> {
        let never = || self.prefix.set("/", "never");
        let request = TxnRequest {
            compare: vec![never().have_version(1)],
            success: vec![never().put("")],
            failure: vec![],
        };
        self.change(request, self.deadline()).await.map(drop)
    }

    /// Changes the addresses of a set that is unchanged since `revision`. Its codes stay as they are.
    pub(crate) async fn readdress(
        &self,
        user: &str,
        set: &str,
        revision: i64,
        email: &[String],
    ) -> Result<(), SetsError> {
        let deadline = self.deadline();
        let found = self
            .find(user, None, deadline)
            .await?
            .set
            .filter(|found| found.label.set == set)
            .ok_or(SetsError::Changed)?;
        let label = StoredLabel { email: email.to_vec(), ..found.label };
        let key = || self.prefix.set(user, set);
        let value = json(&label)?;
        let request = TxnRequest {
            compare: vec![key().are_created_in(found.created), key().are_unchanged_since(revision)],
            success: vec![key().put(value.clone())],
            failure: vec![key().read()],
        };
        let (reply, _) = self.change(request, deadline).await?;
        let is_ours = |key: &KeyValue| key.value == value;
        if reply.succeeded || ranges(reply).concat().iter().any(is_ours) {
            Ok(())
        } else {
            Err(SetsError::Changed)
        }
    }

    /// The notices that are due.
    pub(crate) async fn due(&self) -> Result<Vec<DueNotice>, SetsError> {
        let request = TxnRequest { success: vec![self.prefix.due().read()], ..TxnRequest::default() };
        let (reply, _) = self.known(request, self.deadline()).await?;
        let mut notices = Vec::new();
        for found in ranges(reply).concat() {
            // A host may have written anything there. Where the notice goes, the administrators' label says.
            let Ok(due) = serde_json::from_slice::<StoredUse>(&found.value) else { continue };
            let StoredLabel { user, set, .. } = &due.label;
            let number = CodeNumber::new(due.number);
            if number.is_none_or(|number| !self.prefix.due_use(user, set, number).is(&found.key)) {
                continue;
            }
            let shared = self.find(user, None, self.deadline()).await?.set;
            let email = shared.filter(|shared| shared.label.set == *set).map(|shared| shared.label.email);
            notices.push(
                StoredUse { label: StoredLabel { email: email.unwrap_or_default(), ..due.label }, ..due }
                    .notice(),
            );
        }
        Ok(notices)
    }

    /// Ends the notice of a use: it was delivered.
    pub(crate) async fn notified(&self, user: &str, set: &str, number: CodeNumber) -> Result<(), SetsError> {
        let delete = self.prefix.due_use(user, set, number).delete();
        let request = TxnRequest { success: vec![delete], ..TxnRequest::default() };
        self.change(request, self.deadline()).await.map(drop)
    }

    /// Ends all sets, and says to all hosts that the store was restored at `time`, in seconds since 1970.
    pub(crate) async fn restored(&self, time: u64) -> Result<(), SetsError> {
        let (prefix, deadline) = (&self.prefix, self.deadline());
        // Not judged: this host remembers another store.
        let read = TxnRequest { success: vec![prefix.restored().read()], ..TxnRequest::default() };
        let reply = self.etcd.transaction(&read, deadline).await.map_err(SetsError::of_read)?;
        let before = ranges(reply).concat();
        let revision = before.first().map_or(0, |found| found.mod_revision);
        // Later than all that a host may have seen, whatever the clock says.
        let time = time
            .max(restored_in(&before).saturating_add(1))
            .max(self.seen.state().restored.saturating_add(1));
        // What a node performs late changes nothing.
        let compare = vec![prefix.restored().are_unchanged_since(revision)];
        let success =
            vec![prefix.sets().delete(), prefix.slots().delete(), prefix.restored().put(time.to_string())];
        let failure = vec![prefix.restored().read()];
        let request = TxnRequest { compare, success, failure };
        let reply = self.etcd.transaction(&request, deadline).await.map_err(SetsError::of_change)?;
        let is_done = reply.succeeded || restored_in(&ranges(reply).concat()) == time;
        if is_done { Ok(()) } else { Err(SetsError::Changed) }
    }

    /// The nodes of the store, and what this host may.
    pub(crate) async fn status(&self) -> StatusReply {
        let seen = self.seen.state();
        let method = "/etcdserverpb.Maintenance/Status";
        let ask = self.etcd.ask_each::<Status>(method, NoFields {}, self.deadline());
        let (nodes, proof, authenticates) = tokio::join!(ask, self.prove_may_replace(), self.authenticates());
        let nodes = nodes.into_iter().map(|(url, reply)| match reply {
            Ok(Status { version, size, leader, header }) => {
                let leads = header.is_some_and(|header| header.member_id == leader);
                Node { url: url.to_string(), error: None, version, leads, size }
            }
            Err(error) => Node {
                url: url.to_string(),
                error: Some(error),
                version: String::new(),
                leads: false,
                size: 0,
            },
        });
        StatusReply {
            cluster: format!("{:x}", seen.cluster),
            revision: seen.revision,
            may_replace: proof.is_ok(),
            authenticates,
            nodes: nodes.collect(),
        }
    }

    /// When a call that begins now has to be over.
    fn deadline(&self) -> Instant {
        at(self.patience)
    }

    /// False if it is proven that etcd does not tell users apart: then it lists them for everybody.
    async fn authenticates(&self) -> bool {
        let list =
            self.etcd.call::<_, NoFields>("/etcdserverpb.Auth/UserList", &NoFields {}, self.deadline());
        list.await.is_err()
    }

    /// All of a user, in one revision.
    async fn find(&self, user: &str, uid: Option<u32>, deadline: Instant) -> Result<Found, SetsError> {
        let prefix = &self.prefix;
        let read = |slots: Keys| {
            let names = uid.map_or_else(|| prefix.sets_of(user), |uid| prefix.names_of(uid));
            let success =
                vec![prefix.sets_of(user).read(), slots.read(), prefix.due_of(user).list(), names.read()];
            self.known(TxnRequest { success, ..TxnRequest::default() }, deadline)
        };
        let (reply, header) = match read(prefix.slots_of(user)).await {
            // A host has written more there than can be read: only what belongs to the set is.
            Err(SetsError::TooLarge(_)) => read(self.slots_of_own_set(user, deadline).await?).await?,
            found => found?,
        };
        let Ok([labels, slots, due, names]) = <[Vec<KeyValue>; 4]>::try_from(ranges(reply)) else {
            return Err(SetsError::Unavailable(
                "the store replied with something else than four ranges".into(),
            ));
        };
        let id_of = |key: &KeyValue| match prefix.parts(&key.key).as_deref() {
            Some([_, _, id, ..]) => Some((*id).to_owned()),
            _ => None,
        };
        let sets = labels.iter().chain(&slots).filter_map(id_of).collect();
        let names = names.into_iter().filter(|_| uid.is_some());
        let names = names.filter_map(|found| String::from_utf8(found.value).ok()).collect();
        let found = |set| Ok(Found { set, sets, revision: header.revision, names });
        let [label] = labels.as_slice() else {
            let bad = |count| unreadable(user, &format!("{count} sets; expected one"));
            return if labels.is_empty() {
                found(None)
            } else {
                Err(SetsError::Unavailable(bad(labels.len())))
            };
        };
        let created = label.create_revision;
        let label: StoredLabel = serde_json::from_slice(&label.value)
            .map_err(|error| SetsError::Unavailable(unreadable(user, &error.to_string())))?;
        if label.format != FORMAT || label.user != user {
            let reason = format!("made for {}, format {}", label.user, label.format);
            return Err(SetsError::Unavailable(unreadable(user, &reason)));
        }
        let number_of = |key: &KeyValue| match prefix.parts(&key.key).as_deref() {
            Some([_, _, id, number]) if *id == label.set => number.parse::<u8>().ok(),
            _ => None,
        };
        let due = due.iter().filter_map(number_of).collect();
        let slots = slots.iter().filter_map(|key| Some((number_of(key)?, key.clone()))).collect();
        found(Some(Stored { label, created, slots, due }))
    }

    /// The codes of the user's set, without what lies beside it.
    async fn slots_of_own_set(&self, user: &str, deadline: Instant) -> Result<Keys, SetsError> {
        let success = vec![self.prefix.sets_of(user).read()];
        let (reply, _) = self.known(TxnRequest { success, ..TxnRequest::default() }, deadline).await?;
        let labels = ranges(reply).concat();
        let label = labels.first().and_then(|found| serde_json::from_slice::<StoredLabel>(&found.value).ok());
        Ok(self.prefix.slots_of_set(user, &label.map_or_else(String::new, |label| label.set)))
    }

    /// A transaction that changes nothing.
    async fn known(
        &self,
        request: TxnRequest,
        deadline: Instant,
    ) -> Result<(TxnResponse, Header), SetsError> {
        self.perform(request, deadline, SetsError::of_read).await
    }

    /// A transaction that may change something.
    async fn change(
        &self,
        request: TxnRequest,
        deadline: Instant,
    ) -> Result<(TxnResponse, Header), SetsError> {
        self.perform(request, deadline, SetsError::of_change).await.map_err(|error| match error {
            // The store has made the change, and is not the one that this host knows.
            SetsError::WentBack(error) => SetsError::Unknown(error.to_string()),
            error => error,
        })
    }

    /// Performs a transaction, and judges the state of the store by its reply.
    async fn perform(
        &self,
        mut request: TxnRequest,
        deadline: Instant,
        failed: fn(EtcdError) -> SetsError,
    ) -> Result<(TxnResponse, Header), SetsError> {
        let before: SeenState = self.seen.state();
        request.success.push(self.prefix.restored().read());
        request.failure.push(self.prefix.restored().read());
        let mut reply = self.etcd.transaction(&request, deadline).await.map_err(failed)?;
        let restored = reply.responses.pop().map(|last| ranges_of(vec![last]).concat()).unwrap_or_default();
        let header = reply.header.unwrap_or_default();
        self.seen.judge(before, header, restored_in(&restored))?;
        Ok((reply, header))
    }
}

impl SetsError {
    fn of_read(error: EtcdError) -> Self {
        match error {
            EtcdError::Refused { code: Code::PermissionDenied, .. } => Self::NotPermitted(error.to_string()),
            EtcdError::Refused { code: Code::OutOfRange, .. } => Self::TooLarge(error.to_string()),
            error => Self::Unavailable(error.to_string()),
        }
    }

    fn of_change(error: EtcdError) -> Self {
        match error {
            EtcdError::NoReply { .. } | EtcdError::Refused { is_alone: false, .. } => {
                Self::Unknown(error.to_string())
            }
            error => Self::of_read(error),
        }
    }
}

impl Stored {
    /// Whether the slot is as the administrator made it, with the set.
    fn is_unspent(&self, slot: &KeyValue) -> bool {
        (slot.create_revision, slot.version) == (self.created, 1)
    }

    fn left(&self) -> usize {
        self.slots.values().filter(|slot| self.is_unspent(slot) && slot.value.starts_with(b"$")).count()
    }

    fn text(&self) -> Result<String, SetsError> {
        let entries = (1..=self.label.count).map(|number| self.entry(number));
        Ok(CodeSet::render_entries(&self.label.label()?, entries))
    }

    /// What a set file would have for this code. A slot that was made at another time counts as spent, whatever is in it.
    fn entry(&self, number: u8) -> String {
        let Some(slot) = self.slots.get(&number).filter(|slot| slot.create_revision == self.created) else {
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

impl StoredLabel {
    fn of(label: &Label, count: usize) -> Result<Self, SetsError> {
        let Label { set, user, uid, created, email } = label.clone();
        let count = u8::try_from(count).map_err(|error| SetsError::Unavailable(error.to_string()))?;
        Ok(Self { format: FORMAT, set, user, uid, created: created.to_string(), email, count })
    }

    fn label(&self) -> Result<Label, SetsError> {
        let Self { set, user, uid, created, email, .. } = self;
        let created = created.parse().map_err(|_| SetsError::Unavailable(format!("{created} is no time")))?;
        Ok(Label { set: set.clone(), user: user.clone(), uid: *uid, created, email: email.clone() })
    }
}

impl StoredUse {
    fn notice(self) -> DueNotice {
        let StoredLabel { set, user, uid, created, email, count, .. } = self.label;
        let (number, record, left, total) = (self.number, self.record, self.left, count);
        DueNotice { set, user, uid, created, email, number, record, left, total: total.into() }
    }
}

/// Only an administrator can have made such a set, and only root of etcd can remove it.
fn unreadable(user: &str, reason: &str) -> String {
    format!(
        "the fleet's set of {user} cannot be read ({reason}); with the certificate of etcd's root: etcdctl del --prefix \
         /backupcodes/sets/{user}/; then: backupcodes-admin generate {user}"
    )
}

/// Whether each name in the record is as a host of ours writes it, so that the set can be read.
fn is_plain(SpentRecord { service, source, host, .. }: &SpentRecord) -> bool {
    let names = [Some(service), Some(source), host.as_ref()];
    names.into_iter().flatten().all(|name| name.len() <= LONGEST_NAME && printable(name) == *name)
}

/// When an administrator last said that the store was restored.
fn restored_in(found: &[KeyValue]) -> u64 {
    let time = found.first().and_then(|found| std::str::from_utf8(&found.value).ok()?.parse().ok());
    time.unwrap_or_default()
}

/// What the reads of a transaction found, in their order.
fn ranges(reply: TxnResponse) -> Vec<Vec<KeyValue>> {
    ranges_of(reply.responses)
}

fn ranges_of(responses: Vec<ResponseOp>) -> Vec<Vec<KeyValue>> {
    let range = |op: ResponseOp| match op.response {
        Some(Response::Range(range)) => Some(range.kvs),
        _ => None,
    };
    responses.into_iter().filter_map(range).collect()
}

/// What tells our transaction from another one.
fn nonce() -> Result<String, SetsError> {
    use rand::TryRng;
    let random =
        rand::rngs::SysRng.try_next_u64().map_err(|error| SetsError::Unavailable(error.to_string()))?;
    Ok(format!("{random:016x}"))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, SetsError> {
    serde_json::to_vec(value).map_err(|error| SetsError::Unavailable(error.to_string()))
}
