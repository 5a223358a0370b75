//! The system calls of a program, as strace sees them.

use std::path::Path;
use std::process::{Command, Output};

use crate::{Attempt, Outcome, feed, text};

/// What comes of an attempt in an application whose calls are tampered with as `inject` says.
pub fn injected(options: &[&str], application: &Path, attempt: Attempt, inject: &str) -> Outcome {
    let mut strace = tampering(inject);
    strace.args(["-f", "--seccomp-bpf"]).args(options).arg(application);
    let output = feed(&mut strace, &serde_json::to_string(&[attempt]).unwrap());
    let outcomes: Option<Vec<Outcome>> = serde_json::from_slice(&output.stdout).ok();
    outcomes.and_then(|mut outcomes| outcomes.pop()).unwrap_or_else(|| panic!("{inject}: {output:?}"))
}

/// A command that runs what follows, with its calls tampered with as `inject` says; with `-f` those of its
/// children too.
pub fn tampering(inject: &str) -> Command {
    let call = inject.split(':').next().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &format!("inject={inject}")]);
    strace
}

/// The system calls of `command`, a line each, with whole buffers.
pub fn calls(command: &Command, input: &str, which: &str) -> (Vec<String>, Output) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-s", "4096", "-y", "-e", &format!("trace={which}"), "-o"]).arg(file.path());
    strace.arg(command.get_program()).args(command.get_args());
    let output = feed(&mut strace, input);
    let trace = text(&std::fs::read(file.path()).unwrap());
    // Each line begins with a process id; signals and exits are no calls.
    let calls = trace.lines().filter_map(|line| Some(line.split_once(' ')?.1.trim().to_string()));
    (calls.filter(|call| !call.starts_with(['+', '-'])).collect(), output)
}
