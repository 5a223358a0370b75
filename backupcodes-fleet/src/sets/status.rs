//! What the store and the certificates of this host are like.

use std::time::{SystemTime, UNIX_EPOCH};

use backupcodes_core::protocol::fleet::{Node, StatusReply};
use tokio::time::Instant;

use super::{NOBODY, Sets, SetsError};
use crate::etcd::messages::{NoFields, Status};

impl Sets {
    /// The nodes of the store, and what this host may.
    pub(crate) async fn status(&self, deadline: Instant) -> StatusReply {
        let method = "/etcdserverpb.Maintenance/Status";
        let ask = self.etcd.ask_each::<Status>(method, NoFields {}, deadline);
        let (nodes, read, spend, replace, authenticates) = tokio::join!(
            ask,
            self.find(NOBODY, None, deadline),
            self.prove_may_spend(deadline),
            self.prove_may_replace(deadline),
            self.authenticates(deadline)
        );
        let nodes = nodes.into_iter().map(|(url, reply, time)| node(url.to_string(), reply, time));
        let seen = self.seen.state();
        StatusReply {
            cluster: format!("{:x}", seen.cluster),
            revision: seen.revision,
            refused: read.err().or(spend.err()).map(|error| error.to_string()),
            may_replace: match &replace {
                Ok(()) => Some(true),
                Err(SetsError::NotPermitted(_) | SetsError::CannotSign(_)) => Some(false),
                Err(_) => None,
            },
            may_not_because: replace.err().map(|error| error.to_string()),
            authenticates,
            nodes: nodes.collect(),
            certificates: self.certificates.clone(),
        }
    }

    /// False if it is proven that etcd does not tell users apart: then it lists them for everybody.
    async fn authenticates(&self, deadline: Instant) -> bool {
        let list = self.etcd.call::<_, NoFields>("/etcdserverpb.Auth/UserList", &NoFields {}, deadline);
        list.await.is_err()
    }
}

fn node(url: String, reply: Result<Status, String>, time: Option<SystemTime>) -> Node {
    let time = time.and_then(|time| Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs()));
    match reply {
        Ok(Status { version, size, leader, header, errors }) => {
            let leads = header.is_some_and(|header| header.member_id == leader);
            Node { url, error: None, version, leads, size, time, alarms: errors }
        }
        Err(error) => Node {
            url,
            error: Some(error),
            version: String::new(),
            leads: false,
            size: 0,
            time,
            alarms: Vec::new(),
        },
    }
}
