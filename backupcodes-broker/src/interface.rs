//! The methods of `org.backupcodes.Broker`. The description of the interface, in `protocol` of the core, explains them.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use backupcodes_core::account::Account;
use backupcodes_core::config::Config;
use backupcodes_core::hash::{HeapMemory, Memory};
use backupcodes_core::log::log;
use backupcodes_core::origin::{Origin, counter_of_unknown_user, normalized_host};
use backupcodes_core::protocol::{
    self, Check, CheckReply, CodeState, CodeStatus, Denied, ErrorName, HasSet, HasSetReply, INTERFACE,
    Message, Nothing, OfUser, OtherDirectory, Respond, Status, Style, Unavailable, Verdict, Verify,
    VerifyReply,
};
use backupcodes_core::set::State;
use backupcodes_core::store::{Sets, Store};
use backupcodes_core::verify::{Denial, Level, Login, Outcome, Process, Refusal, has_no_set};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use varlink::{Call, CallTrait, Interface, Reply};

use crate::caller::Caller;
use crate::error::{Error, MethodResult};
use crate::renewal::Renewal;

/// The methods for one caller.
pub(crate) struct Methods {
    config: Config,
    conf: Option<PathBuf>,
    caller: Caller,
    /// The current renewal.
    renewal: Mutex<Option<Renewal>>,
    /// A connection may begin only one renewal.
    has_begun: AtomicBool,
    /// Errors that cost a caller nothing are logged once, so that nobody can fill the log.
    has_warned: AtomicBool,
}

/// The service under which failures of other callers than root are counted, regardless of their claim: they must not be able to
/// delay logins of another service.
const COUNTED_AS: &str = "broker";

impl Methods {
    /// `conf` is the file of the configuration, unless it is the system's.
    pub(crate) fn new(config: Config, conf: Option<PathBuf>, caller: Caller) -> Self {
        Self {
            config,
            conf,
            caller,
            renewal: Mutex::new(None),
            has_begun: AtomicBool::new(false),
            has_warned: AtomicBool::new(false),
        }
    }

    fn check(&self, parameters: Value) -> MethodResult {
        // The code is in the memory of this process, which serves no other caller and leaves no core dump.
        let Check { user, directory, response, service, host, tty } = read(parameters)?;
        let account = self.acts_for(&user, Some(&directory))?;
        let is_root = self.caller.is_root();
        let counted_as = match &account {
            _ if !is_root => Some(COUNTED_AS.into()),
            None => Some(counter_of_unknown_user(&service, &user)),
            Some(_) => None,
        };
        let origin = Origin {
            user: account.as_ref().map(|account| account.name.clone()),
            service: service.into_owned(),
            // Other callers than root are on this machine.
            host: host.filter(|_| is_root).map(Cow::into_owned).map(normalized_host),
            tty: tty.unwrap_or_default().into_owned(),
            counted_as,
        };
        let login = Login { config: &self.config, account: account.as_ref(), origin: &origin };
        let reply = match login.attempt(response.as_bytes(), &ThisProcess) {
            Ok(accepted) => CheckReply::accepted(&accepted),
            Err(Denial { outcome, level, reason }) => {
                log(level, &reason);
                CheckReply::denied(match outcome {
                    Outcome::Refused => Verdict::Refused,
                    Outcome::UserUnknown => Verdict::UserUnknown,
                    Outcome::Unavailable => Verdict::Unavailable,
                })
            }
        };
        reply_with(&reply)
    }

    fn has_set(&self, parameters: Value) -> MethodResult {
        let HasSet { user, directory } = read(parameters)?;
        let account = self.acts_for(&user, Some(&directory))?.ok_or(Error::NoSet)?;
        let has_no_set = has_no_set(&self.store(), &account).map_err(Error::unavailable)?;
        reply_with(&HasSetReply { has_set: !has_no_set })
    }

    fn status(&self, parameters: Value) -> MethodResult {
        let account = self.account(parameters)?;
        let set = self.store().read(&account.name).map_err(Error::unavailable)?.ok_or(Error::NoSet)?;
        set.label.judge_owner(&account).map_err(Error::unavailable)?;
        let codes = set.entries().map(|(number, entry)| {
            let (state, record) = match &entry.state {
                State::Unspent(_) => (CodeState::Unspent, None),
                State::Damaged => (CodeState::Damaged, None),
                State::Spent(record) => (CodeState::Spent, Some(record)),
            };
            CodeStatus {
                number: number.get(),
                state,
                time: record.map(|record| record.time.to_string()),
                service: record.map(|record| record.service.clone()),
                source: record.map(|record| record.source.clone()),
            }
        });
        reply_with(&Status {
            codes: codes.collect(),
            total: set.total(),
            left: set.left(),
            low: set.left() <= self.config.codes.low,
            created: set.label.created.to_string(),
            set: set.label.set,
        })
    }

    fn verify(&self, parameters: Value) -> MethodResult {
        let Verify { user, directory, response } = read(parameters)?;
        let account = self.acts_for(&user, directory.as_deref())?.ok_or(Error::NoSet)?;
        let origin = Origin {
            user: Some(account.name.clone()),
            service: COUNTED_AS.into(),
            host: None,
            tty: String::new(),
            counted_as: None,
        };
        let login = Login { config: &self.config, account: Some(&account), origin: &origin };
        let (accepted, refused) = match login.verify(response.as_bytes(), &ThisProcess) {
            Ok(()) => (true, None),
            Err(Refusal::NoSet) => return Err(Error::NoSet),
            Err(Refusal::Throttled(_, wait)) => (false, Some(wait.to_string())),
            Err(refusal @ (Refusal::Store(_) | Refusal::Hash(_) | Refusal::Uncounted(_))) => {
                return Err(Error::unavailable(refusal));
            }
            Err(_) => (false, None),
        };
        reply_with(&VerifyReply { accepted, refused })
    }

    fn renew(&self, parameters: Value) -> MethodResult {
        let account = self.account(parameters)?;
        // The thread of an earlier renewal may still run a PAM module.
        if self.has_begun.swap(true, Ordering::Relaxed) {
            return Err(Error::OutOfTurn);
        }
        let (renewal, reply) = Renewal::begin(&self.config, self.conf.as_deref(), account, self.caller)?;
        *self.renewal() = Some(renewal);
        reply_with(&reply)
    }

    fn respond(&self, parameters: Value) -> MethodResult {
        let Respond { responses } = read(parameters)?;
        let responses = responses.into_iter().map(Cow::into_owned).collect();
        let mut renewal = self.renewal();
        let (next, reply) = renewal.take().ok_or(Error::OutOfTurn)?.respond(&self.config, responses)?;
        *renewal = Some(next);
        reply_with(&reply)
    }

    fn keep(&self) -> MethodResult {
        self.renewal().take().ok_or(Error::OutOfTurn)?.keep(&self.config)?;
        reply_with(&Nothing {})
    }

    fn renewal(&self) -> MutexGuard<'_, Option<Renewal>> {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account(&self, parameters: Value) -> Result<Account, Error> {
        let OfUser { user, directory } = read(parameters)?;
        self.acts_for(&user, directory.as_deref())?.ok_or(Error::NoSet)
    }

    /// As [`Caller::acts_for`], if the caller uses the same directory of sets. The broker knows nothing about other directories,
    /// and cannot prove that a user has no set there.
    fn acts_for(&self, user: &str, directory: Option<&Path>) -> Result<Option<Account>, Error> {
        let found = self.caller.acts_for(user)?;
        match directory {
            Some(directory) if directory != self.config.directory => Err(Error::OtherDirectory),
            _ => Ok(found),
        }
    }

    fn store(&self) -> Sets {
        Sets::new(&self.config)
    }

    fn warn_once(&self, line: &str) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            log(Level::Warning, line);
        }
    }

    fn reply(&self, result: MethodResult) -> Reply {
        let (name, parameters) = match result {
            Ok(parameters) => return Reply::parameters(Some(parameters)),
            Err(Error::NoSet) => (ErrorName::NoSet, None),
            Err(Error::NotYours) => {
                self.warn_once(&format!("uid {} asked for another account", self.caller.uid()));
                (ErrorName::NotYours, None)
            }
            Err(Error::OtherDirectory) => {
                let directory = self.config.directory.display();
                self.warn_once(&format!(
                    "uid {} asked about sets in another directory than {directory}; the caller's log names it",
                    self.caller.uid()
                ));
                let directory = directory.to_string();
                (ErrorName::OtherDirectory, serde_json::to_value(OtherDirectory { directory }).ok())
            }
            Err(Error::Unavailable(reason)) => {
                // Each call of root belongs to a login; other callers could fill the log.
                if self.caller.is_root() || !self.has_warned.swap(true, Ordering::Relaxed) {
                    log(Level::Error, &reason);
                }
                let reason = Some(reason).filter(|_| self.caller.is_root());
                (ErrorName::Unavailable, serde_json::to_value(Unavailable { reason }).ok())
            }
            Err(Error::Denied(messages)) => {
                (ErrorName::Denied, serde_json::to_value(Denied { messages }).ok())
            }
            Err(Error::NotBegun { reason, text }) => {
                self.warn_once(&reason);
                let messages = vec![Message { style: Style::ErrorMsg, text }];
                (ErrorName::Denied, serde_json::to_value(Denied { messages }).ok())
            }
            Err(Error::OutOfTurn) => (ErrorName::OutOfTurn, None),
            Err(Error::Changed) => (ErrorName::Changed, None),
            Err(Error::Unflushed(reason)) => {
                log(Level::Critical, &reason);
                (ErrorName::Unflushed, None)
            }
            Err(Error::Unknown(reason)) => {
                log(Level::Critical, &reason);
                (ErrorName::Unknown, None)
            }
            Err(Error::Parameters(parameter)) => {
                let parameters = Some(json!({ "parameter": parameter }));
                return Reply::error("org.varlink.service.InvalidParameter", parameters);
            }
        };
        Reply::error(format!("{INTERFACE}.{name:?}"), parameters)
    }
}

impl Interface for Methods {
    fn get_description(&self) -> &'static str {
        protocol::DESCRIPTION
    }

    fn get_name(&self) -> &'static str {
        INTERFACE
    }

    fn call(&self, call: &mut Call<'_>) -> varlink::Result<()> {
        let Some(request) = call.get_request() else { return Ok(()) };
        let method = request.method.to_string();
        let parameters = request.parameters.clone().unwrap_or_else(|| json!({}));
        let outcome = match method.rsplit('.').next() {
            Some("Check") => self.check(parameters),
            Some("HasSet") => self.has_set(parameters),
            Some("Status") => self.status(parameters),
            Some("Verify") => self.verify(parameters),
            Some("Renew") => self.renew(parameters),
            Some("Respond") => self.respond(parameters),
            Some("Keep") => self.keep(),
            _ => return call.reply_method_not_found(method),
        };
        let reply = self.reply(outcome);
        if call.is_oneway() { Ok(()) } else { call.reply_struct(reply) }
    }

    fn call_upgraded(&self, _: &mut Call<'_>, _: &mut dyn std::io::BufRead) -> varlink::Result<Vec<u8>> {
        Ok(Vec::new())
    }
}

/// The process of one connection: only root can disturb it.
struct ThisProcess;

impl Process for ThisProcess {
    fn memory(&self) -> Box<dyn Memory> {
        Box::<HeapMemory>::default()
    }

    fn shielded(&self, f: &mut dyn FnMut()) -> Result<(), String> {
        f();
        Ok(())
    }

    fn log(&self, level: Level, line: &str) {
        log(level, line);
    }
}

fn reply_with(reply: &impl Serialize) -> MethodResult {
    serde_json::to_value(reply).map_err(Error::unavailable)
}

fn read<T: DeserializeOwned>(parameters: Value) -> Result<T, Error> {
    // Serde's message would repeat the parameters.
    serde_json::from_value(parameters).map_err(|_| Error::Parameters("parameters".into()))
}
