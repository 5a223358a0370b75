//! What a method replies with instead of a result.

use backupcodes_core::account::AccountError;
use backupcodes_core::files::FileError;
use backupcodes_core::protocol::Message;
use backupcodes_core::set::Stale;
use backupcodes_core::store::StoreError;
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

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<Stale> for Error {
    fn from(error: Stale) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<AccountError> for Error {
    fn from(error: AccountError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
