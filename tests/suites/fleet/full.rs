//! A store at its quota, and what the guide says to do then.

use backupcodes_tests::etcd::Cluster;
use backupcodes_tests::fleet::{self, ADMIN};
use backupcodes_tests::{me, pam, text};

use super::logins::LoginHost;

#[test]
fn a_full_store_is_reported_and_works_again_after_what_the_guide_says() {
    const QUOTA: u64 = 8 << 20;
    let Some(cluster) = Cluster::with_quota(QUOTA) else { return };
    fleet::set_up(&cluster, &["host1"]);
    let [admin, one] = [ADMIN, "host1"].map(|name| LoginHost::new(&cluster, name, ""));
    let codes = admin.generate().codes;
    assert_eq!(one.world.try_answer(&codes[0]), pam::SUCCESS);
    let junk = "x".repeat(120_000);
    let fill = |at: u64| {
        cluster.ctl(&cluster.certificate("host1"), &["put", &format!("/backupcodes/slots/junk/{at}"), &junk])
    };
    let full = (0..QUOTA / 100_000).map(fill).find(|put| !put.status.success()).expect("a quota");
    assert!(text(&full.stderr).contains("space exceeded"), "{}", text(&full.stderr));

    // etcd says the same of the change that fills it, which it makes: nobody knows.
    assert_eq!(one.world.try_answer(&codes[1]), pam::AUTH_ERR);
    assert!(one.world.last_line().text.contains("space exceeded"), "{:?}", one.world.last_line());
    let set = admin.world.admin(&["generate", "--yes", &me()]);
    assert!(!set.status.success() && text(&set.stderr).contains("space exceeded"), "{}", text(&set.stderr));
    let status = admin.world.admin(&["fleet", "status"]);
    assert!(!status.status.success() && text(&status.stdout).contains("NOSPACE"), "{}", text(&status.stdout));
    let doctor = text(&admin.world.admin(&["doctor"]).stdout);
    assert!(doctor.contains("etcd says: ") && doctor.contains("alarm:NOSPACE"), "{doctor}");

    let root = cluster.root();
    cluster.must_ctl(&root, &["del", "--prefix", "/backupcodes/slots/junk"]);
    let revision = cluster.status(0).unwrap()["header"]["revision"].to_string();
    cluster.must_ctl(&root, &["compact", &revision]);
    for node in 0..3 {
        let output = cluster.ctl_at(node, &root, &["defrag"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    cluster.must_ctl(&root, &["alarm", "disarm"]);
    assert_eq!(one.world.try_answer(&codes[1]), pam::SUCCESS);
    assert_eq!(one.world.try_answer(&codes[1]), pam::AUTH_ERR);
    assert!(admin.world.admin(&["fleet", "status"]).status.success());
}
