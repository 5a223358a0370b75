//! One prompt for two kinds of code: the guide's stacks, byte for byte, with the real verification modules, over a real sshd.

use std::fs;
use std::path::Path;
use std::process::Command;

use backupcodes_tests::authenticator::{Authenticator, Verifier};
use backupcodes_tests::machine::{Account, Machine, Sshd};
use backupcodes_tests::readme::block;
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{Sheet, mistyped, set_mode, text};

const PROMPT: &str = "Verification code or backup code: ";

/// A user with a password, a phone and a sheet.
struct User {
    account: Account,
    phone: Authenticator,
    sheet: Sheet,
}

impl User {
    fn new(machine: &Machine, verifier: Verifier) -> Self {
        let account = machine.account();
        let phone = verifier.enroll(&account);
        let sheet = machine.generate(&account);
        Self { account, phone, sheet }
    }

    /// Whether one connection logs in. Each answer has its own prompt, and comes when the one before was refused.
    fn is_let_in(&self, sshd: &Sshd, answers: &[&str]) -> bool {
        let account = &self.account;
        let welcome = format!("logged in as {}", account.name);
        let mut terminal = Terminal::start(&mut sshd.client(account, None, "echo logged in as $USER"));
        let mut next = terminal.expect_one_of(&["Password: "]);
        for answer in answers {
            assert_eq!(next, "Password: ", "an answer before {answer} was accepted");
            terminal.send(&account.password);
            terminal.expect(PROMPT);
            terminal.send(answer);
            next = terminal.expect_one_of(&["Password: ", "Permission denied", &welcome]);
        }
        let screen = &terminal.screen;
        assert_eq!(screen.matches(PROMPT).count(), answers.len(), "one prompt an answer: {screen}");
        for others in ["Verification code: ", "One-time password"] {
            assert!(!screen.contains(others), "a prompt of the module behind: {screen}");
        }
        next == welcome
    }
}

#[test]
fn google_authenticators_code_or_a_backup_code_gets_in_at_one_prompt() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("sshd", "one-prompt");
    right_ones_get_in_and_no_others(&machine, Verifier::Google);
}

#[test]
fn oaths_code_or_a_backup_code_gets_in_at_one_prompt() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("sshd", "one-prompt-oath");
    right_ones_get_in_and_no_others(&machine, Verifier::Oath);
}

fn right_ones_get_in_and_no_others(machine: &Machine, verifier: Verifier) {
    let user = User::new(machine, verifier);
    let others = machine.generate(&machine.account());
    let codes: Vec<&str> = user.sheet.codes.iter().map(String::as_str).collect();
    let sshd = machine.sshd("sshd-password");
    assert!(!user.is_let_in(&sshd, &[&user.phone.wrong_code(), &others.codes[1], &mistyped(codes[1])]));
    let as_the_app_shows_it = || {
        let code = user.phone.code();
        format!("{} {}", &code[..3], &code[3..])
    };
    assert!(user.is_let_in(&sshd, &[&as_the_app_shows_it()]), "a right verification code");
    assert!(user.is_let_in(&sshd, &[codes[0]]), "a right backup code");
    assert!(user.is_let_in(&sshd, &[codes[0], codes[1]]), "a spent one, and a right one");
    let status = text(&machine.admin(&["status", &user.account.name]).stdout);
    assert!(status.contains("8 of 10 codes left"), "{status}");
}

#[test]
fn a_key_in_place_of_the_password_needs_no_other_change() {
    let Some(machine) = Machine::new() else { return };
    let without_password: String =
        block("one-prompt").lines().skip(1).map(|line| format!("{line}\n")).collect();
    assert!(!without_password.contains("pam_unix"));
    machine.stack_of("sshd", &without_password);
    let user = User::new(&machine, Verifier::Google);
    let key = machine.key(&user.account);
    let sshd = machine.sshd("sshd-key");
    for answer in [&user.phone.code(), &user.sheet.codes[0]] {
        let mut terminal = Terminal::start(&mut sshd.client(&user.account, Some(&key), "echo logged in"));
        terminal.expect(PROMPT);
        terminal.send(answer);
        terminal.expect("logged in");
        assert_eq!(terminal.end(), 0);
    }
}

/// What can be wrong with us, the way to bring it about, and what the log says of it.
type Fault = (&'static str, fn(&Account), &'static str);

const FAULTS: [Fault; 6] = [
    ("a broken configuration", |_| write(CONFIGURATION, "[codes]\ncount = \"many\"\n"), "codes.count"),
    ("a store that is not trusted", |_| set_mode(STORE.as_ref(), 0o777), "mode 0777"),
    ("no store", |_| fs::rename(STORE, ASIDE).unwrap(), "no such directory"),
    ("a corrupt set", |account| write(account.file(), "torn"), "not a set of codes"),
    ("no set", |account| fs::remove_file(account.file()).unwrap(), "the user has no backup codes"),
    ("failures cannot be counted", |_| write(RUNTIME, "a file"), "cannot be counted"),
];
const CONFIGURATION: &str = "/etc/security/backupcodes.conf";
const STORE: &str = "/var/lib/backupcodes";
const ASIDE: &str = "/var/lib/backupcodes.aside";
const RUNTIME: &str = "/run/backupcodes";

fn write(path: impl AsRef<Path>, text: &str) {
    fs::write(path, text).unwrap();
}

/// A fault, which ends when this is dropped.
struct Broken;

impl Broken {
    fn new(fault: Fault, account: &Account) -> Self {
        let _ = fs::remove_dir_all(RUNTIME);
        let broken = Self;
        fault.1(account);
        broken
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        let _ = fs::rename(ASIDE, STORE);
        set_mode(STORE.as_ref(), 0o700);
        for file in [CONFIGURATION, RUNTIME] {
            let _ = fs::remove_file(file);
        }
    }
}

#[test]
fn our_faults_accept_no_backup_code_and_refuse_no_verification_code_of_google_authenticator() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("sshd", "one-prompt");
    let sshd = machine.sshd("sshd-password");
    for fault in FAULTS {
        let (what, _, told) = fault;
        let user = User::new(&machine, Verifier::Google);
        let _broken = Broken::new(fault, &user.account);
        let before = machine.log().len();
        assert!(user.is_let_in(&sshd, &[&user.sheet.codes[0], &user.phone.code()]), "{what}");
        let ours = machine.log().split_off(before);
        let told = |text: &str| text.contains("pam_backupcodes(sshd:auth)") && text.contains(told);
        assert!(ours.iter().any(|line| told(&line.text)), "{what} does not come about: {ours:#?}");
    }
}

#[test]
fn our_faults_refuse_no_verification_code_of_oath() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("sshd", "one-prompt-oath");
    let sshd = machine.sshd("sshd-password");
    for fault in FAULTS {
        let user = User::new(&machine, Verifier::Oath);
        let _broken = Broken::new(fault, &user.account);
        assert!(user.is_let_in(&sshd, &[&user.phone.code()]), "{}", fault.0);
    }
}

#[test]
fn nullok_and_an_unknown_option_refuse_no_verification_code() {
    let Some(machine) = Machine::new() else { return };
    for option in ["nullok", "null_ok"] {
        let changed = block("one-prompt").replace("forward_pass", &format!("{option} forward_pass"));
        machine.stack_of("sshd", &changed);
        let sshd = machine.sshd("sshd-password");
        let with = User::new(&machine, Verifier::Google);
        assert!(with.is_let_in(&sshd, &[&with.phone.code()]), "{option}");
        let without = User::new(&machine, Verifier::Google);
        fs::remove_file(without.account.file()).unwrap();
        // Also one who has no set is asked, and must have the right answer.
        let answers = [&without.phone.wrong_code(), &without.sheet.codes[0], &without.phone.code()];
        assert!(without.is_let_in(&sshd, &answers.map(String::as_str)), "{option}, and no set");
    }
}

#[test]
fn the_jump_over_the_module_behind_reaches_the_lines_behind_it() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("login", "one-prompt-console");
    // Debian's file of login has pam_group.so behind the stack.
    write("/etc/security/group.conf", "login;*;user-*;Al0000-2400;audio\n");
    let user = User::new(&machine, Verifier::Google);
    let start = |answer: &str| {
        let mut terminal = Terminal::start(Command::new("login").arg(&user.account.name));
        terminal.expect("Password: ");
        terminal.send(&user.account.password);
        terminal.expect(PROMPT);
        terminal.send(answer);
        terminal
    };
    for right in [&user.phone.code(), &user.sheet.codes[0]] {
        let mut terminal = start(right);
        terminal.expect("$ ");
        terminal.send("echo groups: $(id -nG); exit");
        terminal.expect(&format!("groups: {} audio", user.account.name));
        terminal.end();
    }
    for wrong in [&user.phone.wrong_code(), &user.sheet.codes[0]] {
        start(wrong).expect("Login incorrect");
    }
}
