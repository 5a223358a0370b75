//! The guide's stacks, byte for byte, with the real sshd, login, su and sudo.

use std::process::Command;

use backupcodes_tests::machine::{Account, Machine};
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{Sheet, text};

const PROMPT: &str = "Backup code: ";

/// An account with a set, and the guide's stack for `service`.
fn prepare(machine: &Machine, service: &str, block: &str) -> (Account, Sheet) {
    machine.stack(service, block);
    let (account, sheet) = machine.user();
    (account, sheet)
}

/// Answers the two questions that come one after the other.
fn answer(terminal: &mut Terminal, password: &str, code: &str) {
    terminal.send(password);
    terminal.expect(PROMPT);
    terminal.send(code);
}

#[test]
fn ssh_with_key_and_code_logs_in_once() {
    let Some(machine) = Machine::new() else { return };
    let (account, sheet) = prepare(&machine, "sshd", "ssh-key");
    let key = machine.key(&account);
    let sshd = machine.sshd("sshd-key");
    let login = |answers: &[&str]| {
        let mut terminal = Terminal::start(&mut sshd.client(&account, Some(&key), "echo logged in as $USER"));
        for answer in answers {
            terminal.expect(PROMPT);
            terminal.send(answer);
        }
        (terminal.end(), terminal.screen.clone())
    };

    let (status, screen) = login(&[&sheet.codes[0]]);
    assert!(status == 0 && screen.contains(&format!("logged in as {}", account.name)), "{screen}");
    assert!(!screen.contains(&sheet.codes[0]), "what is typed is not shown: {screen}");

    // The same code again, and after it two more wrong ones: sshd asks three times.
    let (status, screen) = login(&[&sheet.codes[0], "hunter2", ""]);
    assert!(status == 255 && !screen.contains("logged in"), "{screen}");
    assert!(screen.contains("Permission denied"), "{screen}");

    let (status, screen) = login(&["wrong", &sheet.codes[1].to_lowercase().replace('-', " ")]);
    assert!(status == 0 && screen.contains("logged in"), "{screen}");

    let log: Vec<_> =
        machine.log().into_iter().filter(|line| line.text.contains("pam_backupcodes(sshd:auth)")).collect();
    let mine: Vec<_> = log.iter().filter(|line| line.text.contains(&account.name)).collect();
    let place = format!("user={} service=sshd source=127.0.0.1 tty=ssh", account.name);
    assert!(mine.iter().all(|line| line.text.ends_with(&place)), "{mine:#?}");
    let count = |what: &str| mine.iter().filter(|line| line.text.contains(what)).count();
    assert_eq!((count("accepted code 1 "), count("accepted code 2 ")), (1, 1), "{mine:#?}");
    assert_eq!((count("code 1 was used before"), count("is not a backup code")), (1, 3), "{mine:#?}");

    let status = text(&machine.admin(&["status", &account.name]).stdout);
    assert!(status.contains("8 of 10 codes left") && status.contains("by sshd from 127.0.0.1"), "{status}");
}

#[test]
fn ssh_without_the_key_is_not_even_asked_for_a_code() {
    let Some(machine) = Machine::new() else { return };
    let (account, sheet) = prepare(&machine, "sshd", "ssh-key");
    machine.key(&account);
    let sshd = machine.sshd("sshd-key");
    let mut terminal = Terminal::start(&mut sshd.client(&account, None, "echo logged in"));
    assert_eq!(terminal.end(), 255);
    assert!(
        !terminal.screen.contains(PROMPT) && !terminal.screen.contains("logged in"),
        "{}",
        terminal.screen
    );
    let status = text(&machine.admin(&["status", &account.name]).stdout);
    assert!(status.contains("10 of 10") && status.contains(&sheet.set), "{status}");
}

#[test]
fn ssh_with_password_and_code_spends_no_code_for_a_mistyped_password() {
    let Some(machine) = Machine::new() else { return };
    let (account, sheet) = prepare(&machine, "sshd", "ssh-password");
    let sshd = machine.sshd("sshd-password");
    let mut terminal = Terminal::start(&mut sshd.client(&account, None, "echo logged in as $USER"));
    terminal.expect("Password: ");
    terminal.send("mistyped");
    // The password is asked for again, and no code.
    terminal.expect("Password: ");
    answer(&mut terminal, &account.password, &sheet.codes[0]);
    terminal.expect(&format!("logged in as {}", account.name));
    assert_eq!(terminal.end(), 0);

    let mut terminal = Terminal::start(&mut sshd.client(&account, None, "echo logged in"));
    terminal.expect("Password: ");
    answer(&mut terminal, &account.password, &sheet.codes[0]);
    terminal.expect("Password: ");
    drop(terminal);
    let status = text(&machine.admin(&["status", &account.name]).stdout);
    assert!(status.contains("9 of 10 codes left"), "{status}");
}

#[test]
fn login_on_a_terminal_asks_for_password_and_code() {
    let Some(machine) = Machine::new() else { return };
    let (account, sheet) = prepare(&machine, "login", "console");
    let start = || {
        let mut terminal = Terminal::start(Command::new("login").arg(&account.name));
        terminal.expect("Password: ");
        terminal
    };
    let mut terminal = start();
    answer(&mut terminal, &account.password, &sheet.codes[0]);
    terminal.expect("$ ");
    terminal.send("echo logged in as $USER; exit");
    terminal.expect(&format!("logged in as {}", account.name));
    terminal.end();

    let mut terminal = start();
    answer(&mut terminal, &account.password, &sheet.codes[0]);
    terminal.expect("Login incorrect");
    drop(terminal);

    let mut terminal = start();
    terminal.send("mistyped");
    terminal.expect("Login incorrect");
    assert!(!terminal.screen.contains(PROMPT), "{}", terminal.screen);
    drop(terminal);
    let status = text(&machine.admin(&["status", &account.name]).stdout);
    assert!(status.contains("9 of 10 codes left") && status.contains("by login from local"), "{status}");
}

#[test]
fn su_asks_for_password_and_code_of_the_target() {
    let Some(machine) = Machine::new() else { return };
    let (target, sheet) = prepare(&machine, "su", "console");
    let (caller, callers) = machine.user();
    let su = |code: &str| {
        // An ordinary user runs su: root is asked nothing.
        let mut terminal =
            Terminal::start(caller.command().args(["su", &target.name, "-c", "echo now $(id -un)"]));
        terminal.expect("Password: ");
        answer(&mut terminal, &target.password, code);
        (terminal.end(), terminal.screen.clone())
    };
    let (status, screen) = su(&callers.codes[0]);
    assert!(status == 1 && !screen.contains("now "), "{screen}");
    let (status, screen) = su(&sheet.codes[0]);
    assert!(status == 0 && screen.contains(&format!("now {}", target.name)), "{screen}");
    let (status, screen) = su(&sheet.codes[0]);
    assert!(status == 1 && !screen.contains("now "), "{screen}");
}

#[test]
fn sudo_asks_for_password_and_code_of_the_caller() {
    let Some(machine) = Machine::new() else { return };
    let (caller, sheet) = prepare(&machine, "sudo", "console");
    machine.sudoer(&caller);
    let sudo = |code: &str| {
        let mut terminal =
            Terminal::start(caller.command().args(["sudo", "-k", "sh", "-c", "echo now $(id -un)"]));
        terminal.expect("password for");
        answer(&mut terminal, &caller.password, code);
        terminal
    };
    let mut terminal = sudo(&sheet.codes[0]);
    terminal.expect("now root");
    assert_eq!(terminal.end(), 0);
    let mut terminal = sudo(&sheet.codes[0]);
    terminal.expect("try again");
    drop(terminal);
    let status = text(&machine.admin(&["status", &caller.name]).stdout);
    assert!(status.contains("9 of 10 codes left") && status.contains("by sudo from local"), "{status}");
}

#[test]
fn nullok_accepts_the_password_alone_from_users_without_a_set_and_asks_the_others() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("login", "nullok");
    let without = machine.account();
    let mut terminal = Terminal::start(Command::new("login").arg(&without.name));
    terminal.expect("Password: ");
    terminal.send(&without.password);
    terminal.expect("$ ");
    assert!(!terminal.screen.contains(PROMPT));
    drop(terminal);
    let with = machine.account();
    machine.generate(&with);
    let mut terminal = Terminal::start(Command::new("login").arg(&with.name));
    terminal.expect("Password: ");
    answer(&mut terminal, &with.password, "");
    terminal.expect("Login incorrect");
}
