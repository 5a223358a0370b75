//! What the service and the store need.

use std::fs;

use backupcodes_tests::etcd::Cluster;
use backupcodes_tests::fleet::{self, Host};
use nix::unistd::Pid;

use super::Code;

pub(crate) fn report(cluster: &Cluster, admin: &Host, users: usize) {
    println!("\n5. Memory");
    let host = Host::new(cluster, "host1");
    let fresh = in_use(host.id());
    let store = host.store();
    Code::make(admin, "memory", 1000).iter().for_each(|code| code.spend(&store).unwrap());
    println!(
        "   the service: {:.1} MiB when it has started, {:.1} MiB after 1,000 spends",
        fresh,
        in_use(host.id())
    );
    let nodes = || (0..3).map(|node| in_use(cluster.id(node))).fold(0.0, f64::max);
    let before = nodes();
    let names: Vec<_> = (0..users).map(|user| format!("many{user}")).collect();
    fleet::give_sets(admin, &names, 10);
    let after = nodes();
    println!(
        "   a node of etcd: {before:.0} MiB before, {after:.0} MiB after {users} users more with ten codes each: {:.0} MiB more for 10,000 users",
        (after - before) * 10_000.0 / users as f64
    );
    let status = cluster.status(0).expect("a node");
    println!("   its database has {} MiB", status["dbSize"].as_u64().unwrap_or_default() >> 20);
}

/// In MiB: what would be free without the process.
fn in_use(process: Pid) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Rss:")).expect("Rss");
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
