//! The reminder at login says which code was used and how many remain, over a real sshd and in a small application.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use backupcodes_tests::level::ERROR;
use backupcodes_tests::machine::{Account, Machine, Sshd};
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{Answer, Outcome, Sheet, World, built, me, pam, readme, set_mode, sheet};

const PROMPT: &str = "Backup code: ";
const ADVICE: &str = " Get a new set soon: run backupcodes renew, or ask your administrator.";

/// sshd says nothing of its own at the start of a session, as in Debian: PAM does.
const NO_MOTD: &str = "PrintMotd no\n";
const MOTD: &str = "the message of the day\n";

/// A machine whose sshd asks for a code behind the key and reminds, and an account with as many codes.
fn prepare(count: usize) -> Option<(Machine, Account, PathBuf, Sheet, Sshd)> {
    let machine = Machine::new()?;
    fs::write("/etc/motd", MOTD).unwrap();
    machine.stack("sshd", "ssh-key");
    machine.append("sshd", "reminder");
    let account = machine.account();
    let key = machine.key(&account);
    let sheet = machine.generate_count(&account, count);
    let sshd = machine.sshd_with(&(readme::block("sshd-key") + NO_MOTD));
    Some((machine, account, key, sheet, sshd))
}

/// What an interactive shell shows, in three parts: in the authentication, at the start of the session, and what is in
/// its environment.
fn parts(client: &mut Command, code: Option<&String>) -> [String; 3] {
    let mut terminal = Terminal::start(client);
    if let Some(code) = code {
        terminal.expect(PROMPT);
        terminal.send(code);
    }
    terminal.expect("$ ");
    terminal.send("env; exit");
    assert_eq!(terminal.end(), 0, "{}", terminal.screen);
    let screen = terminal.screen.replace('\r', "");
    let (before, session) = screen.split_once(MOTD).unwrap_or_else(|| panic!("no motd: {screen}"));
    let (session, environment) = session.split_once("env; exit\n").expect("what was typed");
    assert!(environment.contains("SSH_CONNECTION="), "{screen}");
    [before, session, environment].map(Into::into)
}

#[test]
fn after_a_login_with_a_code_the_user_reads_which_one_was_used_and_how_many_are_left() {
    let Some((_machine, account, key, sheet, sshd)) = prepare(5) else { return };
    for (number, left, advice) in [(1, "4 backup codes are", ""), (2, "3 backup codes are", ADVICE)] {
        let code = &sheet.codes[number - 1];
        let [authentication, session, environment] = parts(&mut sshd.shell(&account, Some(&key)), Some(code));
        let text = format!("Backup code {number} was accepted, and is used up. {left} left.{advice}\n");
        // Below the message of the day and above the shell's prompt, once: it has the words twice.
        assert!(session.starts_with(&text) && session.matches("ackup code").count() == 2, "{session}");
        // This client also shows what is said in the authentication; not every one does.
        assert!(authentication.contains(&format!("{PROMPT}\n{text}")), "{authentication}");
        assert!(!environment.contains("BACKUPCODES"), "{environment}");
    }
}

#[test]
fn with_few_codes_left_each_login_says_so_also_one_without_a_code() {
    let Some((machine, account, key, ..)) = prepare(4) else { return };
    machine.original_stack("sshd");
    machine.append("sshd", "reminder");
    let sshd = machine.sshd_with(&format!("UsePAM yes\n{NO_MOTD}"));
    let session = || {
        let [authentication, session, _] = parts(&mut sshd.shell(&account, Some(&key)), None);
        assert!(!authentication.contains("ackup code"), "{authentication}");
        session
    };
    let says_nothing = || {
        let session = session();
        assert!(!session.contains("ackup code"), "{session}");
    };
    says_nothing();
    for (count, left) in [(3, "3 backup codes are left"), (1, "1 backup code is left")] {
        machine.generate_count(&account, count);
        for _ in 0..2 {
            let session = session();
            assert!(session.starts_with(&format!("{left}.{ADVICE}\n")), "{session}");
        }
    }
    // Who has no set is not told to get a new one.
    assert!(machine.admin(&["revoke", &account.name]).status.success());
    says_nothing();
}

#[test]
fn the_output_of_a_command_over_ssh_does_not_contain_the_reminder() {
    let Some((machine, account, key, sheet, sshd)) = prepare(3) else { return };
    let output = machine.sandbox.join("output");
    let print = |remote: &str, code: &String| {
        let mut terminal = Terminal::start(&mut sshd.client_into(&output, &account, Some(&key), remote));
        terminal.expect(PROMPT);
        terminal.send(code);
        assert_eq!(terminal.end(), 0, "{}", terminal.screen);
        fs::read_to_string(&output).unwrap()
    };
    assert_eq!(print("echo hello", &sheet.codes[0]), "hello\n");
    let environment = print("env", &sheet.codes[1]);
    assert!(environment.contains("SSH_CONNECTION=") && !environment.contains("BACKUPCODES"), "{environment}");
}

/// A world whose stack has a session.
fn with_session(control: &str, auth: &str, session: &str) -> Option<World> {
    let world = World::new("")?;
    stack(&world, control, auth, session);
    Some(world)
}

/// The module's lines have these options, and that of the session this control.
fn stack(world: &World, control: &str, auth: &str, session: &str) {
    let module =
        format!("{} conf={}", built("libpam_backupcodes.so").display(), world.path("conf").display());
    let lines = [
        format!("auth required {module} {auth}\n"),
        "session required pam_permit.so\n".into(),
        format!("session {control} {module} {session}\n"),
    ];
    fs::write(world.path("pam.d").join(&world.service), lines.concat()).unwrap();
}

/// A session that opens, after an authentication with this code, if there is one.
fn open(world: &World, code: Option<&String>, flags: i32, texts_fail: bool) -> Outcome {
    let answers: Vec<Answer> = code.map(Into::into).into_iter().collect();
    let mut attempt = world.attempt(&answers);
    attempt.calls = code.iter().map(|_| "authenticate".into()).collect();
    attempt.calls.push("open_session".into());
    (attempt.flags, attempt.texts_fail) = (flags, texts_fail);
    let outcome = attempt.run();
    assert!(outcome.codes.iter().all(|&code| code == pam::SUCCESS), "{outcome:?}");
    outcome
}

/// What was said, without the prompt.
fn texts(outcome: &Outcome) -> Vec<&str> {
    let texts = outcome.said.iter().filter(|said| said.style != pam::PROMPT_ECHO_OFF);
    texts.inspect(|said| assert_eq!(said.style, pam::TEXT_INFO)).map(|said| said.text.as_str()).collect()
}

#[test]
fn quiet_and_pam_silent_are_obeyed() {
    for (auth, session, flags, expected) in [
        ("", "", 0, 2),
        ("quiet", "", 0, 1),
        ("", "quiet", 0, 1),
        ("quiet", "quiet", 0, 0),
        ("", "", pam::SILENT, 0),
    ] {
        let Some(world) = with_session("optional", auth, session) else { return };
        let sheet = world.generate();
        let outcome = open(&world, Some(&sheet.codes[0]), flags, false);
        let text = "Backup code 1 was accepted, and is used up. 9 backup codes are left.";
        assert_eq!(texts(&outcome), vec![text; expected], "{auth:?} {session:?} {flags}");
        // And where no code was used, but few are left.
        world.configure("[codes]\nlow = 9\n");
        let expected = usize::from(session.is_empty() && flags == 0);
        let text = format!("9 backup codes are left.{ADVICE}");
        assert_eq!(texts(&open(&world, None, flags, false)), vec![text; expected], "{session:?} {flags}");
    }
}

#[test]
fn a_text_that_cannot_be_shown_ends_no_login() {
    for control in ["optional", "required"] {
        let Some(world) = with_session(control, "", "") else { return };
        let sheet = world.generate();
        assert_eq!(texts(&open(&world, Some(&sheet.codes[0]), 0, true)).len(), 2, "both were tried");
        assert_eq!(world.try_answer(&sheet.codes[0]), pam::AUTH_ERR, "the code is spent");
        world.configure("[codes]\nlow = 9\n");
        assert_eq!(texts(&open(&world, None, 0, true)).len(), 1);
    }
}

#[test]
fn unreadable_sets_are_logged_and_end_no_session() {
    type Spoil = fn(&World);
    let spoil: [(&str, Spoil); 3] = [
        ("unknown key nonsense", |world| world.configure("nonsense = 1\n")),
        ("expected", |world| set_mode(&world.file(), 0o644)),
        ("unknown module argument", |world| stack(world, "required", "", "nonsense")),
    ];
    for (reason, spoil) in spoil {
        let Some(world) = with_session("required", "", "") else { return };
        world.generate();
        spoil(&world);
        assert_eq!(texts(&open(&world, None, 0, false)), [""; 0], "{reason}");
        let line = world.last_line();
        assert!(line.text.contains(reason) && line.level == ERROR, "{reason}: {line:?}");
    }
}

#[test]
fn few_is_what_the_configuration_says() {
    let Some(world) = with_session("optional", "", "") else { return };
    let said = || texts(&open(&world, None, 0, false)).join("\n");
    let sheet = sheet(world.admin(&["generate", "--count", "2", "--format", "json", &me()]));
    let few = |low: u32| world.configure(&format!("[codes]\nlow = {low}\n"));
    few(1);
    assert_eq!(said(), "");
    few(2);
    assert_eq!(said(), format!("2 backup codes are left.{ADVICE}"));
    few(0);
    for code in &sheet.codes {
        assert_eq!(said(), "");
        assert_eq!(world.try_answer(code), pam::SUCCESS);
    }
    assert_eq!(said(), format!("No backup code is left.{ADVICE}"));
}
