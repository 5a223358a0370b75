//! Users show, check and renew their own codes with `backupcodes`, at a terminal, through the broker.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use backupcodes_tests::authenticator::Verifier;
use backupcodes_tests::machine::run;
use backupcodes_tests::renewal::{CODE, DONE, PASSWORD, Renewal, SERVICE, SHIPPED, codes};
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{built, feed, mistyped, text};

#[test]
fn the_password_and_a_code_renew_a_set_and_the_old_one_works_until_then() {
    let Some(scene) = Renewal::new() else { return };
    let old = scene.machine.generate(&scene.user);
    scene.machine.admin(&["email", &scene.user.name, "owner@example.org"]);
    let password = scene.user.password.clone();
    let mut terminal = Terminal::start(&mut scene.command("renew"));
    terminal.expect(PASSWORD);
    terminal.send(&password);
    terminal.expect(CODE);
    assert_eq!((scene.set(), scene.left()), (old.set.clone(), 10));
    terminal.send(&old.codes[0]);
    terminal.expect(DONE);
    assert_eq!(terminal.end(), 0);
    let screen = &terminal.screen;
    assert!(!screen.contains(&password) && !screen.contains(&old.codes[0]), "{screen}");
    let new = codes(screen);
    assert_eq!(new.len(), 10, "{screen}");
    assert!(
        screen.contains(&format!("User  {}", scene.user.name)) && screen.contains(&scene.set()),
        "{screen}"
    );
    assert_ne!(scene.set(), old.set);
    assert_eq!(scene.left(), 10);
    assert!(scene.takes(&new[9]) && !scene.takes(&old.codes[1]));
    let subjects = scene.subjects();
    assert!(subjects.iter().any(|subject| subject.contains("New backup codes for ")), "{subjects:#?}");
    assert!(subjects.iter().any(|subject| subject.contains("Backup code 1 of ")), "{subjects:#?}");
    assert_eq!(scene.machine.status(&scene.user)["email"][0], "owner@example.org");
    // The next one takes a code of the new sheet.
    let (status, screen) = scene.renew(&[(PASSWORD, &password), (CODE, &old.codes[1])]);
    assert!(status == 1 && screen.contains("refused") && codes(&screen).is_empty(), "{screen}");
    assert_eq!(scene.renew(&[(PASSWORD, &password), (CODE, &new[0]), (DONE, "")]).0, 0);
}

#[test]
fn a_password_alone_makes_a_first_set_and_never_replaces_one() {
    let Some(scene) = Renewal::new() else { return };
    fs::write("/etc/security/backupcodes.conf", "[throttle]\nfree = 1000\n").unwrap();
    let password = scene.user.password.clone();
    let (status, screen) = scene.renew(&[(PASSWORD, "not the password")]);
    assert!(status == 1 && !screen.contains(CODE) && scene.file().is_empty(), "{screen}");
    let (status, screen) = scene.renew(&[(PASSWORD, &password), (DONE, "")]);
    assert!(status == 0 && !screen.contains(CODE), "{screen}");
    let codes_of_first = codes(&screen);
    let first = scene.file();
    for answer in ["", &password, "123456", &mistyped(&codes_of_first[1])] {
        let (status, screen) = scene.renew(&[(PASSWORD, &password), (CODE, answer)]);
        assert!(status == 1 && codes(&screen).is_empty(), "{answer}: {screen}");
        assert_eq!(scene.file(), first, "{answer}");
    }
    // Whoever has a code and not the password is not asked for it.
    let (status, screen) = scene.renew(&[(PASSWORD, &codes_of_first[0])]);
    assert!(status == 1 && !screen.contains(CODE), "{screen}");
    assert_eq!(scene.file(), first);
    // Renew while one is left: without any it is for the administrator.
    let sheet = scene.machine.generate_count(&scene.user, 1);
    assert_eq!(scene.renew(&[(PASSWORD, &password), (CODE, &sheet.codes[0]), (DONE, "")]).0, 0);
    let sheet = scene.machine.generate_count(&scene.user, 1);
    let spent = scene.machine.status(&scene.user)["set"].clone();
    // One that is spent, as by a login.
    let mut broken_off = Terminal::start(&mut scene.command("renew"));
    broken_off.expect(PASSWORD);
    broken_off.send(&password);
    broken_off.expect(CODE);
    drop(broken_off);
    let spend = format!("{}\n{}\n", password, sheet.codes[0]);
    let mut full = scene.command("renew");
    full.stdout(Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap()));
    let output = feed_keeping_stdout(&mut full, &spend);
    assert_eq!(output.status.code(), Some(3));
    let said = text(&output.stderr);
    assert!(said.contains("cannot be printed") && said.contains("unchanged"), "{said}");
    assert_eq!((scene.machine.status(&scene.user)["set"].clone(), scene.left()), (spent, 0));
    let (status, _) = scene.renew(&[(PASSWORD, &password), (CODE, &sheet.codes[0])]);
    assert_eq!((status, scene.left()), (1, 0));
}

/// The same as `feed`, but standard output is what the command says.
fn feed_keeping_stdout(command: &mut Command, input: &str) -> Output {
    use std::io::Write;
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn users_who_fail_too_often_wait_whatever_they_respond() {
    let Some(scene) = Renewal::new() else { return };
    let sheet = scene.machine.generate(&scene.user);
    fs::write("/etc/security/backupcodes.conf", "[throttle]\nfree = 2\nfirst_delay = 50\n").unwrap();
    let password = scene.user.password.clone();
    for _ in 0..2 {
        assert_eq!(scene.renew(&[(PASSWORD, "not the password")]).0, 1);
    }
    let (status, screen) = scene.renew(&[]);
    assert!(status == 1 && screen.contains("Too many renewals: refused until"), "{screen}");
    assert!(!screen.contains(PASSWORD), "{screen}");
    let throttled = scene.machine.status(&scene.user)["throttled"].clone();
    assert_eq!((&throttled[0]["service"], &throttled[0]["source"]), (&"renewal".into(), &"local".into()));
    assert!(scene.machine.admin(&["unlock", &scene.user.name]).status.success());
    assert_eq!(scene.renew(&[(PASSWORD, &password), (CODE, &sheet.codes[0]), (DONE, "")]).0, 0);
    assert_eq!(scene.machine.status(&scene.user)["throttled"], serde_json::json!([]));
    // Wrong codes are counted by the module as everywhere, and a new set forgets them.
    scene.machine.generate(&scene.user);
    assert_eq!(scene.renew(&[(PASSWORD, &password), (CODE, &sheet.codes[1])]).0, 1);
    let counters = Path::new("/run/backupcodes/throttle").join(&scene.user.name);
    assert!(counters.join("backupcodes@%local").exists());
    fs::remove_file(counters.join("renewal@%local")).unwrap();
    scene.ask_nothing();
    assert_eq!(scene.renew(&[(DONE, "")]).0, 0);
    assert!(fs::read_dir(&counters).unwrap().all(|file| file.unwrap().file_name() == "renewal@%local"));
    fs::write(SERVICE, SHIPPED).unwrap();
    fs::remove_file(counters.join("renewal@%local")).unwrap();
    for _ in 0..2 {
        assert_eq!(scene.renew(&[(PASSWORD, &password), (CODE, &sheet.codes[1])]).0, 1);
    }
    let throttled = scene.machine.status(&scene.user)["throttled"].clone();
    assert_eq!(throttled[0]["service"], "backupcodes", "{throttled}");
}

#[test]
fn the_sheet_names_the_host_of_the_broker() {
    let Some(scene) = Renewal::new() else { return };
    let mut elsewhere = Command::new("unshare");
    elsewhere.args(["--uts", "sh", "-c", "hostname elsewhere.example && exec \"$@\"", "sh"]);
    let own = scene.command("renew");
    elsewhere.arg(own.get_program()).args(own.get_args());
    let mut terminal = Terminal::start(&mut elsewhere);
    terminal.expect(PASSWORD);
    terminal.send(&scene.user.password);
    terminal.expect(DONE);
    assert_eq!(terminal.end(), 0);
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    assert!(terminal.screen.contains(&host) && !terminal.screen.contains("elsewhere"), "{}", terminal.screen);
}

/// 60 of them in 4 s, each with its notices, filled the outbox.
#[test]
fn renewals_that_succeed_wait_for_each_other_as_well() {
    let Some(scene) = Renewal::new() else { return };
    scene.ask_nothing();
    // On a busy machine the wait of 2 s after the fifth can be over before the next begins, or the 4 s after that.
    let (mut accepted, mut set) = (0, None);
    let screen = loop {
        let (status, screen) = scene.renew(&[]);
        if status != 0 {
            break screen;
        }
        assert!(screen.contains(DONE) && accepted < 10, "{accepted}: {screen}");
        accepted += 1;
        set = Some(scene.set());
    };
    let set = set.unwrap();
    assert_eq!(scene.set(), set);
    assert!(accepted >= 5 && screen.contains("Too many renewals: refused until"), "{accepted}: {screen}");
    // That one counts too, and what comes next waits for twice as long.
    std::thread::sleep(Duration::from_millis(200) + Duration::from_secs(2 << (accepted - 5)));
    assert_eq!(scene.renew(&[]).0, 0);
    // Of six renewals there are fewer than 20, and of each more at most three.
    let most = 20 + 3 * (accepted - 5);
    assert!(scene.set() != set && scene.subjects().len() < most, "{:#?}", scene.subjects());
}

#[test]
fn with_readmes_stack_the_password_and_a_verification_code_or_a_backup_code_renew() {
    let Some(scene) = Renewal::new() else { return };
    scene.ask_as("renewal-one-prompt");
    let phone = Verifier::Google.enroll(&scene.user);
    let password = scene.user.password.clone();
    const EITHER: &str = "Verification code or backup code: ";
    // Without a set as well, a password alone does not do.
    let wrong = phone.wrong_code();
    for answer in ["", &password, &wrong] {
        let (status, screen) = scene.renew(&[(PASSWORD, &password), (EITHER, answer)]);
        assert!(status == 1 && scene.file().is_empty(), "{answer}: {screen}");
    }
    let (status, screen) = scene.renew(&[(PASSWORD, &password), (EITHER, &phone.code()), (DONE, "")]);
    assert_eq!(status, 0, "{screen}");
    let first = codes(&screen);
    let (status, screen) = scene.renew(&[(PASSWORD, &password), (EITHER, &first[3]), (DONE, "")]);
    assert_eq!(status, 0, "{screen}");
    assert!(scene.takes(&codes(&screen)[0]) && !scene.takes(&first[4]));
}

#[test]
fn a_set_that_changes_meanwhile_is_not_replaced() {
    let Some(scene) = Renewal::new() else { return };
    scene.machine.generate(&scene.user);
    let mut terminal = Terminal::start(&mut scene.command("renew"));
    terminal.expect(PASSWORD);
    terminal.send(&scene.user.password);
    terminal.expect(CODE);
    let other = scene.machine.generate(&scene.user);
    terminal.send(&other.codes[0]);
    assert_eq!(terminal.end(), 3);
    assert!(terminal.screen.contains("THE SHEET ABOVE IS WORTHLESS"), "{}", terminal.screen);
    assert_eq!((scene.set(), scene.left()), (other.set, 9));
}

#[test]
fn status_and_verify_ask_for_no_password_and_are_about_nobody_else() {
    let Some(scene) = Renewal::new() else { return };
    let output = scene.output("status", "");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    assert!(text(&output.stderr).contains("has no backup codes; to make some: backupcodes renew"));
    assert_eq!(scene.output("verify", "123456\n").status.code(), Some(1));
    let sheet = scene.machine.generate(&scene.user);
    let output = scene.output("verify", &format!("{}\n", sheet.codes[4]));
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(0), "The code would be accepted.\n")
    );
    let output = scene.output("verify", &format!("{}\n", mistyped(&sheet.codes[4])));
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(1), "The code would be refused.\n")
    );
    let mut terminal = Terminal::start(&mut scene.command("verify"));
    terminal.expect("it will not be spent");
    terminal.send(&sheet.codes[5]);
    terminal.expect("would be accepted");
    assert!(terminal.end() == 0 && !terminal.screen.contains(&sheet.codes[5]), "{}", terminal.screen);
    let status = scene.renew(&[(PASSWORD, &scene.user.password), (CODE, &sheet.codes[0])]).0;
    assert_eq!(status, 0);
    let output = scene.output("status", "");
    let said = text(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(
        said.contains(&format!("{}: 10 of 10 codes left", scene.user.name)) && said.contains(&scene.set()),
        "{said}"
    );
}

#[test]
fn status_tells_where_codes_were_used_and_warns_of_few() {
    let Some(scene) = Renewal::new() else { return };
    let sheet = scene.machine.generate_count(&scene.user, 3);
    // A renewal that gets no further spends one.
    let mut terminal = Terminal::start(&mut scene.command("renew"));
    terminal.expect(PASSWORD);
    terminal.send(&scene.user.password);
    terminal.expect(CODE);
    let other = scene.machine.generate_count(&scene.user, 3);
    terminal.send(&other.codes[1]);
    assert_eq!((terminal.end(), sheet.codes.len()), (3, 3));
    let said = text(&scene.output("status", "").stdout);
    assert!(said.contains(": 2 of 3 codes left, LOW\n"), "{said}");
    assert!(said.contains("  code 2 used ") && said.contains(" by backupcodes from local\n"), "{said}");
}

#[test]
fn an_account_that_has_expired_renews_nothing() {
    let Some(scene) = Renewal::new() else { return };
    run(Command::new("usermod").args(["--expiredate", "1", &scene.user.name]), "");
    let (status, screen) = scene.renew(&[(PASSWORD, &scene.user.password)]);
    assert!(status == 1 && screen.contains("account has expired"), "{screen}");
    assert!(scene.file().is_empty());
    assert!(scene.last_line().contains("is refused: pam_acct_mgmt"), "{}", scene.last_line());
}

/// Debian's service `other`, which stands in for one that is missing, asks for a password alone.
#[test]
fn without_the_pam_service_there_is_no_renewal() {
    let Some(scene) = Renewal::new() else { return };
    fs::remove_file(SERVICE).unwrap();
    let (status, screen) = scene.renew(&[]);
    assert!(status == 3 && screen.contains("Unavailable") && !screen.contains(PASSWORD), "{screen}");
    let line = scene.last_line();
    assert!(
        line.contains("/etc/pam.d/backupcodes: no such PAM service")
            && line.contains("the file that comes with the broker"),
        "{line}"
    );
    assert!(scene.file().is_empty());
}

/// For what a service does not ask, libpam goes to `other` as well.
#[test]
fn a_pam_service_that_asks_nothing_renews_nothing() {
    let Some(scene) = Renewal::new() else { return };
    let rest = "account required pam_unix.so\n";
    let commented: String = SHIPPED.lines().map(|line| format!("#{line}\n")).collect();
    fs::write("/etc/pam.d/asks-nothing", rest).unwrap();
    for service in ["", rest, &commented, "@include asks-nothing\n", "auth include asks-nothing\n"] {
        fs::write(SERVICE, service).unwrap();
        let (status, screen) = scene.renew(&[]);
        assert!(
            status == 3 && screen.contains("Unavailable") && !screen.contains(PASSWORD),
            "{service}: {screen}"
        );
        let line = scene.last_line();
        assert!(line.contains("/etc/pam.d/backupcodes: no auth line"), "{line}");
    }
    for service in ["@include common-auth\n", "-auth required pam_unix.so\n", "auth\tinclude\tcommon-auth\n"]
    {
        fs::write(SERVICE, service).unwrap();
        let screen = scene.renew(&[(PASSWORD, "not the password")]).1;
        assert!(screen.contains("refused"), "{service}: {screen}");
    }
    assert!(scene.file().is_empty());
    fs::remove_file("/etc/pam.d/asks-nothing").unwrap();
}

/// Where they look into different directories, "no set" is said of another one.
#[test]
fn a_broker_with_another_configuration_than_the_module_renews_nothing() {
    let Some(mut scene) = Renewal::new() else { return };
    let conf = scene.machine.sandbox.join("other.conf");
    fs::write(&conf, "").unwrap();
    let with = SHIPPED.replace("nullok", &format!("nullok conf={}", conf.display()));
    let is_refused = |scene: &Renewal| {
        let (screen, line) = (scene.renew(&[]).1, scene.last_line());
        screen.contains("Unavailable")
            && line.contains("has another conf= (")
            && line.contains("than the --config of this broker")
    };
    fs::write(SERVICE, &with).unwrap();
    assert!(is_refused(&scene), "the module has one");
    let hidden = Path::new("/etc/pam.d/hides-conf");
    fs::write(hidden, &with).unwrap();
    for service in
        ["@include hides-conf\n", "auth include hides-conf\n", "-auth substack /etc/pam.d/hides-conf\n"]
    {
        fs::write(SERVICE, format!("auth required pam_unix.so\n{service}{SHIPPED}")).unwrap();
        assert!(is_refused(&scene), "{service}");
    }
    fs::remove_file(hidden).unwrap();
    fs::write(SERVICE, with.replace("pam_backupcodes.so", "\\\n  pam_backupcodes.so")).unwrap();
    assert!(is_refused(&scene), "a line that is joined");
    fs::write(SERVICE, format!("{SHIPPED}@include hides-conf\n")).unwrap();
    assert!(scene.renew(&[]).1.contains("Unavailable"));
    let line = scene.last_line();
    assert!(
        line.contains("/etc/pam.d/backupcodes:") && line.contains("\"hides-conf\" cannot be included"),
        "{line}"
    );
    scene.restart(&["--config", conf.to_str().unwrap()]);
    fs::write(SERVICE, SHIPPED).unwrap();
    assert!(is_refused(&scene), "the broker has one");
    fs::write(SERVICE, &with).unwrap();
    assert_eq!(scene.renew(&[(PASSWORD, &scene.user.password), (DONE, "")]).0, 0);
}

/// On a full disk a code still works, also the last one; it must not be spent for a set that cannot be made.
#[test]
fn without_room_for_a_new_set_no_code_is_asked_for() {
    let Some(scene) = Renewal::new() else { return };
    run(
        Command::new("mount").args([
            "-t",
            "tmpfs",
            "-o",
            "mode=0700,size=2M",
            "tmpfs",
            "/var/lib/backupcodes",
        ]),
        "",
    );
    let sheet = scene.machine.generate_count(&scene.user, 1);
    fs::write("/var/lib/backupcodes/.fills", vec![1; 1_200_000]).unwrap();
    let (status, screen) = scene.renew(&[]);
    fs::remove_file("/var/lib/backupcodes/.fills").unwrap();
    let line = scene.last_line();
    let renewed = scene.renew(&[(PASSWORD, &scene.user.password), (CODE, &sheet.codes[0]), (DONE, "")]).0;
    run(Command::new("umount").arg("/var/lib/backupcodes"), "");
    assert!(status == 3 && screen.contains("unchanged") && !screen.contains(PASSWORD), "{screen}");
    assert!(line.contains("/var/lib/backupcodes: less than 1 MiB is free"), "{line}");
    assert_eq!(renewed, 0);
}

#[test]
fn ctrl_c_at_a_prompt_ends_a_renewal() {
    let Some(scene) = Renewal::new() else { return };
    let (status, screen) = scene.renew(&[(PASSWORD, "pass\u{3}")]);
    assert!(status == 3 && screen.contains("cannot be read"), "{screen}");
    scene.wait_until_idle();
    assert!(!scene.last_line().contains("authentication failure"), "{}", scene.last_line());
}

#[test]
fn an_account_without_a_password_renews_nothing() {
    let Some(scene) = Renewal::new() else { return };
    run(Command::new("passwd").args(["--delete", &scene.user.name]), "");
    fs::write(SERVICE, "auth required pam_unix.so nullok\naccount required pam_unix.so\n").unwrap();
    let mut terminal = Terminal::start(&mut scene.command("renew"));
    if terminal.find(PASSWORD) {
        terminal.send("");
    }
    assert!(terminal.end() == 1 && scene.file().is_empty(), "{}", terminal.screen);
}

#[test]
fn a_response_that_comes_too_late_is_reported() {
    let Some(scene) = Renewal::new() else { return };
    let mut terminal = Terminal::start(&mut scene.command("renew"));
    terminal.expect(PASSWORD);
    scene.end_connections();
    terminal.send(&scene.user.password);
    terminal.expect("the broker waited five minutes for your response and stopped");
    assert_eq!(terminal.end(), 3);
}

#[test]
fn verify_says_when_no_code_is_examined() {
    let Some(scene) = Renewal::new() else { return };
    fs::write("/etc/security/backupcodes.conf", "[throttle]\nfree = 1\nfirst_delay = 50\n").unwrap();
    let old = scene.machine.generate(&scene.user);
    let new = scene.machine.generate(&scene.user);
    assert_eq!(scene.output("verify", &format!("{}\n", old.codes[0])).status.code(), Some(1));
    let output = scene.output("verify", &format!("{}\n", new.codes[0]));
    let said = text(&output.stdout);
    assert!(said.starts_with("Too many codes were wrong: any code is refused until 20"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

/// What it would show, check and renew is another set than the one that works at a login.
#[test]
fn a_broker_of_another_directory_than_the_users_configuration_is_reported() {
    let Some(mut scene) = Renewal::new() else { return };
    let sheet = scene.machine.generate(&scene.user);
    let other = scene.machine.sandbox.join("other-sets");
    fs::create_dir_all(&other).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o700)).unwrap();
    let conf = scene.machine.sandbox.join("other-sets.conf");
    fs::write(&conf, format!("directory = {other:?}\n")).unwrap();
    scene.restart(&["--config", conf.to_str().unwrap()]);
    for command in ["status", "verify", "renew"] {
        let output = scene.output(command, &format!("{}\n", sheet.codes[0]));
        assert_eq!(output.status.code(), Some(3), "{command}");
        let said = text(&output.stderr);
        let told = format!("looks for sets in {}, this program in /var/lib/backupcodes", other.display());
        assert!(said.contains(&told) && said.contains("--config"), "{command}: {said}");
    }
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
}

#[test]
fn a_broker_by_hand_makes_its_folder_and_replaces_nothing_but_a_socket() {
    let Some(mut scene) = Renewal::new() else { return };
    let _ = fs::remove_dir_all("/run/backupcodes");
    scene.restart(&[]);
    assert_eq!(fs::metadata("/run/backupcodes").unwrap().permissions().mode() & 0o7777, 0o755);
    // Of a broker that was killed.
    scene.restart(&[]);
    let precious = scene.machine.sandbox.join("precious");
    fs::write(&precious, "precious").unwrap();
    let mut broker = Command::new("timeout");
    let output = feed(broker.arg("10").arg(built("backupcodes-broker")).arg("--socket").arg(&precious), "");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("without a file of that name"), "{output:?}");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
}

#[test]
fn without_a_broker_the_user_is_told_how_to_get_one() {
    let Some(mut scene) = Renewal::new() else { return };
    scene.broker.kill().unwrap();
    scene.broker.wait().unwrap();
    for command in ["status", "renew", "verify"] {
        let output = scene.output(command, "x\n");
        assert_eq!(output.status.code(), Some(3));
        let said = text(&output.stderr);
        assert!(
            said.starts_with("backupcodes: /run/backupcodes/broker: no broker")
                && said.contains("systemctl enable"),
            "{said}"
        );
    }
}
