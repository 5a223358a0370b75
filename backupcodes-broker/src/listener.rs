//! Accepts connections, and starts a process for each.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backupcodes_core::log::log;
use backupcodes_core::verify::Level;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::User;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::CONNECTION;
use crate::caller::Caller;
use crate::connection::LONGEST_CONNECTION;

/// The most simultaneous connections of an account: a login needs one, for the time of one hash.
const MOST_PER_ACCOUNT: usize = 16;
/// The most connections in all, without root's, so that many accounts together cannot exhaust the machine.
const MOST: usize = 256;
/// The shortest time for which a connection counts. A refusal takes a hundredth of the time of a process start: without this, a
/// client that opens and closes connections endlessly would make all others wait in the queue.
const SHORTEST_ADMISSION: Duration = Duration::from_millis(100);
/// The process of a connection is killed after this time, which it only reaches if its user stops it while PAM runs.
const LONGEST: Duration = Duration::from_secs(LONGEST_CONNECTION as u64 + 10);
/// The pause after a failed accept, such as without free descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until there are no connections for `idle`, or endlessly without `idle`.
pub(crate) fn serve(
    listener: &UnixListener,
    config: Option<&Path>,
    idle: Option<Duration>,
) -> std::io::Result<()> {
    let clients = Arc::new(Clients::default());
    let timeout = idle.and_then(|idle| PollTimeout::try_from(idle).ok()).unwrap_or(PollTimeout::NONE);
    loop {
        match poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], timeout) {
            // systemd keeps the socket, and so a client that connects just now.
            Ok(0) if clients.count() == 0 => return Ok(()),
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        match listener.accept() {
            Ok((stream, _)) => admit(stream, config, &clients),
            Err(error) => {
                log(Level::Error, &format!("a connection cannot be accepted: {error}"));
                wait(PAUSE);
            }
        }
    }
}

/// Closes a connection beyond the limits, before it reads anything from it.
fn admit(stream: UnixStream, config: Option<&Path>, clients: &Arc<Clients>) {
    if is_closed(&stream) {
        return;
    }
    let Ok(caller) = Caller::of(&stream) else { return };
    // A user may appear with 65,536 uids (subuid(5)), but has only one account.
    if !clients.has_account(caller) {
        return;
    }
    let Some(admission) = Clients::enter(clients, caller) else { return };
    let started = start(stream, config).and_then(|child| {
        std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
            let start = Instant::now();
            wait_for_end(child, LONGEST);
            wait(SHORTEST_ADMISSION.saturating_sub(start.elapsed()));
            drop(admission);
        })
    });
    if let Err(error) = started {
        log(Level::Error, &format!("a connection of uid {} cannot be served: {error}", caller.uid()));
    }
}

/// Whether the client has closed the connection: no process is started for closed connections that clients leave in the queue.
fn is_closed(stream: &UnixStream) -> bool {
    let mut ends = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    poll(&mut ends, PollTimeout::ZERO).is_ok_and(|ended| ended > 0)
}

/// Starts this program again, with only the connection as its standard input.
fn start(stream: UnixStream, config: Option<&Path>) -> std::io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    // The name for the log.
    command.arg0("backupcodes-broker").arg(CONNECTION).env_clear();
    // Faults of small pages take a third of a hash's time.
    command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
    command.args(config).stdin(OwnedFd::from(stream)).stdout(Stdio::null()).spawn()
}

fn wait_for_end(mut child: Child, longest: Duration) {
    let timeout = PollTimeout::try_from(longest).unwrap_or(PollTimeout::NONE);
    let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    if process.is_ok_and(|fd| poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) == Ok(0)) {
        let _ = child.kill();
    }
    let _ = child.wait();
}

#[expect(clippy::disallowed_methods, reason = "no login waits for it")]
pub(crate) fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// The number of connections of each uid.
#[derive(Default)]
struct Clients(Mutex<HashMap<u32, usize>>);

/// A connection that is counted until this is dropped.
struct Admission(Arc<Clients>, u32);

impl Clients {
    fn has_account(&self, caller: Caller) -> bool {
        caller.is_root()
            || self.counts().contains_key(&caller.uid())
            || User::from_uid(caller.uid().into()).is_ok_and(|account| account.is_some())
    }

    fn enter(this: &Arc<Self>, caller: Caller) -> Option<Admission> {
        let uid = caller.uid();
        let mut counts = this.counts();
        if !caller.is_root() {
            let all = counts.iter().filter(|(uid, _)| **uid != 0).map(|(_, count)| count).sum::<usize>();
            if all >= MOST || counts.get(&uid).is_some_and(|&count| count >= MOST_PER_ACCOUNT) {
                return None;
            }
        }
        let count = counts.entry(uid).or_default();
        *count = count.saturating_add(1);
        drop(counts);
        Some(Admission(Arc::clone(this), uid))
    }

    fn count(&self) -> usize {
        self.counts().values().sum()
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut counts = self.0.counts();
        if let Some(count) = counts.get_mut(&self.1) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal, kill};

    #[test]
    fn a_stopped_process_is_killed_and_no_longer_counts() {
        let start = Instant::now();
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        kill(nix::unistd::Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGSTOP).unwrap();
        wait_for_end(child, Duration::from_millis(50));
        assert!(start.elapsed() < Duration::from_secs(30));
        wait_for_end(Command::new("true").spawn().unwrap(), Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
