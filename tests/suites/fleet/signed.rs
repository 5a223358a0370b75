//! Whoever may write anything into the store, as some versions of etcd let each of its users do. The sets that count are those that an
//! administrator has signed, with the codes that were made then.

use std::process::Command;
use std::thread;

use backupcodes_tests::etcd::{Certificate, Cluster};
use backupcodes_tests::fleet::{self, ADMIN, Host};
use backupcodes_tests::patience::wait_until;
use backupcodes_tests::{Sheet, feed, me, pam, text};

use super::logins::{LoginHost, fleet};

/// The key of the label of a user's set.
fn label_key(user: &str, set: &str) -> String {
    format!("/backupcodes/sets/{user}/{set}")
}

/// None of the codes is accepted, and nobody takes that for a user without a set.
fn assert_dead(host: &LoginHost, old: &Sheet) {
    for code in &old.codes[..2] {
        assert_eq!(host.world.try_answer(code), pam::AUTH_ERR);
    }
}

#[test]
fn whoever_may_write_anything_makes_no_set_and_brings_no_code_back() {
    let Some((cluster, [admin, one, _])) = fleet() else { return };
    let (me, attacker) = (me(), cluster.root());
    let sheet = admin.generate();
    let ctl = |arguments: &[&str]| cluster.must_ctl(&attacker, arguments);
    let key = format!("/backupcodes/sets/{me}/{}", sheet.set);
    let slot = |number: usize| format!("/backupcodes/slots/{me}/{}/{number:02}", sheet.set);
    let get = |key: &str| ctl(&["get", "--print-value-only", key]);
    let (label, hashes) = (get(&key), [1, 2].map(|number| get(&slot(number))));
    // What is no set lies beside one.
    ctl(&["put", &format!("/backupcodes/sets/{me}/00000001"), "{}"]);
    assert_eq!(one.world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    ctl(&["del", &format!("/backupcodes/sets/{me}/00000001")]);
    // All is made again as it was.
    ctl(&["del", &key]);
    for (number, hash) in (1..).zip(&hashes) {
        ctl(&["del", &slot(number)]);
        ctl(&["put", &slot(number), hash]);
    }
    ctl(&["put", &key, &label]);
    for number in [0, 1] {
        assert_eq!(one.world.try_answer(&sheet.codes[number]), pam::AUTH_ERR);
        assert_eq!(one.world.status()["codes"][number]["state"], "damaged");
    }
    // More names of the uid than anybody has.
    for name in 0..20 {
        ctl(&["put", &format!("/backupcodes/sets/%uid/0/name{name}"), &format!("name{name}")]);
    }
    assert_eq!(one.world.try_answer(&sheet.codes[2]), pam::SUCCESS, "never touched");
    // A label that says so.
    let said: serde_json::Value = serde_json::from_str(&label).unwrap();
    let status: serde_json::Value =
        serde_json::from_str(&ctl(&["get", &slot(2), "--write-out=json"])).unwrap();
    let made = &status["kvs"][0]["create_revision"];
    let forged = label.replace(&format!("\"codes\":{}", said["codes"]), &format!("\"codes\":{made}"));
    assert_ne!(forged, label);
    ctl(&["put", &key, &forged]);
    assert_eq!(one.world.try_answer(&sheet.codes[1]), pam::AUTHINFO_UNAVAIL);
    assert!(one.world.last_line().text.contains("not signed for this store"), "{:?}", one.world.last_line());
    // Signed: by whom counts.
    let cluster_id = &status["header"]["cluster_id"];
    let message = format!(
        r#"{{"purpose":"backupcodes set","prefix":"/backupcodes/","cluster":{cluster_id},"restored":0,"codes":{made},"label":{}}}"#,
        label_in(&forged)
    );
    let sign = |certificate: &Certificate| {
        let mut openssl = Command::new("sh");
        openssl
            .args(["-c", "openssl dgst -sha256 -sign \"$1\" | openssl base64 -A", "sh"])
            .arg(&certificate.key);
        let value = text(&feed(&mut openssl, &message).stdout);
        let certificate = std::fs::read_to_string(&certificate.certificate).unwrap();
        let signature = serde_json::json!({"certificate": certificate, "scheme": 0x0403, "value": value});
        ctl(&[
            "put",
            &key,
            &format!(r#"{{"label":{},"codes":{made},"signature":{signature}}}"#, label_in(&forged)),
        ]);
    };
    for other in
        [cluster.certificate("host2"), cluster.certificate("root"), cluster.forged_certificate(ADMIN)]
    {
        sign(&other);
        assert_eq!(one.world.try_answer(&sheet.codes[1]), pam::AUTHINFO_UNAVAIL);
    }
    sign(&cluster.certificate(ADMIN));
    assert_eq!(one.world.try_answer(&sheet.codes[1]), pam::SUCCESS, "as the administrator would");
}

/// The text of the label in the value of a set.
fn label_in(value: &str) -> &str {
    let label = value.strip_prefix("{\"label\":").unwrap();
    &label[..=label.find('}').unwrap()]
}

#[test]
fn a_host_that_etcd_lets_do_everything_signs_no_set() {
    let Some((cluster, [admin, one, _])) = fleet() else { return };
    let codes = admin.generate().codes;
    cluster.must_ctl(&cluster.root(), &["user", "grant-role", "host1", "backupcodes-admins"]);
    let output = one.world.admin(&["generate", "--yes", &me()]);
    assert!(!output.status.success() && output.stdout.is_empty(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("the certificate is of host1; expected backupcodes-admin"));
    assert_eq!(one.world.try_answer(&codes[0]), pam::SUCCESS);
}

#[test]
fn a_label_that_was_hidden_from_a_revocation_comes_back_without_codes() {
    let Some((cluster, [admin, one, _])) = fleet() else { return };
    let (me, attacker) = (me(), cluster.root());
    let ctl = |arguments: &[&str]| cluster.must_ctl(&attacker, arguments);
    let old = admin.generate();
    let key = label_key(&me, &old.set);
    let label = ctl(&["get", "--print-value-only", &key]);
    ctl(&["del", &key]);
    let output = admin.world.admin(&["revoke", &me]);
    assert!(text(&output.stdout).contains("has no backup codes"), "{}", text(&output.stderr));
    // A host cannot do the same, and says what it knows.
    let output = one.world.admin(&["revoke", &me]);
    assert!(text(&output.stdout).contains("has no backup codes"), "{}", text(&output.stderr));
    ctl(&["put", &key, &label]);
    assert_dead(&one, &old);
    // Hidden from a new set.
    ctl(&["del", &key]);
    let new = admin.generate();
    ctl(&["put", &key, &label]);
    assert_dead(&one, &old);
    assert_eq!(one.world.try_answer(&new.codes[0]), pam::SUCCESS);
    assert!(admin.world.admin(&["revoke", &me]).status.success());
    assert_eq!(ctl(&["get", "--prefix", "--keys-only", "/backupcodes/slots/"]), "");
    assert_eq!(ctl(&["get", "--prefix", "--keys-only", &label_key(&me, "")]), "");
}

#[test]
fn an_older_label_beside_the_present_one_changes_nothing() {
    let Some((cluster, [admin, one, _])) = fleet() else { return };
    let (me, attacker) = (me(), cluster.root());
    let ctl = |arguments: &[&str]| cluster.must_ctl(&attacker, arguments);
    let get = |set: &str| ctl(&["get", "--print-value-only", &label_key(&me, set)]);
    // Whichever comes first in the order of keys.
    for is_old_first in [true, false] {
        let old = admin.generate();
        let old_label = get(&old.set);
        let mut new = admin.generate();
        while (old.set < new.set) != is_old_first {
            new = admin.generate();
        }
        let new_label = get(&new.set);
        ctl(&["put", &label_key(&me, &old.set), &old_label]);
        // In places that are not theirs.
        for place in ["00000000", "zzzzzzzz"] {
            ctl(&["put", &label_key(&me, place), &new_label]);
        }
        assert_eq!(one.world.try_answer(&new.codes[0]), pam::SUCCESS);
        assert_dead(&one, &old);
        assert_eq!(one.world.status()["set"], new.set.as_str());
        assert!(admin.world.admin(&["email", &me, "new@example.org"]).status.success());
        // Alone, it is a set without codes: that is not nothing.
        ctl(&["del", &label_key(&me, &new.set)]);
        assert_dead(&one, &new);
        assert_dead(&one, &old);
        let last = admin.generate();
        assert_eq!(one.world.try_answer(&last.codes[0]), pam::SUCCESS);
        assert_dead(&one, &old);
        let labels = ctl(&["get", "--prefix", "--keys-only", &label_key(&me, "")]);
        assert_eq!(labels, label_key(&me, &last.set));
    }
}

#[test]
fn what_no_administrator_has_signed_is_reported_and_replaced() {
    let Some((cluster, [admin, one, _])) = fleet() else { return };
    let (me, attacker) = (me(), cluster.root());
    let put =
        |set: &str, value: &str| drop(cluster.must_ctl(&attacker, &["put", &label_key(&me, set), value]));
    let good = admin.generate();
    let doctor = |host: &LoginHost| text(&host.world.admin(&["doctor"]).stdout);
    assert!(!doctor(&one).contains("fleet-signature"));
    put(&good.set, "{}");
    assert_eq!(one.world.try_answer(&good.codes[0]), pam::AUTHINFO_UNAVAIL);
    let line = one.world.last_line().text;
    assert!(line.contains("cannot be used") && line.contains(&format!("generate {me}")), "{line}");
    for host in [&admin, &one] {
        let said = doctor(host);
        assert!(said.contains(&format!("has signed the set of {me}")), "{said}");
    }
    let output = admin.world.admin(&["revoke", &me]);
    assert!(text(&output.stdout).contains("what was no set is removed"), "{}", text(&output.stderr));
    assert_eq!(one.world.try_answer(&good.codes[0]), pam::AUTH_ERR);
    put("00000001", "{}");
    assert_eq!(one.world.try_answer(&good.codes[0]), pam::AUTHINFO_UNAVAIL);
    let output = admin.world.admin(&["generate", "--missing", &me]);
    assert!(text(&output.stderr).contains("cannot be used"), "{}", text(&output.stderr));
    // More than can be read.
    for set in 10..22 {
        put(&format!("000000{set}"), &"x".repeat(100_000));
    }
    assert_eq!(one.world.try_answer(&good.codes[0]), pam::AUTHINFO_UNAVAIL);
    // A host may not, and nothing is changed.
    assert!(!one.world.admin(&["generate", "--yes", &me]).status.success());
    let new = admin.generate();
    assert_eq!(one.world.try_answer(&new.codes[0]), pam::SUCCESS);
    // What lies beside a good set is no harm. What is of no user at all, or of an escaped name, is said as it is.
    put("00000001", "{}");
    assert!(!doctor(&one).contains("fleet-signature"));
    let of_nobody = [
        "/backupcodes/sets/%uid/0/nobody",
        "/backupcodes/sets/%uid/1",
        "/backupcodes/sets/a b/1",
        "/backupcodes/sets/bob",
    ];
    for key in [&["/backupcodes/sets/a%40b/1"][..], &of_nobody].concat() {
        cluster.must_ctl(&attacker, &["put", key, "{}"]);
    }
    let said = doctor(&one);
    assert!(
        said.contains("has signed the set of a@b\n") || said.contains("has signed the set of a@b;"),
        "{said}"
    );
    assert!(said.contains(&format!("no administrator has written: {}, and 3 more", of_nobody[0])), "{said}");
    assert!(admin.world.admin(&["revoke", "a@b"]).status.success());
    of_nobody.iter().for_each(|key| drop(cluster.must_ctl(&attacker, &["del", key])));
    assert!(!doctor(&one).contains("fleet-signature"));
    let _ = admin.generate();
    assert_eq!(cluster.must_ctl(&attacker, &["get", "--keys-only", &label_key(&me, "00000001")]), "");
}

#[test]
fn nobody_else_says_that_the_store_was_restored() {
    let Some((cluster, [admin, one, two])) = fleet() else { return };
    let (key, attacker) = ("/backupcodes/restored", cluster.root());
    let put = |value: &str| drop(cluster.must_ctl(&attacker, &["put", key, value]));
    let codes = admin.generate().codes;
    for (code, time) in codes.iter().zip(["18446744073709551615", "1900000000", "x"]) {
        put(time);
        assert_eq!(one.world.try_answer(code), pam::SUCCESS, "{time}");
    }
    let output = admin.world.admin(&["fleet", "restored", "--yes"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let new = admin.generate().codes;
    for (host, number) in [(&one, 0), (&two, 1)] {
        assert_eq!(host.world.try_answer(&codes[number + 3]), pam::AUTH_ERR);
        assert_eq!(host.world.try_answer(&new[number]), pam::SUCCESS);
    }
    // Without what the administrator has said, or with another time, the store is an older one, until it is said again.
    let said = cluster.must_ctl(&attacker, &["get", "--print-value-only", key]);
    let time = serde_json::from_str::<serde_json::Value>(&said).unwrap()["time"].as_u64().unwrap();
    let later = said.replace(&format!("\"time\":{time}"), &format!("\"time\":{}", time + 1));
    assert_ne!(said, later);
    for (code, value) in new[2..].iter().zip(["x", &later]) {
        put(value);
        assert_eq!(one.world.try_answer(code), pam::AUTHINFO_UNAVAIL);
        put(&said);
        assert_eq!(two.world.try_answer(code), pam::SUCCESS, "it has seen nothing else");
    }
    assert_eq!(one.world.try_answer(&new[4]), pam::AUTHINFO_UNAVAIL, "it has seen an older store");
    assert!(admin.world.admin(&["fleet", "restored", "--yes"]).status.success());
    let last = admin.generate().codes;
    assert_eq!(one.world.try_answer(&last[0]), pam::SUCCESS);
}

/// Somebody who is faster than an administrator: each call of the admin host to the store comes late.
#[test]
fn whoever_interferes_while_a_set_is_made_is_noticed_and_the_old_one_stays() {
    let Some(cluster) = Cluster::new() else { return };
    fleet::set_up(&cluster, &["host1"]);
    let (attacker, me) = (cluster.root(), me());
    let [one, admin] = ["host1", ADMIN].map(|name| LoginHost::new(&cluster, name, ""));
    let late = LoginHost::of(Host::prepare(&cluster, ADMIN, ""), "");
    assert!(late.host.start_tampered("writev:delay_enter=100000"));
    let ctl = |arguments: &[&str]| cluster.must_ctl(&attacker, arguments);
    let slots = format!("/backupcodes/slots/{me}/");
    let staged = |old: &str| {
        let keys = ctl(&["get", "--prefix", "--keys-only", &slots]);
        keys.lines().find(|key| key.starts_with(&slots) && !key.contains(old)).map(str::to_owned)
    };
    let written_again = |key: &str| {
        let hash = ctl(&["get", "--print-value-only", key]);
        ctl(&["put", key, &hash]);
    };
    let made_again = |key: &str| {
        let hash = ctl(&["get", "--print-value-only", key]);
        ctl(&["del", key]);
        ctl(&["put", key, &hash]);
    };
    let removed = |key: &str| drop(ctl(&["del", "--prefix", key.rsplit_once('/').unwrap().0]));
    let label_beside = |_: &str| drop(ctl(&["put", &label_key(&me, "00000001"), "{}"]));
    let restored = |_: &str| drop(ctl(&["put", "/backupcodes/restored", "1700000000"]));
    let ways: [&(dyn Fn(&str) + Sync); 5] = [&written_again, &made_again, &removed, &label_beside, &restored];
    for (way, interfere) in ways.into_iter().enumerate() {
        // On a busy machine it may come too late.
        let noticed = (0..10).find_map(|_| {
            let old = admin.generate();
            let output = thread::scope(|scope| {
                let generate = scope.spawn(|| late.world.admin(&["generate", "--yes", &me]));
                let mut key = None;
                wait_until("codes that are nobody's", || {
                    key = staged(&old.set);
                    key.is_some() || generate.is_finished()
                });
                key.iter().for_each(|key| interfere(key));
                generate.join().unwrap()
            });
            (!output.status.success()).then_some((old, text(&output.stderr)))
        });
        let (old, said) = noticed.unwrap_or_else(|| panic!("way {way} is not noticed"));
        assert!(said.contains("WORTHLESS"), "way {way}: {said}");
        if way == 4 {
            continue;
        }
        assert!(said.contains("was changed by another process meanwhile"), "way {way}: {said}");
        assert_eq!(one.world.try_answer(&old.codes[0]), pam::SUCCESS, "way {way}");
        assert_eq!(staged(&old.set), None, "way {way}");
    }
}
