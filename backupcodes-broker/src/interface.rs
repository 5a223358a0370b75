//! The methods of `org.backupcodes.Broker`. The text beside this file says what they are for.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use backupcodes_core::account::{Account, AccountError};
use backupcodes_core::config::Config;
use backupcodes_core::hash::HeapMemory;
use backupcodes_core::origin::{Origin, counter_of_unknown_user, normalized_host};
use backupcodes_core::protocol::INTERFACE;
use backupcodes_core::set::State;
use backupcodes_core::store::{FileStore, Store, StoreError};
use backupcodes_core::verify::{Accepted, Refusal, has_no_set};
use backupcodes_core::verify::{Denial, Level, Login, Outcome, Process};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use varlink::{Call, CallTrait, Interface, Reply};

use crate::caller::{Caller, For};
use crate::log::log;
use crate::renewal::Renewal;

/// What a caller may call.
pub(crate) struct Methods {
    config: Config,
    conf: Option<PathBuf>,
    caller: Caller,
    /// The one that is going on.
    renewal: Mutex<Option<Renewal>>,
    /// A connection has one.
    has_begun: AtomicBool,
    /// What costs a caller nothing is logged once, or they could fill the log.
    has_warned: AtomicBool,
}

/// An error of the interface.
pub(crate) enum Error {
    NoSet,
    NotYours,
    /// The caller means the sets of another one than this.
    OtherDirectory,
    /// Why, for root and the log.
    Unavailable(String),
    /// What PAM said.
    Denied(Value),
    /// Not even asked: why, for the log, and what is said.
    Throttled {
        reason: String,
        messages: Value,
    },
    OutOfTurn,
    Changed,
    /// Why, for the log.
    Unflushed(String),
    /// The varlink error for parameters that are none.
    Parameters(String),
}

pub(crate) type MethodResult = Result<Value, Error>;

/// What failures of callers that are not root are counted by, whatever service they say they are: it must not be theirs to
/// make others wait.
const COUNTED_AS: &str = "broker";
/// What delivers notices.
const DELIVERS: &str = "/usr/sbin/backupcodes-admin";

// What is typed stands in the memory of this process, which serves nobody else and is left behind by no core dump.
#[derive(Deserialize)]
struct OfUser {
    user: String,
    directory: Option<PathBuf>,
}

#[derive(Deserialize)]
struct HasSet {
    user: String,
    directory: PathBuf,
}

#[derive(Deserialize)]
struct Answers {
    answers: Vec<String>,
}

#[derive(Deserialize)]
struct Verify {
    user: String,
    directory: Option<PathBuf>,
    answer: String,
}

#[derive(Deserialize)]
struct Check {
    user: String,
    directory: PathBuf,
    answer: String,
    service: String,
    host: Option<String>,
    tty: Option<String>,
}

impl Methods {
    /// With the configuration, and the file that it is from where that is not the usual one.
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
        let Check { user, directory, answer, service, host, tty } = read(parameters)?;
        let account = match self.acts_for(&user, Some(&directory))? {
            For::Account(account) => Some(account),
            For::Nobody => None,
        };
        let is_root = self.caller.is_root();
        let counted_as = match &account {
            _ if !is_root => Some(COUNTED_AS.into()),
            None => Some(counter_of_unknown_user(&service, &user)),
            Some(_) => None,
        };
        let origin = Origin {
            user: account.as_ref().map(|account| account.name.clone()),
            service,
            // Whoever is not root is on this host.
            host: host.filter(|_| is_root).map(normalized_host),
            tty: tty.unwrap_or_default(),
            counted_as,
        };
        let login = Login { config: &self.config, account: account.as_ref(), origin: &origin };
        Ok(match login.attempt(answer.as_bytes(), &ThisProcess) {
            Ok(Accepted { number, left, .. }) => {
                if self.config.notify.spawn {
                    self.start_delivery();
                }
                json!({ "verdict": "accepted", "number": number.get(), "left": left })
            }
            Err(Denial { answer, level, reason }) => {
                log(level, &reason);
                let verdict = match answer {
                    Outcome::Refused => "refused",
                    Outcome::UserUnknown => "user_unknown",
                    Outcome::Unavailable => "unavailable",
                };
                json!({ "verdict": verdict })
            }
        })
    }

    fn has_set(&self, parameters: Value) -> MethodResult {
        let HasSet { user, directory } = read(parameters)?;
        let For::Account(account) = self.acts_for(&user, Some(&directory))? else {
            return Err(Error::NoSet);
        };
        Ok(json!({ "has_set": !has_no_set(&self.store(), &account)? }))
    }

    fn status(&self, parameters: Value) -> MethodResult {
        let account = self.account(parameters)?;
        let set = self.store().read(&account.name)?.ok_or(Error::NoSet)?;
        set.label.judge_owner(&account)?;
        let codes: Vec<_> = set
            .entries()
            .map(|(number, entry)| match &entry.state {
                State::Unspent(_) => json!({ "number": number.get(), "state": "unspent" }),
                State::Damaged => json!({ "number": number.get(), "state": "damaged" }),
                State::Spent(mark) => json!({
                    "number": number.get(),
                    "state": "spent",
                    "time": mark.time.to_string(),
                    "service": mark.service,
                    "source": mark.source,
                }),
            })
            .collect();
        Ok(json!({
            "set": set.label.set,
            "created": set.label.created.to_string(),
            "total": set.total(),
            "left": set.left(),
            "low": set.left() <= self.config.codes.low,
            "codes": codes,
        }))
    }

    fn verify(&self, parameters: Value) -> MethodResult {
        let Verify { user, directory, answer } = read(parameters)?;
        let For::Account(account) = self.acts_for(&user, directory.as_deref())? else {
            return Err(Error::NoSet);
        };
        let origin = Origin {
            user: Some(account.name.clone()),
            service: COUNTED_AS.into(),
            host: None,
            tty: String::new(),
            counted_as: None,
        };
        let login = Login { config: &self.config, account: Some(&account), origin: &origin };
        match login.verify(answer.as_bytes(), &ThisProcess) {
            Ok(()) => Ok(json!({ "accepted": true })),
            Err(Refusal::NoSet) => Err(Error::NoSet),
            Err(Refusal::Throttled(_, wait)) => Ok(json!({ "accepted": false, "refused": wait.to_string() })),
            Err(refusal @ (Refusal::Store(_) | Refusal::Hash(_) | Refusal::Uncounted(_))) => {
                Err(Error::Unavailable(refusal.to_string()))
            }
            Err(_) => Ok(json!({ "accepted": false })),
        }
    }

    fn renew(&self, parameters: Value) -> MethodResult {
        let account = self.account(parameters)?;
        // The thread of another one may still be in a module of PAM's.
        if self.has_begun.swap(true, Ordering::Relaxed) {
            return Err(Error::OutOfTurn);
        }
        let (begun, reply) = Renewal::begin(&self.config, self.conf.as_deref(), account, self.caller)?;
        *self.renewal() = Some(begun);
        Ok(reply)
    }

    fn answer(&self, parameters: Value) -> MethodResult {
        let Answers { answers } = read(parameters)?;
        let mut renewal = self.renewal();
        let (gone_on, reply) = renewal.take().ok_or(Error::OutOfTurn)?.answer(&self.config, answers)?;
        *renewal = Some(gone_on);
        Ok(reply)
    }

    fn keep(&self) -> MethodResult {
        let kept = self.renewal().take().ok_or(Error::OutOfTurn)?.keep(&self.config);
        if self.config.notify.spawn && matches!(kept, Ok(_) | Err(Error::Unflushed(_))) {
            self.start_delivery();
        }
        kept
    }

    fn renewal(&self) -> MutexGuard<'_, Option<Renewal>> {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It goes on when this process has ended.
    fn start_delivery(&self) {
        let mut delivery = Command::new(DELIVERS);
        if let Some(conf) = &self.conf {
            delivery.arg("--config").arg(conf);
        }
        delivery.arg("notify").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Err(error) = delivery.process_group(0).spawn() {
            log(Level::Warning, &format!("a notice stays due: {DELIVERS} cannot be started ({error})"));
        }
    }

    fn account(&self, parameters: Value) -> Result<Account, Error> {
        let OfUser { user, directory } = read(parameters)?;
        match self.acts_for(&user, directory.as_deref())? {
            For::Account(account) => Ok(account),
            For::Nobody => Err(Error::NoSet),
        }
    }

    /// Whom the caller may act for under this name, and with the sets that it means: of those in another directory nothing is known
    /// here, and least of all that somebody has none.
    fn acts_for(&self, user: &str, directory: Option<&Path>) -> Result<For, Error> {
        let found = self.caller.acts_for(user)?.ok_or(Error::NotYours)?;
        match directory {
            Some(directory) if directory != self.config.directory => Err(Error::OtherDirectory),
            _ => Ok(found),
        }
    }

    fn store(&self) -> FileStore {
        FileStore::new(&self.config.directory)
    }

    fn warn_once(&self, line: &str) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            log(Level::Warning, line);
        }
    }

    fn reply(&self, outcome: MethodResult) -> Reply {
        let own = |name: &str, parameters| Reply::error(format!("{INTERFACE}.{name}"), parameters);
        match outcome {
            Ok(parameters) => Reply::parameters(Some(parameters)),
            Err(Error::NoSet) => own("NoSet", None),
            Err(Error::NotYours) => {
                self.warn_once(&format!("uid {} asked for another account", self.caller.uid()));
                own("NotYours", None)
            }
            Err(Error::OtherDirectory) => {
                let directory = self.config.directory.display();
                self.warn_once(&format!(
                    "uid {} asked about sets in another directory than {directory}; its own log says which",
                    self.caller.uid()
                ));
                own("OtherDirectory", Some(json!({ "directory": self.config.directory })))
            }
            Err(Error::Unavailable(reason)) => {
                // Root's questions cost a login each; others' could fill the log.
                if self.caller.is_root() || !self.has_warned.swap(true, Ordering::Relaxed) {
                    log(Level::Error, &reason);
                }
                let reason = Some(reason).filter(|_| self.caller.is_root());
                own("Unavailable", Some(json!({ "reason": reason })))
            }
            Err(Error::Denied(messages)) => own("Denied", Some(json!({ "messages": messages }))),
            Err(Error::Throttled { reason, messages }) => {
                self.warn_once(&reason);
                own("Denied", Some(json!({ "messages": messages })))
            }
            Err(Error::OutOfTurn) => own("OutOfTurn", None),
            Err(Error::Changed) => own("Changed", None),
            Err(Error::Unflushed(reason)) => {
                log(Level::Critical, &reason);
                own("Unflushed", None)
            }
            Err(Error::Parameters(parameter)) => {
                Reply::error("org.varlink.service.InvalidParameter", Some(json!({ "parameter": parameter })))
            }
        }
    }
}

impl Interface for Methods {
    fn get_description(&self) -> &'static str {
        include_str!("org.backupcodes.Broker.varlink")
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
            Some("Answer") => self.answer(parameters),
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

/// The process of one connection: nobody but root can disturb it.
struct ThisProcess;

impl Process for ThisProcess {
    type Memory = HeapMemory;

    fn shielded<T>(&self, f: impl FnOnce() -> T) -> Result<T, String> {
        Ok(f())
    }

    fn log(&self, level: Level, line: &str) {
        log(level, line);
    }
}

fn read<T: DeserializeOwned>(parameters: Value) -> Result<T, Error> {
    // Without serde's sentence, which repeats what was sent.
    serde_json::from_value(parameters).map_err(|_| Error::Parameters("parameters".into()))
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<AccountError> for Error {
    fn from(error: AccountError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
