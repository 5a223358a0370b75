//! Programs that run beside a test.

use std::fs;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::patience::wait_until;

/// A process that ends with this value.
pub struct Background {
    id: Pid,
    /// Gives it back when it has ended.
    watcher: Option<JoinHandle<Child>>,
}

impl Background {
    pub fn start(command: Command) -> Self {
        Self::start_in(command, || ())
    }

    /// Starts it in the state that `prepare` brings a thread into: a thread can have namespaces of its own.
    ///
    /// A program that asks the kernel to end it with its parent ends with that thread. It is not the caller's, which may be short.
    pub fn start_in(mut command: Command, prepare: impl FnOnce() + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        let watcher = thread::spawn(move || {
            prepare();
            let child = command.spawn().unwrap();
            let id = Pid::from_raw(child.id().try_into().unwrap());
            sender.send(id).unwrap();
            // Its number stays its own until it is waited for.
            waitid(Id::Pid(id), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
            child
        });
        Self { id: receiver.recv().expect("a process"), watcher: Some(watcher) }
    }

    pub const fn id(&self) -> Pid {
        self.id
    }

    /// Stops it in the middle of its work. When this returns, all of its threads stand.
    pub fn stop(&self) {
        kill(self.id, Signal::SIGSTOP).unwrap();
        wait_until("a process that stands", || {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.id)).unwrap();
            let mut stats =
                tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default());
            // The state comes behind the name, which may have anything in it.
            stats.all(|stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T')))
        });
    }

    pub fn go_on(&self) {
        kill(self.id, Signal::SIGCONT).unwrap();
    }

    pub fn has_ended(&self) -> bool {
        self.watcher.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = kill(self.id, Signal::SIGKILL);
        let mut child = self.watcher.take().unwrap().join().unwrap();
        let _ = child.wait();
    }
}
