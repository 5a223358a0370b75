//! A broker in the foreground.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};

use nix::unistd::Pid;

use crate::built;
use crate::patience::wait_until;

/// One with these arguments, which listens at `socket`.
pub fn start(socket: &Path, arguments: &[&OsStr]) -> Child {
    let mut broker = Command::new(built("backupcodes-broker"));
    let broker = broker.arg("--socket").arg(socket).args(arguments).spawn().unwrap();
    wait_until("a broker", || UnixStream::connect(socket).is_ok());
    broker
}

/// The processes of the connections that a broker has.
pub fn connections(broker: &Child) -> Vec<Pid> {
    let pid = broker.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}
