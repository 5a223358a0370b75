//! The cluster of the harness is real, and each of its faults is what it says.

use std::time::{Duration, Instant};

use backupcodes_tests::etcd::{Certificate, Cluster};
use backupcodes_tests::patience::wait_until;
use backupcodes_tests::text;

const SET: &str = "/backupcodes/sets/alice/1";
const SLOT: &str = "/backupcodes/slots/alice/1/01";
const NOTICE: &str = "/backupcodes/due/alice/1/01";

/// Writes to the slot at one node, and says whether that is known to have succeeded.
fn put(cluster: &Cluster, node: usize, value: &str) -> bool {
    cluster.ctl_at(node, &cluster.root(), &["--command-timeout=1s", "put", SLOT, value]).status.success()
}

/// What the slot holds, as one node says. `None`: it does not know.
fn get(cluster: &Cluster, node: usize) -> Option<String> {
    read(cluster, node, "--consistency=l")
}

/// The same without asking the others: it may be old.
fn get_local(cluster: &Cluster, node: usize) -> Option<String> {
    read(cluster, node, "--consistency=s")
}

fn read(cluster: &Cluster, node: usize, consistency: &str) -> Option<String> {
    let arguments = ["--command-timeout=1s", "get", "--print-value-only", consistency, SLOT];
    let output = cluster.ctl_at(node, &cluster.root(), &arguments);
    output.status.success().then(|| text(&output.stdout).trim().to_string())
}

/// Waits until a write at one node succeeds: after a fault a leader may have to be elected.
fn must_put(cluster: &Cluster, node: usize, value: &str) {
    wait_until("a write", || put(cluster, node, value));
}

/// Waits until one node knows what the slot holds.
fn must_get(cluster: &Cluster, node: usize) -> String {
    let mut value = None;
    wait_until("a read", || {
        value = get(cluster, node);
        value.is_some()
    });
    value.unwrap()
}

/// Whether the cluster allows it. If not, it says so.
fn may(cluster: &Cluster, who: &Certificate, arguments: &[&str]) -> bool {
    let output = cluster.ctl(who, arguments);
    let error = text(&output.stderr);
    assert!(output.status.success() || error.contains("permission denied"), "{error}");
    output.status.success()
}

#[test]
fn hosts_write_slots_and_notices_but_no_sets() {
    let Some(cluster) = Cluster::new() else { return };
    cluster.enable_roles();
    let [admin, host1, host2, stranger] =
        ["backupcodes-admin", "host1", "host2", "stranger"].map(|name| cluster.certificate(name));
    let may = |who, arguments: &[&str]| may(&cluster, who, arguments);
    assert!(may(&admin, &["put", SET, "a set"]));
    for host in [&host1, &host2] {
        assert!(
            may(host, &["get", SET]) && may(host, &["put", SLOT, "x"]) && may(host, &["put", NOTICE, "x"])
        );
        assert!(!may(host, &["put", SET, "x"]) && !may(host, &["del", SET]));
        assert!(!may(host, &["put", "/elsewhere", "x"]) && !may(host, &["user", "list"]));
    }
    assert!(!may(&admin, &["put", "/elsewhere", "x"]) && !may(&admin, &["auth", "disable"]));
    assert!(!may(&stranger, &["get", SET]));
    let forged = cluster.forged_certificate("root");
    assert!(!cluster.ctl_at(0, &forged, &["--command-timeout=1s", "get", SET]).status.success());
    assert!(cluster.log(0).contains("certificate signed by unknown authority"));
}

#[test]
fn a_write_needs_two_nodes_and_survives_the_death_of_all() {
    let Some(cluster) = Cluster::new() else { return };
    cluster.kill(0);
    assert!(!cluster.runs(0));
    must_put(&cluster, 1, "with two nodes");
    cluster.kill(2);
    assert!(!put(&cluster, 1, "with one node") && get(&cluster, 1).is_none());
    cluster.kill(1);
    // The first one has nobody to ask yet.
    (0..3).for_each(|node| cluster.restart(node));
    cluster.wait_healthy();
    // What was written without a majority may have happened, or not.
    let values = [0, 1, 2].map(|node| must_get(&cluster, node));
    assert!(["with two nodes", "with one node"].contains(&values[0].as_str()), "{values:?}");
    assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
}

#[test]
fn a_leader_that_is_cut_off_is_replaced() {
    let Some(cluster) = Cluster::new() else { return };
    let old = cluster.leader();
    let other = (old + 1) % 3;
    must_put(&cluster, old, "before");
    cluster.cut_off(old);
    wait_until("another leader", || cluster.leader() != old);
    must_put(&cluster, other, "without it");
    assert_eq!((put(&cluster, old, "lost"), get_local(&cluster, old)), (false, None));
    cluster.join(old);
    cluster.wait_healthy();
    assert_eq!(must_get(&cluster, old), "without it");

    let old = cluster.leader();
    let other = (old + 1) % 3;
    cluster.cut_off_from_nodes(old);
    wait_until("another leader", || cluster.leader() != old);
    must_put(&cluster, other, "without the second");
    // It answers, but not what it cannot know.
    wait_until("the old value", || get_local(&cluster, old).as_deref() == Some("without it"));
    assert_eq!((put(&cluster, old, "lost"), get(&cluster, old)), (false, None));
    cluster.join(old);
    cluster.wait_healthy();
}

#[test]
fn a_stopped_or_slow_node_answers_late() {
    let Some(cluster) = Cluster::new() else { return };
    let slow = (cluster.leader() + 1) % 3;
    cluster.stop(slow);
    assert!(cluster.runs(slow) && get_local(&cluster, slow).is_none());
    must_put(&cluster, cluster.leader(), "without it");
    cluster.go_on(slow);
    cluster.wait_healthy();
    assert_eq!(must_get(&cluster, slow), "without it");

    let duration = |count| {
        let start = Instant::now();
        for _ in 0..count {
            get_local(&cluster, slow);
        }
        start.elapsed()
    };
    cluster.narrow(slow, 30);
    // Each has a handshake with a certificate of some hundred bytes to send.
    assert!(duration(4) > Duration::from_secs(1));
    cluster.fast(slow);
    if cluster.slow(slow, Duration::from_millis(100)) {
        assert!(duration(1) > Duration::from_millis(100));
        cluster.fast(slow);
    }
    cluster.wait_healthy();
}

#[test]
fn a_node_without_disk_space_ends_and_the_others_go_on() {
    let Some(cluster) = Cluster::new() else { return };
    let full = cluster.leader();
    let other = (full + 1) % 3;
    cluster.fill_disk(full);
    let large = "x".repeat(100_000);
    wait_until("the end of the full node", || {
        must_put(&cluster, other, &large);
        !cluster.runs(full)
    });
    assert!(cluster.log(full).contains("no space left on device"));
    must_put(&cluster, other, "without it");
    cluster.make_room(full);
    cluster.restart(full);
    cluster.wait_healthy();
    assert_eq!(must_get(&cluster, full), "without it");
}

#[test]
fn a_restored_snapshot_is_another_cluster_with_the_old_values() {
    let Some(cluster) = Cluster::new() else { return };
    cluster.enable_roles();
    let id = || cluster.status(0).unwrap()["header"]["cluster_id"].as_u64().unwrap();
    let first = id();
    let snapshot = cluster.path("snapshot");
    must_put(&cluster, 0, "old");
    cluster.snapshot(&snapshot);
    must_put(&cluster, 0, "new");
    cluster.restore(&snapshot);
    assert_eq!([0, 1, 2].map(|node| must_get(&cluster, node)), ["old"; 3]);
    assert_ne!(id(), first);
    // The users are in it too.
    assert!(!may(&cluster, &cluster.certificate("host1"), &["put", SET, "x"]));
}
