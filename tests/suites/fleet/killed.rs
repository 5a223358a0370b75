//! A service that is killed at each step of a spend: no code is spent twice, and what was replied to is spent.

use backupcodes_core::clock;
use backupcodes_core::set::{SpentRecord, State};
use backupcodes_core::store::Store;
use backupcodes_tests::etcd::Cluster;
use backupcodes_tests::fleet::{self, ADMIN, Host};

/// Calls by which the service speaks with its host and with the nodes. What it reads from files when it starts is not among them.
const CALLS: &str = "writev,sendto,sendmsg,recvfrom,recvmsg";

#[test]
fn killed_before_each_call_to_the_outside_it_spends_no_code_twice() {
    let Some(cluster) = Cluster::new() else { return };
    fleet::set_up(&cluster, &["host1", "host2"]);
    let (admin, two) = (Host::new(&cluster, ADMIN), Host::new(&cluster, "host2"));
    let one = Host::prepare(&cluster, "host1", "");
    let (mut before, mut lost) = (0, 0);
    // Each thread counts for itself, and they share the work in another way each time.
    for sweep in 0..60 {
        if sweep > 4 && lost > 0 {
            break;
        }
        let mut in_a_row = 0;
        for at in 1.. {
            let user = format!("user-{sweep}-{at}");
            let set = fleet::give_sets(&admin, std::slice::from_ref(&user), 1).remove(0);
            let (number, entry) = set.entries().next().unwrap();
            let State::Unspent(hash) = &entry.state else { panic!("a new code") };
            let spend = |host: &Host| {
                let record = SpentRecord::new(clock::now(), 0, "sshd", "192.0.2.7");
                host.store().spend(&user, number, hash, &record).is_ok()
            };
            let listens = one.start_tampered(&format!("{CALLS}:signal=KILL:when={at}"));
            let (first, second) = (listens && spend(&one), spend(&two));
            assert!(!(first && second), "spent twice, call {at}");
            assert!(!spend(&two), "spent again, call {at}");
            let set = two.store().read(&user).unwrap().unwrap();
            assert!(matches!(set.entry(number).unwrap().state, State::Spent(_)), "call {at}");
            lost += usize::from(!first && !second);
            before += usize::from(!first && second);
            in_a_row = if first && one.runs() { in_a_row + 1 } else { 0 };
            one.kill();
            if in_a_row == 3 {
                break;
            }
        }
    }
    assert!(before > 10, "only {before} kills came before the transaction");
    assert!(lost > 0, "no kill came between the transaction and the reply");
}
