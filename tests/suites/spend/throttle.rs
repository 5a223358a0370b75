//! What wrong codes cost, and whom they must not affect.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use backupcodes_tests::level::{ERROR, WARNING};
use backupcodes_tests::strace::tampering;
use backupcodes_tests::{Attempt, Sheet, World, built, feed, me, pam, race, refuses, set_mode, text};

/// Hashes that cost little, and the throttle as it is without a configuration.
const USUAL: &str = "[hash]\nmemory_kib = 64\npasses = 1\n";

/// A world with the usual throttle, a set, and codes that are wrong.
fn world() -> Option<(World, Sheet, Vec<String>)> {
    let world = World::new("")?;
    world.configure(USUAL);
    let wrong = world.generate().codes;
    Some((world.generate(), wrong)).map(|(sheet, wrong)| (world, sheet, wrong))
}

/// The file that counts for the user who runs the tests.
fn key(world: &World, source: &str) -> PathBuf {
    world.path("run/throttle").join(me()).join(format!("{}@{source}", world.service))
}

fn counted(world: &World, source: &str) -> u64 {
    fs::metadata(key(world, source)).map_or(0, |file| file.len())
}

fn from(world: &World, source: Option<&str>, code: &String) -> Attempt {
    let mut attempt = world.attempt(&[code.into()]);
    attempt.rhost = source.map(Into::into);
    attempt
}

#[test]
fn after_too_many_wrong_codes_a_right_one_is_refused_without_a_check() {
    let Some((world, sheet, wrong)) = world() else { return };
    world.configure(&format!("{USUAL}[throttle]\nfirst_delay = 60\nlongest_delay = 600\n"));
    // Nobody waits: the last failure is put back in time.
    let put_back = |seconds: u64| {
        let counter = fs::File::options().write(true).open(key(&world, "192.0.2.7")).unwrap();
        counter.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    };
    for code in &wrong[..5] {
        refuses(&world, code, pam::AUTH_ERR, backupcodes_tests::level::NOTICE, "wrong code for number");
    }
    refuses(&world, &sheet.codes[0], pam::AUTH_ERR, WARNING, "throttled until 2");
    assert!(world.last_line().text.contains("after 5 failures in a row"), "{:?}", world.last_line());
    // The first delay is a minute, the next one two.
    put_back(70);
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::AUTH_ERR);
    put_back(250);
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS, "{:?}", world.last_line());
    // The use tells how many refusals came before it, and the success forgets them.
    assert!(fs::read_to_string(world.file()).unwrap().contains(" mail=due fails=7 "));
    assert!(!key(&world, "192.0.2.7").exists());
}

#[test]
fn an_address_in_other_clothes_is_the_same_source() {
    let Some((world, sheet, wrong)) = world() else { return };
    for (said, shown) in [
        (&["::ffff:192.0.2.9", "::FFFF:c000:209", "192.0.2.9", "0:0:0:0:0:ffff:c000:0209"][..], "192.0.2.9"),
        (&["2001:DB8::9", "2001:db8::9", "[2001:db8::9]"], "2001:db8::9"),
    ] {
        for host in said {
            assert_eq!(from(&world, Some(host), &wrong[0]).run().codes, [pam::AUTH_ERR]);
            assert!(world.last_line().text.contains(&format!("source={shown} ")), "{:?}", world.last_line());
        }
        let file = shown.replace(':', "%3A");
        assert_eq!(counted(&world, &file), u64::try_from(said.len()).unwrap());
        let throttled = fs::read_dir(world.path("run/throttle").join(me())).unwrap().count();
        assert_eq!(throttled, 1, "one counter");
        assert_eq!(from(&world, Some(said[0]), &sheet.codes[said.len()]).run().codes, [pam::SUCCESS]);
    }
    let codes = world.status()["codes"].clone();
    assert_eq!((&codes[4]["source"], &codes[3]["source"]), (&"192.0.2.9".into(), &"2001:db8::9".into()));
}

#[test]
fn of_64_simultaneous_wrong_codes_all_are_counted_and_few_are_examined() {
    let Some((world, sheet, wrong)) = world() else { return };
    let attempts: Vec<_> = (0..64).map(|at| world.attempt(&[(&wrong[at % 10]).into()])).collect();
    let outcomes = race(&attempts);
    assert!(outcomes.into_iter().all(|outcome| outcome.unwrap().codes == [pam::AUTH_ERR]));
    assert_eq!(counted(&world, "192.0.2.7"), 64);
    let log = world.log();
    let lines = |what: &str| log.iter().filter(|line| line.text.contains(what)).count();
    assert_eq!(lines("wrong code for number") + lines("throttled until"), 64, "{log:#?}");
    assert!((1..=6).contains(&lines("wrong code for number")), "{log:#?}");
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::AUTH_ERR);
}

#[test]
fn of_10_right_codes_in_the_same_moment_none_counts_as_a_refusal() {
    let Some((world, sheet, _)) = world() else { return };
    let attempts: Vec<_> = sheet.codes.iter().map(|code| world.attempt(&[code.into()])).collect();
    let outcomes = race(&attempts);
    let codes: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().codes).collect();
    assert_eq!(codes, vec![[pam::SUCCESS]; 10], "{:#?}", world.log());
    let file = fs::read_to_string(world.file()).unwrap();
    assert_eq!(file.matches(" fails=0 ").count(), 10, "{file}");
    assert!(!key(&world, "192.0.2.7").exists());
}

#[test]
fn the_owner_gets_in_over_ssh_while_100_other_addresses_fail() {
    let Some((world, sheet, wrong)) = world() else { return };
    let sources: Vec<_> = (0..100).map(|at| format!("2001:db8::{at}")).collect();
    for source in &sources {
        let attempts: Vec<_> = (0..6).map(|at| from(&world, Some(source), &wrong[at])).collect();
        race(&attempts);
    }
    for (source, code) in [Some("203.0.113.9"), Some("203.0.113.10"), None].into_iter().zip(&sheet.codes) {
        assert_eq!(
            from(&world, source, code).run().codes,
            [pam::SUCCESS],
            "{source:?}: {:?}",
            world.last_line()
        );
    }
}

#[test]
fn a_flood_from_one_address_touches_neither_the_console_nor_the_owner_elsewhere() {
    let Some((world, sheet, wrong)) = world() else { return };
    let attempts: Vec<_> = (0..40).map(|at| world.attempt(&[(&wrong[at % 10]).into()])).collect();
    race(&attempts);
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::AUTH_ERR);
    for (source, code) in [None, Some("192.0.2.8"), Some("localhost")].into_iter().zip(&sheet.codes) {
        assert_eq!(from(&world, source, code).run().codes, [pam::SUCCESS], "{source:?}");
    }
    // The same address, but another service.
    let mut other = world.attempt(&[(&sheet.codes[3]).into()]);
    let folder = PathBuf::from(&other.folder);
    fs::copy(folder.join(&world.service), folder.join("other-service")).unwrap();
    other.service = "other-service".into();
    assert_eq!(other.run().codes, [pam::SUCCESS]);
    assert_eq!(world.try_answer(&sheet.codes[4]), pam::AUTH_ERR, "that success forgot its own count alone");
}

#[test]
fn status_shows_who_has_to_wait_and_unlock_or_a_new_set_ends_it() {
    let Some((world, sheet, wrong)) = world() else { return };
    world.configure(&format!(
        "{USUAL}[throttle]\nfree = 2\nfirst_delay = 60\nlongest_delay = 600\nmost = 4\n"
    ));
    assert_eq!(world.status()["throttled"], serde_json::json!([]));
    let fail = |source: &str, times: usize| {
        wrong[..times].iter().for_each(|code| drop(from(&world, Some(source), code).run()));
    };
    fail("192.0.2.1", 1);
    fail("192.0.2.2", 2);
    fail("192.0.2.3", 4);
    let shown = world.status()["throttled"].clone();
    let list = shown.as_array().unwrap();
    assert_eq!(list.len(), 2, "one failure has cost nothing yet: {shown}");
    assert_eq!(
        (&list[0]["service"], &list[0]["source"]),
        (&world.service.clone().into(), &"192.0.2.2".into())
    );
    assert_eq!((&list[0]["failures"], &list[1]["failures"]), (&2.into(), &4.into()));
    assert!(list[0]["until"].as_str().unwrap().starts_with("20") && list[1]["until"].is_null(), "{shown}");
    let status = text(&world.admin(&["status", &me()]).stdout);
    let closed = format!(
        "  THROTTLED for {} from 192.0.2.3 until backupcodes-admin unlock or generate, after 4 failures\n",
        world.service
    );
    assert!(status.contains(&closed) && status.contains("from 192.0.2.2 until 20"), "{status}");

    assert_eq!(from(&world, Some("192.0.2.3"), &sheet.codes[0]).run().codes, [pam::AUTH_ERR]);
    let output = world.admin(&["unlock", &me()]);
    assert_eq!(text(&output.stdout), format!("{}: counters of failures removed: 3\n", me()));
    assert_eq!(world.status()["throttled"], serde_json::json!([]));
    assert_eq!(from(&world, Some("192.0.2.3"), &sheet.codes[0]).run().codes, [pam::SUCCESS]);

    fail("192.0.2.3", 5);
    assert_eq!(from(&world, Some("192.0.2.3"), &sheet.codes[1]).run().codes, [pam::AUTH_ERR]);
    let new = world.generate();
    assert_eq!(from(&world, Some("192.0.2.3"), &new.codes[0]).run().codes, [pam::SUCCESS]);

    let output = world.admin(&["unlock", "--format", "json", &me()]);
    let expected = serde_json::json!({"user": me(), "cleared": 0});
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(), expected);
    assert_eq!(world.admin(&["unlock", "no-such-user"]).status.code(), Some(3));
}

#[test]
fn a_response_that_is_no_code_is_not_counted() {
    let Some((world, sheet, _)) = world() else { return };
    for answer in ["", "hunter2", "correct horse battery staple", &sheet.codes[0][1..]] {
        (0..3).for_each(|_| assert_eq!(world.try_answer(answer), pam::AUTH_ERR));
    }
    assert_eq!(counted(&world, "192.0.2.7"), 0);
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
}

#[test]
fn an_attempt_that_is_killed_while_the_hash_runs_is_counted() {
    let Some((world, _, wrong)) = world() else { return };
    let attempts = serde_json::to_string(&[world.attempt(&[(&wrong[0]).into()])]).unwrap();
    // The first call that is the hash's own, and nobody else's.
    let mut strace = tampering("madvise:signal=KILL");
    let output = feed(strace.arg("-f").arg(built("pam-application")), &attempts);
    assert_eq!(text(&output.stdout), "[null]", "the application was killed");
    assert_eq!(counted(&world, "192.0.2.7"), 1);
}

#[test]
fn a_flood_of_invented_users_sources_and_services_leaves_few_files() {
    let Some((world, sheet, wrong)) = world() else { return };
    let folder = PathBuf::from(world.attempt(&[]).folder);
    let mut attempts = Vec::new();
    for at in 0..100 {
        let source = format!("2001:db8::{at}");
        attempts.push(from(&world, Some(&source), &wrong[0]));
        let mut stranger = from(&world, Some(&source), &wrong[0]);
        stranger.user = format!("invented-{at}").into();
        attempts.push(stranger);
        let mut service = from(&world, Some("192.0.2.9"), &wrong[0]);
        let name = format!("invented-{at}");
        fs::copy(folder.join(&world.service), folder.join(&name)).unwrap();
        service.service = name.into();
        attempts.push(service);
    }
    // Many to a process: those at work in one moment may each make a file, or each make room for it.
    for some in attempts.chunks(8) {
        race(some);
    }
    // One after the other, each makes exactly as much room as it needs.
    for at in 100..108 {
        let mut attempt = from(&world, Some(&format!("2001:db8::{at}")), &wrong[0]);
        attempt.run();
        attempt.user = format!("invented-{at}").into();
        attempt.run();
    }
    let throttle = world.path("run/throttle");
    let mut folders: Vec<_> = fs::read_dir(&throttle).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert_eq!(folders, [throttle.join("%unknown"), throttle.join(me())]);
    for folder in folders {
        let files = fs::read_dir(&folder).unwrap().count();
        assert_eq!(files, 64, "files in {folder:?}");
    }
    // None of it reaches the console, or the owner at an address that is new.
    for (source, code) in [None, Some("203.0.113.9")].into_iter().zip(&sheet.codes) {
        assert_eq!(from(&world, source, code).run().codes, [pam::SUCCESS]);
    }
}

#[test]
fn a_missing_runtime_directory_is_made_whatever_the_umask_is() {
    let Some((world, sheet, wrong)) = world() else { return };
    for (umask, code) in ["000", "077", "777"].into_iter().zip(&wrong) {
        let _ = fs::remove_dir_all(world.path("run"));
        let mut application = Command::new("sh");
        application.args(["-c", &format!("umask {umask}; exec \"$0\"")]).arg(built("pam-application"));
        let outcome = backupcodes_tests::race_in(&mut application, &[world.attempt(&[code.into()])]);
        assert_eq!(outcome[0].as_ref().unwrap().codes, [pam::AUTH_ERR]);
        assert!(world.last_line().text.contains("wrong code"), "umask {umask}: {:?}", world.last_line());
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(world.path("run")), 0o755);
        assert_eq!(mode(world.path("run/throttle")), 0o700);
        assert_eq!(mode(world.path("run/throttle").join(me())), 0o700);
        assert_eq!(mode(key(&world, "192.0.2.7")) & 0o177, 0);
    }
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
}

#[test]
fn an_attempt_that_cannot_be_counted_is_refused() {
    let Some((world, sheet, wrong)) = world() else { return };
    assert_eq!(world.try_answer(&wrong[0]), pam::AUTH_ERR);
    let run = world.path("run");
    let refuses = |reason: &str| {
        let reason = format!("the attempt cannot be counted: {}", run.display()) + reason;
        refuses(&world, &sheet.codes[0], pam::AUTHINFO_UNAVAIL, ERROR, &reason);
    };
    set_mode(&run, 0o777);
    refuses(": a directory of uid");
    set_mode(&run, 0o755);
    set_mode(&run.join("throttle"), 0o755);
    refuses("/throttle: a directory of uid");
    set_mode(&run.join("throttle"), 0o700);
    let key = key(&world, "192.0.2.7");
    let name = format!("/throttle/{}/{}", me(), key.file_name().unwrap().to_str().unwrap());
    set_mode(&key, 0o604);
    refuses(&format!("{name}: a regular file of uid"));
    fs::remove_file(&key).unwrap();
    std::os::unix::fs::symlink("/dev/null", &key).unwrap();
    refuses(&format!("{name}: a symbolic link"));
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    refuses(&format!("{name}: cannot open (EISDIR"));
    fs::remove_dir_all(&run).unwrap();
    fs::write(&run, "").unwrap();
    refuses(": a regular file; expected a directory");
    fs::remove_file(&run).unwrap();
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
}

#[test]
fn a_full_runtime_directory_locks_nobody_out_unless_failures_must_be_counted() {
    if backupcodes_tests::sandbox_of_root().is_none() {
        return;
    }
    let Some((world, sheet, wrong)) = world() else { return };
    let run = world.path("run");
    fs::create_dir(&run).unwrap();
    let mount = |arguments: &[&str]| {
        assert!(Command::new("mount").args(arguments).arg(&run).status().unwrap().success());
    };
    mount(&["-t", "tmpfs", "-o", "size=64k,mode=0755", "tmpfs"]);
    assert!(fs::write(run.join("filler"), vec![7; 1 << 20]).is_err());
    assert_eq!(world.try_answer(&wrong[0]), pam::AUTH_ERR);
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    let log = world.log();
    let warning = log.iter().find(|line| line.level == WARNING).expect("a warning");
    assert!(
        warning.text.contains("failures are not counted as they should be")
            && warning.text.contains("ENOSPC")
    );
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::AUTH_ERR, "it works once all the same");
    world.configure(&format!("{USUAL}[throttle]\nmost = 100\n"));
    refuses(&world, &sheet.codes[1], pam::AUTHINFO_UNAVAIL, ERROR, "cannot count in (ENOSPC");
    fs::remove_file(run.join("filler")).unwrap();
    assert_eq!(world.try_answer(&sheet.codes[1]), pam::SUCCESS);
    assert!(Command::new("umount").arg(&run).status().unwrap().success());
}
