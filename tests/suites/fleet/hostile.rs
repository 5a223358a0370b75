//! A host of the fleet that an attacker has: its certificate may read sets and write codes. What it cannot do is bring a spent code
//! back, make a set, or keep others from logging in with junk.

use backupcodes_core::set::State;
use backupcodes_core::store::Store;
use backupcodes_tests::postbox::Postbox;
use backupcodes_tests::{me, pam, text};

use super::logins::fleet;

#[test]
fn no_host_brings_a_spent_code_back() {
    let Some((cluster, [admin, one, two])) = fleet() else { return };
    let sheet = admin.generate();
    let (me, attacker) = (me(), cluster.certificate("host2"));
    let set = two.host.store().read(&me).unwrap().unwrap();
    let hashes: Vec<_> = set.entries().map(|(_, entry)| entry.state.text()).collect();
    let key = |number: usize| format!("/backupcodes/slots/{me}/{}/{number:02}", sheet.set);
    let ctl = |arguments: &[&str]| cluster.must_ctl(&attacker, arguments);
    assert_eq!(one.world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    // Written over, and deleted and made again: also after the administrator has changed the set.
    ctl(&["put", &key(1), &hashes[0]]);
    assert_eq!(one.world.try_answer(&sheet.codes[0]), pam::AUTH_ERR);
    ctl(&["del", &key(1)]);
    ctl(&["put", &key(1), &hashes[0]]);
    assert_eq!(one.world.try_answer(&sheet.codes[0]), pam::AUTH_ERR);
    assert!(admin.world.admin(&["email", &me, "new@example.org"]).status.success());
    assert_eq!(one.world.try_answer(&sheet.codes[0]), pam::AUTH_ERR);
    // An unspent one as well: it is damaged.
    ctl(&["put", &key(2), &hashes[1]]);
    assert_eq!(one.world.try_answer(&sheet.codes[1]), pam::AUTH_ERR);
    assert_eq!(one.world.status()["codes"][1]["state"], "damaged");
    // The others are good.
    assert_eq!(one.world.try_answer(&sheet.codes[2]), pam::SUCCESS);
}

#[test]
fn no_host_speaks_as_a_node() {
    let Some((cluster, _)) = fleet() else { return };
    // What a node says, the others store without a look at etcd's users.
    let of_peer = cluster.ask_as_node(0, &cluster.certificate_of_peer("host2"));
    assert!(of_peer.contains("HTTP/1.1 200 OK"), "{of_peer}");
    for host in ["host2", "backupcodes-admin", "root"] {
        let of_host = cluster.ask_as_node(0, &cluster.certificate(host));
        assert!(!of_host.contains("HTTP/1.1"), "{host}: {of_host}");
    }
}

#[test]
fn no_host_makes_a_code_or_a_set() {
    let Some((cluster, [admin, one, _])) = fleet() else { return };
    let (me, attacker) = (me(), cluster.certificate("host2"));
    let own = admin.generate();
    let entries: Vec<_> =
        one.host.store().read(&me).unwrap().unwrap().entries().map(|(_, e)| e.state.text()).collect();
    // A code that the sheet does not have, and those of a set that comes later.
    for (set, number) in [(own.set.as_str(), 11), ("00000001", 1)] {
        let key = format!("/backupcodes/slots/{me}/{set}/{number:02}");
        cluster.must_ctl(&attacker, &["put", &key, &entries[0]]);
    }
    let set = one.host.store().read(&me).unwrap().unwrap();
    assert_eq!(set.entries().count(), 10);
    assert!(set.entries().all(|(_, entry)| matches!(entry.state, State::Unspent(_))));
    for key in [
        format!("/backupcodes/sets/{me}/00000001"),
        "/backupcodes/restored".into(),
        format!("/backupcodes/sets/{me}/{}", own.set),
    ] {
        let output = cluster.ctl(&attacker, &["put", &key, "{}"]);
        assert!(!output.status.success() && text(&output.stderr).contains("permission denied"), "{key}");
    }
    // A new set removes what lies around.
    let new = admin.generate();
    assert_eq!(one.world.try_answer(&new.codes[0]), pam::SUCCESS);
    let left = cluster
        .ctl(&cluster.root(), &["get", "--prefix", "--keys-only", &format!("/backupcodes/slots/{me}/")]);
    assert_eq!(text(&left.stdout).lines().filter(|line| !line.is_empty()).count(), 10);
}

#[test]
fn junk_of_a_host_locks_nobody_out() {
    let Some((cluster, [admin, one, _])) = fleet() else { return };
    let codes = admin.generate().codes;
    let postbox = Postbox::of(&one.world);
    let (me, attacker) = (me(), cluster.certificate("host2"));
    let junk = "x".repeat(100_000);
    for at in 0..10 {
        for key in [format!("/backupcodes/slots/{me}/junk/{at}"), format!("/backupcodes/due/{me}/junk/{at}")]
        {
            cluster.must_ctl(&attacker, &["put", &key, &junk]);
        }
    }
    assert_eq!(one.world.try_answer(&codes[0]), pam::SUCCESS);
    one.world.deliver();
    assert_eq!(postbox.handed().len(), 1);
    // More ids than one transaction can delete one by one; and a record that would make the set unreadable.
    for at in 0..70 {
        let key = format!("/backupcodes/slots/{me}/junk%{at}/01");
        cluster.must_ctl(&attacker, &["put", &key, "x"]);
    }
    let key = format!("/backupcodes/slots/{me}/{}/03", one.world.status()["set"].as_str().unwrap());
    let record = "spent 2026-11-30T00:00:00Z mail=due fails=0 a\"b\\c local ";
    cluster.must_ctl(&attacker, &["put", &key, record]);
    assert_eq!(one.world.try_answer(&codes[1]), pam::SUCCESS);
    assert_eq!(one.world.try_answer(&codes[2]), pam::AUTH_ERR, "it is damaged");
    let new = admin.generate().codes;
    assert_eq!(one.world.try_answer(&new[0]), pam::SUCCESS);
    for at in 0..70 {
        let key = format!("/backupcodes/slots/{me}/more{at}/01");
        cluster.must_ctl(&attacker, &["put", &key, "x"]);
    }
    assert!(admin.world.admin(&["revoke", &me]).status.success());
    assert_eq!(one.world.try_answer(&new[1]), pam::AUTH_ERR);
}

#[test]
fn more_junk_than_can_be_read_locks_nobody_out() {
    let Some((cluster, [admin, one, _])) = fleet() else { return };
    let (me, attacker) = (me(), cluster.certificate("host2"));
    let junk = "x".repeat(100_000);
    let put = |key: &str, value: &str| {
        cluster.must_ctl(&attacker, &["put", &format!("/backupcodes/{key}"), value]);
    };
    // Beside the set, below it, and in the names of notices.
    let places: [fn(&str, &str, &str) -> String; 3] = [
        |me, _, at| format!("slots/{me}/junk/{at}"),
        |me, set, at| format!("slots/{me}/{set}/{at}junk"),
        |me, set, at| format!("due/{me}/{set}/{at}{}", "y".repeat(100_000)),
    ];
    for place in places {
        let sheet = admin.generate();
        let codes = &sheet.codes;
        assert_eq!(one.world.try_answer(&codes[1]), pam::SUCCESS);
        for at in 0..12 {
            put(&place(&me, &sheet.set, &at.to_string()), &junk);
        }
        // Two codes end, and no other.
        for number in [3, 4] {
            put(&format!("slots/{me}/{}/{number:02}", sheet.set), &junk);
        }
        assert_eq!(one.world.try_answer(&codes[0]), pam::SUCCESS);
        for refused in [&codes[0], &codes[1], &codes[2], &codes[3]] {
            assert_eq!(one.world.try_answer(refused), pam::AUTH_ERR);
        }
        assert!(admin.world.admin(&["email", &me, "new@example.org"]).status.success());
        let new = admin.generate();
        assert_eq!(one.world.try_answer(&new.codes[0]), pam::SUCCESS);
        for at in 0..12 {
            put(&place(&me, &new.set, &at.to_string()), &junk);
        }
        assert!(admin.world.admin(&["revoke", &me]).status.success());
        assert_eq!(one.world.try_answer(&new.codes[1]), pam::AUTH_ERR);
    }
}

#[test]
fn no_host_sends_mail_to_addresses_of_its_own() {
    let Some((cluster, [admin, one, _])) = fleet() else { return };
    let (me, attacker) = (me(), cluster.certificate("host2"));
    let postbox = Postbox::of(&one.world);
    let set = admin.generate().set;
    let label = format!(
        r#"{{"format":1,"set":"{set}","user":"{me}","uid":0,"created":"2026-11-30T00:00:00Z","email":["evil@example.org"],"count":10}}"#
    );
    let due = format!(
        r#"{{"label":{label},"number":1,"record":"spent 2026-11-29T00:00:00Z mail=due fails=0 sshd local on=host1 ","left":9}}"#
    );
    // In its place, and in another one.
    for key in [format!("/backupcodes/due/{me}/{set}/01"), format!("/backupcodes/due/{me}/{set}/02")] {
        cluster.must_ctl(&attacker, &["put", &key, &due]);
    }
    one.world.deliver();
    let handed = postbox.handed();
    assert_eq!(handed.len(), 1);
    assert!(!handed[0].arguments.contains(&"evil@example.org".into()), "{:?}", handed[0].arguments);
}

#[test]
fn a_host_that_was_removed_is_out_at_once() {
    let Some((cluster, [admin, one, two])) = fleet() else { return };
    let codes = admin.generate().codes;
    assert_eq!(two.world.try_answer(&codes[0]), pam::SUCCESS);
    let root = backupcodes_tests::fleet::Host::prepare(&cluster, "root", "");
    root.admin(&["host", "remove", "host2"]);
    assert_eq!(two.world.try_answer(&codes[1]), pam::AUTHINFO_UNAVAIL);
    assert_eq!(one.world.try_answer(&codes[1]), pam::SUCCESS);
}
