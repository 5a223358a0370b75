//! One login, and what it asks of the store.

use std::cell::RefCell;
use std::time::Instant;

use backupcodes_core::store::Store;
use backupcodes_tests::bench::stack::{Folder, Stack};
use backupcodes_tests::bench::{median, section, take_turns};
use backupcodes_tests::etcd::Cluster;
use backupcodes_tests::fleet::{ADMIN, Host};

use super::Code;

pub(crate) fn report(folder: &Folder, cluster: &Cluster) {
    let rounds =
        section("1. Accepted attempt in a fresh process: the set on the host, and in the fleet", 101);
    let host = Host::new(cluster, ADMIN);
    let local = Stack::of_backupcodes(folder, "local", "", 10);
    let shared = RefCell::new(Stack::of_fleet(folder, "shared", &host.settings()));
    let by_fleet = || {
        let mut shared = shared.borrow_mut();
        shared.take_next_code();
        shared.accepted().nanoseconds
    };
    let cold = || {
        host.restart();
        by_fleet()
    };
    let local = || local.accepted().nanoseconds;
    let samples = take_turns(rounds, &[&local, &by_fleet, &cold]);
    for (name, samples) in
        ["on the host", "in the fleet", "by a service that just started"].iter().zip(&samples)
    {
        println!("   {name:<32}{:>9.3} ms", median(samples) / 1e6);
    }
    for (name, fleet) in [("fleet less host", &samples[1]), ("the same, service just started", &samples[2])] {
        let more: Vec<_> = fleet.iter().zip(&samples[0]).map(|(more, less)| more - less).collect();
        println!("   {name:<32}{:>9.3} ms    goal: at most 20", median(&more) / 1e6);
    }
}

pub(crate) fn transactions(admin: &Host, cluster: &Cluster) {
    let rounds = section("2. Calls of the service, whose connections are open", 500);
    let host = Host::new(cluster, "host1");
    let store = host.store();
    let codes = RefCell::new(Code::make(admin, "warm", rounds + 1));
    let read = || {
        let start = Instant::now();
        assert!(store.read("warm0").unwrap().is_some());
        start.elapsed().as_secs_f64() * 1e9
    };
    let spend = || {
        let code = codes.borrow_mut().pop().expect("a code");
        let start = Instant::now();
        code.spend(&store).unwrap();
        start.elapsed().as_secs_f64() * 1e9
    };
    let samples = take_turns(rounds, &[&read, &spend]);
    for (name, samples) in ["read a set", "spend a code (read and transaction)"].iter().zip(&samples) {
        println!("   {name:<36}{:>9.3} ms", median(samples) / 1e6);
    }
}
