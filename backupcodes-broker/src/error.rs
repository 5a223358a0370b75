//! Errors of methods.

use std::fmt::Display;

use backupcodes_core::protocol::Message;
use serde_json::Value;

/// An error of the interface; see its description.
pub(crate) enum Error {
    NoSet,
    NotYours,
    OtherDirectory,
    /// The reason, for root and the log.
    Unavailable(String),
    /// PAM's last messages.
    Denied(Vec<Message>),
    /// PAM did not run: the reason for the log, and the text for the user.
    NotBegun {
        reason: String,
        text: String,
    },
    OutOfTurn,
    Changed,
    /// The reason, for the log.
    Unflushed(String),
    /// The same.
    Unknown(String),
    /// The varlink error for invalid parameters.
    Parameters(String),
}

/// The reply of a method: parameters or an error.
pub(crate) type MethodResult = Result<Value, Error>;

impl Error {
    /// For an error that the caller can do nothing about.
    pub(crate) fn unavailable(error: impl Display) -> Self {
        Self::Unavailable(error.to_string())
    }
}
