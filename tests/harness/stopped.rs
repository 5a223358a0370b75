//! An application that stands still between two calls of libpam.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::patience::PATIENCE;
use crate::{Attempt, Outcome};

/// Where one of its calls is `stop`. It goes on when this is dropped, whatever came of the look at it.
pub struct Stopped {
    application: Child,
    /// The one that stands still.
    pub process: Pid,
}

impl Stopped {
    /// Starts the application with this attempt, and waits until it has come to its `stop`.
    pub fn start(application: &mut Command, attempt: &Attempt) -> Self {
        let mut application = application.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        serde_json::to_writer(application.stdin.take().unwrap(), &[attempt]).unwrap();
        let process = wait_for_stop(application.id());
        Self { application, process }
    }

    /// Lets it go on to its end.
    pub fn go_on(mut self) -> Outcome {
        kill(self.process, Signal::SIGCONT).unwrap();
        let mut told = Vec::new();
        self.application.stdout.take().unwrap().read_to_end(&mut told).unwrap();
        self.application.wait().unwrap();
        let mut outcomes: Vec<Option<Outcome>> = serde_json::from_slice(&told).unwrap();
        outcomes.pop().flatten().expect("the application lives on")
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.process, Signal::SIGCONT);
    }
}

fn wait_for_stop(application: u32) -> Pid {
    let start = Instant::now();
    loop {
        let process = last_child(application);
        if stands_still(process) {
            return Pid::from_raw(process.try_into().unwrap());
        }
        assert!(start.elapsed() < PATIENCE, "no application stops");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The attempt is made in a child of the application, which may itself be strace's.
fn last_child(mut process: u32) -> u32 {
    loop {
        let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
        let Ok(child) = children.unwrap_or_default().trim().parse() else { return process };
        process = child;
    }
}

/// strace stops a process at other moments too: why, is the last number of its state.
fn stands_still(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let Some((_, state)) = stat.split_once("(pam-application) ") else { return false };
    let reason = state.trim().rsplit(' ').next().and_then(|reason| reason.parse::<i32>().ok());
    match state.as_bytes().first() {
        Some(b'T') => true,
        Some(b't') => reason.is_some_and(|reason| reason & 0x7f == Signal::SIGSTOP as i32),
        _ => false,
    }
}
