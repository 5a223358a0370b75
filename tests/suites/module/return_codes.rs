//! The table of return codes, row by row, with the real libpam.

use std::fs;
use std::process::Command;

use backupcodes_tests::condition::Condition;
use backupcodes_tests::level::{CRITICAL, DEBUG, ERROR, NOTICE};
use backupcodes_tests::{
    Answer, World, built, me, pam, race, race_in, race_with_preload, refuses, set_mode, sheet,
};
use nix::fcntl::{Flock, FlockArg};

#[test]
fn a_right_code_is_accepted_logged_and_counted() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let outcome = world.attempt(&[(&sheet.codes[2]).into()]).run();
    assert_eq!(outcome.codes, [pam::SUCCESS]);
    let said: Vec<_> = outcome.said.iter().map(|said| (said.style, said.text.as_str())).collect();
    assert_eq!(
        said,
        [
            (pam::PROMPT_ECHO_OFF, "Backup code: "),
            (pam::TEXT_INFO, "Backup code 3 was accepted, and is used up. 9 backup codes are left.")
        ]
    );
    let line = world.last_line();
    let place = format!("user={} service={} source=192.0.2.7 tty=ssh", me(), world.service);
    assert!(
        line.text.ends_with(&format!("accepted code 3 of set {}, 9 left; {place}", sheet.set)),
        "{line:?}"
    );
    assert_eq!(line.level, NOTICE);
}

#[test]
fn every_code_of_a_set_works_once_whatever_the_order() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    for code in sheet.codes.iter().rev() {
        assert_eq!(world.try_answer(code), pam::SUCCESS);
        assert_eq!(world.try_answer(code), pam::AUTH_ERR);
    }
    assert!(sheet.codes.iter().all(|code| world.try_answer(code) == pam::AUTH_ERR));
}

#[test]
fn a_spent_code_is_refused() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    refuses(&world, &sheet.codes[0], pam::AUTH_ERR, NOTICE, "code 1 was used before");
}

#[test]
fn a_wrong_code_is_refused() {
    let Some(world) = World::new("") else { return };
    let old = world.generate();
    world.generate();
    refuses(&world, &old.codes[0], pam::AUTH_ERR, NOTICE, "wrong code for number 1");
}

#[test]
fn a_code_with_a_number_that_does_not_exist_is_refused() {
    let Some(world) = World::new("") else { return };
    let many = world.generate();
    assert!(world.admin(&["generate", "--yes", "--count", "3", &me()]).status.success());
    refuses(&world, &many.codes[9], pam::AUTH_ERR, NOTICE, "code 10 does not exist in the set");
}

#[test]
fn responses_that_are_no_code_are_refused_and_never_logged() {
    let Some(world) = World::new("debug") else { return };
    let sheet = world.generate();
    world.stack("");
    let mistyped =
        sheet.codes[0].replace(&sheet.codes[0][2..3], if &sheet.codes[0][2..3] == "7" { "8" } else { "7" });
    let answers: [Answer; 12] = [
        "".into(),
        " - ".into(),
        "123456".into(),
        "correct horse battery staple".into(),
        "\u{8}\n\r\u{7f}INCORRECT".into(),
        (&mistyped).into(),
        (&sheet.codes[0][..16]).into(),
        (&"1".repeat(511)).into(),
        (&format!("{}!", sheet.codes[0])).into(),
        (&format!("2) {}", sheet.codes[0])).into(),
        (&format!("{}\u{456}", &sheet.codes[0][1..])).into(),
        Answer::Bytes([b"1\xff\xfe".as_slice(), sheet.codes[0].as_bytes()].concat()),
    ];
    for answer in answers {
        refuses(&world, answer, pam::AUTH_ERR, NOTICE, "the response is not a backup code");
    }
    refuses(&world, Answer::Null, pam::AUTH_ERR, NOTICE, "the response is not a backup code");
    let log = world.log();
    for part in ["123456", "horse", "INCORRECT", &mistyped, "1111"] {
        assert!(log.iter().all(|line| !line.text.contains(part)), "{part} in the log");
    }
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS, "none of it counts against the set");
}

#[test]
fn a_person_may_type_a_code_their_way() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    assert_eq!(world.try_answer(&sheet.codes[0].to_lowercase()), pam::SUCCESS);
    assert_eq!(world.try_answer(&sheet.codes[1].replace('-', " ")), pam::SUCCESS);
    assert_eq!(world.try_answer(&sheet.codes[2].replace('-', "")), pam::SUCCESS);
    assert_eq!(world.try_answer(&sheet.codes[3].replace('0', "o").replace('1', "l")), pam::SUCCESS);
}

#[test]
fn a_person_may_paste_a_code_with_what_comes_along() {
    let Some(world) = World::new("") else { return };
    let codes = world.generate().codes;
    let arabic = |c: char| c.to_digit(10).map_or(c, |digit| char::from_u32(0x660 + digit).unwrap());
    for (typed, number) in [
        (codes[0].replace('-', "\u{2013}"), 1),
        (format!("\u{feff}{}\r\n", codes[1].replace('-', "\u{a0}")), 2),
        (format!("\u{1b}[200~{}\u{1b}[201~", codes[2]), 3),
        (format!("\u{201c}{}\u{201d}.", codes[3].replace('-', "\u{ad}")), 4),
        (codes[4].chars().map(arabic).collect(), 5),
        (format!("  6  {}", codes[5]), 6),
        (format!("10) {}", codes[9].replace('-', "_")), 10),
    ] {
        assert_eq!(world.try_answer(&typed), pam::SUCCESS, "{typed:?}");
        assert_eq!(world.try_answer(&typed), pam::AUTH_ERR, "{typed:?} again");
        let line = world.last_line().text;
        assert!(line.contains(&format!("code {number} was used before")), "{line}");
    }
}

#[test]
fn users_without_a_set_are_refused_at_the_prompt_and_skipped_with_nullok() {
    let Some(world) = World::new("") else { return };
    refuses(&world, "1", pam::AUTH_ERR, DEBUG, "the user has no backup codes");
    world.stack("nullok");
    let outcome = world.attempt(&[]).run();
    // The stack has this module alone: libpam makes of its PAM_IGNORE a refusal of its own.
    assert_eq!((outcome.codes, outcome.said), (vec![pam::PERM_DENIED], vec![]));
    assert!(world.last_line().text.contains("skipped: no set, and nullok is given"));
    assert_eq!(world.last_line().level, DEBUG);
}

#[test]
fn nullok_leaves_the_verdict_to_the_rest_of_the_stack_only_without_a_set() {
    let Some(world) = World::new("nullok") else { return };
    let file = world.path("pam.d").join(&world.service);
    let stack = format!("{}auth required pam_permit.so\n", fs::read_to_string(&file).unwrap());
    fs::write(&file, stack).unwrap();
    let outcome = world.attempt(&[]).run();
    assert_eq!((outcome.codes, outcome.said.len()), (vec![pam::SUCCESS], 0));
    let sheet = world.generate();
    assert_eq!(world.try_answer("1"), pam::AUTH_ERR);
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    // All spent is not "no set".
    assert!(sheet.codes[1..].iter().all(|code| world.try_answer(code) == pam::SUCCESS));
    assert_eq!(world.try_answer("1"), pam::AUTH_ERR);
}

#[test]
fn an_unknown_user_is_prompted_and_refused_and_not_named() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    for (options, name) in
        [("", "hunter2-typed-as-name".as_bytes()), ("nullok", b"hunter2"), ("", b"hunter2\xff")]
    {
        world.stack(options);
        let mut attempt = world.attempt(&[(&sheet.codes[0]).into()]);
        attempt.user = name.to_vec();
        let outcome = attempt.run();
        assert_eq!((outcome.codes, outcome.said.len()), (vec![pam::USER_UNKNOWN], 1));
        let line = world.last_line();
        assert!(line.text.contains("no such user; user=(unknown)") && line.level == NOTICE, "{line:?}");
    }
    assert!(world.log().iter().all(|line| !line.text.contains("hunter2")));
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
}

#[test]
fn a_right_code_without_its_lock_returns_the_same_as_a_wrong_one() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let locked = Flock::lock(fs::File::open(world.file()).unwrap(), FlockArg::LockExclusive).unwrap();
    let reason = "code 1 was right but could not be spent";
    refuses(&world, &sheet.codes[0], pam::AUTH_ERR, CRITICAL, reason);
    assert!(world.last_line().text.contains("locked by another process for 5 s"));
    drop(locked);
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
}

#[test]
fn a_wrong_code_never_waits_for_the_lock() {
    let Some(world) = World::new("") else { return };
    let old = world.generate();
    world.generate();
    let _locked = Flock::lock(fs::File::open(world.file()).unwrap(), FlockArg::LockExclusive).unwrap();
    let start = std::time::Instant::now();
    assert_eq!(world.try_answer(&old.codes[0]), pam::AUTH_ERR);
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn a_file_size_limit_of_the_caller_is_no_obstacle_and_no_signal() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let mut attempt = world.attempt(&[(&sheet.codes[0]).into()]);
    attempt.conditions = vec![Condition::SoftLimit(libc::RLIMIT_FSIZE, 0)];
    let outcome = race(&[attempt]).pop().unwrap().expect("SIGXFSZ did not end the application");
    assert_eq!(outcome.codes, [pam::SUCCESS], "{:?}", world.last_line());
}

#[test]
fn a_setuid_application_gets_its_uids_back_whatever_it_may_do() {
    let Some(world) = World::new("") else { return };
    let Some(application) = world.setuid_application() else { return };
    let sheet = world.generate();
    // As su is: root, started by somebody else. Without CAP_SETUID there would be no way back.
    let with = |code: &String, uid: u32, capabilities| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &uid.to_string(), "--bounding-set", capabilities]).arg(&application);
        let outcome = race_in(&mut command, &[world.attempt(&[code.into()])]).pop().unwrap().unwrap();
        let uids = outcome.state[1].uids;
        assert_eq!((outcome.codes, uids), (vec![pam::SUCCESS], [uid, 0, 0, 0]), "{uid}, {capabilities}");
    };
    with(&sheet.codes[0], 65_534, "-setuid");
    // In 16 bits, which are all that some system calls have, 131072 is root, and 65536 as well.
    for (code, uid) in sheet.codes[1..].iter().zip([1000, 65_534, 65_536, 131_072, 131_073, 2_000_000_000]) {
        with(code, uid, "+all");
    }
}

#[test]
fn an_unknown_option_or_a_broken_configuration_is_a_service_error_before_any_prompt() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let unprompted = |reason: &str| {
        let outcome = world.attempt(&[(&sheet.codes[0]).into()]).run();
        assert_eq!((outcome.codes, outcome.said.len()), (vec![pam::SERVICE_ERR], 0), "{reason}");
        let line = world.last_line();
        assert!(line.text.contains(reason) && line.level == ERROR, "{reason}: {line:?}");
    };
    world.stack("nullOK");
    unprompted("unknown module argument \"nullOK\"");
    world.stack("conf=/no/such/file nullok");
    unprompted("/no/such/file: cannot be read (ENOENT");
    world.stack("nullok");
    world.configure("[codes]\ncuont = 10\n");
    unprompted("unknown key codes.cuont");
    world.configure("[codes\n");
    unprompted("line 3");
    world.configure("");
    set_mode(&world.path("conf"), 0o666);
    unprompted("mode 0666");
    set_mode(&world.path("conf"), 0o644);
    fs::create_dir_all(world.path("conf.d")).unwrap();
    fs::write(world.path("conf.d/50.conf"), "hash = 7\n").unwrap();
    unprompted("50.conf: hash is not a section");
    fs::remove_file(world.path("conf.d/50.conf")).unwrap();
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
}

#[test]
fn a_failed_and_an_incomplete_conversation_have_their_own_return_codes() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    refuses(&world, Answer::Fail, pam::CONV_ERR, ERROR, "the application did not ask for the code");
    refuses(&world, Answer::Again, pam::INCOMPLETE, ERROR, "will call again");
    let mut attempt = world.attempt(&[Answer::Again, (&sheet.codes[0]).into()]);
    attempt.calls = vec!["authenticate".into(), "authenticate".into()];
    assert_eq!(attempt.run().codes, [pam::INCOMPLETE, pam::SUCCESS]);
}

#[test]
fn a_name_that_the_application_prompts_for_has_the_same_return_codes() {
    let Some(world) = World::new("nullok") else { return };
    let sheet = world.generate();
    let run = |answers: &[Answer]| {
        let mut attempt = world.attempt(answers);
        attempt.user.clear();
        attempt.run().codes[0]
    };
    assert_eq!(run(&[Answer::Fail]), pam::CONV_ERR);
    assert_eq!(run(&[Answer::Again]), pam::INCOMPLETE);
    assert_eq!(run(&[(&me()).into(), (&sheet.codes[0]).into()]), pam::SUCCESS);
}

#[test]
fn a_text_that_does_not_arrive_ends_no_login() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let mut attempt = world.attempt(&[(&sheet.codes[0]).into()]);
    attempt.texts_fail = true;
    assert_eq!(attempt.run().codes, [pam::SUCCESS]);
}

#[test]
fn no_memory_for_the_hash_is_an_error_not_an_abort() {
    let Some(world) = World::new("") else { return };
    world.configure("[hash]\nmemory_kib = 524288\npasses = 1\n");
    let sheet = world.generate();
    let mut attempt = world.attempt(&[(&sheet.codes[0]).into()]);
    attempt.conditions = vec![Condition::SoftLimit(libc::RLIMIT_AS, 256 << 20)];
    let outcome = race(&[attempt]).pop().unwrap().expect("the application lives on");
    assert_eq!(outcome.codes, [pam::AUTHINFO_UNAVAIL]);
    let line = world.last_line();
    assert!(
        line.text.contains("524288 KiB of memory for one hash cannot be allocated") && line.level == ERROR,
        "{line:?}"
    );
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
}

#[test]
fn a_panic_is_an_abort_that_the_application_survives_without_a_word() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let mut attempt = world.attempt(&[(&sheet.codes[0]).into(), (&sheet.codes[0]).into()]);
    attempt.calls = vec!["authenticate".into(), "authenticate".into()];
    // A clock that fails makes the standard library panic in the middle of the attempt.
    let preload = built("examples/libbroken_clock.so");
    let outcome = race_with_preload(&[attempt], &preload).pop().unwrap().expect("the application lives on");
    assert_eq!(outcome.codes, [pam::ABORT, pam::ABORT]);
    let line = world.last_line();
    assert!(line.text.contains("refused: this module failed at") && line.level == CRITICAL, "{line:?}");
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS, "the code was not spent");
}

#[test]
fn the_other_entry_points_neither_deny_nor_grant() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let mut attempt = world.attempt(&[(&sheet.codes[0]).into()]);
    attempt.calls = ["authenticate", "setcred", "acct_mgmt", "open_session", "close_session", "chauthtok"]
        .map(Into::into)
        .to_vec();
    // Where every module of a stack returns PAM_IGNORE, libpam says PAM_PERM_DENIED.
    let denied = pam::PERM_DENIED;
    assert_eq!(attempt.run().codes, [pam::SUCCESS, pam::SUCCESS, denied, denied, denied, denied]);
    let file = world.path("pam.d").join(&world.service);
    let permit =
        ["auth", "account", "password", "session"].map(|kind| format!("{kind} required pam_permit.so\n"));
    fs::write(&file, fs::read_to_string(&file).unwrap() + &permit.concat()).unwrap();
    attempt.answers = vec![(&sheet.codes[1]).into()];
    assert_eq!(attempt.run().codes, [pam::SUCCESS; 6]);
    // By itself: a stack remembers what its open_session said.
    world.stack("");
    attempt.calls = vec!["close_session".into()];
    assert_eq!(attempt.run().codes, [denied]);
}

#[test]
fn options_shape_the_prompt_and_silence_the_texts() {
    let Some(world) = World::new("[prompt=Code from your sheet: ] echo") else { return };
    let sheet = world.generate();
    let prompt = &world.attempt(&[(&sheet.codes[0]).into()]).run().said[0];
    assert_eq!((prompt.style, prompt.text.as_str()), (pam::PROMPT_ECHO_ON, "Code from your sheet: "));
    world.stack("quiet");
    assert_eq!(world.attempt(&[(&sheet.codes[1]).into()]).run().said.len(), 1);
    world.stack("");
    let mut silent = world.attempt(&[(&sheet.codes[2]).into()]);
    silent.flags = pam::SILENT;
    assert_eq!(silent.run().said.len(), 1);
}

#[test]
fn few_codes_left_are_reported() {
    let Some(world) = World::new("") else { return };
    assert!(world.admin(&["generate", "--count", "5", &me()]).status.success());
    let sheet = sheet(world.admin(&["generate", "--yes", "--count", "5", "--format", "json", &me()]));
    let said = |at: usize| world.attempt(&[(&sheet.codes[at]).into()]).run().said[1].text.clone();
    assert!(!said(0).contains("new set"));
    assert!(said(1).contains("3 backup codes are left. Get a new set soon"));
}

#[test]
fn the_source_is_local_for_the_hosts_own_names() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for (code, rhost) in sheet.codes.iter().zip([None, Some(""), Some("localhost"), Some(host.as_str())]) {
        let mut attempt = world.attempt(&[code.into()]);
        attempt.rhost = rhost.map(Into::into);
        assert_eq!(attempt.run().codes, [pam::SUCCESS]);
        assert!(world.last_line().text.contains("source=local "), "{:?}", world.last_line());
    }
}

#[test]
fn what_the_network_says_cannot_forge_the_log_or_the_spent_record() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let mut attempt = world.attempt(&[(&sheet.codes[0]).into()]);
    attempt.rhost = Some("evil\nhost\" accepted user=root".into());
    assert_eq!(attempt.run().codes, [pam::SUCCESS]);
    assert!(
        world.last_line().text.contains("source=evil?host\"?accepted?user=root "),
        "{:?}",
        world.last_line()
    );
    attempt.rhost = Some("%n%s%d.example.org".into());
    attempt.answers = vec!["x".into()];
    attempt.run();
    assert!(world.last_line().text.contains("source=%n%s%d.example.org "), "{:?}", world.last_line());
    assert_eq!(world.try_answer(&sheet.codes[1]), pam::SUCCESS);
    assert!(fs::read_to_string(world.file()).unwrap().contains(" evil?host??accepted?user?root"));
}
