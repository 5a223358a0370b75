//! The parameters and replies of the varlink interface `org.backupcodes.Store`, and its client.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{CallError, Service};

/// The varlink interface.
pub const INTERFACE: &str = "org.backupcodes.Store";
/// Its description, which explains each parameter.
pub const DESCRIPTION: &str = include_str!("org.backupcodes.Store.varlink");

/// The service, whose lists have no secrets.
pub const FLEET: Service = Service {
    name: "fleet",
    interface: INTERFACE,
    advice: "a host with fleet.endpoints needs it: systemctl enable --now backupcodes-fleet.socket",
    largest: 16 << 20,
};

/// Parameters of `Read`.
#[derive(Serialize, Deserialize)]
pub struct Read<'a> {
    pub user: Cow<'a, str>,
    pub uid: Option<u32>,
}

/// Reply of `Read`.
#[derive(Serialize, Deserialize)]
pub struct ReadReply {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unproven: Option<String>,
    pub revision: i64,
    pub names: Vec<String>,
}

/// Reply of `Spend`.
#[derive(Serialize, Deserialize)]
pub struct SpendReply {
    pub set: String,
    pub left: usize,
}

/// Reply of `List`.
#[derive(Serialize, Deserialize)]
pub struct NamesReply {
    pub users: Vec<String>,
}

/// Reply of `ListUnproven`.
#[derive(Serialize, Deserialize)]
pub struct UnprovenReply {
    pub users: Vec<String>,
    pub others: Vec<String>,
}

/// Parameters of `Spend`.
#[derive(Serialize, Deserialize)]
pub struct Spend<'a> {
    pub user: Cow<'a, str>,
    pub number: u8,
    pub hash: Cow<'a, str>,
    pub record: Cow<'a, str>,
}

/// Parameters of `Replace`.
#[derive(Serialize, Deserialize)]
pub struct Replace<'a> {
    pub user: Cow<'a, str>,
    pub expected: Option<Cow<'a, str>>,
    pub revision: i64,
    pub new: Option<Cow<'a, str>>,
    pub from: Option<Cow<'a, str>>,
}

/// Parameters of `Readdress`.
#[derive(Serialize, Deserialize)]
pub struct Readdress<'a> {
    pub user: Cow<'a, str>,
    pub set: Cow<'a, str>,
    pub revision: i64,
    pub email: Vec<Cow<'a, str>>,
}

/// Parameters of `Notified`.
#[derive(Serialize, Deserialize)]
pub struct Notified<'a> {
    pub user: Cow<'a, str>,
    pub set: Cow<'a, str>,
    pub number: u8,
}

/// Reply of `Due`.
#[derive(Serialize, Deserialize)]
pub struct DueReply {
    pub notices: Vec<DueNotice>,
}

/// A use whose notice is due.
#[derive(Clone, Serialize, Deserialize)]
pub struct DueNotice {
    pub user: String,
    pub uid: u32,
    pub set: String,
    pub created: String,
    pub email: Vec<String>,
    pub number: u8,
    pub record: String,
    pub left: usize,
    pub total: usize,
}

/// Parameters of `Restored`.
#[derive(Serialize, Deserialize)]
pub struct Restored {
    pub time: u64,
}

/// Reply of `Status`.
#[derive(Serialize, Deserialize)]
pub struct StatusReply {
    pub cluster: String,
    pub revision: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_replace: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_not_because: Option<String>,
    pub authenticates: bool,
    pub nodes: Vec<Node>,
    pub certificates: Vec<Certificate>,
}

/// A node of the store.
#[derive(Serialize, Deserialize)]
pub struct Node {
    pub url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub version: String,
    pub leads: bool,
    pub size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<u64>,
    pub alarms: Vec<String>,
}

/// A certificate that the service uses.
#[derive(Clone, Serialize, Deserialize)]
pub struct Certificate {
    pub path: String,
    pub expires: u64,
}

/// Parameters of `List`, `ListUnproven` and `Due`, and the reply of methods that return nothing.
#[derive(Serialize, Deserialize)]
pub struct Nothing {}

/// The errors of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorName {
    Changed,
    Unknown,
    NotPermitted,
    WentBack,
    Unavailable,
}

impl ErrorName {
    pub(super) const ALL: [Self; 5] =
        [Self::Changed, Self::Unknown, Self::NotPermitted, Self::WentBack, Self::Unavailable];

    /// The error of the interface that the service replied with, if it did.
    #[must_use]
    pub fn of_call(error: &CallError) -> Option<Self> {
        let CallError::Replied { error, .. } = error else { return None };
        let short = error.strip_prefix(INTERFACE)?.strip_prefix('.')?;
        Self::ALL.into_iter().find(|name| format!("{name:?}") == short)
    }
}
