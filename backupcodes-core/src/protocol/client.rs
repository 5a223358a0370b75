//! The client of the broker, for processes without access to the sets.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::{CallError, Connection, LARGEST, Service, ServiceError};
use super::{Check, ErrorName, HasSet, INTERFACE, Reply, Verdict};
use crate::code::CodeNumber;
use crate::config::Config;
use crate::store::Accepted;
use crate::visible::shown;

const BROKER: Service = Service {
    name: "broker",
    interface: INTERFACE,
    advice: "a program that is not root, or sees the sets read-only, needs it: systemctl enable --now \
             backupcodes-broker.socket, or run backupcodes-broker",
    largest: LARGEST,
};

/// A connection to the broker.
pub struct Broker {
    connection: Connection,
    /// The directory of the sets in this program's configuration.
    directory: PathBuf,
}

impl Broker {
    /// Connects to the broker, which must run as root or as this user.
    ///
    /// # Errors
    /// [`ServiceError`].
    #[inline(never)] // for the module's size
    pub fn connect(config: &Config, patience: Duration) -> Result<Self, ServiceError> {
        let connection = Connection::open(&BROKER, &config.broker, patience)?;
        Ok(Self { connection, directory: config.directory.clone() })
    }

    /// False if it is proven that the user has no set.
    ///
    /// # Errors
    /// [`CallError`].
    #[inline(never)] // for the module's size
    pub fn has_set(&mut self, question: &HasSet<'_>, patience: Duration) -> Result<bool, CallError> {
        self.call("HasSet", question, patience).map(|Reply { has_set, .. }| has_set.unwrap_or(true))
    }

    /// Lets the broker check and spend a code. An acceptance without a code counts as [`Verdict::Unavailable`].
    ///
    /// # Errors
    /// [`CallError`].
    #[inline(never)] // for the module's size
    pub fn check(
        &mut self,
        question: &Check<'_>,
        patience: Duration,
    ) -> Result<Result<Accepted, Verdict>, CallError> {
        let Reply { verdict, number, left, .. } = self.call("Check", question, patience)?;
        let verdict = verdict.unwrap_or(Verdict::Unavailable);
        Ok(match (verdict, number.and_then(CodeNumber::new), left) {
            (Verdict::Accepted, Some(number), Some(left)) => Ok(Accepted::by_broker(number, left)),
            (Verdict::Accepted, ..) => Err(Verdict::Unavailable),
            (verdict, ..) => Err(verdict),
        })
    }

    /// Calls a method and waits for its reply.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn call<P: Serialize, R: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: &P,
        patience: Duration,
    ) -> Result<R, CallError> {
        self.connection.call(method, parameters, patience).map_err(|error| self.named(error))
    }

    /// The error with both directories, if it is that they differ.
    #[inline(never)] // for the module's size
    fn named(&self, error: CallError) -> CallError {
        match (ErrorName::of_call(&error), error.words().directory) {
            (Some(ErrorName::OtherDirectory), Some(directory)) => {
                CallError::Service(ServiceError::OtherDirectory {
                    path: self.connection.path().into(),
                    theirs: shown(&directory),
                    ours: self.directory.as_path().into(),
                })
            }
            _ => error,
        }
    }
}
