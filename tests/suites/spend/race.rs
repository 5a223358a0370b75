//! A code succeeds at most once, however many logins try it at the same time.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use backupcodes_tests::{Attempt, Sheet, World, me, pam, race, sheet, text};
use nix::fcntl::{Flock, FlockArg};

/// Logins that stand at the barrier together.
const PROCESSES: usize = 64;
const ROUNDS: usize = 50;

fn accepted(attempts: &[Attempt]) -> usize {
    let outcomes: Vec<_> =
        race(attempts).into_iter().map(|outcome| outcome.expect("no application dies").codes[0]).collect();
    assert!(outcomes.iter().all(|code| [pam::SUCCESS, pam::AUTH_ERR].contains(code)), "{outcomes:?}");
    outcomes.iter().filter(|&&code| code == pam::SUCCESS).count()
}

#[test]
fn of_64_simultaneous_logins_with_one_code_exactly_one_gets_in() {
    let Some(world) = World::new("") else { return };
    let mut codes = Vec::new();
    for round in 0..ROUNDS {
        let code = codes.pop().unwrap_or_else(|| {
            codes = world.generate().codes;
            codes.pop().unwrap()
        });
        let attempts = vec![world.attempt(&[(&code).into()]); PROCESSES];
        assert_eq!(accepted(&attempts), 1, "round {round}");
    }
}

#[test]
fn of_64_simultaneous_logins_with_10_codes_exactly_10_get_in() {
    let Some(world) = World::new("") else { return };
    for _ in 0..5 {
        let sheet = world.generate();
        let attempts: Vec<_> =
            (0..PROCESSES).map(|at| world.attempt(&[(&sheet.codes[at % 10]).into()])).collect();
        assert_eq!(accepted(&attempts), 10);
        assert!(sheet.codes.iter().all(|code| world.try_answer(code) == pam::AUTH_ERR));
    }
}

#[test]
fn a_generate_in_the_middle_of_a_storm_ends_the_old_set() {
    let Some(world) = World::new("") else { return };
    let mut old = world.generate();
    let mut got_in_before = 0;
    for round in 0..10 {
        let (new, storm) = std::thread::scope(|scope| {
            let storm = scope.spawn(|| {
                let attempts: Vec<_> =
                    (0..PROCESSES).map(|at| world.attempt(&[(&old.codes[at % 10]).into()])).collect();
                accepted(&attempts)
            });
            // Earlier in one round, later in the next.
            std::thread::sleep(Duration::from_millis(15 * round));
            (world.generate(), storm.join().unwrap())
        });
        got_in_before += storm;
        assert!(storm <= 10);
        for code in &old.codes {
            assert_eq!(world.try_answer(code), pam::AUTH_ERR, "a code of the old set");
        }
        assert_eq!(world.try_answer(&new.codes[0]), pam::SUCCESS);
        old = new;
    }
    // Over all rounds some were in time and some too late, or the storm was none.
    assert!(got_in_before > 0 && got_in_before < 100, "{got_in_before} of 100");
}

/// What a login returns whose set file is replaced by `file` while it waits for the lock.
fn replaced_while_waiting(world: &World, code: &String, file: &Path) -> i32 {
    let locked = lock(world);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| world.try_answer(code));
        std::thread::sleep(Duration::from_millis(1500));
        std::fs::rename(file, world.file()).unwrap();
        drop(locked);
        waiting.join().unwrap()
    })
}

/// The lock that whoever spends a code holds.
fn lock(world: &World) -> Flock<File> {
    Flock::lock(File::open(world.file()).unwrap(), FlockArg::LockExclusive).unwrap()
}

#[test]
fn a_code_is_refused_if_its_set_was_replaced_while_it_waited_for_the_lock() {
    let Some(world) = World::new("") else { return };
    let new = world.generate();
    std::fs::rename(world.file(), world.path("new")).unwrap();
    let old = world.generate();
    let returned = replaced_while_waiting(&world, &old.codes[0], &world.path("new"));
    assert_eq!(returned, pam::AUTH_ERR);
    assert!(world.last_line().text.contains("or the set was replaced"), "{:?}", world.last_line());
    assert_eq!(world.try_answer(&new.codes[0]), pam::SUCCESS);
}

fn start_generate(world: &World, options: &[&str]) -> Child {
    let mut command = world.admin_command();
    command.args(["generate", "--format", "json", &me()]).args(options);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn of_two_first_generates_at_once_one_sheet_is_live_and_the_other_said_so() {
    let Some(world) = World::new("") else { return };
    for _ in 0..20 {
        world.admin(&["revoke", &me()]);
        let start = || start_generate(&world, &[]);
        let both = [start(), start()].map(|child| child.wait_with_output().unwrap());
        let (done, refused): (Vec<Output>, Vec<Output>) =
            both.into_iter().partition(|output| output.status.success());
        let live: Vec<Sheet> = done.into_iter().map(sheet).collect();
        assert_eq!((live.len(), refused.len()), (1, 1));
        // The other printed no code at all, and said why.
        let complaint = text(&refused[0].stderr);
        assert_eq!((text(&refused[0].stdout).trim(), refused[0].status.code()), ("[]", Some(3)));
        assert!(
            complaint.contains("changed by another process") || complaint.contains("unspent"),
            "{complaint}"
        );
        assert_eq!(world.try_answer(&live[0].codes[0]), pam::SUCCESS);
    }
}

#[test]
fn many_generates_at_once_leave_one_whole_set() {
    let Some(world) = World::new("") else { return };
    world.generate();
    let children: Vec<_> = (0..16).map(|_| start_generate(&world, &["--yes"])).collect();
    let outputs: Vec<Output> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let sets: HashSet<String> = outputs
        .into_iter()
        .filter(|output| output.status.success())
        .map(|output| sheet(output).set)
        .collect();
    let status = world.status();
    assert!(sets.contains(status["set"].as_str().unwrap()), "the set in place is one that said it is");
    assert_eq!(status["left"], 10);
    let files = world.other_files();
    assert!(
        files.iter().all(|name| name.starts_with(&format!("{}@", me()))),
        "nothing is left over: {files:?}"
    );
    assert_eq!(files.len(), 1 + sets.len(), "a notice of each set, and of no other");
}

#[test]
fn a_generate_waits_for_whoever_is_spending_a_code() {
    let Some(world) = World::new("") else { return };
    world.generate();
    let before = std::fs::read(world.file()).unwrap();
    let spender = lock(&world);
    let mut child = start_generate(&world, &["--yes"]);
    std::thread::sleep(Duration::from_secs(1));
    assert!(child.try_wait().unwrap().is_none(), "it did not wait");
    assert_eq!(std::fs::read(world.file()).unwrap(), before);
    drop(spender);
    let new = sheet(child.wait_with_output().unwrap());
    assert_eq!(world.try_answer(&new.codes[0]), pam::SUCCESS);
}

#[test]
fn a_generate_that_waits_too_long_says_that_its_sheet_is_dead() {
    let Some(world) = World::new("") else { return };
    let old = world.generate();
    let queued = world.other_files();
    let spender = lock(&world);
    let output = world.admin(&["generate", "--yes", &me()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("THE SHEET ABOVE IS WORTHLESS"), "{output:?}");
    drop(spender);
    assert_eq!(world.try_answer(&old.codes[0]), pam::SUCCESS);
    assert_eq!(world.other_files(), queued, "nothing is left over");
}

#[test]
fn a_set_that_moved_while_an_attempt_waited_for_its_lock_is_read_again() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let moved = world.store().join("moved.toml");
    std::fs::copy(world.file(), &moved).unwrap();
    let returned = replaced_while_waiting(&world, &sheet.codes[0], &moved);
    assert_eq!(returned, pam::SUCCESS);
    assert_eq!(world.status()["left"], 9);
}
