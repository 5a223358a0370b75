//! Sets in the store: how they are read, spent and replaced. Each change is one transaction.

mod due;
mod replace;
mod spend;
mod status;
mod stored;

use std::collections::BTreeSet;

use backupcodes_core::protocol::fleet::Certificate;
use tokio::time::Instant;
use tonic::Code;

use self::stored::{FORMAT, Stored, StoredLabel};
use crate::etcd::messages::{Header, KeyValue, Response, ResponseOp, TxnRequest, TxnResponse};
use crate::etcd::{Etcd, EtcdError};
use crate::keys::{Keys, Prefix};
use crate::seen::{Seen, State as SeenState, WentBack};

/// The sets of the fleet.
pub(crate) struct Sets {
    pub(crate) etcd: Etcd,
    pub(crate) prefix: Prefix,
    pub(crate) seen: Seen,
    /// What this host calls itself.
    pub(crate) host: String,
    /// What proves who this host is, and who the nodes are.
    pub(crate) certificates: Vec<Certificate>,
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

/// All of a user in the store.
struct Found {
    set: Option<Stored>,
    /// What else lies in the user's place: no administrator makes it, and a replacement removes it.
    sets: BTreeSet<String>,
    revision: i64,
    /// The names under which a uid has a set.
    names: Vec<String>,
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
    pub(crate) async fn read(
        &self,
        user: &str,
        uid: Option<u32>,
        deadline: Instant,
    ) -> Result<Text, SetsError> {
        let Found { set, revision, names, .. } = self.find(user, uid, deadline).await?;
        let text = set.map(|set| set.text()).transpose()?;
        Ok(Text { text, revision, names })
    }

    /// The users with a set, in the order of their names.
    pub(crate) async fn users(&self, deadline: Instant) -> Result<Vec<String>, SetsError> {
        let request = TxnRequest { success: vec![self.prefix.sets().read()], ..TxnRequest::default() };
        let (reply, _) = self.known(request, deadline).await?;
        let labels = ranges(reply).concat().into_iter();
        let labels = labels.filter_map(|found| serde_json::from_slice::<StoredLabel>(&found.value).ok());
        Ok(labels.map(|label| label.user).collect::<BTreeSet<_>>().into_iter().collect())
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

/// Only an administrator can have made such a set, and only root of etcd can remove it.
fn unreadable(user: &str, reason: &str) -> String {
    format!(
        "the fleet's set of {user} cannot be read ({reason}); with the certificate of etcd's root: etcdctl del --prefix \
         /backupcodes/sets/{user}/; then: backupcodes-admin generate {user}"
    )
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
