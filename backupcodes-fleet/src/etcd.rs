//! A client of etcd: transactions that are asked of one node after the other, until one replies.

pub(crate) mod messages;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use prost::Message;
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::Service;
use tonic::codegen::http::{self, uri::PathAndQuery};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use self::messages::{TxnRequest, TxnResponse};

/// A node that has not replied by then may be stopped or cut off: the next one is asked as well. Where replies take long, many hosts
/// wait: then this is [`PATIENT`] times what they take, and where nothing has replied yet [`LONGEST`], since a second question costs a
/// second connection.
const HEDGE: Duration = Duration::from_millis(500);
const PATIENT: u32 = 3;
/// Until one more is asked: what a node forwards to a leader that is lost is lost too, and no error tells that.
const ROUND: Duration = Duration::from_secs(1);
/// The most of both.
const LONGEST: Duration = Duration::from_secs(2);
/// The most bytes of a reply, unless it is of sets.
const LARGEST: usize = 1 << 20;
/// Until a node that has no leader, or refuses connections, is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// The cluster.
pub(crate) struct Etcd {
    nodes: Vec<Node>,
    /// The node that replied last.
    first: AtomicUsize,
    /// How long replies take: each counts an eighth, those before it the rest. In microseconds.
    usual: AtomicU32,
}

#[derive(Clone)]
struct Node {
    url: Arc<str>,
    channel: Channel,
}

/// The certificates, as PEM.
pub(crate) struct Tls {
    /// Of the authority that signs the nodes' certificates.
    pub(crate) ca: Vec<u8>,
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// No reply can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EtcdError {
    /// A node says that each of them would refuse the call.
    #[error("{node}: {message}")]
    Refused {
        node: Arc<str>,
        code: Code,
        message: String,
        /// Nothing was changed. Else another node that was asked, or an earlier try, may have made the change.
        is_unchanged: bool,
    },
    /// A change may have been made.
    #[error("no majority of the nodes replied within {} ms; see which: backupcodes-admin fleet status; the last error: {last}", .waited.as_millis())]
    NoReply { waited: Duration, last: String },
}

impl EtcdError {
    /// A refusal by this node, after so many tries in all.
    pub(crate) fn refused(node: Arc<str>, status: &Status, tries: usize) -> Self {
        // etcd says that it is full of the change too that fills it, which it makes.
        let is_unchanged = tries == 1 && !is_full(status);
        Self::Refused { node, code: status.code(), message: status.message().into(), is_unchanged }
    }
}

impl Etcd {
    /// The cluster with these nodes, to which nothing connects before the first call.
    ///
    /// # Errors
    /// An endpoint is no URL, or a certificate cannot be used.
    pub(crate) fn new(endpoints: &[String], tls: &Tls) -> Result<Self, tonic::transport::Error> {
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&tls.ca))
            .identity(Identity::from_pem(&tls.certificate, &tls.key));
        let node = |url: &String| {
            let endpoint = Endpoint::from_shared(url.clone())?
                .tls_config(config.clone())?
                .connect_timeout(LONGEST)
                // A node that vanishes without a word is given up, and connected to again.
                .http2_keep_alive_interval(Duration::from_secs(2))
                .keep_alive_timeout(Duration::from_secs(2))
                .keep_alive_while_idle(true)
                .tcp_nodelay(true);
            Ok(Node { url: url.as_str().into(), channel: endpoint.connect_lazy() })
        };
        let nodes = endpoints.iter().map(node).collect::<Result<Vec<_>, tonic::transport::Error>>()?;
        // Not all hosts begin with the same one.
        let random = usize::try_from(SysRng.try_next_u32().unwrap_or_default()).unwrap_or_default();
        let first = random.checked_rem(nodes.len()).unwrap_or_default();
        Ok(Self { nodes, first: AtomicUsize::new(first), usual: AtomicU32::new(0) })
    }

    /// One transaction with a reply of at most so many bytes. It may be performed more than once: what it does must be harmless then.
    ///
    /// # Errors
    /// [`EtcdError`].
    pub(crate) async fn transaction(
        &self,
        request: &TxnRequest,
        deadline: Instant,
        largest: usize,
    ) -> Result<TxnResponse, EtcdError> {
        self.call_for("/etcdserverpb.KV/Txn", request, deadline, largest).await
    }

    /// A call of any method, of which each node may be asked.
    pub(crate) async fn call<Q, R>(
        &self,
        method: &'static str,
        request: &Q,
        deadline: Instant,
    ) -> Result<R, EtcdError>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        self.call_for(method, request, deadline, LARGEST).await
    }

    /// The same with a reply of at most so many bytes.
    async fn call_for<Q, R>(
        &self,
        method: &'static str,
        request: &Q,
        deadline: Instant,
        largest: usize,
    ) -> Result<R, EtcdError>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let start = Instant::now();
        let mut asked = JoinSet::new();
        let mut last = "no node replied; check the addresses and the firewall".to_owned();
        let first = self.first.load(Ordering::Relaxed);
        let mut waiting = self.nodes.iter().cycle().skip(first).take(self.nodes.len()).cloned();
        let mut rounds = self.nodes.iter().cycle().skip(first).cloned();
        // Where a call has little time, half of it is for another node.
        let patience = deadline.saturating_duration_since(start).checked_div(2).unwrap_or_default();
        let hedge = |least: Duration| at(self.hedge().max(least).min(patience));
        let mut late = hedge(HEDGE);
        let mut tries = 0_usize;
        let mut ask = |asked: &mut JoinSet<_>, node: Node, pause| {
            tries = tries.saturating_add(1);
            let request = request.clone();
            asked.spawn(async move {
                sleep(pause).await;
                let start = Instant::now();
                let reply = node.call(method, request, largest).await;
                (node, start.elapsed(), reply)
            });
        };
        if let Some(node) = waiting.next() {
            ask(&mut asked, node, Duration::ZERO);
        }
        loop {
            match timeout_at(late.min(deadline), asked.join_next()).await {
                Ok(Some(Ok((node, took, Ok(reply))))) => {
                    self.remember(&node, took);
                    return Ok(reply);
                }
                Ok(Some(Ok((node, _, Err(status))))) if is_final(&status) => {
                    return Err(EtcdError::refused(node.url, &status, tries));
                }
                Ok(Some(Ok((node, _, Err(status))))) => {
                    last = format!("{}: {}", node.url, said(&status));
                    // The next one at once, and this one again in a moment.
                    if let Some(next) = waiting.next() {
                        ask(&mut asked, next, Duration::ZERO);
                        late = hedge(HEDGE);
                    }
                    ask(&mut asked, node, AGAIN);
                }
                Ok(Some(Err(failed))) => last = failed.to_string(),
                Ok(None) => sleep(AGAIN).await,
                Err(_late) => {
                    late = hedge(ROUND);
                    if let Some(node) = waiting.next().or_else(|| rounds.next()) {
                        ask(&mut asked, node, Duration::ZERO);
                    }
                }
            }
            if Instant::now() >= deadline {
                // The next call does not begin with the same one.
                let next = first.saturating_add(1).checked_rem(self.nodes.len()).unwrap_or_default();
                let _ = self.first.compare_exchange(first, next, Ordering::Relaxed, Ordering::Relaxed);
                return Err(EtcdError::NoReply { waited: start.elapsed(), last });
            }
        }
    }

    /// The URLs of the nodes, each with its reply to a call and the time of its clock. All are asked at the same time.
    pub(crate) async fn ask_each<R: Message + Default + 'static>(
        &self,
        method: &'static str,
        request: impl Message + Clone + 'static,
        deadline: Instant,
    ) -> Vec<(Arc<str>, Result<R, String>, Option<SystemTime>)> {
        let ask = |node: &Node| {
            let (node, request) = (node.clone(), request.clone());
            let url = Arc::clone(&node.url);
            let ask = async move { tokio::join!(node.call(method, request, LARGEST), node.time()) };
            (url, tokio::spawn(timeout_at(deadline, ask)))
        };
        let asked: Vec<_> = self.nodes.iter().map(ask).collect();
        let mut replies = Vec::new();
        for (url, reply) in asked {
            let (reply, time) = match reply.await {
                Ok(Ok((reply, time))) => (reply.map_err(|status| said(&status)), time),
                Ok(Err(_late)) => (Err("no reply".into()), None),
                Err(failed) => (Err(failed.to_string()), None),
            };
            replies.push((url, reply, time));
        }
        replies
    }

    fn hedge(&self) -> Duration {
        match self.usual.load(Ordering::Relaxed) {
            0 => LONGEST,
            usual => Duration::from_micros(usual.into()).saturating_mul(PATIENT).clamp(HEDGE, LONGEST),
        }
    }

    fn remember(&self, node: &Node, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let usual = self.usual.load(Ordering::Relaxed);
        // Where two replies come at once, one is forgotten.
        let usual = if usual == 0 { took } else { usual.saturating_sub(usual / 8).saturating_add(took / 8) };
        self.usual.store(usual, Ordering::Relaxed);
        if let Some(at) = self.nodes.iter().position(|other| other.url == node.url) {
            self.first.store(at, Ordering::Relaxed);
        }
    }
}

impl Node {
    async fn call<Q, R>(&self, method: &'static str, request: Q, largest: usize) -> Result<R, Status>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(largest);
        client.ready().await.map_err(|error| Status::unavailable(with_causes(&error)))?;
        let codec: ProstCodec<Q, R> = ProstCodec::default();
        let path = PathAndQuery::from_static(method);
        client.unary(Request::new(request), path, codec).await.map(tonic::Response::into_inner)
    }

    /// What its clock says. Replies to calls do not tell; those to other requests of HTTP do.
    async fn time(&self) -> Option<SystemTime> {
        let mut channel = self.channel.clone();
        poll_fn(|context| channel.poll_ready(context)).await.ok()?;
        let request = http::Request::get("/version").body(Body::empty()).ok()?;
        let reply = channel.call(request).await.ok()?;
        httpdate::parse_http_date(reply.headers().get("date")?.to_str().ok()?).ok()
    }
}

/// Whether the store has no room left.
fn is_full(status: &Status) -> bool {
    status.message().contains("space exceeded")
}

/// Whether each node would reply so.
fn is_final(status: &Status) -> bool {
    // Users were added or removed at this moment.
    let is_passing = status.message().contains("auth store is old");
    is_full(status)
        || !is_passing
            && matches!(
                status.code(),
                Code::PermissionDenied
                    | Code::InvalidArgument
                    | Code::FailedPrecondition
                    | Code::OutOfRange
                    | Code::Unimplemented
            )
}

fn said(status: &Status) -> String {
    and_causes(status.message().to_owned(), std::error::Error::source(status))
}

/// An error with what caused it, which tonic leaves out.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    and_causes(error.to_string(), error.source())
}

/// Layers repeat what is below them: each part is said once.
fn and_causes(mut text: String, mut cause: Option<&(dyn std::error::Error + 'static)>) -> String {
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

pub(crate) fn at(patience: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(patience).unwrap_or(now)
}
