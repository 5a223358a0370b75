//! How a command ends.

use backupcodes_core::account::AccountError;
use backupcodes_core::config::ConfigError;
use backupcodes_core::files::FileError;
use backupcodes_core::hash::{CreateError, HashError};
use backupcodes_core::protocol::{CallError, ErrorName, ServiceError};
use backupcodes_core::set::OwnerMismatch;
use backupcodes_core::store::{ReplaceError, StoreError};
use nix::errno::Errno;
use rand::rngs::SysError;

use crate::accounts::Unlisted;

/// How a command ends that could do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Exit status 0.
    Done,
    /// A negative result: exit status 1.
    No,
}

impl Outcome {
    /// No, if one of both is no.
    pub(crate) fn and(self, other: Self) -> Self {
        if self == Self::Done { other } else { self }
    }
}

/// Why a command could not do its work: exit status 3.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("core dumps cannot be turned off ({0}); the program stops before it reads a code")]
    Dumpable(Errno),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Accounts(#[from] AccountError),
    #[error("{user}: no such user in the user database; check the name: getent passwd {user}")]
    NoUser { user: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    OwnerMismatch(#[from] OwnerMismatch),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    #[error("the sheet cannot be printed ({error}); the old set of {user} is unchanged")]
    NotShown { user: String, error: std::io::Error },
    #[error("{user}: no code of set {set} works: {why}")]
    OfNobody { user: String, set: String, why: String },
    #[error(
        "{user} has {left} unspent codes (set {set}), and a new set ends them; nothing was done; to replace them without a question: \
         --yes"
    )]
    WouldReplace { user: String, set: String, left: usize },
    #[error("the new set of {user} was not saved ({error}); {sheet} IS WORTHLESS, throw it away")]
    SheetIsDead { user: String, error: Box<ReplaceError>, sheet: String },
    #[error("{group}: no such group in the user database; check the name: getent group {group}")]
    NoGroup { group: String },
    #[error("groups cannot be read from the user database ({0}); see nsswitch.conf(5)")]
    Groups(Errno),
    #[error("the {0}; give names as arguments, or one a line on standard input: -")]
    Unlisted(#[from] Unlisted),
    #[error(
        "{path}: {found}; expected a directory that nobody else can write; name another, or one that does not exist yet",
        path = .path.display()
    )]
    Sheets { path: std::path::PathBuf, found: String },
    #[error(
        "{count} of {total} sets have no account: {names}; nothing was done; to remove them without a question: --yes"
    )]
    WouldPurge { count: usize, total: usize, names: String },
    #[error(
        "{count} of {total} sets have no account: {names}; that is more than half, and the user database may be out of reach; \
         nothing was done; if the accounts are gone, run it without --yes, or for each: backupcodes-admin revoke USER"
    )]
    TooManyGone { count: usize, total: usize, names: String },
    #[error(
        "{count} of {total} sets have no account: {names}; accounts may come from a directory service (passwd in \
         /etc/nsswitch.conf) that cannot be reached now; nothing was done; if the accounts are gone, run it without --yes, or for \
         each: backupcodes-admin revoke USER"
    )]
    NotAllLocal { count: usize, total: usize, names: String },
    #[error(
        "standard output is /dev/null, and a sheet is shown once; send it elsewhere, or write files: --output DIR"
    )]
    Nowhere,
    #[error(
        "standard output is a file that others can read (mode {0:04o}); run `umask 077` first, or write files: --output DIR"
    )]
    OpenFile(u32),
    #[error("this host shares no sets: fleet.endpoints is empty; see backupcodes.conf(5)")]
    NoFleet,
    #[error("/usr/sbin/backupcodes-fleet cannot be started ({0}); install the package backupcodes-fleet")]
    FleetProgram(std::io::Error),
    #[error("backupcodes-fleet failed ({0}), see above; fix that, and run the same command again")]
    FleetSetUp(std::process::ExitStatus),
    #[error("{0} has no set on this host; nothing was done; see: backupcodes-admin status {0}")]
    NotOnHost(String),
    #[error("all sets of the fleet would end; nothing was done; to end them: --yes")]
    WouldEndAll,
    #[error("signals cannot be handled ({0})")]
    Signals(std::io::Error),
    #[error(
        "stopped {after}: {over} of {total} users are done, the others are unchanged; {go_on}",
        after = .last.as_ref().map_or_else(|| "before the first new set".into(), |last| format!("after {last}"))
    )]
    Interrupted { over: usize, total: usize, last: Option<String>, go_on: String },
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error("the kernel gives no random bytes ({0}); no codes can be made")]
    Random(SysError),
    #[error("the user database has no account for this uid ({0}); check it: id")]
    Whoami(Errno),
    #[error(transparent)]
    Broker(#[from] ServiceError),
    #[error(
        "the broker failed ({0}); the administrator finds more in its log: journalctl -t backupcodes-broker"
    )]
    Refused(String),
    #[error(
        "the renewal failed ({0}); your codes are unchanged, except for a code that you typed; the administrator finds more in the \
         broker's log: journalctl -t backupcodes-broker"
    )]
    Broken(String),
    #[error(
        "the broker's reply cannot be read ({0}); check that backupcodes and the broker have the same version"
    )]
    Garbled(String),
    #[error("the sheet cannot be printed ({0}); your codes are unchanged, except for a code that you typed")]
    NotRenewed(std::io::Error),
    #[error(
        "the broker waited five minutes for your response and stopped; nothing is renewed, but a code that you typed may be used \
         up; to start again: backupcodes renew"
    )]
    TooLate,
    #[error(
        "the new set was not saved (the broker says {0}); THE SHEET ABOVE IS WORTHLESS, throw it away; your other codes are \
         unchanged, and the administrator finds more in the broker's log"
    )]
    NotKept(String),
    #[error(
        "your set was changed in the meantime; THE SHEET ABOVE IS WORTHLESS, throw it away, and look: backupcodes status"
    )]
    Overtaken,
    #[error(
        "the new set is saved, but a power cut may bring the old one back: keep both sheets, and renew again; the administrator \
         finds more in the broker's log"
    )]
    Unflushed,
    #[error("the fleet has not replied")]
    NoReplyOfFleet,
    #[error(
        "{failure}; KEEP BOTH SHEETS: the one above works if backupcodes status shows set {set}, else the old one does"
    )]
    Unsure { set: String, failure: Box<Self> },
    #[error("the response cannot be read ({0}); type it at a terminal, or give it on standard input")]
    Input(std::io::Error),
    #[error("the result cannot be written ({0}); check that standard output has room and a reader")]
    Output(std::io::Error),
    #[error("{0} notices were not delivered or could not be read, see above")]
    Undelivered(usize),
    #[error("{failed} of {total} users failed, see above; the others are done")]
    Some { failed: usize, total: usize },
}

impl Failure {
    /// The failure of a response that came after the broker had stopped waiting for it.
    pub(crate) fn in_time(self) -> Self {
        match self {
            Self::Broker(ServiceError::NoReply { errno: Errno::EPIPE | Errno::ECONNRESET, .. }) => {
                Self::TooLate
            }
            other => other,
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Service(error) => Self::Broker(error),
            CallError::Replied { error, .. } => Self::Refused(ErrorName::shortened(&error).into()),
        }
    }
}

impl From<CreateError<SysError>> for Failure {
    fn from(error: CreateError<SysError>) -> Self {
        match error {
            CreateError::Random(error) => Self::Random(error),
            CreateError::Hash(error) => Self::Hash(error),
        }
    }
}
