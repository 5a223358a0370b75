//! Whether the time of an answer tells what it was refused for. `cargo bench -p backupcodes-tests --bench refusals`;
//! docs/performance.md says how to read it.

use std::path::Path;
use std::time::{Duration, Instant};

use backupcodes_tests::bench::fresh::{Work, measure};
use backupcodes_tests::bench::stack::{Configured, Folder};
use backupcodes_tests::bench::{machine, median, ratio, release, section, take_turns, turns};
use backupcodes_tests::machine::Machine;
use backupcodes_tests::refusals::{Ground, Kind, Refusal};
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{Attempt, me};

fn main() {
    backupcodes_tests::bench::main(report);
}

const ROUNDS: usize = 200;

fn report() {
    let Some(host) = Machine::new() else { return };
    let folder = Folder::new(&release());
    machine::describe(folder.path());
    println!("Medians, and the median of the rounds' ratios to a wrong secret; all kinds take turns.");
    for kind in Kind::ALL {
        if kind != Kind::UnknownUser {
            host.account_named(user(kind));
        }
    }
    in_our_own_host(&host, &folder);
    through_sshd(&host);
}

/// Names of one length, that of root's.
const fn user(kind: Kind) -> &'static str {
    match kind {
        Kind::UnknownUser => "noid",
        Kind::NoSet => "bare",
        Kind::AllSpent => "done",
        Kind::WrongNumber => "slot",
        Kind::SpentNumber => "used",
        Kind::WrongSecret => "miss",
        Kind::Malformed => "typo",
        Kind::Throttled => "slow",
        Kind::SpendingFailed => "lost",
    }
}

fn in_our_own_host(host: &Machine, folder: &Folder) {
    let rounds = section("1. In a host of our own, from pam_start_confdir to pam_end", ROUNDS);
    let Configured { conf, directory, runtime } = folder.backupcodes("refusals", "");
    let refusals = Kind::ALL.map(|kind| {
        let attempt = Attempt::new(&folder.services(), "refusals", user(kind), None);
        let (conf, directory, runtime) = (Some(conf.clone()), directory.clone(), runtime.clone());
        kind.make_ready(&Ground { conf, directory, runtime, attempt })
    });
    let before = host.log().len();
    let contestants: Vec<_> =
        Kind::ALL.iter().zip(&refusals).map(|(&kind, r)| move || login(kind, r)).collect();
    let contestants: Vec<&dyn Fn() -> f64> = contestants.iter().map(|c| c as &dyn Fn() -> f64).collect();
    let samples = take_turns(rounds, &contestants);
    for kind in Kind::ALL {
        check_log(host, before, "(refusals:auth)", user(kind), kind, rounds + 1);
    }
    compare(&Kind::ALL.map(Kind::name), &samples);
}

fn login(kind: Kind, refusal: &Refusal) -> f64 {
    refusal.reset();
    let Attempt { folder, service, user, .. } = &refusal.attempt;
    let work = Work::Login {
        folder: Path::new(folder).into(),
        service: String::from_utf8(service.clone()).unwrap(),
        user: String::from_utf8(user.clone()).unwrap(),
        answer: refusal.answer().into(),
        expected: kind.code(),
    };
    measure(&work).nanoseconds
}

/// How long sshd may still sleep when the prompt is on the screen. It lets each request for a method take 5.0 to 9.3 ms,
/// as the user's name has it, or twice, four times … that; the answer to a prompt is no such request.
const PAUSE: Duration = Duration::from_millis(100);

fn through_sshd(host: &Machine) {
    let rounds =
        section("2. Through sshd, from the answer at the terminal to \"Permission denied\" on it", ROUNDS);
    // The code alone: behind a password or a key an unknown user is not asked for one.
    host.stack("sshd", "ssh-key");
    let sshd = host.sshd("sshd-password");
    let mut names = Kind::ALL.map(Kind::name).to_vec();
    let mut users = Kind::ALL.map(user).to_vec();
    let mut refusals: Vec<_> =
        Kind::ALL.iter().map(|&kind| kind.make_ready(&Ground::of_sshd(user(kind)))).collect();
    // Behind a right-looking code is junk of sshd's own: for the user it does not know, and for this one.
    let root = me();
    names[0] = "unknown user (junk)";
    names.push("root (junk)");
    users.push(&root);
    refusals.push(Kind::WrongSecret.make_ready(&Ground::of_sshd(&root)));

    let before = host.log().len();
    let mut samples = vec![Vec::new(); names.len()];
    for round in 0..rounds {
        // All are at their prompt before the first answer: no login that is still beginning disturbs one that ends.
        let mut terminals: Vec<_> =
            users.iter().map(|user| Terminal::start(&mut sshd.client_of(user, 1))).collect();
        terminals.iter_mut().for_each(|terminal| terminal.expect("Backup code: "));
        std::thread::sleep(PAUSE);
        for turn in turns(round, names.len()) {
            refusals[turn].reset();
            samples[turn].push(refused(&mut terminals[turn], refusals[turn].answer()));
        }
    }
    for (kind, user) in Kind::ALL.into_iter().zip(&users).chain([(Kind::Malformed, &root.as_str())]) {
        check_log(host, before, "(sshd:auth)", user, kind, rounds);
    }
    compare(&names, &samples);
}

fn refused(terminal: &mut Terminal, answer: &str) -> f64 {
    let start = Instant::now();
    terminal.send(answer);
    terminal.expect("Permission denied");
    let nanoseconds = start.elapsed().as_secs_f64() * 1e9;
    terminal.end();
    // For what sshd does when its client has gone.
    std::thread::sleep(PAUSE / 5);
    nanoseconds
}

/// Each was refused for what it is said to be refused for.
fn check_log(host: &Machine, before: usize, place: &str, user: &str, kind: Kind, expected: usize) {
    let user = if kind == Kind::UnknownUser { "user=(unknown)".into() } else { format!("user={user} ") };
    let log = host.log();
    let mine = log[before..].iter().filter(|line| line.text.contains(place) && line.text.contains(&user));
    assert_eq!(mine.filter(|line| line.text.contains(kind.reason())).count(), expected, "{}", kind.name());
}

fn compare(names: &[&str], samples: &[Vec<f64>]) {
    let reference = names.iter().position(|&name| name == Kind::WrongSecret.name()).unwrap();
    for (name, mine) in names.iter().zip(samples) {
        let ratio = ratio(mine, &samples[reference]);
        println!("   {name:<28}{:>9.3} ms{ratio:>9.3}", median(mine) / 1e6);
    }
    println!("   {:<28}{:>12}{:>9}       goal: 0.95 to 1.05", "", "", "ratio");
}
