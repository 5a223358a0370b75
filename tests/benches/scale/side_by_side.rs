//! Beside the emergency codes of libpam-google-authenticator.

use std::fs;

use backupcodes_tests::bench::fresh::Sample;
use backupcodes_tests::bench::stack::{Folder, SMALLEST_HASH, Stack};
use backupcodes_tests::bench::{google, median, ratio, section, skipped, take_turns};
use backupcodes_tests::disk::{Disk, FileSystem, Lack};
use backupcodes_tests::{Attempt, World, me, pam, race, set_mode};

use crate::{nanoseconds, peak_mib};

const NAMES: [&str; 3] = ["default hash", "smallest hash", "google-authenticator"];

pub(crate) fn report(folder: &Folder) {
    println!("\n5. Side by side with an emergency code of google-authenticator");
    if !google::is_installed() {
        return skipped(google::PACKAGE);
    }
    // Otherwise those of 32 who come too late are throttled soon.
    let unthrottled = "[throttle]\nfree = 1000000\n";
    let stacks = [
        Stack::of_backupcodes(folder, "side-default", unthrottled, 10),
        Stack::of_backupcodes(folder, "side-smallest", &(SMALLEST_HASH.to_owned() + unthrottled), 10),
        Stack::of_google_authenticator(folder, "side-google"),
    ];
    latency_and_memory(&stacks);
    winners(&stacks);
    full_disk();
}

fn latency_and_memory(stacks: &[Stack<'_>; 3]) {
    let rounds = section("5.1 Accepted attempt, and peak memory of its process", 101);
    let [default, smallest, google] = stacks.each_ref().map(|stack| || stack.accepted());
    let samples: Vec<Vec<Sample>> = take_turns(rounds, &[&default, &smallest, &google]);
    let theirs = nanoseconds(&samples[2]);
    for (name, samples) in NAMES.iter().zip(&samples) {
        let ours = nanoseconds(samples);
        let (time, peak, ratio) = (median(&ours) / 1e6, peak_mib(samples), ratio(&ours, &theirs));
        println!("   {name:<28}{time:>9.3} ms{peak:>8.1} MiB    ratio{ratio:>8.3}");
    }
}

const LOGINS: usize = 32;

fn winners(stacks: &[Stack<'_>; 3]) {
    let rounds = 20;
    println!(
        "\n5.2 How many of {LOGINS} logins with one code get in that wait at the prompt, and go on together \
         ({rounds} rounds each)"
    );
    let [default, smallest, google] = stacks.each_ref().map(|stack| || of_one_race(stack));
    let winners = take_turns(rounds, &[&default, &smallest, &google]);
    for (name, winners) in NAMES.iter().zip(&winners) {
        let (least, most) = (winners.iter().min().unwrap(), winners.iter().max().unwrap());
        let goal = if *name == NAMES[2] { "" } else { "    goal: 1" };
        println!("   {name:<28}{least:>9} to {most}{goal}");
    }
}

fn of_one_race(stack: &Stack<'_>) -> usize {
    stack.make_good();
    let outcomes = race(&vec![stack.attempt(); LOGINS]);
    outcomes.into_iter().flatten().filter(|outcome| outcome.codes == [pam::SUCCESS]).count()
}

fn full_disk() {
    println!("\n5.3 Login with a code that is right, on an ext4 with no byte free");
    println!("   {:<28}{}", "pam_backupcodes", told(of_backupcodes()));
    println!("   {:<28}{}", "google-authenticator", told(of_google_authenticator()));
}

fn told(code: i32) -> String {
    if code == pam::SUCCESS { "let in".into() } else { format!("refused, PAM error {code}") }
}

fn of_backupcodes() -> i32 {
    let world = World::new("").unwrap();
    let disk = Disk::with_store(&world, FileSystem::Ext4);
    let sheet = world.generate();
    disk.fill(Lack::Bytes);
    world.try_answer(&sheet.codes[0])
}

fn of_google_authenticator() -> i32 {
    let world = World::new("").unwrap();
    let disk = Disk::new(&world, FileSystem::Ext4);
    let secrets = disk.path("secrets");
    fs::create_dir(&secrets).unwrap();
    set_mode(&secrets, 0o700);
    let code = google::write_secret(&secrets.join(me()));
    let services = world.path("pam.d");
    fs::write(services.join("google"), format!("auth required {}\n", google::module(&secrets, &me())))
        .unwrap();
    let login = Attempt::new(&services, "google", &me(), None);
    let login = Attempt { answers: vec![(&code).into()], has_other_modules: true, ..login };
    // It is the disk that decides.
    let before = login.run().codes[0];
    assert_eq!(before, pam::SUCCESS, "on a disk with room");
    google::write_secret(&secrets.join(me()));
    disk.fill(Lack::Bytes);
    login.run().codes[0]
}
