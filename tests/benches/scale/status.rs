//! Stores with many sets.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use backupcodes_tests::bench::fresh::Sample;
use backupcodes_tests::bench::stack::{Configured, Folder, Stack};
use backupcodes_tests::bench::{median, ratio, section, take_turns};
use backupcodes_tests::me;

use crate::{admin, nanoseconds, peak_mib};

/// So many sets, and a user who logs in.
pub(crate) struct Store<'a> {
    sets: u32,
    conf: String,
    stack: Stack<'a>,
}

impl<'a> Store<'a> {
    pub(crate) fn all(folder: &'a Folder) -> [Self; 4] {
        let stores = [1, 1000, 10_000, 100_000].map(|sets| Self::new(folder, sets));
        // What is still to be written would be in the way.
        nix::unistd::syncfs(File::open(folder.path()).unwrap()).unwrap();
        stores
    }

    fn new(folder: &'a Folder, sets: u32) -> Self {
        let name = format!("sets-{sets}");
        let stack = Stack::of_backupcodes(folder, &name, "", 10);
        let Configured { conf, directory, .. } = folder.configured(&name);
        copy_set(&directory, sets - 1);
        Self { sets, conf: conf.to_str().unwrap().into(), stack }
    }

    fn status(&self) -> Sample {
        admin(&["status", "--config", &self.conf])
    }
}

/// Copies of the one set that there is, each with another user's name.
fn copy_set(directory: &Path, count: u32) {
    let original = fs::read_to_string(directory.join(format!("{}.toml", me()))).unwrap();
    let line = format!("user = {:?}\n", me());
    assert!(original.contains(&line), "{original}");
    for number in 1..=count {
        let user = format!("user{number:06}");
        let mut file = OpenOptions::new();
        let file = file.write(true).create_new(true).mode(0o600).open(directory.join(format!("{user}.toml")));
        let copy = original.replace(&line, &format!("user = {user:?}\n"));
        file.unwrap().write_all(copy.as_bytes()).unwrap();
    }
}

/// Returns seconds for so many sets.
pub(crate) fn time_and_memory(stores: &[Store<'_>; 4]) -> Vec<(u32, f64)> {
    let rounds = section("3. status, the table of all sets, written to a pipe", 5);
    let [_, few, more, many] = stores;
    let samples = take_turns(rounds, &[&|| few.status(), &|| more.status(), &|| many.status()]);
    let mut times = Vec::new();
    for (store, samples) in [few, more, many].into_iter().zip(&samples) {
        let time = median(&nanoseconds(samples));
        let (a_set, peak) = (time / 1e3 / f64::from(store.sets), peak_mib(samples));
        let goal = if store.sets == many.sets { "    goal: under 2 s on two processors" } else { "" };
        println!(
            "   {:>7} sets{:>9.3} s{a_set:>8.1} µs a set, peak{peak:>7.1} MiB{goal}",
            store.sets,
            time / 1e9
        );
        times.push((store.sets, time / 1e9));
    }
    println!("   {:<28}{:>9.1} MiB, which all peaks have in them", "smallest that is seen", floor());
    times
}

/// What is measured of a program that needs no memory to speak of.
fn floor() -> f64 {
    use backupcodes_tests::bench::fresh::{Work, measure};
    measure(&Work::Program(vec!["true".into()])).peak_kib / 1024.0
}

pub(crate) fn logins(stores: &[Store<'_>; 4]) {
    let rounds = section("4. Accepted attempt on a host with 1, 1,000 and 100,000 sets", 101);
    let [alone, few, _, many] = stores.each_ref().map(|store| || store.stack.accepted().nanoseconds);
    let samples = take_turns(rounds, &[&alone, &few, &many]);
    for (name, samples) in ["1 set", "1,000 sets", "100,000 sets"].iter().zip(&samples) {
        println!("   {name:<28}{:>9.3} ms", median(samples) / 1e6);
    }
    for (name, many) in [("ratio of 1,000 to 1", &samples[1]), ("ratio of 100,000 to 1", &samples[2])] {
        println!("   {name:<28}{:>9.3}       goal: 0.97 to 1.03", ratio(many, &samples[0]));
    }
}
