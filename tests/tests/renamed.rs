//! Accounts that bear another name by now, and those that share a uid.

use std::fs;
use std::process::Command;

use backupcodes_tests::doctor::doctor;
use backupcodes_tests::hosts::{Account, Machine, run};
use backupcodes_tests::level::ERROR;
use backupcodes_tests::{Answer, Attempt, Sheet, World, pam, sheet, text};

/// An account with a set, and a stack in which `nullok` passes over who has none.
fn world() -> Option<(Machine, World, Account, Sheet)> {
    let (machine, world) = (Machine::new()?, World::new("nullok")?);
    let account = machine.accounts(1).remove(0);
    let codes = sheet(world.admin(&["generate", "--format", "json", &account.name]));
    Some((machine, world, account, codes))
}

fn of(world: &World, user: &str, answer: impl Into<Answer>) -> Attempt {
    Attempt { user: user.into(), ..world.attempt(&[answer.into()]) }
}

fn has_set(world: &World, user: &str) -> bool {
    world.store().join(format!("{user}.toml")).exists()
}

#[test]
fn a_renamed_account_is_not_passed_over_and_keeps_its_codes_by_rename() {
    let Some((_machine, world, account, codes)) = world() else { return };
    let (old, new) = (account.name.as_str(), format!("{}-new", account.name));
    run(Command::new("usermod").args(["--login", &new, old]), "");

    let refused = of(&world, &new, &codes.codes[0]).run();
    assert_eq!(refused.codes, [pam::AUTH_ERR], "{:?}", world.last_line());
    let line = world.last_line();
    let advice = format!("backupcodes-admin rename {old} {new}");
    assert!(line.level == ERROR && line.text.contains(&advice), "{line:?}");

    doctor(&world).has("set-renamed", &["error", old, &new, "backupcodes-admin rename OLD NEW"]);
    // It is not gone.
    let purge = world.admin(&["purge", "--yes"]);
    assert!(text(&purge.stderr).contains(&advice) && has_set(&world, old), "{purge:?}");

    let output = world.admin(&["rename", old, &new]);
    assert!(output.status.success(), "{output:?}");
    assert!(!has_set(&world, old) && has_set(&world, &new));
    doctor(&world).has_none(&["set-renamed", "set-orphaned"]);
    assert_eq!(of(&world, &new, &codes.codes[0]).run().codes, [pam::SUCCESS], "{:?}", world.last_line());
    assert_eq!(of(&world, &new, &codes.codes[0]).run().codes, [pam::AUTH_ERR]);
    assert_eq!(world.admin(&["rename", old, &new]).status.code(), Some(3), "it is done");
}

#[test]
fn a_set_is_renamed_to_no_other_account_and_onto_no_other_set() {
    let Some((machine, world, account, codes)) = world() else { return };
    let other = machine.accounts(1).remove(0);
    let output = world.admin(&["rename", &account.name, &other.name]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("was made for"), "{output:?}");
    // A second name of the uid, with codes of its own.
    let uid = nix::unistd::User::from_name(&account.name).unwrap().unwrap().uid;
    let second = format!("{}-too", account.name);
    let useradd = ["--uid", &uid.to_string(), "--non-unique", "--no-create-home", &second];
    run(Command::new("useradd").args(useradd), "");
    let no_codes = of(&world, &second, &codes.codes[0]).run();
    assert_eq!(no_codes.codes, [pam::AUTH_ERR], "it is not passed over");
    doctor(&world).has("set-of-same-uid", &["warning", &second, "generate"]);
    let own = sheet(world.admin(&["generate", "--format", "json", &second]));
    doctor(&world).has_none(&["set-of-same-uid"]);
    let output = world.admin(&["rename", &account.name, &second]);
    assert!(output.status.code() == Some(3) && text(&output.stderr).contains("a set already"), "{output:?}");
    for (user, sheet, code) in [(&account.name, &codes, pam::SUCCESS), (&second, &own, pam::SUCCESS)] {
        assert_eq!(of(&world, user, &sheet.codes[1]).run().codes, [code]);
    }
    assert_eq!(world.admin(&["rename", "nobody", &second]).status.code(), Some(3));
    assert_eq!(world.admin(&["rename", "no-such-user", &other.name]).status.code(), Some(1));
    assert_eq!(
        fs::read_link(world.store().join(format!("uid-{uid}"))).unwrap().to_str().unwrap().split(':').count(),
        2
    );
}

#[test]
fn an_account_that_has_no_set_and_no_other_name_is_passed_over() {
    let Some((machine, world, account, _)) = world() else { return };
    let other = machine.accounts(1).remove(0);
    assert_eq!(of(&world, &other.name, "").run().codes, [pam::PERM_DENIED]);
    assert!(world.admin(&["revoke", &account.name]).status.success());
    assert_eq!(of(&world, &account.name, "").run().codes, [pam::PERM_DENIED]);
}
