//! Sets in the store: how they are read, spent and replaced. Each change is one transaction.

mod due;
mod find;
mod replace;
mod spend;
mod status;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use backupcodes_core::file_name::unescaped;
use backupcodes_core::protocol::fleet::Certificate;
use tokio::time::Instant;
use tonic::Code;

use self::find::Found;
use self::stored::{FORMAT, Signed, SignedLabel, SignedRestored, StoredLabel, StoredRestored, json};
use crate::authority::{ADMIN, Authority, Signature};
use crate::etcd::messages::{Header, KeyValue, RequestOp, Response, ResponseOp, TxnRequest, TxnResponse};
use crate::etcd::{Etcd, EtcdError};
use crate::keys::Prefix;
use crate::seen::{Seen, State as SeenState, WentBack};

/// The most bytes of a reply, where it is of all users: that is some hundred thousand labels.
const LARGEST: usize = 64 << 20;
/// The most labels in the place of one user that are looked at: each costs a signature.
const MOST_LABELS: usize = 16;
/// No account has this name.
const NOBODY: &str = "/";

/// The sets of the fleet.
pub(crate) struct Sets {
    pub(crate) etcd: Etcd,
    pub(crate) authority: Authority,
    pub(crate) prefix: Prefix,
    pub(crate) seen: Seen,
    pub(crate) last_restored: Mutex<LastRestored>,
    /// What this host calls itself.
    pub(crate) host: String,
    /// What proves who this host is, and who the nodes are.
    pub(crate) certificates: Vec<Certificate>,
}

/// The last value of [`Prefix::restored`], and what it proved of which cluster.
#[derive(Default)]
pub(crate) struct LastRestored {
    cluster: u64,
    value: Vec<u8>,
    time: u64,
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
        "{0}; the certificate of this host may not do that: sets are changed on the admin host, and a new host is added there: \
         backupcodes-admin fleet host add"
    )]
    NotPermitted(String),
    /// No host would believe a set that this host makes. Nothing was changed.
    #[error(
        "this host cannot sign sets ({0}); they are made on the admin host, with the certificate {ADMIN} of an authority in fleet.ca"
    )]
    CannotSign(String),
    /// Nothing is known, and nothing was changed.
    #[error("{0}")]
    Unavailable(String),
    /// The reply is too large to be read.
    #[error("{0}")]
    TooLarge(String),
    #[error(transparent)]
    Unproven(#[from] Unproven),
    #[error(transparent)]
    WentBack(#[from] WentBack),
}

/// What lies in the place of a user's set was not signed by an administrator, for this user and this store.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unproven(String);

/// A set as its text, and the revision of the store in which it was so.
pub(crate) struct Text {
    pub(crate) text: Result<Option<String>, Unproven>,
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
        let Found { set, header, names, .. } = self.find(user, uid, deadline).await?;
        let text = match set {
            Ok(set) => Ok(set.map(|set| set.text()).transpose()?),
            Err(unproven) => Err(unproven),
        };
        Ok(Text { text, revision: header.revision, names })
    }

    /// The users with a set, in the order of their names.
    pub(crate) async fn users(&self, deadline: Instant) -> Result<Vec<String>, SetsError> {
        let labels = self.all(vec![self.prefix.sets().read()], deadline).await?.into_iter();
        let labels = labels.filter_map(|found| SignedLabel::parse(&found.value).ok());
        Ok(labels.map(|signed| signed.label.user).collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// The users with a set that this host does not accept, and the keys among the sets that are of no user.
    pub(crate) async fn unproven(&self, deadline: Instant) -> Result<(Vec<String>, Vec<String>), SetsError> {
        let (reply, header) = self.read_ranges(vec![self.prefix.sets().read()], deadline, LARGEST).await?;
        let (mut labels, mut others) = (BTreeMap::<_, Vec<_>>::new(), BTreeSet::new());
        for found in ranges(reply).concat() {
            let user = match self.prefix.parts(&found.key).as_deref() {
                Some(["sets", name, _, ..]) if *name != "%uid" => unescaped(name),
                _ => None,
            };
            match user {
                Some(user) => labels.entry(user).or_default().push(found),
                None => {
                    others.insert(found.key);
                }
            }
        }
        let mut users = Vec::new();
        for (user, labels) in labels {
            match self.last_proven(&user, &labels, header) {
                // That its uid has a set under this name.
                Ok(Some((_, SignedLabel { label, .. }))) => {
                    others.remove(&self.prefix.name_of(label.uid, &user).bounds().0);
                }
                _ => users.push(user),
            }
        }
        Ok((users, others.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect()))
    }

    /// Signs the label of a set whose codes were made in this revision of the store.
    fn signed(&self, label: StoredLabel, codes: i64, header: Header) -> Result<Vec<u8>, SetsError> {
        let signature = self.sign(&self.message(&label, codes, header)?)?;
        json(&SignedLabel { label, codes, signature })
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SetsError> {
        self.authority.sign(message).map_err(SetsError::CannotSign)
    }

    /// The label of a user's set: the last one that an administrator has signed. Whoever may write anything may have put an older one
    /// beside it, whose codes are gone.
    fn last_proven<'a>(
        &self,
        user: &str,
        labels: &'a [KeyValue],
        header: Header,
    ) -> Result<Option<(&'a KeyValue, SignedLabel)>, Unproven> {
        if labels.is_empty() {
            self.authority.verify_nothing();
            return Ok(None);
        }
        let mut reason = String::new();
        let mut signed = Vec::new();
        for found in labels {
            match self.of_place(user, found) {
                Ok(label) => signed.push((found, label)),
                Err(error) => reason = error,
            }
        }
        if signed.len() > MOST_LABELS {
            return Err(Unproven(format!("{} labels; expected one", signed.len())));
        }
        signed.sort_by_key(|(_, label)| std::cmp::Reverse(label.codes));
        for (found, label) in signed {
            match self.verify(&label, header) {
                Ok(()) => return Ok(Some((found, label))),
                Err(error) => reason = error,
            }
        }
        Err(Unproven(reason))
    }

    /// The label in a place of the user.
    ///
    /// # Errors
    /// No administrator has signed it for this place, in this store.
    fn proven(&self, user: &str, found: &KeyValue, header: Header) -> Result<SignedLabel, String> {
        let signed = self.of_place(user, found)?;
        self.verify(&signed, header).map(|()| signed)
    }

    /// The same, whoever has signed it.
    fn of_place(&self, user: &str, found: &KeyValue) -> Result<SignedLabel, String> {
        let signed = SignedLabel::parse(&found.value).map_err(|error| error.to_string())?;
        let label = &signed.label;
        if label.format != FORMAT || label.user != user || !self.prefix.set(user, &label.set).is(&found.key) {
            return Err(format!("made for {}, set {}, format {}", label.user, label.set, label.format));
        }
        Ok(signed)
    }

    fn verify(
        &self,
        SignedLabel { label, codes, signature }: &SignedLabel,
        header: Header,
    ) -> Result<(), String> {
        let message = self.message(label, *codes, header).map_err(|error| error.to_string())?;
        let unproven = |error| format!("not signed for this store: {error}");
        self.authority.verify(&message, signature).map_err(unproven)
    }

    fn message(&self, label: &StoredLabel, codes: i64, header: Header) -> Result<Vec<u8>, SetsError> {
        json(&Signed {
            purpose: "backupcodes set",
            prefix: &self.prefix.0,
            cluster: header.cluster_id,
            restored: self.seen.state().restored,
            codes,
            label,
        })
    }

    /// When an administrator last said that the store was restored. 0: never, or somebody else has.
    fn restored_in(&self, found: &[KeyValue], header: Header) -> u64 {
        let Some(KeyValue { value, .. }) = found.first() else { return 0 };
        let mut last = self.last_restored.lock().unwrap_or_else(PoisonError::into_inner);
        if (last.cluster, &last.value) != (header.cluster_id, value) {
            let time = self.proven_restored(value, header).unwrap_or_default();
            *last = LastRestored { cluster: header.cluster_id, value: value.clone(), time };
        }
        last.time
    }

    fn proven_restored(&self, value: &[u8], header: Header) -> Option<u64> {
        let StoredRestored { time, signature } = serde_json::from_slice(value).ok()?;
        let message = self.restored_message(time, header).ok()?;
        self.authority.verify(&message, &signature).ok().map(|()| time)
    }

    fn restored_message(&self, time: u64, header: Header) -> Result<Vec<u8>, SetsError> {
        let purpose = "backupcodes restored";
        json(&SignedRestored { purpose, prefix: &self.prefix.0, cluster: header.cluster_id, time })
    }

    /// All that these reads find, in one revision.
    async fn all(&self, success: Vec<RequestOp>, deadline: Instant) -> Result<Vec<KeyValue>, SetsError> {
        let (reply, _) = self.read_ranges(success, deadline, LARGEST).await?;
        Ok(ranges(reply).concat())
    }

    /// A transaction that only reads, with a reply of at most so many bytes.
    async fn read_ranges(
        &self,
        success: Vec<RequestOp>,
        deadline: Instant,
        largest: usize,
    ) -> Result<(TxnResponse, Header), SetsError> {
        let request = TxnRequest { success, ..TxnRequest::default() };
        self.perform(request, deadline, largest, SetsError::of_read).await
    }

    /// A transaction that may change something.
    async fn change(&self, request: TxnRequest, deadline: Instant) -> Result<TxnResponse, SetsError> {
        match self.perform(request, deadline, LARGEST, SetsError::of_change).await {
            Ok((reply, _)) => Ok(reply),
            // The store has made the change, and is not the one that this host knows.
            Err(SetsError::WentBack(error)) => Err(SetsError::Unknown(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Performs a transaction with a reply of at most so many bytes, and judges the state of the store by it.
    async fn perform(
        &self,
        mut request: TxnRequest,
        deadline: Instant,
        largest: usize,
        failed: fn(EtcdError) -> SetsError,
    ) -> Result<(TxnResponse, Header), SetsError> {
        let before: SeenState = self.seen.state();
        request.success.push(self.prefix.restored().read());
        request.failure.push(self.prefix.restored().read());
        let mut reply = self.etcd.transaction(&request, deadline, largest).await.map_err(failed)?;
        let restored = reply.responses.pop().map(|last| ranges_of(vec![last]).concat()).unwrap_or_default();
        let header = reply.header.unwrap_or_default();
        self.seen.judge(before, header, self.restored_in(&restored, header))?;
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
            EtcdError::NoReply { .. } | EtcdError::Refused { is_unchanged: false, .. } => {
                Self::Unknown(error.to_string())
            }
            error => Self::of_read(error),
        }
    }
}

/// Proves that a change was made: by this transaction, or by an earlier one whose reply was lost, where what this one found is ours.
fn prove_made(reply: TxnResponse, is_ours: impl Fn(&KeyValue) -> bool) -> Result<(), SetsError> {
    if reply.succeeded || ranges(reply).concat().iter().any(is_ours) {
        Ok(())
    } else {
        Err(SetsError::Changed)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_change_is_unknown_where_it_may_have_been_made() {
        let refused = |code, message: &str, tries| {
            let status = tonic::Status::new(code, message);
            SetsError::of_change(EtcdError::refused("node".into(), &status, tries))
        };
        let denied = (Code::PermissionDenied, "permission denied");
        assert!(matches!(refused(denied.0, denied.1, 1), SetsError::NotPermitted(_)));
        assert!(matches!(refused(denied.0, denied.1, 2), SetsError::Unknown(_)));
        // The change that reaches the quota is made.
        let full = "etcdserver: mvcc: database space exceeded";
        assert!(matches!(refused(Code::ResourceExhausted, full, 1), SetsError::Unknown(_)));
    }
}
