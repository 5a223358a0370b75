//! The parameters and replies of the varlink interface `org.backupcodes.Broker`. The interface description in the broker
//! explains the methods.

mod client;

use std::borrow::Cow;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::client::{Broker, BrokerError, CallError};
use crate::code::CodeNumber;
use crate::store::Accepted;

/// The varlink interface.
pub const INTERFACE: &str = "org.backupcodes.Broker";
/// The most bytes of a message in either direction. A message with 31 long codes has about 4 KiB.
pub const LARGEST: usize = 16 << 10;

/// Parameters of `HasSet`.
#[derive(Serialize, Deserialize)]
pub struct HasSet<'a> {
    /// The account, or an unknown user.
    pub user: Cow<'a, str>,
    /// The directory of the sets in the caller's configuration.
    pub directory: Cow<'a, Path>,
}

/// Reply of `HasSet`.
#[derive(Serialize, Deserialize)]
pub struct HasSetReply {
    /// `false` is proof that the user has no set.
    pub has_set: bool,
}

/// Parameters of `Check`.
#[derive(Serialize, Deserialize)]
pub struct Check<'a> {
    /// As in [`HasSet`].
    pub user: Cow<'a, str>,
    /// As in [`HasSet`].
    pub directory: Cow<'a, Path>,
    /// What the user typed.
    pub answer: Cow<'a, str>,
    /// The PAM service.
    pub service: Cow<'a, str>,
    /// The remote host, ignored unless the caller is root.
    pub host: Option<Cow<'a, str>>,
    /// The terminal.
    pub tty: Option<Cow<'a, str>>,
}

/// Reply of `Check`.
#[derive(Serialize, Deserialize)]
pub struct CheckReply {
    verdict: Verdict,
    /// The number of an accepted code.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u8>,
    /// How many codes are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<usize>,
}

/// The verdict of `Check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The code is spent, and the login may be accepted.
    Accepted,
    /// The response is not accepted.
    Refused,
    /// The user database has no such account.
    UserUnknown,
    /// Nothing is known; the broker's log has the reason.
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

    /// The proof that the broker has spent a code.
    ///
    /// # Errors
    /// Any other verdict. An acceptance without a code counts as [`Verdict::Unavailable`].
    pub fn into_accepted(self) -> Result<Accepted, Verdict> {
        match (self.verdict, self.number.and_then(CodeNumber::new), self.left) {
            (Verdict::Accepted, Some(number), Some(left)) => Ok(Accepted::by_broker(number, left)),
            (Verdict::Accepted, ..) => Err(Verdict::Unavailable),
            (verdict, ..) => Err(verdict),
        }
    }
}

/// Parameters of `Status` and `Renew`.
#[derive(Serialize, Deserialize)]
pub struct OfUser<'a> {
    /// The account.
    pub user: Cow<'a, str>,
    /// As in [`HasSet`].
    pub directory: Option<Cow<'a, Path>>,
}

/// Reply of `Status`.
#[derive(Serialize, Deserialize)]
pub struct Status {
    /// The id of the set.
    pub set: String,
    /// When it was made, as RFC 3339.
    pub created: String,
    /// How many codes it had when it was made.
    pub total: usize,
    /// How many codes are left.
    pub left: usize,
    /// Whether few are left, by the broker's configuration.
    pub low: bool,
    /// All codes of the set.
    pub codes: Vec<CodeStatus>,
}

/// The status of one code.
#[derive(Serialize, Deserialize)]
pub struct CodeStatus {
    /// Its number.
    pub number: u8,
    /// Whether it can be used.
    pub state: CodeState,
    /// When it was spent, as RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The PAM service of that login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The source of that login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Whether a code can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeState {
    /// It can be used.
    Unspent,
    /// It is used up.
    Spent,
    /// Its entry is damaged and counts as spent.
    Damaged,
}

/// Parameters of `Verify`.
#[derive(Serialize, Deserialize)]
pub struct Verify<'a> {
    /// The account.
    pub user: Cow<'a, str>,
    /// As in [`HasSet`].
    pub directory: Option<Cow<'a, Path>>,
    /// What the user typed.
    pub answer: Cow<'a, str>,
}

/// Reply of `Verify`.
#[derive(Serialize, Deserialize)]
pub struct VerifyReply {
    /// Whether the code would be accepted.
    pub accepted: bool,
    /// After too many failures: until when any code is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Parameters of `Answer`.
#[derive(Serialize, Deserialize)]
pub struct Answer<'a> {
    /// One answer for each prompt of the last messages, in their order.
    pub answers: Vec<Cow<'a, str>>,
}

/// Reply of `Renew` and `Answer`.
#[derive(Serialize, Deserialize)]
pub struct RenewalStep {
    /// The messages of PAM modules.
    pub messages: Vec<Message>,
    /// The new set, once PAM has accepted the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sheet: Option<Sheet>,
}

/// A message of a PAM module.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    /// Its style.
    pub style: Style,
    /// Its text.
    pub text: String,
}

impl Message {
    /// Whether it needs an answer.
    #[must_use]
    pub const fn is_prompt(&self) -> bool {
        matches!(self.style, Style::PromptEchoOff | Style::PromptEchoOn)
    }
}

/// Styles of messages, with PAM's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// A prompt with a hidden answer.
    PromptEchoOff,
    /// A prompt with a visible answer.
    PromptEchoOn,
    /// A text.
    TextInfo,
    /// An error.
    ErrorMsg,
}

/// A new set, to be shown once.
#[derive(Serialize, Deserialize)]
pub struct Sheet {
    /// The name of the machine that accepts its codes.
    pub host: String,
    /// The id of the set.
    pub set: String,
    /// When it was made, as RFC 3339.
    pub created: String,
    /// Its codes as printed on the sheet, in the order of their numbers.
    pub codes: Vec<String>,
}

/// Parameters of `Keep`, and its reply.
#[derive(Serialize, Deserialize)]
pub struct Nothing {}

/// The errors of the interface. `Debug` prints their names as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum ErrorName {
    /// The account has no set.
    NoSet,
    /// The caller may not act for this account.
    NotYours,
    /// The broker uses another directory of sets.
    OtherDirectory,
    /// Nothing is known.
    Unavailable,
    /// PAM refused the renewal.
    Denied,
    /// The call does not fit the state of the renewal.
    OutOfTurn,
    /// The set was replaced after the renewal began.
    Changed,
    /// The new set is in place, but a power cut may restore the old one.
    Unflushed,
}

impl ErrorName {
    /// The error with this full name, if it belongs to this interface.
    #[must_use]
    pub fn of(error: &str) -> Option<Self> {
        let short = error.strip_prefix(INTERFACE)?.strip_prefix('.')?;
        Self::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(short)).ok()
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
    /// The broker's directory.
    pub directory: String,
}

/// Parameters of [`ErrorName::Denied`].
#[derive(Serialize, Deserialize)]
pub struct Denied {
    /// PAM's last messages.
    pub messages: Vec<Message>,
}

/// Parameters of [`ErrorName::Unavailable`].
#[derive(Serialize, Deserialize)]
pub struct Unavailable {
    /// The reason, if the caller is root.
    pub reason: Option<String>,
}
