//! What a login by backup code costs. `cargo bench -p backupcodes-tests --bench attempt`; docs/performance.md says how
//! to read it. Every measurement is made in a process of its own, as every login is one.

#[path = "attempt/fresh.rs"]
mod fresh;
#[path = "attempt/machine.rs"]
mod machine;
#[path = "attempt/stack.rs"]
mod stack;

use std::path::{Path, PathBuf};
use std::process::Command;

use fresh::Work;
use stack::{Folder, Stack};

/// Goals are told as they were set; whether they hold is for the reader to see.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [fresh::ROLE, work] => fresh::run(work),
        [INSIDE] => report(),
        _ => {
            build();
            enter_sandbox();
        }
    }
}

/// The argument of the process that is in the sandbox.
const INSIDE: &str = "inside";

fn build() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let target = release().parent().unwrap().to_owned();
    let built = Command::new(cargo)
        .args(["build", "--release", "--quiet"])
        .args(["-p", "pam_backupcodes", "-p", "backupcodes-admin", "-p", "backupcodes-tests"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", target)
        .status()
        .unwrap();
    assert!(built.success(), "cargo build: {built}");
}

/// There the log is caught: without a log google-authenticator would write to the console, which takes milliseconds.
fn enter_sandbox() {
    let status = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/sandbox"))
        .arg(std::env::current_exe().unwrap())
        .arg(INSIDE)
        .env("BACKUPCODES_BUILD", release())
        .status()
        .unwrap();
    std::process::exit(status.code().unwrap_or(1));
}

/// The folder of the release build, two above `deps/attempt-…`.
fn release() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

fn report() {
    let release = release();
    let folder = Folder::new(&release);
    machine::describe(folder.path());
    println!("Medians; contestants take turns, and each sample is a fresh process. Smaller is better.");
    let usual = Stack::of_backupcodes(&folder, "usual", "", 10);
    against_the_reference(&usual);
    small_and_large_sets(&folder);
    malformed_and_wrong(&folder);
    against_google_authenticator(&folder);
    loading(&release);
    memory(&folder, &usual);
    size(&release);
}

fn against_the_reference(usual: &Stack) {
    let rounds = section(
        "1. Accepted attempt, and one run of Argon2id by the C reference with the same parameters",
        101,
    );
    if !fresh::can_be_loaded("libargon2.so.1") {
        return skipped("libargon2-1");
    }
    let reference = || fresh::measure(&Work::ReferenceHash).nanoseconds;
    let samples = take_turns(rounds, [&|| accepted(usual), &reference]);
    compare(["attempt", "reference"], &samples, "at most 0.85");
}

fn small_and_large_sets(folder: &Folder) {
    let rounds = section("2. Accepted attempt with the last code of a set of 31, and with a set of 1", 201);
    let [large, small] =
        [31, 1].map(|count| Stack::of_backupcodes(folder, &format!("set-of-{count}"), "", count));
    let samples = take_turns(rounds, [&|| accepted(&large), &|| accepted(&small)]);
    compare(["31 codes", "1 code"], &samples, "at most 1.03");
}

fn malformed_and_wrong(folder: &Folder) {
    let rounds = section("3. Refused attempt with an answer that is no code, and with a wrong code", 201);
    // Without the throttle, which these would meet after a few.
    let unthrottled = "[throttle]\nfree = 1000000\n";
    let [stack, other] =
        ["refused", "other"].map(|name| Stack::of_backupcodes(folder, name, unthrottled, 10));
    let malformed = || stack.refused("correct horse battery").nanoseconds;
    let wrong = || stack.refused(other.code()).nanoseconds;
    let samples = take_turns(rounds, [&malformed, &wrong]);
    compare(["malformed", "wrong"], &samples, "0.95 to 1.05");
}

fn against_google_authenticator(folder: &Folder) {
    let rounds = section(
        "4. Accepted attempt with the smallest hash, and an emergency code of google-authenticator",
        201,
    );
    if !machine::pam_modules().join("pam_google_authenticator.so").exists() {
        return skipped("libpam-google-authenticator");
    }
    let smallest = Stack::of_backupcodes(folder, "smallest", "[hash]\nmemory_kib = 8\npasses = 1\n", 10);
    let google = Stack::of_google_authenticator(folder, "google");
    let samples = take_turns(rounds, [&|| accepted(&smallest), &|| accepted(&google)]);
    compare(["smallest hash", "google-authenticator"], &samples, "at most 1");
}

fn loading(release: &Path) {
    let rounds = section("5. dlopen and dlclose of the module in a process that has libpam", 101);
    let modules = machine::pam_modules();
    let files = [
        release.join("libpam_backupcodes.so"),
        modules.join("pam_unix.so"),
        modules.join("pam_google_authenticator.so"),
    ];
    for file in files {
        if !file.exists() {
            println!("   {:<28}not installed", machine::name(&file));
            continue;
        }
        let load = || fresh::measure(&Work::Load(file.clone())).nanoseconds;
        let [samples] = take_turns(rounds, [&load]);
        println!("   {:<28}{:>9.0} µs", machine::name(&file), median(&samples) / 1e3);
    }
}

fn memory(folder: &Folder, usual: &Stack) {
    let rounds = section(
        "6. Peak memory of a process with one accepted attempt, less that of one with only pam_permit",
        21,
    );
    let permit = Stack::of_permit(folder, "permit");
    let samples = take_turns(rounds, [&|| usual.accepted().peak_kib, &|| permit.accepted().peak_kib]);
    let [attempt, nothing] = samples.map(|samples| median(&samples));
    let ours = (attempt - nothing) / 1024.0;
    println!("   attempt {attempt} KiB, pam_permit {nothing} KiB");
    println!("   difference {ours:.1} MiB    goal: at most 25 (the 19 of the hash, and 6)");
}

fn size(release: &Path) {
    let bytes = std::fs::metadata(release.join("libpam_backupcodes.so")).unwrap().len();
    println!("\n7. Size of libpam_backupcodes.so\n   {} KiB    goal: under 700", bytes / 1024);
}

fn accepted(stack: &Stack) -> f64 {
    stack.accepted().nanoseconds
}

/// The samples of each contestant, round by round. They take turns, so that what disturbs the machine disturbs all.
fn take_turns<const N: usize>(rounds: usize, contestants: [&dyn Fn() -> f64; N]) -> [Vec<f64>; N] {
    let mut samples = [const { Vec::new() }; N];
    // Warms the page cache.
    for contestant in contestants {
        contestant();
    }
    for round in 0..rounds {
        for turn in 0..N {
            // Each comes first as often as the others.
            let contestant = (turn + round) % N;
            samples[contestant].push(contestants[contestant]());
        }
    }
    samples
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Opens a section, in which each contestant has so many rounds.
fn section(title: &str, rounds: usize) -> usize {
    println!("\n{title} ({rounds} samples each)");
    rounds
}

/// The ratio is the median of the rounds' ratios: two medians may come from different moods of the machine.
fn compare(names: [&str; 2], samples: &[Vec<f64>; 2], goal: &str) {
    for (name, samples) in names.iter().zip(samples) {
        println!("   {name:<28}{:>9.3} ms", median(samples) / 1e6);
    }
    let ratios: Vec<_> = samples[0].iter().zip(&samples[1]).map(|(one, other)| one / other).collect();
    println!("   {:<28}{:>9.3}       goal: {goal}", "ratio", median(&ratios));
}

fn skipped(package: &str) {
    println!("   skipped: apt-get install {package}");
}
