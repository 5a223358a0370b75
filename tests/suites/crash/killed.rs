//! Whatever is killed, and whenever, each use of a code is told at least once.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backupcodes_tests::chance::Chance;
use backupcodes_tests::machine::Account;
use backupcodes_tests::postbox::{Handed, Postbox};
use backupcodes_tests::strace::tampering;
use backupcodes_tests::{Attempt, Outcome, Sheet, World, built, feed, pam, sheet};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// A delivery that is killed when it calls this for the first time.
fn killed_at(world: &World, call: &str) {
    let mut strace = tampering(&format!("{call}:signal=KILL:when=1"));
    strace.arg(built("backupcodes-admin")).arg("--config").arg(world.path("conf")).arg("notify");
    let output = feed(&mut strace, "");
    assert!(!output.status.success() && output.stderr.is_empty(), "it was killed: {output:?}");
}

#[test]
fn a_delivery_that_is_killed_when_sendmail_has_taken_a_notice_sends_it_once_more() {
    let Some(world) = World::new("") else { return };
    let postbox = Postbox::of(&world);
    let sheet = world.generate();
    // The notice of the set is queued, and removed.
    for (call, count) in [("unlinkat", 1), ("pwrite64", 1)] {
        if call == "pwrite64" {
            assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
        }
        let due = || world.status()["due"].as_u64().unwrap();
        assert_eq!(due(), count);
        killed_at(&world, call);
        postbox.expect(1);
        assert_eq!(due(), count, "{call}");
        world.deliver();
        postbox.expect(2);
        assert_eq!(due(), 0, "{call}");
        world.deliver();
        let both = postbox.handed();
        assert_eq!(both.len(), 2);
        assert_eq!(both[0].message, both[1].message, "one notice, as its Message-ID tells");
        postbox.empty();
    }
}

/// Kills deliveries of this world and its sendmail, until it is told to stop. How many of each, comes back.
fn kill_at_random(world: &World, chance: &mut Chance, stop: &AtomicBool) -> [usize; 2] {
    let mut killed = [0; 2];
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_micros(chance.below(15_000)));
        let is_sendmail = chance.below(2) == 1;
        let mut victims = world.deliveries();
        victims.retain(|&(_, kind)| kind == is_sendmail);
        let Some(at) = usize::try_from(chance.below(u64::MAX)).unwrap().checked_rem(victims.len()) else {
            continue;
        };
        let (victim, _) = victims[at];
        killed[usize::from(is_sendmail)] += usize::from(kill(victim, Signal::SIGKILL).is_ok());
    }
    killed
}

/// A login in an application that is killed after so many microseconds. What libpam returned, where it came so far.
fn log_in(attempt: &Attempt, end_after: Option<u64>) -> Option<i32> {
    let mut application = Command::new(built("pam-application"));
    let mut application = application
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    serde_json::to_writer(application.stdin.take().unwrap(), &[attempt]).unwrap();
    if let Some(after) = end_after {
        std::thread::sleep(Duration::from_micros(after));
        // The attempt is made in a child of it.
        let _ = killpg(Pid::from_raw(application.id().try_into().unwrap()), Signal::SIGKILL);
    }
    let output = application.wait_with_output().unwrap();
    let outcomes: Vec<Option<Outcome>> = serde_json::from_slice(&output.stdout).ok()?;
    Some(outcomes.into_iter().flatten().next()?.codes[0])
}

const LOGINS: usize = 500;
const THREADS: usize = 4;

#[test]
fn of_500_logins_with_applications_deliveries_and_sendmail_killed_at_random_each_has_its_notice() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let postbox = Postbox::of(&world);
    let generate = |account: Account| {
        let output = world.admin(&["generate", "--count", "31", "--format", "json", &account.name]);
        (account, sheet(output))
    };
    let sets: Vec<(Account, Sheet)> =
        machine.accounts(LOGINS.div_ceil(31)).into_iter().map(generate).collect();
    let logins: Vec<_> = sets
        .iter()
        .flat_map(|(account, sheet)| {
            sheet.codes.iter().zip(1..).map(move |(code, number)| (account, code, number))
        })
        .take(LOGINS)
        .collect();
    let accepted = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    let (applications, killed) = std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill_at_random(&world, &mut Chance(4), &stop));
        // As a timer does, and faster: most of them are killed.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                world.admin(&["notify"]);
            }
        });
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (world, logins, accepted) = (&world, &logins, &accepted);
                scope.spawn(move || {
                    let mut chance = Chance(thread as u64 + 1);
                    let mut killed = 0;
                    for (account, code, number) in logins.iter().skip(thread).step_by(THREADS) {
                        let attempt = world.attempt(&[(*code).into()]);
                        let attempt = Attempt { user: account.name.clone().into(), ..attempt };
                        let end_after = (chance.below(3) == 0).then(|| chance.below(40_000));
                        match log_in(&attempt, end_after) {
                            Some(pam::SUCCESS) => {
                                accepted.lock().unwrap().push((account.name.clone(), *number))
                            }
                            None if end_after.is_some() => killed += 1,
                            other => panic!("{other:?}: {:?}", world.last_line()),
                        }
                    }
                    killed
                })
            })
            .collect();
        let applications: Vec<usize> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        stop.store(true, Ordering::Relaxed);
        (applications.into_iter().sum::<usize>(), killer.join().unwrap())
    });
    world.wait_until_idle();
    world.deliver();
    let sets_after = world.admin(&["status", "--format", "json"]);
    let sets_after: Vec<serde_json::Value> = serde_json::from_slice(&sets_after.stdout).unwrap();
    let mut spent = Vec::new();
    for set in &sets_after {
        assert_eq!(set["due"], 0, "{set:#}");
        let user = set["user"].as_str().unwrap();
        let codes = set["codes"].as_array().unwrap().iter().zip(1_usize..);
        spent.extend(
            codes.filter(|(code, _)| code["state"] == "spent").map(|(_, number)| (user.to_owned(), number)),
        );
    }
    let mut told: BTreeMap<(String, usize), usize> = BTreeMap::new();
    let messages = postbox.handed();
    for message in &messages {
        let subject = message.subject();
        if let Some((number, rest)) =
            subject.strip_prefix("Backup code ").and_then(|rest| rest.split_once(" of "))
        {
            let user = rest.split_once(' ').unwrap().0;
            *told.entry((user.to_owned(), number.parse().unwrap())).or_default() += 1;
        }
    }
    let accepted = accepted.into_inner().unwrap();
    assert!(accepted.iter().all(|login| spent.contains(login)), "what was accepted is spent");
    let untold: Vec<_> = spent.iter().filter(|login| !told.contains_key(login)).collect();
    assert!(untold.is_empty(), "not told: {untold:?}");
    assert!(told.keys().all(|login| spent.contains(login)), "told, but not spent");
    for code in sets.iter().flat_map(|(_, sheet)| &sheet.codes) {
        let plain = code.replace('-', "");
        assert!(
            messages
                .iter()
                .all(|Handed { message, .. }| !message.contains(code) && !message.contains(&plain))
        );
    }
    let again: usize = told.values().map(|times| times - 1).sum();
    println!(
        "{} logins, {} accepted, {} spent, {} notices, {again} of them a second time; killed: {applications} applications, {} deliveries, {} sendmails",
        logins.len(),
        accepted.len(),
        spent.len(),
        told.values().sum::<usize>(),
        killed[0],
        killed[1]
    );
    assert!(
        applications > 20 && killed.iter().all(|&killed| killed > 5),
        "{applications} applications, {killed:?}"
    );
    assert!(spent.len() > accepted.len(), "some were killed between the spending and the yes");
}
