//! PAM_AUTHTOK, by which modules forward what the user typed: what the module leaves there, and what it takes from there.

use std::fs;
use std::path::PathBuf;

use backupcodes_tests::authenticator::Verifier;
use backupcodes_tests::machine::{Account, Machine};
use backupcodes_tests::readme::block;
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{Answer, Attempt, Outcome, World, mistyped, pam};

const OURS: &str = "Verification code or backup code: ";
const PASSWORD: &str = "Password: ";
const NOTHING: &str = "nothing was there";

/// the guide's block, without the pause that `pam_unix.so` makes after each failure.
fn fast(name: &str) -> String {
    block(name).trim_end().replace("pam_unix.so", "pam_unix.so nodelay")
}

/// A module that writes down what PAM_AUTHTOK holds where it stands. Where it holds nothing, the module asks, with
/// [`PASSWORD`], and puts the answer there.
struct Spy(PathBuf);

impl Spy {
    fn new(machine: &Machine, name: &str) -> Self {
        let file = machine.sandbox.join(format!("{name}-{}", std::process::id()));
        // Of a test that has failed.
        let _ = fs::remove_file(&file);
        Self(file)
    }

    fn line(&self) -> String {
        format!("auth optional pam_exec.so expose_authtok /usr/bin/tee -a {}\n", self.0.display())
    }

    /// What was there, this one time; `None` if the module was not reached.
    fn saw(&self) -> Option<String> {
        let text = fs::read_to_string(&self.0).ok()?;
        fs::remove_file(&self.0).unwrap();
        Some(text.trim_end_matches('\0').into())
    }
}

/// Debian's stack of sshd in the small application, which shows each prompt.
fn ask(account: &Account, answers: &[&str]) -> Outcome {
    Attempt::of_machine("sshd", &account.name, answers).run()
}

fn prompts(outcome: &Outcome) -> Vec<&str> {
    outcome.said.iter().filter(|said| said.style != pam::TEXT_INFO).map(|said| said.text.as_str()).collect()
}

#[test]
fn the_next_module_gets_short_responses_and_no_wrong_mistyped_or_spent_code() {
    let Some(machine) = Machine::new() else { return };
    let spy = Spy::new(&machine, "behind");
    let stack = fast("one-prompt");
    let (front, last) = stack.rsplit_once('\n').unwrap();
    machine.stack_of("sshd", &format!("{front}\n{}{last} debug\n", spy.line()));
    let account = machine.account();
    Verifier::Google.enroll(&account);
    let sheet = machine.generate(&account);
    let other = machine.generate(&machine.account());

    let accepted = ask(&account, &[&account.password, &sheet.codes[0]]);
    assert_eq!((accepted.codes, spy.saw()), (vec![pam::SUCCESS], None));
    let code = &sheet.codes[1];
    let long = [
        ("spent", sheet.codes[0].as_str()),
        ("another's", &other.codes[1]),
        ("mistyped", &mistyped(code)),
        ("a group forgotten, 12 characters", "2X7K-MQ4T-9ZR3"),
        ("typed twice, 30 characters", &code.repeat(2)),
        ("sshd's junk in place of a code", "\u{8}\n\r\u{7f}INCORRECT\u{8}\n\r\u{7f}"),
        ("nothing", ""),
        ("nothing but what does not matter", " - "),
    ];
    for (what, answer) in long {
        let before = machine.log().len();
        let outcome = ask(&account, &[&account.password, answer, NOTHING]);
        assert_eq!(outcome.codes, [pam::AUTH_ERR], "{what}");
        assert_eq!(prompts(&outcome), [PASSWORD, OURS, PASSWORD], "{what}");
        assert_eq!(spy.saw().as_deref(), Some(NOTHING), "{what}");
        // The module behind was there, and told all it knew.
        let log = machine.log().split_off(before);
        let told = log.iter().filter(|line| line.text.contains("(pam_google_authenticator)")).count();
        assert!(told > 0, "{log:#?}");
        for secret in [answer, &account.password].into_iter().filter(|text| text.trim().len() > 1) {
            assert!(!log.iter().any(|line| line.text.contains(secret)), "{what}: {log:#?}");
        }
    }
    let as_typed = [
        "123456",
        "hunter2",
        "2X7K-MQ4T 9ZR",
        "12 34",
        "пароль \u{2013} два",
        "\u{201c}hunter2\u{201d}.",
        "IO-1234",
    ];
    let bare = [
        "123 456",
        "123-456",
        "\u{661}\u{662}\u{663}\u{a0}\u{664}\u{665}\u{666}",
        "１２３４５６",
        "\u{1b}[200~123 456\u{1b}[201~",
        "\u{feff}123\u{2013}456\r\n",
    ];
    for (answer, for_next) in
        as_typed.map(|answer| (answer, answer)).into_iter().chain(bare.map(|answer| (answer, "123456")))
    {
        let outcome = ask(&account, &[&account.password, answer]);
        assert_eq!(outcome.codes, [pam::AUTH_ERR], "{answer:?}");
        assert_eq!(prompts(&outcome), [PASSWORD, OURS], "{answer:?}");
        assert_eq!(spy.saw().as_deref(), Some(for_next), "{answer:?}");
    }
}

#[test]
fn oath_which_prints_all_it_gets_prints_no_wrong_backup_code() {
    let Some(machine) = Machine::new() else { return };
    machine.stack_of("su", &(fast("one-prompt-oath") + " debug\n"));
    let (target, caller) = (machine.account(), machine.account());
    let phone = Verifier::Oath.enroll(&target);
    machine.generate(&target);
    let wrong = machine.generate(&caller).codes;
    let screen = |answer: &str| {
        let mut terminal = Terminal::start(caller.command().args(["su", &target.name, "-c", "echo let in"]));
        terminal.expect(PASSWORD);
        terminal.send(&target.password);
        terminal.expect(OURS);
        terminal.send(answer);
        terminal.end();
        terminal.screen.clone()
    };
    for answer in [&phone.wrong_code(), &phone.code()] {
        let screen = screen(answer);
        assert!(screen.contains(answer), "oath prints what it gets: {screen}");
        assert!(!screen.contains(&target.password), "{screen}");
    }
    for answer in [&wrong[0], &wrong[0][..14]] {
        let screen = screen(answer);
        assert!(screen.contains("pam_oath.c"), "oath was there: {screen}");
        let kept = [answer, &answer.replace('-', ""), &target.password];
        assert!(!kept.iter().any(|secret| screen.contains(*secret)), "{screen}");
        assert!(!screen.contains("let in"), "{screen}");
    }
}

#[test]
fn modules_that_need_the_password_find_it_after_pam_unix_but_not_after_this_module() {
    let Some(machine) = Machine::new() else { return };
    let [before, behind, last] = ["before", "behind", "last"].map(|name| Spy::new(&machine, name));
    let stack = fast("one-prompt-console");
    let lines: Vec<&str> = stack.lines().collect();
    let [unix, ours, verifier] = lines[..] else { panic!("three lines: {stack}") };
    let account = machine.account();
    let phone = Verifier::Google.enroll(&account);
    let sheet = machine.generate(&account);

    // The jump is one line longer: over the spy as well.
    let longer = ours.replace("success=1", "success=2");
    let spied = [unix, &before.line(), &longer, &behind.line(), verifier, &last.line()];
    machine.stack_of("sshd", &spied.map(|line| format!("{line}\n")).concat());
    let code = phone.code();
    let outcome = ask(&account, &[&account.password, &code]);
    assert_eq!(outcome.codes, [pam::SUCCESS]);
    assert_eq!(before.saw().as_ref(), Some(&account.password));
    assert_eq!(behind.saw(), Some(code));
    assert_ne!(last.saw(), Some(account.password.clone()));

    let outcome = ask(&account, &[&account.password, &sheet.codes[0], NOTHING]);
    assert_eq!(outcome.codes, [pam::SUCCESS]);
    assert_eq!(before.saw().as_ref(), Some(&account.password));
    assert_eq!((behind.saw(), last.saw()), (None, Some(NOTHING.into())));
}

#[test]
fn later_modules_do_not_see_a_code_that_was_typed_before_good_or_refused() {
    let Some(machine) = Machine::new() else { return };
    let [first, behind] = ["first", "behind"].map(|name| Spy::new(&machine, name));
    let (account, sheet) = machine.user();
    for option in ["try_first_pass", "use_first_pass"] {
        let ours = format!("auth optional pam_backupcodes.so {option}\n");
        let stack = first.line() + &ours + &behind.line() + "auth required pam_permit.so\n";
        machine.stack_of("sshd", &stack);
        let code = if option.starts_with("try") { &sheet.codes[0] } else { &sheet.codes[1] };
        for what in ["good", "spent"] {
            let outcome = ask(&account, &[code, NOTHING]);
            assert_eq!(prompts(&outcome), [PASSWORD, PASSWORD], "{option}: a {what} code");
            assert_eq!(first.saw().as_ref(), Some(code));
            assert_eq!(behind.saw().as_deref(), Some(NOTHING), "{option}: a {what} code");
        }
    }
}

/// A world whose first module asks for something, with [`PASSWORD`], and leaves it in PAM_AUTHTOK.
fn behind_another(options: &str) -> Option<World> {
    let world = World::new("")?;
    world.stack_behind("auth optional pam_exec.so expose_authtok /usr/bin/cat\n", options);
    Some(world)
}

/// What libpam says, and how often we asked.
fn ours(world: &World, answers: &[&str]) -> (i32, usize) {
    let answers: Vec<Answer> = answers.iter().map(|&answer| answer.into()).collect();
    let outcome = Attempt { has_other_modules: true, ..world.attempt(&answers) }.run();
    (outcome.codes[0], prompts(&outcome).iter().filter(|prompt| **prompt == "Backup code: ").count())
}

#[test]
fn a_code_that_was_typed_before_is_taken_without_a_prompt_and_once() {
    for option in ["try_first_pass", "use_first_pass", "use_first_pass forward_pass"] {
        let Some(world) = behind_another(option) else { return };
        let code = world.generate().codes.remove(0);
        let pasted = format!("1) {}\r\n", code.replace('-', "\u{2013}"));
        assert_eq!(ours(&world, &[&pasted]), (pam::SUCCESS, 0), "{option}");
        assert_eq!(ours(&world, &[&code]), (pam::AUTH_ERR, 0), "{option}: it is spent");
        assert!(world.last_line().text.contains("was used before"), "{:?}", world.last_line());
    }
}

#[test]
fn try_first_pass_asks_where_no_code_was_typed_before_and_use_first_pass_refuses() {
    let Some(world) = behind_another("try_first_pass") else { return };
    let codes = world.generate().codes;
    assert_eq!(ours(&world, &["hunter2", &codes[0]]), (pam::SUCCESS, 1));
    assert_eq!(ours(&world, &["", &codes[1]]), (pam::SUCCESS, 1));
    world.stack("try_first_pass");
    assert_eq!(ours(&world, &[&codes[2]]), (pam::SUCCESS, 1), "nothing was typed before");

    world.stack("use_first_pass");
    assert_eq!(ours(&world, &[&codes[3]]), (pam::AUTH_ERR, 0), "nothing was typed before");
    let Some(world) = behind_another("use_first_pass") else { return };
    let codes = world.generate().codes;
    for no_code in
        ["hunter2", "a long password of somebody", "", &format!("1) {}", codes[0].replace('-', "!"))]
    {
        assert_eq!(ours(&world, &[no_code, &codes[0]]), (pam::AUTH_ERR, 0), "{no_code}");
    }
    let log = world.log();
    assert!(
        !log.iter().any(|line| line.text.contains("hunter2") || line.text.contains("somebody")),
        "{log:#?}"
    );
    assert_eq!(ours(&world, &[&codes[0]]), (pam::SUCCESS, 0), "no code went");
}
