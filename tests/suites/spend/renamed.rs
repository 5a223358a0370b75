//! Accounts with a new name, and accounts that share a uid.

use std::fs;
use std::process::Command;

use backupcodes_tests::doctor::doctor;
use backupcodes_tests::level::ERROR;
use backupcodes_tests::machine::{Account, Machine, run};
use backupcodes_tests::{Answer, Attempt, Sheet, World, pam, set_mode, sheet, text};

/// An account with a set, and a stack in which `nullok` skips users without a set.
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
fn nullok_does_not_skip_a_renamed_account_and_rename_keeps_its_codes() {
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
    // It is done, and nobody is told to remove the only set.
    for typed in [old, "no-such-user", new.as_str()] {
        let output = world.admin(&["rename", typed, &new]);
        let said = format!("{new} has set {}: nothing to do", codes.set);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stdout).contains(&said) && output.stderr.is_empty(), "{output:?}");
    }
    assert_eq!(of(&world, &new, &codes.codes[1]).run().codes, [pam::SUCCESS]);
}

/// `generate` for the new name came before anybody thought of `rename`.
#[test]
fn if_both_names_have_a_set_nothing_changes_and_each_remedy_leaves_one() {
    let Some((_machine, world, account, codes)) = world() else { return };
    let (old, new) = (account.name.as_str(), format!("{}-new", account.name));
    run(Command::new("usermod").args(["--login", &new, old]), "");
    let output = world.admin(&["generate", "--format", "json", &new]);
    let warning = text(&output.stderr);
    assert!(warning.contains(&format!("{old} has a set of the same uid")), "{output:?}");
    let fresh = sheet(output);

    let found = doctor(&world);
    found.has("set-superseded", &["warning", old, &new, "backupcodes-admin revoke OLD"]);
    found.has_none(&["set-renamed", "set-orphaned"]);
    let purge = text(&world.admin(&["purge", "--yes"]).stderr);
    let remove = format!("backupcodes-admin revoke {old}");
    assert!(purge.contains(&remove) && !purge.contains("rename"), "{purge}");

    let files = || ["", "-new"].map(|end| fs::read(world.store().join(format!("{old}{end}.toml"))).unwrap());
    let before = files();
    let output = world.admin(&["rename", old, &new]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        said.contains(&format!("{old} and {new} both have a set ({}, {})", codes.set, fresh.set)),
        "{said}"
    );
    assert_eq!(files(), before);
    // Both messages have both ways out.
    let keep = format!("backupcodes-admin revoke {new}, then: backupcodes-admin rename {old} {new}");
    for said in [&said, &warning] {
        assert!(said.contains(&remove) && said.contains(&keep), "{said}");
    }
    assert!(world.admin(&["revoke", &new]).status.success());
    assert!(world.admin(&["rename", old, &new]).status.success());
    assert_eq!(of(&world, &new, &codes.codes[0]).run().codes, [pam::SUCCESS]);
    // The other one.
    fs::write(world.store().join(format!("{old}.toml")), &before[0]).unwrap();
    set_mode(&world.store().join(format!("{old}.toml")), 0o600);
    assert!(world.admin(&["revoke", old]).status.success());
    doctor(&world).has_none(&["set-superseded", "set-renamed"]);
    let output = world.admin(&["generate", "--yes", &new]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_rename_that_was_cut_short_is_gone_on_with_and_nobody_is_told_to_remove_the_set() {
    let Some((_machine, world, account, codes)) = world() else { return };
    let (old, new) = (account.name.as_str(), format!("{}-new", account.name));
    run(Command::new("usermod").args(["--login", &new, old]), "");
    let file = |user: &str| world.store().join(format!("{user}.toml"));
    fs::rename(file(old), file(&new)).unwrap();
    let advice = format!("backupcodes-admin rename {old} {new}");
    doctor(&world).has("set-misfiled", &["error", &advice]);
    let purge = text(&world.admin(&["purge"]).stderr);
    assert!(purge.contains(&advice) && !purge.contains("revoke"), "{purge}");
    // Nor does a run for all put another one in its place unasked.
    let output = world.admin(&["generate", "--missing", &new]);
    assert!(
        output.status.code() == Some(3) && text(&output.stderr).contains("10 unspent codes"),
        "{output:?}"
    );
    assert!(world.admin(&["rename", old, &new]).status.success());
    assert_eq!(of(&world, &new, &codes.codes[0]).run().codes, [pam::SUCCESS]);
    doctor(&world).has_none(&["set-misfiled"]);
    // A copy that somebody has put aside is no account's by its name.
    fs::copy(file(&new), file(&format!("{new}.bak"))).unwrap();
    let output = world.admin(&["rename", &format!("{new}.bak"), &new]);
    assert!(output.status.code() == Some(3) && has_set(&world, &new), "{output:?}");
    fs::rename(file(&format!("{new}.bak")), file(&new)).unwrap();
    fs::rename(file(&new), file(&format!("{new}.bak"))).unwrap();
    let output = world.admin(&["rename", &format!("{new}.bak"), &new]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(3) && said.contains("backupcodes-admin doctor"), "{said}");
    assert!(!said.contains("revoke") && !said.contains("generate"), "{said}");
}

/// The set has its name, and that is what counts.
#[test]
fn a_rename_whose_counters_cannot_be_forgotten_is_done_all_the_same() {
    let Some((_machine, world, account, codes)) = world() else { return };
    let (old, new) = (account.name.as_str(), format!("{}-new", account.name));
    run(Command::new("usermod").args(["--login", &new, old]), "");
    let _ = fs::remove_dir_all(world.path("run/throttle"));
    fs::create_dir_all(world.path("run")).unwrap();
    fs::write(world.path("run/throttle"), "").unwrap();
    let said = |output: std::process::Output, user: &str| {
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(text(&output.stdout).contains(&codes.set), "{output:?}");
        let said = text(&output.stderr);
        assert!(said.contains(&format!("the failures of {user} still count")), "{said}");
        assert!(said.contains(&format!("then: backupcodes-admin unlock {user}")), "{said}");
    };
    said(world.admin(&["rename", old, &new]), old);
    said(world.admin(&["revoke", &new]), &new);
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
    assert_eq!(no_codes.codes, [pam::AUTH_ERR], "it is not skipped");
    doctor(&world).has("set-of-same-uid", &["warning", &second, "generate"]);
    let own = sheet(world.admin(&["generate", "--format", "json", &second]));
    doctor(&world).has_none(&["set-of-same-uid"]);
    let output = world.admin(&["rename", &account.name, &second]);
    assert!(
        output.status.code() == Some(3) && text(&output.stderr).contains("both have a set"),
        "{output:?}"
    );
    for (user, sheet, code) in [(&account.name, &codes, pam::SUCCESS), (&second, &own, pam::SUCCESS)] {
        assert_eq!(of(&world, user, &sheet.codes[1]).run().codes, [code]);
    }
    assert_eq!(world.admin(&["rename", "no-such-user", &other.name]).status.code(), Some(1));
    assert_eq!(
        fs::read_link(world.store().join(format!("uid-{uid}"))).unwrap().to_str().unwrap().split(':').count(),
        2
    );
}

#[test]
fn a_set_that_is_not_found_by_its_uid_is_reported_and_listed_by_email() {
    let Some((_machine, world, account, _)) = world() else { return };
    let uid = nix::unistd::User::from_name(&account.name).unwrap().unwrap().uid;
    doctor(&world).has_none(&["set-unlisted"]);
    fs::remove_file(world.store().join(format!("uid-{uid}"))).unwrap();
    doctor(&world).has("set-unlisted", &["warning", &account.name, "backupcodes-admin email"]);
    assert!(world.admin(&["email", &account.name, "a@example.org"]).status.success());
    doctor(&world).has_none(&["set-unlisted"]);
}

#[test]
fn nullok_skips_an_account_without_a_set_and_without_another_name() {
    let Some((machine, world, account, _)) = world() else { return };
    let other = machine.accounts(1).remove(0);
    assert_eq!(of(&world, &other.name, "").run().codes, [pam::PERM_DENIED]);
    assert!(world.admin(&["revoke", &account.name]).status.success());
    assert_eq!(of(&world, &account.name, "").run().codes, [pam::PERM_DENIED]);
}
