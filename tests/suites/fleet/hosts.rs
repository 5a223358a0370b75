//! The hosts of the harness are real: each has a service with its own certificate.

use std::thread;
use std::time::Duration;

use backupcodes_core::clock;
use backupcodes_core::config::Fleet;
use backupcodes_core::set::{SpentRecord, State};
use backupcodes_core::store::{Expected, FleetStore, Prepared, SpendError, Store};
use backupcodes_tests::etcd::Cluster;
use backupcodes_tests::fleet::{self, ADMIN, Host};
use backupcodes_tests::text;

#[test]
fn a_code_that_one_host_spends_is_spent_on_all() {
    let Some(cluster) = Cluster::new() else { return };
    fleet::set_up(&cluster, &["host1", "host2"]);
    let [admin, one, two] = [ADMIN, "host1", "host2"].map(|name| Host::new(&cluster, name));
    let [set] = fleet::give_sets(&admin, &["alice".into()], 2).try_into().ok().unwrap();
    let (number, entry) = set.entries().next().unwrap();
    let State::Unspent(hash) = &entry.state else { panic!("a new code") };
    let record = SpentRecord::new(clock::now(), 0, "sshd", "192.0.2.7");
    assert_eq!(one.store().spend("alice", number, hash, &record).unwrap().left(), 1);
    two.restart();
    let again = two.store().spend("alice", number, hash, &record);
    assert!(matches!(again, Err(SpendError::NoLongerUnspent)), "{again:?}");
    let seen = two.store().read("alice").unwrap().unwrap();
    let State::Spent(record) = &seen.entry(number).unwrap().state else { panic!("a spent code") };
    assert_eq!(record.host.as_deref(), Some("host1"));

    let store = two.store();
    let prepared = store.prepare("alice", Expected::Set(&seen.label.set), None).unwrap();
    let refused = prepared.commit(|_| Vec::new()).unwrap_err().to_string();
    assert!(refused.contains("may not do that"), "{refused}");
}

#[test]
fn the_status_comes_in_time_while_nodes_do_not_reply() {
    let Some(cluster) = Cluster::new() else { return };
    fleet::set_up(&cluster, &[]);
    let admin = Host::with(&cluster, ADMIN, "timeout = 3\n");
    // A client that waits twice as long as the service: it gives up where the service waits for one node after the other.
    let store = FleetStore::new(Fleet { timeout: Duration::from_secs(6), ..admin.fleet() }, admin.outbox());
    assert_eq!(store.status().unwrap().may_replace, Some(true));
    cluster.stop(0);
    cluster.stop(1);
    let status = store.status().unwrap();
    assert_eq!(status.nodes.iter().filter(|node| node.error.is_some()).count(), 2);
    assert_eq!(status.may_replace, None, "nobody knows");
}

#[test]
fn a_node_that_says_nothing_is_not_the_only_one_that_is_asked_however_short_the_time_is() {
    let Some(cluster) = Cluster::new() else { return };
    fleet::set_up(&cluster, &["host1"]);
    let silent = (cluster.leader() + 1) % 3;
    cluster.stop(silent);
    for timeout in [1, 2, 5] {
        let host = Host::with(&cluster, "host1", &format!("timeout = {timeout}\n"));
        // The first one is another one each time.
        for _ in 0..8 {
            let read = (0..2).find(|_| host.store().read("alice").is_ok());
            assert!(read.is_some(), "{timeout} s: {}", host.errors());
            host.restart();
        }
    }
}

#[test]
fn more_calls_than_the_service_has_threads_end_in_time() {
    let Some(cluster) = Cluster::new() else { return };
    fleet::set_up(&cluster, &["host1"]);
    let host = Host::new(&cluster, "host1");
    (0..3).for_each(|node| cluster.kill(node));
    thread::scope(|scope| {
        // 512 wait for the store, and the others for them.
        let calls: Vec<_> = (0..700).map(|_| scope.spawn(|| host.store().read("alice"))).collect();
        for call in calls {
            let error = call.join().unwrap().err().expect("no store").to_string();
            assert!(error.contains("no majority of the nodes replied"), "{error}");
        }
    });
}

#[test]
fn an_administrator_lists_hosts_and_cannot_mistake_another_user_for_one() {
    let Some(cluster) = Cluster::new() else { return };
    fleet::set_up(&cluster, &["host2", "host1"]);
    let root = Host::prepare(&cluster, "root", "");
    assert_eq!(root.admin(&["host", "list"]), "host1\nhost2\n");
    assert_eq!(
        root.admin(&["host", "remove", "host1"]),
        "host1 is out; never give its name to another host\n"
    );
    assert_eq!(root.admin(&["host", "list"]), "host2\n");
    for other in [ADMIN, "root"] {
        for command in ["add", "remove"] {
            let output = root.try_admin(&["host", command, other]);
            assert!(
                !output.status.success() && text(&output.stderr).contains("is no host"),
                "{command} {other}"
            );
        }
    }
    assert!(Host::new(&cluster, ADMIN).store().status().unwrap().may_replace.unwrap());
}
