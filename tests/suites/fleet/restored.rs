//! A store that was restored from a backup: codes that were spent since would work again.

use backupcodes_tests::{fleet as harness, me, pam, text};

use super::logins::fleet;

#[test]
fn a_restored_store_is_refused_until_all_its_sets_are_ended() {
    let Some((cluster, [admin, one, two])) = fleet() else { return };
    let codes = admin.generate().codes;
    assert_eq!(two.world.try_answer(&codes[0]), pam::SUCCESS);
    let backup = cluster.path("backup");
    cluster.snapshot(&backup);
    assert_eq!(one.world.try_answer(&codes[1]), pam::SUCCESS);
    cluster.restore(&backup);
    // Here the spent code is unspent again. No host accepts it, with or without a memory of its spend.
    for host in [&one, &two] {
        for code in [&codes[1], &codes[2]] {
            assert_eq!(host.world.try_answer(code), pam::AUTHINFO_UNAVAIL);
            let line = host.world.last_line().text;
            assert!(
                line.contains("older than this host remembers") && line.contains("fleet restored"),
                "{line}"
            );
        }
        host.host.restart();
        assert_eq!(host.world.try_answer(&codes[1]), pam::AUTHINFO_UNAVAIL, "it remembers");
    }
    // A host may not say that all is well, and an administrator's asks.
    assert!(!one.world.admin(&["fleet", "restored", "--yes"]).status.success());
    let output = admin.world.admin(&["fleet", "restored"]);
    assert!(!output.status.success() && text(&output.stderr).contains("--yes"), "{}", text(&output.stderr));
    let output = admin.world.admin(&["fleet", "restored", "--yes"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for host in [&one, &two] {
        assert_eq!(host.world.try_answer(&codes[1]), pam::AUTH_ERR, "its set is ended");
    }
    let new = admin.generate().codes;
    assert_eq!(one.world.try_answer(&new[1]), pam::SUCCESS);
    assert_eq!(two.world.try_answer(&new[1]), pam::AUTH_ERR);
    assert_eq!(two.world.status()["left"], 9, "{}", me());
}

#[test]
fn a_restore_with_the_old_token_is_noticed_by_a_host_that_has_seen_a_later_state() {
    let Some((cluster, [admin, one, _])) = fleet() else { return };
    let codes = admin.generate().codes;
    let backup = cluster.path("backup");
    cluster.snapshot(&backup);
    assert_eq!(one.world.try_answer(&codes[0]), pam::SUCCESS);
    cluster.restore_with_the_old_token(&backup);
    assert_eq!(one.world.try_answer(&codes[0]), pam::AUTHINFO_UNAVAIL);
    // Nor when the store has grown beyond what the host has seen.
    for number in 0..20 {
        let key = format!("/elsewhere/{number}");
        cluster.must_ctl(&cluster.root(), &["put", &key, "x"]);
    }
    assert_eq!(one.world.try_answer(&codes[0]), pam::AUTHINFO_UNAVAIL);
    assert!(admin.world.admin(&["fleet", "restored", "--yes"]).status.success());
    assert_eq!(one.world.try_answer(&codes[0]), pam::AUTH_ERR, "its set is ended");
}

#[test]
fn a_store_that_was_lost_is_set_up_again_without_a_backup() {
    let Some((cluster, [admin, one, two])) = fleet() else { return };
    let old = admin.generate().codes;
    assert_eq!(one.world.try_answer(&old[0]), pam::SUCCESS);
    cluster.start_anew();
    assert_eq!(one.world.try_answer(&old[1]), pam::AUTHINFO_UNAVAIL, "another store");
    harness::set_up(&cluster, &["host1", "host2"]);
    assert_eq!(one.world.try_answer(&old[1]), pam::AUTHINFO_UNAVAIL, "nobody has said so");
    let output = admin.world.admin(&["fleet", "restored", "--yes"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let new = admin.generate().codes;
    for host in [&one, &two] {
        assert_eq!(host.world.try_answer(&old[1]), pam::AUTH_ERR);
    }
    assert_eq!(one.world.try_answer(&new[0]), pam::SUCCESS);
    assert_eq!(two.world.try_answer(&new[0]), pam::AUTH_ERR);
}
