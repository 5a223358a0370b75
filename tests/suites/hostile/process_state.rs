//! Applications in unusual process states. [`backupcodes_tests::race_in`] checks after every attempt of every test that the module
//! has restored the state.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use backupcodes_tests::condition::{Condition, Memory};
use backupcodes_tests::usage::{EXACT, Usage};
use backupcodes_tests::{
    Attempt, CHEAP, Outcome, Sheet, World, as_nobody, built, feed, me, pam, race, race_in, sandbox, set_mode,
    sheet,
};

/// In an application like this a wrong code is refused, and a right one accepted once.
fn holds(conditions: &[Condition]) -> Vec<Outcome> {
    let Some(world) = World::new("") else { return Vec::new() };
    let old = world.generate();
    let sheet = world.generate();
    let right = &sheet.codes[0];
    let attempts = [(&old.codes[0], pam::AUTH_ERR), (right, pam::SUCCESS), (right, pam::AUTH_ERR)];
    let outcomes = attempts.map(|(code, expected)| {
        let attempt = Attempt { conditions: conditions.to_vec(), ..world.attempt(&[code.into()]) };
        let outcome = race(&[attempt]).pop().unwrap().expect("the application lives on");
        assert_eq!(outcome.codes, [expected], "{conditions:?}: {:?}", world.last_line());
        outcome
    });
    assert_eq!(world.try_answer(&sheet.codes[1]), pam::SUCCESS, "the others still work");
    outcomes.into()
}

#[test]
fn with_descriptors_0_1_and_2_closed() {
    holds(&[Condition::StandardClosed]);
}

#[test]
fn with_sigpipe_and_sigxfsz_at_their_defaults_and_no_file_size_left() {
    holds(&[Condition::DefaultSignals, Condition::SoftLimit(libc::RLIMIT_FSIZE, 0)]);
}

#[test]
fn with_all_signals_blocked() {
    holds(&[Condition::AllSignalsBlocked, Condition::SoftLimit(libc::RLIMIT_FSIZE, 0)]);
}

#[test]
fn with_sigchld_ignored_or_handled_by_a_reaper_of_any_child() {
    holds(&[Condition::ChildrenIgnored]);
    let outcomes = holds(&[Condition::ChildrenReaped]);
    assert!(outcomes.iter().all(|outcome| outcome.handled == 0), "there was a child");
}

#[test]
fn with_a_signal_every_millisecond() {
    let Some(world) = World::new("") else { return };
    // Long enough for many signals.
    world.configure("[hash]\nmemory_kib = 19456\npasses = 3\n");
    let sheet = world.generate();
    for (code, expected) in
        [(&sheet.codes[0], pam::SUCCESS), (&sheet.codes[0], pam::AUTH_ERR), (&sheet.codes[1], pam::SUCCESS)]
    {
        let outcome = Attempt { conditions: vec![Condition::Alarms], ..world.attempt(&[code.into()]) }.run();
        assert_eq!(outcome.codes, [expected], "{:?}", world.last_line());
        assert!(outcome.handled >= 5, "{} signals", outcome.handled);
    }
}

#[test]
fn with_a_deleted_working_directory() {
    holds(&[Condition::CwdDeleted]);
}

#[test]
fn with_a_umask_of_0_all_files_are_private() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    for (umask, code) in [0, 0o777].into_iter().zip(&sheet.codes) {
        let attempt = Attempt { conditions: vec![Condition::Umask(umask)], ..world.attempt(&[code.into()]) };
        assert_eq!(attempt.run().codes, [pam::SUCCESS], "{:?}", world.last_line());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&world.file()), 0o600);
        assert_eq!(mode(&world.path("run")), 0o755);
        assert_eq!(["run/throttle", "run/hash-permits"].map(|name| mode(&world.path(name))), [0o700; 2]);
        let permits: Vec<_> = fs::read_dir(world.path("run/hash-permits")).unwrap().collect();
        assert!(!permits.is_empty());
        for permit in permits {
            assert_eq!(mode(&permit.unwrap().path()) & !0o600, 0);
        }
        fs::remove_dir_all(world.path("run")).unwrap();
    }
}

/// What a wrong and a right code return in such applications. A right one that is refused is answered like a wrong one, and
/// still works elsewhere; one that is accepted does not.
fn wrong_and_right(world: &World, old: &Sheet, change: &dyn Fn(&mut Attempt)) -> [i32; 2] {
    let sheet = world.generate();
    let [wrong, right] = [&old.codes[0], &sheet.codes[0]].map(|code| {
        let mut attempt = world.attempt(&[code.into()]);
        change(&mut attempt);
        race(&[attempt]).pop().unwrap().expect("the application lives on").codes[0]
    });
    assert_ne!(wrong, pam::SUCCESS);
    let again = world.try_answer(&sheet.codes[0]);
    let expected = if right == pam::SUCCESS { [right, pam::AUTH_ERR] } else { [wrong, pam::SUCCESS] };
    assert_eq!([right, again], expected, "{:?}", world.log().iter().rev().take(4).collect::<Vec<_>>());
    [wrong, right]
}

#[test]
fn with_few_descriptors_left_it_is_refused_with_a_reason_or_done() {
    let Some(world) = World::new("") else { return };
    let old = world.generate();
    for hard in [false, true] {
        let mut got_in = Vec::new();
        for count in 0..=16 {
            let before = world.log().len();
            let [wrong, right] = wrong_and_right(&world, &old, &|attempt| {
                attempt.conditions = vec![Condition::DescriptorsLeft { count, hard }];
            });
            // Three attempts, with the one elsewhere: each has a line that says why.
            assert_eq!(world.log().len(), before + 3, "{count} left: {:?}", world.last_line());
            // With none left libpam makes an error of its own of whatever it is told.
            let own = [pam::AUTH_ERR, pam::AUTHINFO_UNAVAIL, pam::SERVICE_ERR];
            assert!(own.contains(&wrong) || count == 0 && wrong == pam::SYSTEM_ERR, "{count} left: {wrong}");
            got_in.push(right == pam::SUCCESS);
        }
        assert!(got_in.is_sorted() && !got_in[0] && got_in[16], "{got_in:?}");
    }
}

#[test]
fn with_little_memory_the_application_lives_and_right_is_not_told_from_wrong() {
    let Some(world) = World::new("") else { return };
    world.configure(&format!("[codes]\ncount = 31\n{CHEAP}"));
    let old = world.generate();
    // Enough for the hash, and then not even for that. With less than a page there is none for the arguments.
    for mappings in [64 << 10, 32 << 10] {
        let returned: Vec<_> = (4 << 10..112 << 10)
            .step_by(797)
            .map(|heap| {
                let memory = Memory { heap, mappings };
                wrong_and_right(&world, &old, &|attempt| attempt.memory_left = Some(memory))
            })
            .collect();
        let expected =
            if mappings == 64 << 10 { [pam::AUTH_ERR, pam::SUCCESS] } else { [pam::AUTHINFO_UNAVAIL; 2] };
        assert_eq!(returned[0], [pam::AUTHINFO_UNAVAIL; 2]);
        assert_eq!(returned.last(), Some(&expected), "{returned:?}");
    }
}

#[test]
fn with_an_address_space_too_small_for_the_hash() {
    let Some(world) = World::new("") else { return };
    world.configure("");
    let old = world.generate();
    let memory = Memory { heap: 112 << 10, mappings: 19456 << 10 };
    let returned = wrong_and_right(&world, &old, &|attempt| attempt.memory_left = Some(memory));
    assert_eq!(returned, [pam::AUTHINFO_UNAVAIL; 2]);
    let log = world.log();
    let reason = "19456 KiB of memory for one hash cannot be allocated";
    assert_eq!(log.iter().filter(|line| line.text.contains(reason)).count(), 2, "{log:#?}");
}

/// Hands all of a world to an ordinary user, who then is the one that must own it.
fn give_to_nobody(world: &World) {
    let status = Command::new("chown").args(["-R", "65534:65534"]).arg(world.folder.path()).status().unwrap();
    assert!(status.success());
}

#[test]
fn with_no_process_left() {
    let Some(world) = World::of_root("") else { return };
    let sheet = world.generate();
    give_to_nobody(&world);
    let run = |application: &mut Command, code: &String| {
        let conditions = vec![Condition::HardLimit(libc::RLIMIT_NPROC, 0)];
        let attempt = Attempt { conditions, ..world.attempt(&[code.into()]) };
        race_in(application, &[attempt]).pop().unwrap().expect("the application lives on").codes[0]
    };
    assert_eq!(
        run(as_nobody().arg(built("pam-application")), &sheet.codes[0]),
        pam::SUCCESS,
        "{:?}",
        world.last_line()
    );
    assert_eq!(run(as_nobody().arg(built("pam-application")), &sheet.codes[0]), pam::AUTH_ERR);
}

#[test]
fn in_a_chroot() {
    let Some(world) = World::of_root("") else { return };
    let sheet = world.generate();
    let run = |jail: &Path| {
        let conditions = vec![Condition::Chroot(jail.to_str().unwrap().into())];
        let outcome = Attempt { conditions, ..world.attempt(&[(&sheet.codes[0]).into()]) }.run();
        (outcome.codes[0], outcome.said.len())
    };
    // Nothing of ours in there: it cannot even be configured.
    let jail = tempfile::tempdir().unwrap();
    set_mode(jail.path(), 0o755);
    assert_eq!(run(jail.path()), (pam::SERVICE_ERR, 0));
    assert!(world.last_line().text.contains("cannot be read (ENOENT"), "{:?}", world.last_line());
    // All of it.
    let inside = |path: &Path| jail.path().join(path.strip_prefix("/").unwrap());
    fs::create_dir_all(inside(world.folder.path())).unwrap();
    for name in ["conf", "store"] {
        let copy =
            Command::new("cp").arg("-a").arg(world.path(name)).arg(inside(world.folder.path())).status();
        assert!(copy.unwrap().success());
    }
    fs::create_dir(jail.path().join("etc")).unwrap();
    fs::copy("/etc/passwd", jail.path().join("etc/passwd")).unwrap();
    assert_eq!(run(jail.path()).0, pam::SUCCESS, "{:?}", world.last_line());
    assert_eq!(run(jail.path()).0, pam::AUTH_ERR);
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS, "outside it is another set");
}

#[test]
fn a_sigterm_in_the_middle_spends_a_code_at_most_once() {
    let Some(world) = World::new("") else { return };
    let mut codes = Vec::new();
    let [mut died, mut lived] = [0; 2];
    for after in (0..200).map(|at| at * at / 4) {
        for handled in [false, true] {
            let code = codes.pop().unwrap_or_else(|| {
                codes = world.generate().codes;
                codes.pop().unwrap()
            });
            let conditions = vec![Condition::Term { after, handled }];
            let attempt = Attempt { conditions, ..world.attempt(&[(&code).into()]) };
            let outcome = race(&[attempt]).pop().unwrap();
            let again = world.try_answer(&code);
            match outcome {
                None => {
                    assert!(!handled, "the application handles it");
                    died += 1;
                }
                Some(outcome) => {
                    assert_eq!((outcome.codes, again), (vec![pam::SUCCESS], pam::AUTH_ERR));
                    lived += i32::from(!handled);
                }
            }
            assert_eq!(world.try_answer(&code), pam::AUTH_ERR);
        }
    }
    assert!(died > 0 && lived > 0, "{died} died and {lived} lived");
}

#[test]
fn two_threads_that_authenticate_at_once() {
    let Some(world) = World::new("") else { return };
    let limits =
        vec![Condition::SoftLimit(libc::RLIMIT_FSIZE, 0), Condition::SoftLimit(libc::RLIMIT_NOFILE, 64)];
    for _ in 0..100 {
        let sheet = world.generate();
        let mut attempt = world.attempt(&[(&sheet.codes[0]).into(), (&sheet.codes[1]).into()]);
        attempt.conditions = limits.clone();
        attempt.threads = 2;
        assert_eq!(attempt.run().codes, [pam::SUCCESS; 2], "{:?}", world.last_line());
        attempt.answers = vec![(&sheet.codes[2]).into(); 2];
        let mut codes = attempt.run().codes;
        codes.sort_unstable();
        assert_eq!(codes, [pam::SUCCESS, pam::AUTH_ERR]);
    }
}

/// Limits are the whole process's: what another thread starts meanwhile would keep those that an attempt has lifted.
#[test]
fn what_the_application_forks_during_an_attempt_has_its_own_limits() {
    let Some(world) = World::new("") else { return };
    let limits = [Condition::SoftLimit(libc::RLIMIT_FSIZE, 0), Condition::SoftLimit(libc::RLIMIT_NOFILE, 64)];
    for round in 0..10 {
        let sheet = world.generate();
        for code in &sheet.codes {
            let mut attempt = world.attempt(&[code.into()]);
            attempt.conditions = limits.iter().cloned().chain([Condition::Forks]).collect();
            let outcome = attempt.run();
            assert_eq!(outcome.codes, [pam::SUCCESS], "{:?}", world.last_line());
            assert_eq!(outcome.handled, 0, "round {round}: children with other limits");
        }
    }
}

#[test]
fn a_thousand_transactions_in_one_process_leave_nothing_behind() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let right = sheet.codes.iter().skip(1).map(Into::into);
    // Right ones at first, and then one that is spent.
    let spent: Vec<_> = vec![(&sheet.codes[0]).into(); 1050 - 9];
    let mut attempt = world.attempt(&right.chain(spent).collect::<Vec<_>>());
    attempt.calls.push("open_session".into());
    attempt.times = 1050;
    let mut application = Command::new(built("pam-application"));
    let outcome = race_in(application.env(EXACT.0, EXACT.1), &[attempt])
        .pop()
        .flatten()
        .expect("the application lives on");
    assert_eq!(outcome.codes[0], pam::AUTH_ERR);
    let [before, after] = outcome.usage[..] else { panic!("two looks") };
    assert!(!after.is_more_than(&before), "{before:?} {after:?}");
}

#[test]
fn a_thousand_loads_and_unloads_leave_nothing_behind() {
    if sandbox().is_none() {
        return;
    }
    let module = built("libpam_backupcodes.so");
    let output = feed(Command::new(built("reload")).arg(module).env(EXACT.0, EXACT.1), "");
    let [before, after]: [Usage; 2] = serde_json::from_slice(&output.stdout).expect("two looks");
    assert!(!after.is_more_than(&before), "{before:?} {after:?}");
}

#[test]
fn a_conversation_of_a_minute_keeps_nobody_waiting_and_its_set_may_end_meanwhile() {
    let Some(world) = World::new("") else { return };
    world.configure("[hash]\nmemory_kib = 64\npasses = 1\nconcurrent = 1\n");
    let old = world.generate();
    let slow = |code: &String| Attempt { seconds_to_answer: Some(60), ..world.attempt(&[code.into()]) };
    let slow = slow(&old.codes[0]);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| slow.run().codes[0]);
        std::thread::sleep(Duration::from_secs(1));
        let start = Instant::now();
        assert_eq!(world.try_answer(&old.codes[1]), pam::SUCCESS);
        let new = world.generate();
        assert_eq!(world.try_answer(&new.codes[0]), pam::SUCCESS);
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        assert_eq!(slow.join().unwrap(), pam::AUTH_ERR, "its set is gone");
        assert_eq!(world.try_answer(&new.codes[1]), pam::SUCCESS);
    });
}

#[test]
fn a_conversation_of_a_minute_ends_in_a_login() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let mut attempt = world.attempt(&[(&sheet.codes[0]).into()]);
    attempt.seconds_to_answer = Some(60);
    assert_eq!(attempt.run().codes, [pam::SUCCESS]);
}

#[test]
fn a_user_that_changes_between_calls_is_asked_for_their_own_code() {
    let Some(world) = World::new("") else { return };
    let mine = world.generate();
    let theirs = sheet(world.admin(&["generate", "--format", "json", "daemon"]));
    let answers = [&mine.codes[0], &mine.codes[1], &theirs.codes[1], &theirs.codes[2]].map(Into::into);
    let mut attempt = world.attempt(&answers);
    let back = format!("user={}", me());
    attempt.calls = ["authenticate", "user=daemon", "authenticate", "authenticate", &back, "authenticate"]
        .map(Into::into)
        .into();
    assert_eq!(attempt.run().codes, [0, 0, pam::AUTH_ERR, pam::SUCCESS, 0, pam::AUTH_ERR]);
    assert_eq!(world.try_answer(&mine.codes[1]), pam::SUCCESS);
    assert_eq!(world.try_answer(&mine.codes[0]), pam::AUTH_ERR);
}

#[test]
fn a_second_authentication_on_one_handle_is_one_of_its_own() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let mut attempt = world.attempt(&[0, 0, 1].map(|at: usize| (&sheet.codes[at]).into()));
    attempt.calls = vec!["authenticate".into(); 3];
    assert_eq!(attempt.run().codes, [pam::SUCCESS, pam::AUTH_ERR, pam::SUCCESS]);
}
