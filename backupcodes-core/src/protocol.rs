//! The parameters and replies of the varlink interface `org.backupcodes.Broker`.
#![expect(missing_docs, reason = "the description of the interface explains each of them")]

mod client;
mod connection;
pub mod fleet;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::client::Broker;
pub use self::connection::{CallError, Connection, LARGEST, Service, ServiceError, Words};
use crate::store::Accepted;

/// The varlink interface.
pub const INTERFACE: &str = "org.backupcodes.Broker";
/// Its description, which explains each parameter.
pub const DESCRIPTION: &str = include_str!("protocol/org.backupcodes.Broker.varlink");

/// The replies that the module reads, those of the fleet's service among them: one type for all, for the module's size.
#[derive(Default, Deserialize)]
pub(crate) struct Reply {
    pub(crate) has_set: Option<bool>,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) number: Option<u8>,
    pub(crate) left: Option<usize>,
    pub(crate) set: Option<String>,
    pub(crate) unproven: Option<String>,
    pub(crate) revision: Option<i64>,
    pub(crate) names: Option<Vec<String>>,
}

/// Parameters of `HasSet`.
#[derive(Serialize, Deserialize)]
pub struct HasSet<'a> {
    pub user: Cow<'a, str>,
    pub directory: Cow<'a, Path>,
}

/// Reply of `HasSet`.
#[derive(Serialize)]
pub struct HasSetReply {
    pub has_set: bool,
}

/// Parameters of `Check`.
#[derive(Serialize, Deserialize)]
pub struct Check<'a> {
    pub user: Cow<'a, str>,
    pub directory: Cow<'a, Path>,
    pub response: Cow<'a, str>,
    pub service: Cow<'a, str>,
    pub host: Option<Cow<'a, str>>,
    pub tty: Option<Cow<'a, str>>,
}

/// Reply of `Check`.
#[derive(Serialize)]
pub struct CheckReply {
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<usize>,
}

/// The verdict of `Check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Accepted,
    Refused,
    UserUnknown,
    Unavailable,
}

impl CheckReply {
    /// The reply for a spent code.
    #[must_use]
    pub const fn accepted(accepted: &Accepted) -> Self {
        let (number, left) = (accepted.number().get(), accepted.left());
        Self { verdict: Verdict::Accepted, number: Some(number), left: Some(left) }
    }

    /// The reply with any other verdict.
    #[must_use]
    pub const fn denied(verdict: Verdict) -> Self {
        Self { verdict, number: None, left: None }
    }
}

/// Parameters of `Status` and `Renew`.
#[derive(Serialize, Deserialize)]
pub struct OfUser<'a> {
    pub user: Cow<'a, str>,
    pub directory: Option<Cow<'a, Path>>,
}

/// Reply of `Status`.
#[derive(Serialize, Deserialize)]
pub struct Status {
    pub set: String,
    pub created: String,
    pub total: usize,
    pub left: usize,
    pub low: bool,
    pub codes: Vec<CodeStatus>,
}

/// The status of one code.
#[derive(Serialize, Deserialize)]
pub struct CodeStatus {
    pub number: u8,
    pub state: CodeState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Whether a code can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeState {
    Unspent,
    Spent,
    Damaged,
}

/// Parameters of `Verify`.
#[derive(Serialize, Deserialize)]
pub struct Verify<'a> {
    pub user: Cow<'a, str>,
    pub directory: Option<Cow<'a, Path>>,
    pub response: Cow<'a, str>,
}

/// Reply of `Verify`.
#[derive(Serialize, Deserialize)]
pub struct VerifyReply {
    pub accepted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Parameters of `Respond`.
#[derive(Serialize, Deserialize)]
pub struct Respond<'a> {
    pub responses: Vec<Cow<'a, str>>,
}

/// Reply of `Renew` and `Respond`.
#[derive(Serialize, Deserialize)]
pub struct RenewalStep {
    pub messages: Vec<Message>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sheet: Option<Sheet>,
}

/// A message of a PAM module.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    pub style: Style,
    pub text: String,
}

impl Message {
    /// Whether it needs a response.
    #[must_use]
    pub const fn is_prompt(&self) -> bool {
        matches!(self.style, Style::PromptEchoOff | Style::PromptEchoOn)
    }
}

/// Styles of messages, with PAM's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    PromptEchoOff,
    PromptEchoOn,
    TextInfo,
    ErrorMsg,
}

/// A new set, to be shown once.
#[derive(Serialize, Deserialize)]
pub struct Sheet {
    pub host: String,
    pub set: String,
    pub created: String,
    pub codes: Vec<String>,
}

/// Parameters of `Keep`, and its reply.
#[derive(Serialize, Deserialize)]
pub struct Nothing {}

/// The errors of the interface. `Debug` prints their names as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorName {
    NoSet,
    NotYours,
    OtherDirectory,
    Unavailable,
    Denied,
    OutOfTurn,
    Changed,
    Unflushed,
    Unknown,
}

impl ErrorName {
    const ALL: [Self; 9] = [
        Self::NoSet,
        Self::NotYours,
        Self::OtherDirectory,
        Self::Unavailable,
        Self::Denied,
        Self::OutOfTurn,
        Self::Changed,
        Self::Unflushed,
        Self::Unknown,
    ];

    /// The error with this full name, if it belongs to this interface.
    #[must_use]
    pub fn of(error: &str) -> Option<Self> {
        let short = error.strip_prefix(INTERFACE)?.strip_prefix('.')?;
        Self::ALL.into_iter().find(|name| format!("{name:?}") == short)
    }

    /// The error of the interface that the broker replied with, if it did.
    #[must_use]
    pub fn of_call(error: &CallError) -> Option<Self> {
        match error {
            CallError::Replied { error, .. } => Self::of(error),
            CallError::Service(_) => None,
        }
    }

    /// A varlink error for people: without the name of this interface.
    #[must_use]
    pub fn shortened(error: &str) -> &str {
        let short = error.strip_prefix(INTERFACE).and_then(|error| error.strip_prefix('.'));
        short.unwrap_or(error)
    }
}

/// Parameters of [`ErrorName::OtherDirectory`].
#[derive(Serialize, Deserialize)]
pub struct OtherDirectory {
    pub directory: String,
}

/// Parameters of [`ErrorName::Denied`].
#[derive(Serialize, Deserialize)]
pub struct Denied {
    pub messages: Vec<Message>,
}

/// Parameters of [`ErrorName::Unavailable`].
#[derive(Serialize, Deserialize)]
pub struct Unavailable {
    pub reason: Option<String>,
}
