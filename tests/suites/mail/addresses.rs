//! `email` sets where a user's notices go, and changes no code.

use std::collections::BTreeSet;
use std::fs;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backupcodes_tests::postbox::Postbox;
use backupcodes_tests::{Attempt, World, me, pam, race, sheet, text};
use serde_json::{Value, json};

const ADDRESSES: [&str; 3] = ["b@example.org", "jürgen@exämple.org", "a+b@[192.0.2.7]"];

fn email(world: &World, arguments: &[&str]) -> Output {
    world.admin(&[&["email"], arguments].concat())
}

fn shown(output: &Output) -> String {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    text(&output.stdout)
}

#[test]
fn addresses_are_shown_and_set() {
    let Some(world) = World::new("") else { return };
    world.generate();
    let user = me();
    let show = || shown(&email(&world, &[&user]));
    assert_eq!(show(), format!("{user}: notices to {user} (no address is set)\n"));
    for addresses in [&ADDRESSES[..], &ADDRESSES[1..2]] {
        let expected = format!("{user}: notices to {}\n", addresses.join(", "));
        assert_eq!(shown(&email(&world, &[&[user.as_str()], addresses].concat())), expected);
        assert_eq!(show(), expected);
        let json: Value =
            serde_json::from_slice(&email(&world, &["--format", "json", &user]).stdout).unwrap();
        assert_eq!(json, json!({"user": user, "email": addresses}));
        assert_eq!(world.status()["email"], json!(addresses));
    }
    // Beside the user's own, what the configuration has.
    world.notify("domain = 'corp.example'");
    world.admin(&["revoke", &user]);
    world.generate();
    assert_eq!(show(), format!("{user}: notices to {user}@corp.example (no address is set)\n"));
}

#[test]
fn an_address_that_cannot_be_is_wrong_usage_and_changes_nothing() {
    let Some(world) = World::new("") else { return };
    world.generate();
    let files = || (fs::read(world.file()).unwrap(), world.other_files());
    let before = files();
    let long = "a".repeat(255);
    for bad in [
        "",
        " ",
        "a b@example.org",
        "a@b,c@d",
        "<a@b>",
        "a@b\nBcc: c@d",
        "a\r@b",
        "a\u{7f}@b",
        "\"a\"@b",
        &long,
    ] {
        for addresses in [&[bad][..], &["good@example.org", bad]] {
            let output = email(&world, &[&[me().as_str()], addresses].concat());
            assert_eq!(
                (output.status.code(), output.stdout.len()),
                (Some(2), 0),
                "{addresses:?}: {output:?}"
            );
        }
    }
    // What looks like an option is none, also behind `--`.
    assert_eq!(email(&world, &[&me(), "--", "-bs"]).status.code(), Some(2));
    assert_eq!(files(), before);
    // And what would make the set too large to read.
    let many = (0..400).map(|at| format!("{}{at}@example.org", "a".repeat(200))).collect::<Vec<_>>();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let output = email(&world, &[&[me().as_str()], &many[..]].concat());
    assert!(
        output.status.code() == Some(3) && text(&output.stderr).contains("would be unreadable"),
        "{output:?}"
    );
    assert_eq!(files(), before);
}

#[test]
fn users_without_a_set_have_no_addresses() {
    let Some(world) = World::new("") else { return };
    for arguments in [&["no-such-user"][..], &["no-such-user", "a@example.org"], &["nobody", "a@example.org"]]
    {
        let output = email(&world, arguments);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
        let complaint = text(&output.stderr);
        // None can be made for who has no account.
        let way_out = if arguments[0] == "nobody" {
            "to make some: backupcodes-admin generate nobody"
        } else {
            "no account"
        };
        assert!(complaint.contains("has no backup codes") && complaint.contains(way_out), "{complaint}");
    }
    assert_eq!(world.other_files(), [""; 0]);
}

#[test]
fn codes_are_as_they_were() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    shown(&email(&world, &[&[me().as_str()], &ADDRESSES[..]].concat()));
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::AUTH_ERR);
    for code in &sheet.codes[1..] {
        assert_eq!(world.try_answer(code), pam::SUCCESS);
        shown(&email(&world, &[&me(), "b@example.org"]));
        assert_eq!(world.try_answer(code), pam::AUTH_ERR);
    }
}

/// Logins at the same time, while addresses are set again and again: how many got in.
fn logins_in_a_storm_of_addresses(world: &World, attempts: &[Attempt]) -> usize {
    let is_over = AtomicBool::new(false);
    let (outcomes, changes) = std::thread::scope(|scope| {
        let storm = scope.spawn(|| {
            let mut changes = 0;
            while !is_over.load(Ordering::Relaxed) {
                shown(&email(world, &[&me(), &format!("address-{changes}@example.org")]));
                changes += 1;
                // The lock is for logins too, which give up after 5 s.
                std::thread::sleep(Duration::from_millis(20));
            }
            changes
        });
        // The first one waits at its prompt for the last one, and meanwhile the storm has begun.
        let outcomes = race(attempts);
        is_over.store(true, Ordering::Relaxed);
        (outcomes, storm.join().unwrap())
    });
    assert!(changes > 0, "no storm");
    let codes: Vec<_> =
        outcomes.into_iter().map(|outcome| outcome.expect("no application dies").codes[0]).collect();
    assert!(codes.iter().all(|code| [pam::SUCCESS, pam::AUTH_ERR].contains(code)), "{codes:?}");
    codes.iter().filter(|&&code| code == pam::SUCCESS).count()
}

#[test]
fn while_addresses_are_set_each_code_works_once_and_each_use_is_told() {
    let Some(world) = World::new("") else { return };
    let postbox = Postbox::of(&world);
    for _ in 0..2 {
        let options = ["--yes", "--count", "31", "--format", "json"];
        let sheet = sheet(world.admin(&[&["generate", &me()], &options[..]].concat()));
        assert!(world.admin(&["notify"]).status.success());
        postbox.empty();
        let attempts: Vec<_> = sheet.codes[..16].iter().map(|code| world.attempt(&[code.into()])).collect();
        assert_eq!(logins_in_a_storm_of_addresses(&world, &attempts), 16, "each with its own code");
        assert_eq!(logins_in_a_storm_of_addresses(&world, &attempts), 0, "with the same ones again");
        let attempts = vec![world.attempt(&[(&sheet.codes[16]).into()]); 16];
        assert_eq!(logins_in_a_storm_of_addresses(&world, &attempts), 1, "all with one code");
        assert_eq!(world.status()["left"], 31 - 17);
        assert!(world.admin(&["notify"]).status.success());
        let used = postbox.subjects().into_iter().filter(|subject| subject.contains(" was used on "));
        let used: BTreeSet<_> =
            used.map(|subject| subject.split(" of ").next().unwrap().to_owned()).collect();
        assert_eq!(used, (1..=17).map(|code| format!("Backup code {code}")).collect());
    }
}
