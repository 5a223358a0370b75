//! New sets for all users.

use std::time::Duration;

use backupcodes_tests::bench::fresh::Sample;
use backupcodes_tests::bench::fresh::hashes_a_second;
use backupcodes_tests::bench::raw::processors;
use backupcodes_tests::bench::stack::{Configured, Folder};
use backupcodes_tests::bench::{median, ratio};

use crate::{admin, peak_mib};

/// The users are divided among so many runs, since the speed of a machine can drift in minutes.
const RUNS: usize = 10;
/// Of a measurement of hashes alone.
const TIME: Duration = Duration::from_millis(2500);
const CODES: f64 = 10.0;

/// Hashes a second of the machine.
struct Limit {
    of_one_thread: f64,
    of_all: f64,
}

impl Limit {
    fn measure() -> Self {
        let [of_one_thread, of_all] = [1, processors()].map(|threads| hashes_a_second(threads, TIME));
        Self { of_one_thread, of_all }
    }
}

/// Returns the peak memory of a run in MiB, and how many users a run has.
pub(crate) fn against_the_machine(folder: &Folder, users: &[String]) -> (usize, f64) {
    let processors = processors();
    let together = users.len().div_ceil(RUNS);
    println!(
        "\n1. generate for {} users in {RUNS} runs, and Argon2id alone before and after each run",
        users.len()
    );
    let Configured { conf, .. } = folder.backupcodes("generate", "");
    let (mut rates, mut samples, mut limits) = (Vec::new(), Vec::new(), vec![Limit::measure()]);
    for (run, users) in users.chunks(together).enumerate() {
        let sample = generate(folder, &format!("sheets-{run}"), conf.to_str().unwrap(), users);
        rates.push(users.len() as f64 * CODES / (sample.nanoseconds / 1e9));
        samples.push(sample);
        limits.push(Limit::measure());
    }
    let around = |of: fn(&Limit) -> f64| -> Vec<f64> {
        limits.windows(2).map(|both| f64::midpoint(of(&both[0]), of(&both[1]))).collect()
    };
    let times = processors as f64;
    let one: Vec<_> = around(|limit| limit.of_one_thread).iter().map(|rate| rate * times).collect();
    let all = around(|limit| limit.of_all);
    let seconds: f64 = samples.iter().map(|sample| sample.nanoseconds / 1e9).sum();
    println!("   {:<28}{:>9.1} codes/s    all runs: {seconds:.1} s", "generate", median(&rates));
    println!("   {:<28}{:>9.1} hashes/s", format!("one thread, times {processors}"), median(&one));
    println!("   {:<28}{:>9.1} hashes/s", format!("{processors} threads at once"), median(&all));
    let goal = "at least 0.93, where all processors are real ones";
    println!("   {:<28}{:>9.3}       goal: {goal}", "ratio to one thread's", ratio(&rates, &one));
    println!("   {:<28}{:>9.3}", "ratio to all at once", ratio(&rates, &all));
    (together, peak_mib(&samples))
}

/// Peak memory in MiB for so many users, where a hash needs little itself.
pub(crate) fn memory(folder: &Folder, users: &[String], (together, peak): (usize, f64)) -> Vec<(u32, f64)> {
    println!("\n2. Peak memory of generate (1 run each; with the default hash and {together} users: {RUNS})");
    let few = &users[..users.len().min(20)];
    let Configured { conf, .. } = folder.backupcodes("generate-few", "");
    let sample = generate(folder, "sheets-few", conf.to_str().unwrap(), few);
    let default = "default hash, 19 MiB a thread";
    println!("   {:<34}{:>6} users{:>9.1} MiB", default, few.len(), sample.peak_kib / 1024.0);
    println!("   {default:<34}{together:>6} users{peak:>9.1} MiB");
    let mut peaks = Vec::new();
    for count in [20, 200, 2000].into_iter().filter(|&count| count <= users.len()) {
        let name = format!("small-{count}");
        let Configured { conf, .. } = folder.backupcodes(&name, "[hash]\nmemory_kib = 64\n");
        let sheets = format!("sheets-{name}");
        let sample = generate(folder, &sheets, conf.to_str().unwrap(), &users[..count]);
        let peak = sample.peak_kib / 1024.0;
        println!("   {:<34}{count:>6} users{peak:>9.1} MiB", "memory_kib = 64");
        peaks.push((u32::try_from(count).unwrap(), peak));
    }
    peaks
}

fn generate(folder: &Folder, sheets: &str, conf: &str, users: &[String]) -> Sample {
    let sheets = folder.path().join(sheets);
    let options = ["generate", "--config", conf, "--output", sheets.to_str().unwrap()];
    let users = users.iter().map(String::as_str);
    admin(&options.into_iter().chain(users).collect::<Vec<_>>())
}
