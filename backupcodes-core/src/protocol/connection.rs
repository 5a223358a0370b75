//! A connection to a service of this machine. The protocol is varlink: JSON messages, each followed by a NUL, over a UNIX
//! socket.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
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

use crate::files::lock::{Deadline, PAUSE};
use crate::files::trust::ShownPath;
use crate::visible::shown;

/// The most bytes of a message in either direction. A message with 31 long codes has about 4 KiB.
pub const LARGEST: usize = 16 << 10;

/// A service, and what to do where it is missing.
#[derive(Debug)]
pub struct Service {
    /// Its name in messages.
    pub name: &'static str,
    /// Its varlink interface.
    pub interface: &'static str,
    /// Who needs it, and how to start it.
    pub advice: &'static str,
    /// The most bytes of a reply.
    pub largest: usize,
}

/// A connection to a service.
pub struct Connection {
    service: &'static Service,
    path: PathBuf,
    socket: OwnedFd,
    /// Received bytes after the last message.
    rest: Zeroizing<Vec<u8>>,
}

/// A service cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It does not listen.
    #[error("{path}: no {} ({errno}); {}", .service.name, .service.advice)]
    Absent {
        /// The service.
        service: &'static Service,
        /// The socket.
        path: ShownPath,
        /// The error of the system call.
        errno: Errno,
    },
    /// It belongs to another user.
    #[error("{path}: the {service} runs with uid {uid}; expected root; check the owner of its directory")]
    NotRoot {
        /// The name of the service.
        service: &'static str,
        /// The socket.
        path: ShownPath,
        /// Its uid.
        uid: u32,
    },
    /// It does not reply.
    #[error(
        "{path}: the {service} does not reply ({errno}); see its log: journalctl -u backupcodes-{service}"
    )]
    NoReply {
        /// The name of the service.
        service: &'static str,
        /// The socket.
        path: ShownPath,
        /// The error of the system call.
        errno: Errno,
    },
    /// Its message is not a valid reply.
    #[error("{path}: not a reply of the {service} ({reason}); install the same version of both")]
    InvalidReply {
        /// The name of the service.
        service: &'static str,
        /// The socket.
        path: ShownPath,
        /// What is wrong with the message.
        reason: String,
    },
    /// The broker uses another directory of sets, and so knows nothing about the sets of this program.
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
    /// The service cannot be used.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The service replied with an error.
    #[error("the {service} says {error}; see its log", error = shown(.error))]
    Replied {
        /// The name of the service.
        service: &'static str,
        /// The varlink error.
        error: String,
        /// The whole reply.
        reply: Zeroizing<Vec<u8>>,
    },
}

impl CallError {
    /// What the error that the service replied with names.
    #[must_use]
    #[inline(never)] // for the module's size
    pub fn words(&self) -> Words {
        self.parameters().unwrap_or_default()
    }

    /// The parameters of the error that the service replied with, if they have the type `P`.
    #[must_use]
    pub fn parameters<P: DeserializeOwned>(&self) -> Option<P> {
        match self {
            Self::Replied { reply, .. } => parameters_of(reply).ok(),
            Self::Service(_) => None,
        }
    }
}

/// The parameters of errors that name something. One type for all, for the module's size.
#[derive(Default, Deserialize)]
pub struct Words {
    /// Why.
    pub reason: Option<String>,
    /// The directory that the service uses.
    pub directory: Option<String>,
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

impl Connection {
    /// Connects to a service, which must run as root or as this user.
    ///
    /// # Errors
    /// [`ServiceError`].
    #[inline(never)] // for the module's size
    pub fn open(service: &'static Service, path: &Path, patience: Duration) -> Result<Self, ServiceError> {
        let absent = |errno| ServiceError::Absent { service, path: path.into(), errno };
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
            return Err(ServiceError::NotRoot { service: service.name, path: path.into(), uid });
        }
        Ok(Self { service, path: path.into(), socket, rest: Zeroizing::default() })
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
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
        let call = Call { method: format!("{}.{method}", self.service.interface), parameters };
        serde_json::to_writer(&mut *message, &call).map_err(|error| self.invalid_reply(&error))?;
        let reply = self.exchange(message, Deadline::after(patience))?;
        Ok(parameters_of(&reply).map_err(|error| self.invalid_reply(&error))?)
    }

    /// Sends a message and waits for a reply that is no error.
    #[inline(never)] // for the module's size
    fn exchange(
        &mut self,
        mut message: Zeroizing<Vec<u8>>,
        deadline: Deadline,
    ) -> Result<Zeroizing<Vec<u8>>, CallError> {
        message.push(0);
        self.send(&message, deadline)?;
        let reply = self.receive(deadline)?;
        let ErrorOf { error } = serde_json::from_slice(&reply).map_err(|error| self.invalid_reply(&error))?;
        match error {
            None => Ok(reply),
            Some(error) => Err(CallError::Replied { service: self.service.name, error, reply }),
        }
    }

    fn send(&self, mut message: &[u8], deadline: Deadline) -> Result<(), ServiceError> {
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
    fn receive(&mut self, deadline: Deadline) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
        let largest = self.service.largest;
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == 0) {
                let message = Zeroizing::new(self.rest.get(..end).unwrap_or_default().to_vec());
                self.rest.drain(..=end);
                return Ok(message);
            }
            let mut piece = Zeroizing::new([0; 4096]);
            match recv(self.socket.as_raw_fd(), piece.as_mut_slice(), MsgFlags::empty()) {
                Ok(0) => return Err(self.no_reply(Errno::ECONNRESET)),
                Ok(length) if self.rest.len().saturating_add(length) <= largest => {
                    // Reserved in full, so that growing leaves no copy in memory. Only lists without secrets are longer.
                    let room = LARGEST.saturating_sub(self.rest.len());
                    self.rest.reserve_exact(room.max(piece.len()));
                    self.rest.extend_from_slice(piece.get(..length).unwrap_or_default());
                }
                Ok(_) => return Err(self.invalid_reply(&format_args!("more than {largest} bytes"))),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLIN, deadline)?,
                Err(errno) => return Err(self.no_reply(errno)),
            }
        }
    }

    fn wait(&self, what: PollFlags, deadline: Deadline) -> Result<(), ServiceError> {
        let left = deadline.left();
        let timeout = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), what)], timeout) {
            Ok(0) if left.is_zero() => Err(self.no_reply(Errno::ETIMEDOUT)),
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(self.no_reply(errno)),
        }
    }

    fn no_reply(&self, errno: Errno) -> ServiceError {
        ServiceError::NoReply { service: self.service.name, path: self.path.as_path().into(), errno }
    }

    fn invalid_reply(&self, reason: &dyn std::fmt::Display) -> ServiceError {
        ServiceError::InvalidReply {
            service: self.service.name,
            path: self.path.as_path().into(),
            reason: shown(&reason.to_string()),
        }
    }
}
