//! What the benchmarks have in common: each builds what it measures and enters the sandbox, and each sample is made in
//! a process of its own, as every login is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::set_mode;

pub mod fresh;
pub mod google;
pub mod machine;
pub mod plot;
pub mod raw;
pub mod stack;

/// The argument of the process that is in the sandbox.
const INSIDE: &str = "inside";

/// The whole of a benchmark's `main`: `report` runs in the sandbox. Goals are told as they were set; whether they hold
/// is for the reader to see.
pub fn main(report: fn()) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [fresh::ROLE, work] => fresh::run(work),
        [INSIDE, ..] => report(),
        options => {
            build();
            enter_sandbox(options);
        }
    }
}

fn build() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let target = release().parent().unwrap().to_owned();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut programs = Command::new("packaging/build");
    programs.arg("--quiet");
    let mut own = Command::new(cargo);
    own.args(["build", "--release", "--quiet", "-p", "backupcodes-tests"]);
    for command in [&mut programs, &mut own] {
        let built = command.current_dir(root).env("CARGO_TARGET_DIR", &target).status().unwrap();
        assert!(built.success(), "{command:?}: {built}");
    }
}

/// There the log is caught: without a log google-authenticator would write to the console, which takes milliseconds.
fn enter_sandbox(options: &[&str]) {
    let status = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/sandbox"))
        .arg(std::env::current_exe().unwrap())
        .arg(INSIDE)
        .args(options)
        .env("BACKUPCODES_BUILD", release())
        .status()
        .unwrap();
    std::process::exit(status.code().unwrap_or(1));
}

/// What stands behind `name` among the options that the benchmark was started with: `--users=200` has the value 200,
/// and `--plot` the empty one.
pub fn option(name: &str) -> Option<String> {
    let mut values = std::env::args().filter_map(|argument| argument.strip_prefix(name).map(String::from));
    values.find_map(|rest| if rest.is_empty() { Some(rest) } else { rest.strip_prefix('=').map(Into::into) })
}

/// The folder of the release build, two above `deps/attempt-…`.
pub fn release() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

/// The samples of each contestant, round by round. They take turns, so that what disturbs the machine disturbs all.
pub fn take_turns<T>(rounds: usize, contestants: &[&dyn Fn() -> T]) -> Vec<Vec<T>> {
    let mut samples: Vec<_> = contestants.iter().map(|_| Vec::new()).collect();
    // Warms the page cache.
    for contestant in contestants {
        contestant();
    }
    for round in 0..rounds {
        for turn in turns(round, contestants.len()) {
            samples[turn].push(contestants[turn]());
        }
    }
    samples
}

/// The order of a round. Each of `count` comes first as often as the others, and is behind each neighbour as often as
/// before it.
pub fn turns(round: usize, count: usize) -> impl Iterator<Item = usize> {
    let is_backward = round % 2 == 1;
    (0..count).map(move |turn| (if is_backward { count - 1 - turn } else { turn } + round / 2) % count)
}

fn write_private(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    set_mode(file, 0o600);
}

pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The median of the rounds' ratios: two medians may come from different moods of the machine.
pub fn ratio(samples: &[f64], reference: &[f64]) -> f64 {
    let ratios: Vec<_> = samples.iter().zip(reference).map(|(one, other)| one / other).collect();
    median(&ratios)
}

/// Opens a section, in which each contestant has so many rounds.
pub fn section(title: &str, rounds: usize) -> usize {
    println!("\n{title} ({rounds} samples each)");
    rounds
}

/// Prints the times of two, and their ratio.
pub fn compare(names: [&str; 2], samples: &[Vec<f64>], goal: &str) {
    for (name, samples) in names.iter().zip(samples) {
        println!("   {name:<28}{:>9.3} ms", median(samples) / 1e6);
    }
    println!("   {:<28}{:>9.3}       goal: {goal}", "ratio", ratio(&samples[0], &samples[1]));
}

pub fn skipped(package: &str) {
    println!("   skipped: apt-get install {package}");
}
