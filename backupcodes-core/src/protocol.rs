//! What programs and the broker say to each other: the parameters and replies of the varlink interface
//! `org.backupcodes.Broker`. The text of that interface, in the broker, says what each method does.

mod client;

use std::borrow::Cow;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::client::{Broker, BrokerError, CallError};
use crate::code::CodeNumber;
use crate::store::Accepted;

/// The varlink interface.
pub const INTERFACE: &str = "org.backupcodes.Broker";
/// The most bytes of a message, either way. One with a set of 31 long codes has about 4 KiB.
pub const LARGEST: usize = 16 << 10;

/// Parameters of `HasSet`.
#[derive(Serialize, Deserialize)]
pub struct HasSet<'a> {
    /// The account, or a user who does not exist.
    pub user: Cow<'a, str>,
    /// The directory of the sets in the caller's configuration.
    pub directory: Cow<'a, Path>,
}

/// Reply of `HasSet`.
#[derive(Serialize, Deserialize)]
pub struct HasSetReply {
    /// `false`: it is proven that the user has no set.
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
    /// The remote host, believed if the caller is root.
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
    /// How many codes are left after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<usize>,
}

/// What became of a checked code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is spent, and the login may be accepted.
    Accepted,
    /// It is not accepted.
    Refused,
    /// The user database has no such account.
    UserUnknown,
    /// Nothing is known: the broker's log says why.
    Unavailable,
}

impl CheckReply {
    /// The reply for a code that was spent.
    #[must_use]
    pub const fn accepted(accepted: &Accepted) -> Self {
        let (number, left) = (accepted.number().get(), accepted.left());
        Self { verdict: Verdict::Accepted, number: Some(number), left: Some(left) }
    }

    /// The reply for any other.
    #[must_use]
    pub const fn denied(verdict: Verdict) -> Self {
        Self { verdict, number: None, left: None }
    }

    /// What the broker has accepted.
    ///
    /// # Errors
    /// The verdict, if it is another one. A reply that accepts no code in particular counts as [`Verdict::Unavailable`].
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
    /// How many codes it had then.
    pub total: usize,
    /// How many of them can still be used.
    pub left: usize,
    /// Whether these are few, by the host's configuration.
    pub low: bool,
    /// All codes of the set.
    pub codes: Vec<CodeStatus>,
}

/// What became of a code of a set.
#[derive(Serialize, Deserialize)]
pub struct CodeStatus {
    /// Its number.
    pub number: u8,
    /// Whether it can be used.
    pub state: CodeState,
    /// When it was used, as RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// By which PAM service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Whether a code can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeState {
    /// It can.
    Unspent,
    /// It was used.
    Spent,
    /// Its entry is damaged and counts as used.
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
    /// Until when any code is refused, after too many failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Parameters of `Answer`.
#[derive(Serialize, Deserialize)]
pub struct Answer<'a> {
    /// One for each prompt of the last messages, in their order.
    pub answers: Vec<Cow<'a, str>>,
}

/// Reply of `Renew` and `Answer`.
#[derive(Serialize, Deserialize)]
pub struct RenewalStep {
    /// What PAM modules say and ask.
    pub messages: Vec<Message>,
    /// The new set, when PAM has accepted the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sheet: Option<Sheet>,
}

/// What a PAM module says or asks.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    /// Whether it is a prompt.
    pub style: Style,
    /// Its text.
    pub text: String,
}

impl Message {
    /// Whether it wants an answer.
    #[must_use]
    pub const fn is_prompt(&self) -> bool {
        matches!(self.style, Style::PromptEchoOff | Style::PromptEchoOn)
    }
}

/// Styles of messages, as PAM names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// A prompt whose answer is not shown.
    PromptEchoOff,
    /// A prompt whose answer is shown.
    PromptEchoOn,
    /// A text.
    TextInfo,
    /// An error.
    ErrorMsg,
}

/// A new set, to be shown once.
#[derive(Serialize, Deserialize)]
pub struct Sheet {
    /// The host that takes its codes.
    pub host: String,
    /// The id of the set.
    pub set: String,
    /// When it was made, as RFC 3339.
    pub created: String,
    /// Its codes as the sheet shows them, in the order of their numbers.
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
    /// The broker has the sets of another directory.
    OtherDirectory,
    /// Nothing is known.
    Unavailable,
    /// PAM refused the renewal.
    Denied,
    /// Nothing was asked, or something else.
    OutOfTurn,
    /// Somebody else has replaced the set since the renewal began.
    Changed,
    /// The new set is in place, but a power cut may bring the old one back.
    Unflushed,
}

impl ErrorName {
    /// The error of this interface that a reply names.
    #[must_use]
    pub fn of(error: &str) -> Option<Self> {
        let short = error.strip_prefix(INTERFACE)?.strip_prefix('.')?;
        Self::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(short)).ok()
    }

    /// A varlink error as people read it: those of this interface without its name.
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
    /// What PAM said last.
    pub messages: Vec<Message>,
}

/// Parameters of [`ErrorName::Unavailable`].
#[derive(Serialize, Deserialize)]
pub struct Unavailable {
    /// Why, if the caller is root.
    pub reason: Option<String>,
}
