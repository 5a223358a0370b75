//! What a program asks of the kernel, as strace sees it.

use std::process::{Command, Output};

use crate::{feed, text};

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
