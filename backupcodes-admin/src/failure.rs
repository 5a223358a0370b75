//! How a command ends.

use backupcodes_core::account::AccountError;
use backupcodes_core::config::ConfigError;
use backupcodes_core::files::FileError;
use backupcodes_core::hash::{CreateError, HashError};
use backupcodes_core::protocol::{BrokerError, CallError, ErrorName};
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
    /// The answer is no: exit status 1.
    No,
}

impl Outcome {
    /// No, if one of both is.
    pub(crate) fn and(self, other: Self) -> Self {
        if self == Self::Done { other } else { self }
    }
}

/// Why a command could not do its work: exit status 3.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the process cannot be kept out of core dumps ({0}); it does not go on with codes in memory")]
    Dumpable(Errno),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Accounts(#[from] AccountError),
    #[error("{user}: no such user in the user database; see that the name is right: getent passwd {user}")]
    NoUser { user: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    OwnerMismatch(#[from] OwnerMismatch),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    #[error("the sheet cannot be printed ({error}); the old set of {user} is as it was")]
    NotShown { user: String, error: std::io::Error },
    #[error("{user}: no code of set {set} works: {why}")]
    OfNobody { user: String, set: String, why: String },
    #[error(
        "{user} has {left} unspent codes (set {set}), which a new set makes worthless; nothing was done; \
         to replace them without being asked: --yes"
    )]
    WouldReplace { user: String, set: String, left: usize },
    #[error("the new set of {user} could not be put in place ({error}); {sheet} IS WORTHLESS, throw it away")]
    SheetIsDead { user: String, error: Box<ReplaceError>, sheet: String },
    #[error("{group}: no such group in the user database; see that the name is right: getent group {group}")]
    NoGroup { group: String },
    #[error("the user database cannot be asked for a group ({0}); see nsswitch.conf(5)")]
    Groups(Errno),
    #[error("the {0}; give names, or a line each on standard input: -")]
    Unlisted(#[from] Unlisted),
    #[error(
        "{path}: {found}; expected a directory that nobody else can write; name another, or one that is not there yet",
        path = .path.display()
    )]
    Sheets { path: std::path::PathBuf, found: String },
    #[error(
        "{count} of {total} sets have no account any more: {names}; nothing was done; to remove them without being asked: --yes"
    )]
    WouldPurge { count: usize, total: usize, names: String },
    #[error(
        "{count} of {total} sets have no account any more: {names}; that is more than half, and the user database may be out of \
         reach; nothing was done; where they are gone indeed, do it without --yes, or for each: backupcodes-admin revoke USER"
    )]
    TooManyGone { count: usize, total: usize, names: String },
    #[error(
        "{count} of {total} sets have no account any more: {names}; accounts here may be of a directory service (passwd in \
         /etc/nsswitch.conf), and where it cannot be reached, it looks like this; nothing was done; where they are gone indeed, do \
         it without --yes, or for each: backupcodes-admin revoke USER"
    )]
    NotAllLocal { count: usize, total: usize, names: String },
    #[error(
        "standard output leads nowhere, and a sheet is shown once; give it a place, or write files: --output DIR"
    )]
    Nowhere,
    #[error(
        "standard output is a file that others can read (mode {0:04o}), and codes are written to it; begin with `umask 077`, or \
         write files: --output DIR"
    )]
    OpenFile(u32),
    #[error("signals cannot be handled ({0})")]
    Signals(std::io::Error),
    #[error(
        "stopped {after}: {over} of {total} users are over with, the others as they were; {go_on}",
        after = .last.as_ref().map_or_else(|| "before the first new set".into(), |last| format!("behind {last}"))
    )]
    Interrupted { over: usize, total: usize, last: Option<String>, go_on: String },
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error("no random bytes from the kernel ({0}); no codes can be made")]
    Random(SysError),
    #[error("the user database does not say who this is ({0}); expected an account for this uid: id")]
    Whoami(Errno),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(
        "the broker cannot do it now ({0}); its log says more to the administrator of this host: journalctl -t backupcodes-broker"
    )]
    Refused(String),
    #[error(
        "the broker cannot go on ({0}); your codes are as they were, but for one that was asked for and typed; its log says \
         more to the administrator of this host: journalctl -t backupcodes-broker"
    )]
    Broken(String),
    #[error("not an answer of the broker ({0}); are backupcodes and broker of one version?")]
    Garbled(String),
    #[error(
        "the sheet cannot be printed ({0}); your codes are as they were, but for one that was asked for and typed"
    )]
    NotRenewed(std::io::Error),
    #[error(
        "the broker waits no longer: there are five minutes for each answer; nothing is renewed, but a code that was typed may be \
         used up; to begin anew: backupcodes renew"
    )]
    TooLate,
    #[error(
        "the new set could not be put in place (the broker says {0}); THE SHEET ABOVE IS WORTHLESS, throw it away; your \
         other codes are as they were, and the broker's log says more to the administrator of this host"
    )]
    NotKept(String),
    #[error(
        "somebody else has changed your set meanwhile; THE SHEET ABOVE IS WORTHLESS, throw it away, and see: backupcodes status"
    )]
    Overtaken,
    #[error(
        "the new set is in place, but a power cut may bring the old one back: keep both sheets, and do it again; the broker's \
         log says more to the administrator of this host"
    )]
    Unflushed,
    #[error(
        "{failure}; KEEP BOTH SHEETS: the one above works if backupcodes status shows set {set}, else the old one does"
    )]
    Unsure { set: String, failure: Box<Self> },
    #[error("the answer cannot be read ({0}); type it at a terminal, or give it on standard input")]
    Input(std::io::Error),
    #[error("the result cannot be written ({0}); see that there is room and a reader for standard output")]
    Output(std::io::Error),
    #[error("{0} notices could not be delivered, or looked for, as told above")]
    Undelivered(usize),
    #[error("{failed} of {total} users failed, as told above; the others are done")]
    Some { failed: usize, total: usize },
}

impl Failure {
    /// Of an answer that came when the broker waited for it no longer.
    pub(crate) fn in_time(self) -> Self {
        match self {
            Self::Broker(BrokerError::NoReply { errno: Errno::EPIPE | Errno::ECONNRESET, .. }) => {
                Self::TooLate
            }
            other => other,
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Broker(error) => Self::Broker(error),
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
