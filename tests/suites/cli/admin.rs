//! `backupcodes-admin`, as an administrator and a program see it.

use std::fs::{self, File};
use std::process::{Command, Output, Stdio};

use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{World, built, feed, me, mistyped, pam, race_with_preload, set_mode, sheet, text};
use serde_json::{Value, json};

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// What went wrong, which is one line on stderr and nothing on stdout.
fn complaint(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    let complaint = text(&output.stderr);
    assert!(complaint.starts_with("backupcodes-admin: ") && complaint.lines().count() == 1, "{complaint}");
    complaint
}

#[test]
fn the_sheet_of_generate_is_one_a_person_can_use_and_its_codes_work() {
    let Some(world) = World::new("") else { return };
    let output = world.admin(&["generate", &me()]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let sheet = text(&output.stdout);
    let set = json(&world.admin(&["status", "--format", "json", &me()]))[0].clone();
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for part in
        [&host, &me(), set["set"].as_str().unwrap(), &set["created"].as_str().unwrap()[..10], "10 codes"]
    {
        assert!(sheet.contains(part), "{part}: {sheet}");
    }
    assert!(sheet.contains("away from the device") && sheet.lines().all(|line| line.len() <= 80), "{sheet}");
    let words: Vec<_> = sheet.split_whitespace().collect();
    let codes: Vec<_> =
        words.windows(2).filter(|pair| pair[1].len() == 17 && pair[1].matches('-').count() == 2).collect();
    assert_eq!(codes.len(), 10);
    for pair in codes {
        assert_eq!(world.try_answer(pair[1]), pam::SUCCESS);
        let accepted = format!("accepted code {} of set", pair[0]);
        assert!(world.last_line().text.contains(&accepted), "{accepted}");
    }
}

#[test]
fn generate_prints_json_for_programs() {
    let Some(world) = World::new("") else { return };
    let output = world.admin(&["generate", "--format", "json", "--count", "2", &me(), "nobody"]);
    let sets = json(&output);
    let keys = |set: &Value| set.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(sets.as_array().unwrap().len(), 2);
    assert_eq!(keys(&sets[0]), ["codes", "created", "set", "user"]);
    assert_eq!((&sets[0]["user"], &sets[1]["user"]), (&json!(me()), &json!("nobody")));
    assert_eq!(sets[1]["codes"].as_array().unwrap().len(), 2);
    assert!(sets[0]["created"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn status_tells_what_is_left_and_where_codes_were_used() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    world.admin(&["generate", "--email", "a@example.org", "--email", "b@example.org", "nobody"]);
    assert_eq!(world.try_answer(&sheet.codes[1]), pam::SUCCESS);
    let text_of = |users: &[&str]| text(&world.admin(&[&["status"], users].concat()).stdout);
    let all = text_of(&[&me(), "nobody"]);
    assert!(
        all.contains(&format!("{}: 9 of 10 codes left\n", me())) && all.contains("nobody: 10 of 10"),
        "{all}"
    );
    assert!(all.contains(&format!(" by {} from 192.0.2.7, notice due\n", world.service)), "{all}");
    assert!(!text_of(&["nobody"]).contains(&me()));

    let sets = json(&world.admin(&["status", "--format", "json"]));
    let [nobody, mine] = ["nobody".to_string(), me()]
        .map(|user| sets.as_array().unwrap().iter().find(|set| set["user"] == json!(user)).unwrap().clone());
    assert_eq!(nobody["email"], json!(["a@example.org", "b@example.org"]));
    assert_eq!(
        (&mine["set"], &mine["total"], &mine["left"], &mine["low"], &mine["throttled"]),
        (&json!(sheet.set), &json!(10), &json!(9), &json!(false), &json!([]))
    );
    let keys: Vec<_> = mine.as_object().unwrap().keys().cloned().collect();
    let expected =
        ["codes", "created", "due", "email", "left", "low", "refused", "set", "throttled", "total", "user"];
    assert_eq!(keys, expected);
    assert_eq!((&mine["due"], &mine["refused"]), (&json!(2), &json!(null)), "the new set, and the use");
    let unspent = json!({"number": 1, "state": "unspent", "time": null, "service": null, "source": null, "mailed": null});
    assert_eq!(mine["codes"][0], unspent);
    let mut spent = mine["codes"][1].clone();
    assert!(spent["time"].take().as_str().unwrap().starts_with("20"));
    let expected = json!({"number": 2, "state": "spent", "time": null, "service": world.service, "source": "192.0.2.7", "mailed": false});
    assert_eq!(spent, expected);
}

#[test]
fn status_warns_of_few_none_and_damaged() {
    let Some(world) = World::new("") else { return };
    world.configure("[codes]\ncount = 4\n[hash]\nmemory_kib = 64\npasses = 1\n");
    let sheet = world.generate();
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    assert!(text(&world.admin(&["status", &me()]).stdout).contains("3 of 4 codes left, LOW"));
    assert_eq!(json(&world.admin(&["status", "--format", "json"]))[0]["low"], json!(true));
    let file = fs::read_to_string(world.file()).unwrap();
    fs::write(world.file(), file.replacen("$argon2id", "$argon2iX", 1)).unwrap();
    let status = text(&world.admin(&["status", &me()]).stdout);
    assert!(status.contains("2 of 4") && status.contains("code 2 DAMAGED, counts as used"), "{status}");
    assert_eq!(json(&world.admin(&["status", "--format", "json"]))[0]["codes"][1]["state"], json!("damaged"));
    assert_eq!(world.try_answer(&sheet.codes[1]), pam::AUTH_ERR);
    assert!([2, 3].iter().all(|&at| world.try_answer(&sheet.codes[at]) == pam::SUCCESS));
    assert!(text(&world.admin(&["status", &me()]).stdout).contains("0 of 4 codes left, NONE LEFT"));
}

#[test]
fn status_of_a_user_without_a_set_says_no() {
    let Some(world) = World::new("") else { return };
    let output = world.admin(&["status", "nobody"]);
    assert!(complaint(&output, 1).contains("backupcodes-admin generate nobody"));
    assert_eq!(json(&world.admin(&["status", "--format", "json"])), json!([]));
}

#[test]
fn status_goes_on_past_a_set_that_cannot_be_read() {
    let Some(world) = World::new("") else { return };
    world.generate();
    world.admin(&["generate", "nobody"]);
    fs::write(world.store().join("nobody.toml"), "rubbish").unwrap();
    let output = world.admin(&["status"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("10 of 10") && text(&output.stdout).contains(&me()));
    let complaints = text(&output.stderr);
    assert!(
        complaints.contains("nobody.toml: not a set of codes") && complaints.contains("1 of 2 users"),
        "{complaints}"
    );
}

#[test]
fn verify_says_what_would_happen_and_spends_nothing() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let verify = |code: &str| world.admin_with_input(&["verify", &me()], &format!("{code}\n"));
    for _ in 0..3 {
        let output = verify(&sheet.codes[0]);
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(0), format!("{}: code 1 would be accepted\n", me()))
        );
    }
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    let output = verify(&sheet.codes[0]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("code 1 was used before"));
    assert_eq!(verify("").status.code(), Some(1));
    let output = world.admin_with_input(&["verify", "--format", "json", &me()], &sheet.codes[1]);
    assert_eq!(json(&output), json!({"user": me(), "accepted": true, "number": 2, "reason": null}));
    assert_eq!(world.admin_with_input(&["verify", "nobody"], "x").status.code(), Some(1));
    assert!(complaint(&world.admin(&["verify", "no-such-user"]), 3).contains("no such user"));
}

#[test]
fn verify_says_of_each_state_what_it_is() {
    let Some(world) = World::new("") else { return };
    let old = world.generate();
    let verify = |answer: &str, status: i32| {
        let output = world.admin_with_input(&["verify", &me()], &format!("{answer}\n"));
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        text(&output.stdout)
    };
    let says = |answer: &str, reason: &str| {
        assert_eq!(verify(answer, 1), format!("{}: would be refused: {reason}\n", me()));
    };
    let sheet = sheet(world.admin(&["generate", "--yes", "--count", "4", "--format", "json", &me()]));
    says(&old.codes[1], "wrong code for number 2");
    says(&old.codes[8], "code 9 does not exist in the set");
    says(&mistyped(&sheet.codes[0]), "the response is not a backup code");
    says("", "the response is not a backup code");
    assert_eq!(world.try_answer(&sheet.codes[2]), pam::SUCCESS);
    let used = verify(&sheet.codes[2], 1);
    assert!(used.contains(&format!("code 3 was used before: {}", &sheet.created[..10])), "{used}");
    assert!(used.ends_with(&format!(", {}, from 192.0.2.7\n", world.service)), "{used}");
    let file = fs::read_to_string(world.file()).unwrap();
    fs::write(world.file(), file.replacen("$argon2id", "$argon2iX", 1)).unwrap();
    says(&sheet.codes[0], "code 1 is damaged and counts as used");
    assert!(verify(&sheet.codes[1], 0).contains("code 2 would be accepted"));
    let pasted = format!("\u{201e}2. {}\u{201c}", sheet.codes[1].replace('-', "\u{2212}"));
    assert!(verify(&pasted, 0).contains("code 2 would be accepted"));
    world.admin(&["revoke", &me()]);
    says(&sheet.codes[1], "the user has no backup codes");
    let guide = include_str!("../../../docs/guide/operations.md");
    for said in [
        "wrong code for number 3",
        "code 3 does not exist in the set",
        "code 3 is damaged and counts as used",
    ] {
        assert!(guide.contains(&format!("`would be refused: {said}`")), "{said}");
    }
}

#[test]
fn verify_at_a_terminal_does_not_show_what_is_typed() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let mut terminal = Terminal::start(world.admin_command().args(["verify", &me()]));
    terminal.expect("it will not be spent): ");
    terminal.send(&sheet.codes[0]);
    terminal.expect("code 1 would be accepted");
    assert_eq!(terminal.end(), 0);
    assert!(!terminal.screen.contains(&sheet.codes[0]), "{}", terminal.screen);
}

#[test]
fn revoke_ends_a_set_and_says_no_where_there_is_none() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let output = world.admin(&["revoke", &me()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains(&format!("set {} is removed, with 10 unspent codes", sheet.set)));
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::AUTH_ERR);
    assert_eq!(world.admin(&["revoke", &me()]).status.code(), Some(1));
    let output = world.admin(&["revoke", "--format", "json", &me()]);
    assert_eq!(json(&output), json!({"user": me(), "set": null, "revoked": false}));
}

#[test]
fn a_file_that_is_no_set_can_be_revoked() {
    let Some(world) = World::new("") else { return };
    world.generate();
    fs::write(world.file(), "rubbish").unwrap();
    assert_eq!(world.admin(&["revoke", &me()]).status.code(), Some(0));
    assert!(!world.file().exists());
}

#[test]
fn unspent_codes_are_replaced_only_after_a_confirmation_or_with_yes() {
    let Some(world) = World::new("") else { return };
    let old = world.generate();
    let output = world.admin(&["generate", &me()]);
    let complaint = complaint(&output, 3);
    assert!(
        complaint.contains("10 unspent codes") && complaint.contains("--yes") && output.stdout.is_empty()
    );
    assert_eq!(world.try_answer(&old.codes[0]), pam::SUCCESS);

    let asked = |answer: &str| {
        let mut terminal = Terminal::start(world.admin_command().args(["generate", &me()]));
        terminal.expect("9 unspent codes");
        terminal.expect("[y/N] ");
        terminal.send(answer);
        (terminal.end(), terminal.screen.clone())
    };
    for answer in ["", "n", "x", "yep"] {
        let (status, screen) = asked(answer);
        assert!(status == 1 && !screen.contains("BACKUP CODES"), "{screen}");
    }
    assert!(world.file().exists());
    let (status, screen) = asked("y");
    assert!(status == 0 && screen.contains("BACKUP CODES"), "{screen}");
    assert_eq!(world.try_answer(&old.codes[1]), pam::AUTH_ERR);
}

#[test]
fn a_set_without_unspent_codes_is_replaced_unasked_and_keeps_its_addresses() {
    let Some(world) = World::new("") else { return };
    let arguments = ["generate", "--count", "1", "--email", "a@example.org", "--format", "json", &me()];
    let sheet = sheet(world.admin(&arguments));
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    assert_eq!(world.admin(&["generate", &me()]).status.code(), Some(0));
    assert_eq!(json(&world.admin(&["status", "--format", "json"]))[0]["email"], json!(["a@example.org"]));
}

#[test]
fn a_generate_that_cannot_print_leaves_the_old_set_as_it_was() {
    let Some(world) = World::new("") else { return };
    let old = world.generate();
    let (before, queued) = (fs::read(world.file()).unwrap(), world.other_files());
    for format in ["text", "json"] {
        let mut command = world.admin_command();
        command.args(["generate", "--yes", "--format", format, &me()]);
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert!(text(&output.stderr).contains("cannot be printed"), "{output:?}");
        assert_eq!(fs::read(world.file()).unwrap(), before);
    }
    assert_eq!(world.other_files(), queued, "nothing is left over, and no notice tells of it");
    assert_eq!(world.try_answer(&old.codes[0]), pam::SUCCESS);
}

/// `generate` in a process that a shell has prepared.
fn generate_after(world: &World, preparation: &str) -> Output {
    let tool = world.admin_command();
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("{preparation}; exec \"$@\""), "bash"]).arg(tool.get_program());
    feed(shell.args(tool.get_args()).args(["generate", "--yes", &me()]), "")
}

#[test]
fn a_generate_that_cannot_write_leaves_the_old_set_as_it_was() {
    let Some(world) = World::new("") else { return };
    let old = world.generate();
    let (before, queued) = (fs::read(world.file()).unwrap(), world.other_files());
    // A file size limit of 0 stands in for whatever may stop the new file.
    let output = generate_after(&world, "trap '' XFSZ; ulimit -f 0");
    let complaint = complaint(&output, 3);
    assert!(complaint.contains("cannot write a new file in") && output.stdout.is_empty(), "{complaint}");
    assert_eq!(fs::read(world.file()).unwrap(), before);
    assert_eq!(world.other_files(), queued, "nothing is left over, and no notice tells of it");
    assert_eq!(world.try_answer(&old.codes[0]), pam::SUCCESS);
}

#[test]
fn the_next_run_removes_what_a_crash_left_over() {
    let Some(world) = World::new("") else { return };
    fs::write(world.store().join(".new"), "half of a se").unwrap();
    let sheet = world.generate();
    assert!(!world.other_files().contains(&".new".into()));
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
}

#[test]
fn an_unknown_account_is_an_error_and_stops_no_other() {
    let Some(world) = World::new("") else { return };
    assert!(
        complaint(&world.admin(&["generate", "no-such-user"]), 3)
            .contains("no such user in the user database")
    );
    let output = world.admin(&["generate", "--format", "json", "no-such-user", &me()]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(json(&output)[0]["user"], json!(me()));
    assert!(text(&output.stderr).contains("1 of 2 users failed"), "{output:?}");
}

#[test]
fn faults_of_the_store_are_reported_with_a_remedy() {
    let Some(world) = World::new("") else { return };
    set_mode(&world.store(), 0o755);
    for command in [["generate", &me()], ["status", &me()], ["revoke", &me()]] {
        let complaint = complaint(&world.admin(&command), 3);
        let path = world.store().display().to_string();
        for part in
            [path.as_str(), "mode 0755", "expected a directory owned by root with mode 0700", "chmod 0700"]
        {
            assert!(complaint.contains(part), "{part}: {complaint}");
        }
    }
    fs::remove_dir(world.store()).unwrap();
    assert!(complaint(&world.admin(&["generate", &me()]), 3).contains("install -d -m 0700 -o root"));
    assert!(!world.store().exists());
    let complaint = complaint(&world.admin(&["status"]), 3);
    assert!(complaint.contains("no such directory"), "{complaint}");
}

#[test]
fn wrong_usage_and_a_wrong_configuration_have_their_own_exit_statuses() {
    let Some(world) = World::new("") else { return };
    for arguments in [
        &[][..],
        &["generate"],
        &["frobnicate"],
        &["generate", "--count", "0", "x"],
        &["generate", "--count", "32", "x"],
        &["status", "--format", "xml"],
    ] {
        let output = world.admin(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let complaint = text(&output.stderr);
        assert!(complaint.starts_with("backupcodes-admin: "), "{complaint}");
        assert!(complaint.contains("'--help'"), "{complaint}");
    }
    world.configure("[codes]\ncount = 99\n");
    let complaint = complaint(&world.admin(&["status"]), 3);
    assert!(complaint.contains("codes.count is 99; expected 1 to 31"), "{complaint}");
    assert_eq!(world.admin(&["--version"]).status.code(), Some(0));
}

#[test]
fn set_files_are_private_whatever_the_umask() {
    let Some(world) = World::new("") else { return };
    use std::os::unix::fs::PermissionsExt;
    for umask in ["000", "077", "777"] {
        let output = generate_after(&world, &format!("umask {umask}"));
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::metadata(world.file()).unwrap().permissions().mode() & 0o7777, 0o600);
    }
}

#[test]
fn an_account_that_is_created_again_inherits_no_address_and_is_reported() {
    let Some(world) = World::new("") else { return };
    world.admin(&["generate", "--email", "old@example.org", &me()]);
    let uid = nix::unistd::geteuid().as_raw();
    let file = fs::read_to_string(world.file()).unwrap();
    fs::write(world.file(), file.replace(&format!("uid = {uid}\n"), &format!("uid = {}\n", uid + 1)))
        .unwrap();
    let output = world.admin(&["status", &me()]);
    assert!(output.status.code() == Some(3) && text(&output.stderr).contains("was made for"), "{output:?}");
    // Its codes are worth nothing, so nobody is asked.
    assert_eq!(world.admin(&["generate", &me()]).status.code(), Some(0));
    assert_eq!(json(&world.admin(&["status", "--format", "json"]))[0]["email"], json!([]));
}

#[test]
fn a_name_that_was_typed_in_another_way_finds_the_same_set() {
    let Some(world) = World::new("") else { return };
    let typed = me().to_uppercase();
    let admin = |command: &str, input: &str| {
        let mut tool = world.admin_command();
        tool.env("LD_PRELOAD", built("examples/libfolding_names.so"));
        feed(tool.args([command, "--format", "json", &typed]), input)
    };
    let sheet = sheet(admin("generate", ""));
    assert_eq!((sheet.user, world.file().exists()), (me(), true));
    assert_eq!(json(&admin("status", ""))[0]["set"], json!(sheet.set));
    assert_eq!(json(&admin("verify", &sheet.codes[0]))["accepted"], json!(true));
    let mut attempt = world.attempt(&[(&sheet.codes[0]).into()]);
    attempt.user = typed.clone().into();
    let library = built("examples/libfolding_names.so");
    let outcome = race_with_preload(&[attempt], &library).pop().unwrap().unwrap();
    assert_eq!(outcome.codes, [pam::SUCCESS]);
    assert_eq!(json(&admin("revoke", ""))["revoked"], json!(true));
    assert!(!world.file().exists());
}

/// As a directory service that switches between short and qualified names leaves them.
#[test]
fn a_set_under_the_very_name_that_was_typed_comes_before_the_one_of_the_account() {
    let Some(world) = World::new("") else { return };
    let typed = me().to_uppercase();
    let admin = |arguments: &[&str]| {
        let mut tool = world.admin_command();
        feed(tool.env("LD_PRELOAD", built("examples/libfolding_names.so")).args(arguments), "")
    };
    let sheet = world.generate();
    let own = fs::read_to_string(world.file()).unwrap();
    let other = world.file().with_file_name(format!("{typed}.toml"));
    let text_of_other = own
        .replace(&sheet.set, "00c0ffee")
        .replace(&format!("user = {:?}", me()), &format!("user = {typed:?}"));
    fs::write(&other, text_of_other).unwrap();
    set_mode(&other, 0o600);

    let status = admin(&["status", "--format", "json", &typed]);
    assert_eq!(json(&status)[0]["set"], json!("00c0ffee"));
    let complaint = complaint(&status, 3);
    assert!(complaint.contains(&format!("backupcodes-admin revoke {typed}")), "{complaint}");
    assert!(admin(&["email", &typed, "carl@example.org"]).status.success());
    assert_eq!(fs::read_to_string(world.file()).unwrap(), own);
    let revoked = admin(&["revoke", "--format", "json", &typed]);
    assert_eq!(json(&revoked), json!({ "user": typed, "set": "00c0ffee", "revoked": true }));
    assert!(!other.exists());
    assert_eq!(fs::read_to_string(world.file()).unwrap(), own);
}

#[test]
fn a_user_named_twice_gets_one_sheet() {
    let Some(world) = World::new("") else { return };
    let output = world.admin(&["generate", "--format", "json", &me(), &me()]);
    assert_eq!((output.status.code(), json(&output).as_array().unwrap().len()), (Some(0), 1));
}

#[test]
fn addresses_that_cannot_be_are_refused() {
    let Some(world) = World::new("") else { return };
    for address in ["", "a b@example.org", "a@example.org\nBcc: b@example.org", &"a".repeat(255)] {
        let output = world.admin(&["generate", "--email", address, &me()]);
        assert_eq!(output.status.code(), Some(2), "{address}");
    }
    assert!(!world.file().exists());
}

#[test]
fn a_set_that_would_be_too_large_to_read_is_not_made() {
    let Some(world) = World::new("") else { return };
    let old = world.generate();
    let address = "a".repeat(250);
    let many: Vec<&str> = std::iter::repeat_n(["--email", &address], 300).flatten().collect();
    let output = world.admin(&[&["generate", "--yes", &me()], &many[..]].concat());
    assert!(complaint(&output, 3).contains("would be unreadable") && output.stdout.is_empty());
    assert_eq!(world.try_answer(&old.codes[0]), pam::SUCCESS);
}
