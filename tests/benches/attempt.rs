//! What a login by backup code costs. `cargo bench -p backupcodes-tests --bench attempt`; docs/performance.md says how
//! to read it.

use std::path::Path;

use backupcodes_tests::bench::fresh::{self, Work};
use backupcodes_tests::bench::stack::{Folder, SMALLEST_HASH, Stack};
use backupcodes_tests::bench::{compare, google, machine, median, release, section, skipped, take_turns};

fn main() {
    backupcodes_tests::bench::main(report);
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
    by_the_broker(&folder);
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
    let samples = take_turns(rounds, &[&|| accepted(usual), &reference]);
    compare(["attempt", "reference"], &samples, "at most 0.85");
}

fn small_and_large_sets(folder: &Folder) {
    let rounds = section("2. Accepted attempt with the last code of a set of 31, and with a set of 1", 201);
    let [large, small] =
        [31, 1].map(|count| Stack::of_backupcodes(folder, &format!("set-of-{count}"), "", count));
    let samples = take_turns(rounds, &[&|| accepted(&large), &|| accepted(&small)]);
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
    let samples = take_turns(rounds, &[&malformed, &wrong]);
    compare(["malformed", "wrong"], &samples, "0.95 to 1.05");
}

fn against_google_authenticator(folder: &Folder) {
    let rounds = section(
        "4. Accepted attempt with the smallest hash, and an emergency code of google-authenticator",
        201,
    );
    if !google::is_installed() {
        return skipped(google::PACKAGE);
    }
    let smallest = Stack::of_backupcodes(folder, "smallest", SMALLEST_HASH, 10);
    let google = Stack::of_google_authenticator(folder, "google");
    let samples = take_turns(rounds, &[&|| accepted(&smallest), &|| accepted(&google)]);
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
        let samples = take_turns(rounds, &[&load]);
        println!("   {:<28}{:>9.0} µs", machine::name(&file), median(&samples[0]) / 1e3);
    }
}

fn memory(folder: &Folder, usual: &Stack) {
    let rounds = section(
        "6. Peak memory of a process with one accepted attempt, less that of one with only pam_permit",
        21,
    );
    let permit = Stack::of_permit(folder, "permit");
    let samples = take_turns(rounds, &[&|| usual.accepted().peak_kib, &|| permit.accepted().peak_kib]);
    let [attempt, nothing] = [median(&samples[0]), median(&samples[1])];
    let ours = (attempt - nothing) / 1024.0;
    println!("   attempt {attempt} KiB, pam_permit {nothing} KiB");
    println!("   difference {ours:.1} MiB    goal: at most 25 (the 19 of the hash, and 6)");
}

fn size(release: &Path) {
    let bytes = std::fs::metadata(release.join("libpam_backupcodes.so")).unwrap().len();
    println!("\n7. Size of libpam_backupcodes.so\n   {} KiB    goal: under 700", bytes / 1024);
}

fn by_the_broker(folder: &Folder) {
    let rounds =
        section("8. Accepted attempt of a host that is not root, by the broker, and of one that is", 201);
    if !nix::unistd::geteuid().is_root() {
        return println!("   skipped: needs root");
    }
    let (user, root, _broker) = Stack::of_ordinary_user(folder, "user");
    let samples = take_turns(rounds, &[&|| accepted(&user), &|| accepted(&root)]);
    compare(["by the broker", "by root"], &samples, "at most 1.1, and 1 ms");
    let over: Vec<_> = samples[0].iter().zip(&samples[1]).map(|(user, root)| user - 1.1 * root).collect();
    println!("   {:<28}{:>9.3} ms    goal: at most 1", "more than 1.1 times", median(&over) / 1e6);
}

fn accepted(stack: &Stack) -> f64 {
    stack.accepted().nanoseconds
}
