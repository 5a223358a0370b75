//! All refusals show the same, whatever the reason, and cost the same; `cargo bench` of `refusals` measures the time.

use std::process::Command;

use backupcodes_tests::machine::{Machine, Sshd};
use backupcodes_tests::refusals::{Ground, Kind, Refusal};
use backupcodes_tests::strace::calls;
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{Attempt, Outcome, Said, World, built, me, pam, sandbox_of_root, set_mode};

/// A small hash, which is easily told from the usual one, and the usual throttle.
const SETTINGS: &str = "[hash]\nmemory_kib = 1024\npasses = 1\n";

/// Asked once and told nothing; one hash, of a set's own size.
fn costs_one_hash_and_says_nothing(attempt: Attempt, code: i32, what: &str) {
    let input = serde_json::to_string(&[attempt]).unwrap();
    let (calls, output) = calls(&Command::new(built("pam-application")), &input, "madvise");
    let outcomes: Vec<Outcome> = serde_json::from_slice(&output.stdout).unwrap();
    let prompt = Said { style: pam::PROMPT_ECHO_OFF, text: "Backup code: ".into() };
    assert_eq!((&outcomes[0].codes, &outcomes[0].said), (&vec![code], &vec![prompt]), "{what}");
    let runs: Vec<_> = calls.iter().filter(|call| call.contains("MADV_DONTDUMP")).collect();
    assert!(runs.len() == 1 && runs[0].contains(", 1048576, "), "{what}: {calls:#?}");
}

#[test]
fn every_refusal_is_asked_for_once_says_nothing_and_fills_the_same_memory_once() {
    for kind in Kind::ALL {
        let Some(world) = World::new("") else { return };
        // A file that cannot be written to is a mount.
        if kind == Kind::SpendingFailed && sandbox_of_root().is_none() {
            continue;
        }
        world.configure(SETTINGS);
        let refusal = kind.make_ready(&Ground::of_world(&world, kind));
        costs_one_hash_and_says_nothing(refusal.attempt.clone(), kind.code(), kind.name());
        assert!(world.last_line().text.contains(kind.reason()), "{kind:?}: {:?}", world.last_line());
    }
}

#[test]
fn a_set_that_is_not_trusted_costs_what_a_wrong_code_costs() {
    let Some(world) = World::new("") else { return };
    world.configure(SETTINGS);
    let sheet = world.generate();
    set_mode(&world.file(), 0o644);
    let attempt = world.attempt(&[(&sheet.codes[0]).into()]);
    costs_one_hash_and_says_nothing(attempt, pam::AUTHINFO_UNAVAIL, "not trusted");
}

/// What is on the screen of somebody who gives the same answer three times, without the name.
fn screen(refusal: &Refusal, user: &str, sshd: &Sshd) -> String {
    let mut terminal = Terminal::start(&mut sshd.client_of(user, 3));
    for _ in 0..3 {
        terminal.expect("Backup code: ");
        terminal.send(refusal.answer());
    }
    assert_eq!(terminal.end(), 255, "{}", terminal.screen);
    terminal.screen.replace(&format!("{user}@"), "USER@")
}

#[test]
fn ssh_shows_the_same_screen_for_every_reason_of_a_refusal() {
    let Some(machine) = Machine::new() else { return };
    // The code alone: behind a password or a key an unknown user is not asked for one.
    machine.stack("sshd", "ssh-key");
    let sshd = machine.sshd("sshd-password");
    let expected = std::cell::OnceCell::new();
    let check = |kind: Kind, user: &str, reason: &str| {
        let refusal = kind.make_ready(&Ground::of_sshd(user));
        let before = machine.log().len();
        let screen = screen(&refusal, user, &sshd);
        assert!(screen.contains("Permission denied (keyboard-interactive)."), "{screen:?}");
        assert_eq!(expected.get_or_init(|| screen.clone()), &screen, "{kind:?} of {user}");
        let log = machine.log().split_off(before);
        let mine: Vec<_> =
            log.iter().filter(|line| line.text.contains("pam_backupcodes(sshd:auth)")).collect();
        assert!(mine.len() == 3 && mine.iter().all(|line| line.text.contains(reason)), "{kind:?}: {log:#?}");
    };
    for kind in Kind::ALL {
        let user = match kind {
            Kind::UnknownUser => "no-such-user".into(),
            _ => machine.account().name,
        };
        // sshd itself replaces what an unknown user answers, by junk that is no code.
        check(kind, &user, kind.reason());
    }
    // And what root answers, where root may not log in so.
    check(Kind::WrongNumber, &me(), Kind::Malformed.reason());
}
