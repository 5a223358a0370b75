//! The methods of `org.backupcodes.Store`. The description of the interface, in `protocol` of the core, explains
//! them.

use std::sync::Arc;

use backupcodes_core::code::CodeNumber;
use backupcodes_core::log::log;
use backupcodes_core::protocol::fleet::{
    DESCRIPTION, DueReply, ErrorName, INTERFACE, NamesReply, Nothing, Notified, Read, ReadReply, Readdress,
    Replace, Restored, Spend, SpendReply, UnprovenReply,
};
use backupcodes_core::set::{CodeSet, SpentRecord};
use backupcodes_core::verify::Level;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::time::Instant;
use varlink::{Call, CallTrait, Interface, Reply};

use crate::sets::{Sets, SetsError, Text};

/// The methods for one call, in a thread that may wait.
pub(crate) struct Methods {
    pub(crate) sets: Arc<Sets>,
    pub(crate) runtime: Handle,
    /// When the call has to be over, with all that it asks of the store.
    pub(crate) deadline: Instant,
}

/// Why a method has no result.
enum Error {
    Sets(SetsError),
    /// A parameter is missing or has another type.
    Parameter(&'static str),
}

type MethodResult = Result<Value, Error>;

impl Methods {
    async fn read(&self, parameters: Value) -> MethodResult {
        let Read { user, uid } = read(parameters)?;
        let Text { text, revision, names } = self.sets.read(&user, uid, self.deadline).await?;
        let (set, unproven) = text.map_or_else(|error| (None, Some(error.to_string())), |set| (set, None));
        reply_with(&ReadReply { set, unproven, revision, names })
    }

    async fn list(&self) -> MethodResult {
        reply_with(&NamesReply { users: self.sets.users(self.deadline).await? })
    }

    async fn list_unproven(&self) -> MethodResult {
        let (users, others) = self.sets.unproven(self.deadline).await?;
        reply_with(&UnprovenReply { users, others })
    }

    async fn spend(&self, parameters: Value) -> MethodResult {
        let Spend { user, number, hash, record } = read(parameters)?;
        let number = CodeNumber::new(number).ok_or(Error::Parameter("number"))?;
        let record = SpentRecord::parse(&record).ok_or(Error::Parameter("record"))?;
        let (set, left) = self.sets.spend(&user, number, &hash, &record, self.deadline).await?;
        reply_with(&SpendReply { set, left })
    }

    async fn replace(&self, parameters: Value) -> MethodResult {
        let Replace { user, expected, revision, new, from } = read(parameters)?;
        let new = new.map(|text| CodeSet::parse(&text)).transpose().map_err(|_| Error::Parameter("new"))?;
        if new.as_ref().map_or(from.is_some(), |new| new.label.user != user) {
            return Err(Error::Parameter("new"));
        }
        let (expected, from) = (expected.as_deref(), from.as_deref());
        self.sets.replace(&user, expected, revision, new.as_ref(), from, self.deadline).await?;
        reply_with(&Nothing {})
    }

    async fn may_replace(&self) -> MethodResult {
        self.sets.prove_may_replace(self.deadline).await?;
        reply_with(&Nothing {})
    }

    async fn readdress(&self, parameters: Value) -> MethodResult {
        let Readdress { user, set, revision, email } = read(parameters)?;
        let email: Vec<_> = email.into_iter().map(std::borrow::Cow::into_owned).collect();
        self.sets.readdress(&user, &set, revision, &email, self.deadline).await?;
        reply_with(&Nothing {})
    }

    async fn restored(&self, parameters: Value) -> MethodResult {
        let Restored { time } = read(parameters)?;
        self.sets.restored(time, self.deadline).await?;
        reply_with(&Nothing {})
    }

    async fn status(&self) -> MethodResult {
        reply_with(&self.sets.status(self.deadline).await)
    }

    async fn due(&self) -> MethodResult {
        reply_with(&DueReply { notices: self.sets.due(self.deadline).await? })
    }

    async fn notified(&self, parameters: Value) -> MethodResult {
        let Notified { user, set, number } = read(parameters)?;
        let number = CodeNumber::new(number).ok_or(Error::Parameter("number"))?;
        self.sets.notified(&user, &set, number, self.deadline).await?;
        reply_with(&Nothing {})
    }
}

impl Interface for Methods {
    fn get_description(&self) -> &'static str {
        DESCRIPTION
    }

    fn get_name(&self) -> &'static str {
        INTERFACE
    }

    fn call(&self, call: &mut Call<'_>) -> varlink::Result<()> {
        let Some(request) = call.get_request() else { return Ok(()) };
        let method = request.method.to_string();
        let parameters = request.parameters.clone().unwrap_or_else(|| json!({}));
        let result = match method.rsplit('.').next() {
            Some("Read") => self.runtime.block_on(self.read(parameters)),
            Some("List") => self.runtime.block_on(self.list()),
            Some("ListUnproven") => self.runtime.block_on(self.list_unproven()),
            Some("Spend") => self.runtime.block_on(self.spend(parameters)),
            Some("Replace") => self.runtime.block_on(self.replace(parameters)),
            Some("MayReplace") => self.runtime.block_on(self.may_replace()),
            Some("Readdress") => self.runtime.block_on(self.readdress(parameters)),
            Some("Restored") => self.runtime.block_on(self.restored(parameters)),
            Some("Status") => self.runtime.block_on(self.status()),
            Some("Due") => self.runtime.block_on(self.due()),
            Some("Notified") => self.runtime.block_on(self.notified(parameters)),
            _ => return call.reply_method_not_found(method),
        };
        let reply = reply(result);
        if call.is_oneway() { Ok(()) } else { call.reply_struct(reply) }
    }

    fn call_upgraded(&self, _: &mut Call<'_>, _: &mut dyn std::io::BufRead) -> varlink::Result<Vec<u8>> {
        Ok(Vec::new())
    }
}

impl From<SetsError> for Error {
    fn from(error: SetsError) -> Self {
        Self::Sets(error)
    }
}

fn reply(result: MethodResult) -> Reply {
    let error = match result {
        Ok(parameters) => return Reply::parameters(Some(parameters)),
        Err(Error::Parameter(parameter)) => {
            let parameters = Some(json!({ "parameter": parameter }));
            return Reply::error("org.varlink.service.InvalidParameter", parameters);
        }
        Err(Error::Sets(error)) => error,
    };
    let (name, level) = match &error {
        SetsError::Changed => (ErrorName::Changed, Level::Debug),
        SetsError::Unknown(_) => (ErrorName::Unknown, Level::Critical),
        SetsError::NotPermitted(_) | SetsError::CannotSign(_) => (ErrorName::NotPermitted, Level::Error),
        SetsError::WentBack(_) => (ErrorName::WentBack, Level::Critical),
        SetsError::Unavailable(_) | SetsError::TooLarge(_) | SetsError::Unproven(_) => {
            (ErrorName::Unavailable, Level::Error)
        }
    };
    let reason = error.to_string();
    log(level, &reason);
    let parameters = if name == ErrorName::Changed { None } else { Some(json!({ "reason": reason })) };
    Reply::error(format!("{INTERFACE}.{name:?}"), parameters)
}

fn reply_with(reply: &impl Serialize) -> MethodResult {
    serde_json::to_value(reply).map_err(|error| Error::Sets(SetsError::Unavailable(error.to_string())))
}

fn read<T: DeserializeOwned>(parameters: Value) -> Result<T, Error> {
    // Serde's message would repeat the parameters.
    serde_json::from_value(parameters).map_err(|_| Error::Parameter("parameters"))
}
