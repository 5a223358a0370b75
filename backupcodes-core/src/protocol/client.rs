//! A connection to the broker, for processes without access to the sets. The protocol is varlink: JSON messages, each followed
//! by a NUL, over a UNIX socket.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, recv, send, socket,
};
use nix::unistd::geteuid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Check, CheckReply, ErrorName, HasSet, HasSetReply, INTERFACE, LARGEST, OtherDirectory, Verdict};
use crate::code::CodeNumber;
use crate::config::Config;
use crate::files::lock::{Deadline, PAUSE};
use crate::files::trust::ShownPath;
use crate::store::Accepted;
use crate::visible::shown;

/// A connection to the broker.
pub struct Broker {
    path: PathBuf,
    /// The directory of the sets in this program's configuration.
    directory: PathBuf,
    socket: OwnedFd,
    /// Received bytes after the last message.
    rest: Zeroizing<Vec<u8>>,
}

/// The broker cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It does not listen.
    #[error(
        "{path}: no broker ({errno}); a program that is not root, or sees the sets read-only, needs it: \
         systemctl enable --now backupcodes-broker.socket, or run backupcodes-broker"
    )]
    Absent {
        /// The socket.
        path: ShownPath,
        /// The error of the system call.
        errno: Errno,
    },
    /// It belongs to another user.
    #[error("{path}: the broker runs with uid {uid}; expected root; check the owner of its directory")]
    NotRoot {
        /// The socket.
        path: ShownPath,
        /// Its uid.
        uid: u32,
    },
    /// It does not reply.
    #[error("{path}: the broker does not reply ({errno}); see its log: journalctl -u backupcodes-broker")]
    NoReply {
        /// The socket.
        path: ShownPath,
        /// The error of the system call.
        errno: Errno,
    },
    /// Its message is not a valid reply.
    #[error("{path}: not a reply of the broker ({reason}); install the same version of both")]
    InvalidReply {
        /// The socket.
        path: ShownPath,
        /// What is wrong with the message.
        reason: String,
    },
    /// It uses another directory of sets, and so knows nothing about the sets of this program.
    #[error(
        "{path}: the broker looks for sets in {theirs}, this program in {ours}; expected one directory: give both the same \
         configuration file (conf= of the module, --config of programs), or set `broker` to the socket of another broker"
    )]
    OtherDirectory {
        /// The socket.
        path: ShownPath,
        /// The broker's directory.
        theirs: String,
        /// The directory in this program's configuration.
        ours: ShownPath,
    },
}

/// A call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The broker cannot be used.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The broker replied with an error.
    #[error("the broker says {error}; see its log", error = shown(.error))]
    Replied {
        /// The varlink error.
        error: String,
        /// The whole reply.
        reply: Zeroizing<Vec<u8>>,
    },
}

impl CallError {
    /// The error of the interface that the broker replied with.
    #[must_use]
    pub fn name(&self) -> Option<ErrorName> {
        match self {
            Self::Replied { error, .. } => ErrorName::of(error),
            Self::Broker(_) => None,
        }
    }

    /// The parameters of that error, if they have the type `P`.
    #[must_use]
    pub fn parameters<P: DeserializeOwned>(&self) -> Option<P> {
        match self {
            Self::Replied { reply, .. } => parameters_of(reply).ok(),
            Self::Broker(_) => None,
        }
    }
}

#[derive(Serialize)]
struct Call<'a, P> {
    method: String,
    parameters: &'a P,
}

#[derive(Deserialize)]
struct ErrorOf {
    error: Option<String>,
}

#[derive(Deserialize)]
struct ParametersOf<P> {
    parameters: P,
}

fn parameters_of<P: DeserializeOwned>(reply: &[u8]) -> serde_json::Result<P> {
    serde_json::from_slice(reply).map(|ParametersOf { parameters }| parameters)
}

impl Broker {
    /// Connects to the broker, which must run as root or as this user.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub fn connect(config: &Config, patience: Duration) -> Result<Self, BrokerError> {
        let path = config.broker.as_path();
        let absent = |errno| BrokerError::Absent { path: path.into(), errno };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(absent)?;
        let address = UnixAddr::new(path).map_err(absent)?;
        let deadline = Deadline::after(patience);
        // EAGAIN: the queue of the socket is full.
        while let Err(errno) = connect(socket.as_raw_fd(), &address) {
            if errno != Errno::EAGAIN || !deadline.wait(PAUSE) {
                return Err(absent(errno));
            }
        }
        let uid = getsockopt(&socket, PeerCredentials).map_err(absent)?.uid();
        if uid != 0 && uid != geteuid().as_raw() {
            return Err(BrokerError::NotRoot { path: path.into(), uid });
        }
        let directory = config.directory.clone();
        Ok(Self { path: path.into(), directory, socket, rest: Zeroizing::default() })
    }

    /// False if it is proven that the user has no set.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn has_set(&mut self, question: &HasSet<'_>, patience: Duration) -> Result<bool, CallError> {
        self.call("HasSet", question, patience).map(|HasSetReply { has_set }| has_set)
    }

    /// Lets the broker check and spend a code. An acceptance without a code counts as [`Verdict::Unavailable`].
    ///
    /// # Errors
    /// [`CallError`].
    pub fn check(
        &mut self,
        question: &Check<'_>,
        patience: Duration,
    ) -> Result<Result<Accepted, Verdict>, CallError> {
        let CheckReply { verdict, number, left } = self.call("Check", question, patience)?;
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
        // Reserved in full, so that growing leaves no copy in memory.
        let mut message = Zeroizing::new(Vec::with_capacity(LARGEST));
        let call = Call { method: format!("{INTERFACE}.{method}"), parameters };
        serde_json::to_writer(&mut *message, &call).map_err(|error| self.invalid_reply(&error))?;
        let reply = self.exchange(message, patience)?;
        Ok(parameters_of(&reply).map_err(|error| self.invalid_reply(&error))?)
    }

    /// Sends a message and waits for a reply that is no error.
    fn exchange(
        &mut self,
        mut message: Zeroizing<Vec<u8>>,
        patience: Duration,
    ) -> Result<Zeroizing<Vec<u8>>, CallError> {
        message.push(0);
        self.send(&message, patience)?;
        let reply = self.receive(patience)?;
        let ErrorOf { error } = serde_json::from_slice(&reply).map_err(|error| self.invalid_reply(&error))?;
        match error {
            None => Ok(reply),
            Some(error) => Err(self.replied(error, reply)),
        }
    }

    fn replied(&self, error: String, reply: Zeroizing<Vec<u8>>) -> CallError {
        if ErrorName::of(&error) == Some(ErrorName::OtherDirectory) {
            if let Ok(OtherDirectory { directory }) = parameters_of(&reply) {
                return CallError::Broker(BrokerError::OtherDirectory {
                    path: self.path.as_path().into(),
                    theirs: shown(&directory),
                    ours: self.directory.as_path().into(),
                });
            }
        }
        CallError::Replied { error, reply }
    }

    fn send(&self, mut message: &[u8], patience: Duration) -> Result<(), BrokerError> {
        let deadline = Deadline::after(patience);
        while !message.is_empty() {
            // No SIGPIPE for the application.
            match send(self.socket.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL) {
                Ok(sent) => message = message.get(sent..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT, deadline)?,
                Err(errno) => return Err(self.no_reply(errno)),
            }
        }
        Ok(())
    }

    /// Receives one message, without its NUL.
    fn receive(&mut self, patience: Duration) -> Result<Zeroizing<Vec<u8>>, BrokerError> {
        let deadline = Deadline::after(patience);
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == 0) {
                let message = Zeroizing::new(self.rest.get(..end).unwrap_or_default().to_vec());
                self.rest.drain(..=end);
                return Ok(message);
            }
            let mut piece = Zeroizing::new([0; 4096]);
            match recv(self.socket.as_raw_fd(), piece.as_mut_slice(), MsgFlags::empty()) {
                Ok(0) => return Err(self.no_reply(Errno::ECONNRESET)),
                Ok(length) if self.rest.len().saturating_add(length) <= LARGEST => {
                    // Reserved in full, so that growing leaves no copy in memory.
                    let room = LARGEST.saturating_sub(self.rest.len());
                    self.rest.reserve_exact(room);
                    self.rest.extend_from_slice(piece.get(..length).unwrap_or_default());
                }
                Ok(_) => return Err(self.invalid_reply(&format_args!("more than {LARGEST} bytes"))),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLIN, deadline)?,
                Err(errno) => return Err(self.no_reply(errno)),
            }
        }
    }

    fn wait(&self, what: PollFlags, deadline: Deadline) -> Result<(), BrokerError> {
        let left = deadline.left();
        let timeout = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), what)], timeout) {
            Ok(0) if left.is_zero() => Err(self.no_reply(Errno::ETIMEDOUT)),
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(self.no_reply(errno)),
        }
    }

    fn no_reply(&self, errno: Errno) -> BrokerError {
        BrokerError::NoReply { path: self.path.as_path().into(), errno }
    }

    fn invalid_reply(&self, reason: &dyn std::fmt::Display) -> BrokerError {
        BrokerError::InvalidReply { path: self.path.as_path().into(), reason: shown(&reason.to_string()) }
    }
}
