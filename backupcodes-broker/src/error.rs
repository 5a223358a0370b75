//! What a method replies with instead of a result.

use backupcodes_core::protocol::Message;
use serde_json::Value;

/// An error of the interface.
pub(crate) enum Error {
    NoSet,
    NotYours,
    /// The caller means the sets of another directory.
    OtherDirectory,
    /// Why, for root and the log.
    Unavailable(String),
    /// What PAM said.
    Denied(Vec<Message>),
    /// PAM was not asked: why, for the log, and what the user reads.
    Throttled {
        reason: String,
        text: String,
    },
    OutOfTurn,
    Changed,
    /// Why, for the log.
    Unflushed(String),
    /// The varlink error for invalid parameters.
    Parameters(String),
}

/// What a method replies: the parameters, or an error.
pub(crate) type MethodResult = Result<Value, Error>;

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Unavailable(error.to_string())
    }
}
