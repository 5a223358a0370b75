//! Sets that move: from a host into the fleet, and with an account to its new name.

use backupcodes_core::account::Account;
use backupcodes_core::set::State;
use backupcodes_core::store::{Expected, FileStore, FleetError, Prepared, ReplaceError, Store, StoreError};
use backupcodes_tests::{fleet as harness, me, pam, text};

use super::logins::fleet;

#[test]
fn a_set_that_is_imported_keeps_its_sheet_and_what_was_spent() {
    let Some((_cluster, [admin, one, _])) = fleet() else { return };
    let own = ["generate", "--host", "--yes", "--format", "json"];
    let codes = backupcodes_tests::sheet(admin.world.admin(&[&own[..], &[&me()]].concat())).codes;
    assert_eq!(admin.world.try_answer(&codes[0]), pam::SUCCESS);
    assert_eq!(one.world.try_answer(&codes[1]), pam::AUTH_ERR, "it is another host's");
    let output = admin.world.admin(&["fleet", "import", &me()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!admin.world.file().exists());
    // The notice of the use waits on the host that had the set.
    assert_eq!(one.world.status()["codes"][0]["mailed"], true, "{}", one.world.status());
    for code in [&codes[0], &codes[1]] {
        let first = one.world.try_answer(code);
        assert_eq!(first == pam::SUCCESS, code == &codes[1]);
        assert_eq!(admin.world.try_answer(code), pam::AUTH_ERR);
    }
    assert_eq!(admin.world.try_answer(&codes[2]), pam::SUCCESS);
    assert_eq!(one.world.status()["left"], 7);
    // Nothing is left to import, and a host may not.
    assert!(!admin.world.admin(&["fleet", "import", &me()]).status.success());
    let output = one.world.admin(&["fleet", "import", "--all"]);
    assert!(text(&output.stderr).contains("this host cannot sign sets"), "{}", text(&output.stderr));
}

#[test]
fn a_renamed_account_keeps_its_codes_and_what_was_spent() {
    let Some((_cluster, [admin, one, _])) = fleet() else { return };
    harness::give_sets(&admin.host, &["alice".into(), "carol".into()], 3);
    let (store, bob) = (admin.host.store(), Account { name: "bob".into(), uid: 1000 });
    let set = store.read("alice").unwrap().unwrap();
    let record =
        backupcodes_core::set::SpentRecord::new(backupcodes_core::clock::now(), 0, "sshd", "192.0.2.7");
    let unspent: Vec<_> = set.entries().collect();
    let State::Unspent(hash) = &unspent[0].1.state else { panic!("a new code") };
    store.spend("alice", unspent[0].0, hash, &record).unwrap();
    // Until it is renamed, nobody may believe that bob has no set.
    let error = one.host.store().own(Some(&bob)).err().expect("a set of the same uid").to_string();
    assert!(error.contains("backupcodes-admin rename"), "{error}");
    let stranger = Account { uid: 1001, ..bob.clone() };
    assert!(matches!(store.rename("alice", &stranger), Err(ReplaceError::OfAnother { .. })));
    let carol = Account { name: "carol".into(), uid: 1000 };
    assert!(matches!(store.rename("alice", &carol), Err(ReplaceError::Both { .. })));
    assert!(one.host.store().rename("alice", &bob).is_err(), "a host may not");
    assert_eq!(store.rename("alice", &bob).unwrap().as_deref(), Some(set.label.set.as_str()));
    assert_eq!(store.rename("alice", &bob).unwrap(), None);
    // The notice of the use goes to the new name.
    let due = admin.host.store().due().unwrap();
    assert_eq!(due.iter().map(|due| due.user.as_str()).collect::<Vec<_>>(), ["bob"]);
    let one = one.host.store();
    assert!(one.read("alice").unwrap().is_none());
    let renamed = one.own(Some(&bob)).unwrap().unwrap();
    assert!(renamed.label.judge_owner(&bob).is_ok() && renamed.left() == 2);
    assert!(one.spend("bob", unspent[0].0, hash, &record).is_err(), "it stays spent");
    let State::Unspent(hash) = &unspent[1].1.state else { panic!("a new code") };
    assert_eq!(one.spend("bob", unspent[1].0, hash, &record).unwrap().left(), 1);
    assert!(one.spend("alice", unspent[2].0, hash, &record).is_err(), "the old name has no codes");
}

#[test]
fn an_import_that_was_cut_short_and_fails_again_revives_no_code_on_the_host() {
    let Some((_cluster, [admin, ..])) = fleet() else { return };
    let own = ["generate", "--host", "--yes", "--format", "json"];
    let code = backupcodes_tests::sheet(admin.world.admin(&[&own[..], &[&me()]].concat())).codes.remove(0);
    let files = FileStore::new(admin.world.file().parent().unwrap());
    let fails = |error: ReplaceError| {
        let moved = files.move_away(&me(), |_, _| Err(error), |_| Vec::new());
        assert!(moved.is_err());
        std::fs::read_to_string(admin.world.file()).unwrap().starts_with("format = 1\n")
    };
    let unknown = || StoreError::Fleet(FleetError::NotPermitted("as if".into()));
    assert!(fails(ReplaceError::Store(unknown())), "the fleet has nothing of it");
    assert!(!fails(ReplaceError::Unknown(unknown())), "the fleet may have it");
    assert!(!fails(ReplaceError::Store(unknown())), "it still may");
    assert_eq!(admin.world.try_answer(&code), pam::AUTHINFO_UNAVAIL);
    let (user, set, shared) = (me(), "1".into(), "2".into());
    assert!(!fails(ReplaceError::InFleet { user, set, shared }), "it may have ended this one");
}

#[test]
fn an_import_that_was_cut_short_ends_and_revives_no_code_that_was_spent_or_ended_since() {
    let Some((cluster, [admin, one, _])) = fleet() else { return };
    let own = ["generate", "--host", "--yes", "--format", "json"];
    let codes = backupcodes_tests::sheet(admin.world.admin(&[&own[..], &[&me()]].concat())).codes;
    let file = std::fs::read_to_string(admin.world.file()).unwrap();
    let import = || admin.world.admin(&["fleet", "import", &me()]);
    let put_back = |text: &str| {
        std::fs::write(admin.world.file(), text).unwrap();
        backupcodes_tests::set_mode(&admin.world.file(), 0o600);
    };
    // It dies before the file is gone.
    let cut_short = file.replace("format = 1", "format = 0");
    assert!(import().status.success());
    assert_eq!(one.world.try_answer(&codes[0]), pam::SUCCESS);
    put_back(&cut_short);
    assert_eq!(admin.world.try_answer(&codes[1]), pam::AUTHINFO_UNAVAIL);
    assert!(import().status.success());
    for host in [&admin, &one] {
        assert_eq!(host.world.try_answer(&codes[0]), pam::AUTH_ERR, "it is spent");
    }
    // A copy of a file from before the import is no end of it, and ends here.
    put_back(&file);
    let output = import();
    assert!(!output.status.success() && text(&output.stderr).contains("may have been used in both"));
    assert_eq!(admin.world.try_answer(&codes[2]), pam::AUTHINFO_UNAVAIL);
    std::fs::remove_file(admin.world.file()).unwrap();
    // It is ended, or replaced, before the import goes on.
    let restored = ["fleet", "restored", "--yes"];
    for (end, reason) in [
        (&["generate", "--yes", &me()][..], "and set"),
        (&["revoke", &me()], "may have had the set and ended it since"),
        (&restored, "may have had the set and ended it since"),
    ] {
        assert!(admin.world.admin(end).status.success());
        put_back(&cut_short);
        let output = import();
        assert!(
            !output.status.success() && text(&output.stderr).contains(reason),
            "{}",
            text(&output.stderr)
        );
        for code in &codes[..2] {
            assert_eq!(admin.world.try_answer(code), pam::AUTHINFO_UNAVAIL);
            assert_eq!(one.world.try_answer(code), pam::AUTH_ERR);
        }
        // As the message says.
        assert!(admin.world.admin(&["revoke", &me()]).status.success());
        assert!(!admin.world.file().exists());
    }
    drop(cluster);
}

#[test]
fn what_a_host_writes_in_the_place_of_a_set_that_moves_keeps_it_from_nothing() {
    let Some((cluster, [admin, ..])) = fleet() else { return };
    let attacker = cluster.certificate("host2");
    let bob = Account { name: "bob".into(), uid: 1000 };
    for (length, count) in [(1, 1), (100_000, 12)] {
        let set = harness::give_sets(&admin.host, &["alice".into()], 3).remove(0);
        let junk = "x".repeat(length);
        for at in 0..count {
            let key = format!("/backupcodes/slots/bob/{}/{at}", set.label.set);
            cluster.must_ctl(&attacker, &["put", &key, &junk]);
        }
        let store = admin.host.store();
        assert_eq!(store.rename("alice", &bob).unwrap().as_ref(), Some(&set.label.set));
        assert_eq!(store.read("bob").unwrap().unwrap().left(), 3);
        let set = Expected::Set(&set.label.set);
        store.prepare("bob", set, None).unwrap().commit(|_| Vec::new()).unwrap();
    }
}
