//! What a fleet costs, with a real etcd cluster of three nodes on a tmpfs of this machine. `cargo bench -p backupcodes-tests --bench
//! fleet`, as root; docs/performance.md says how to read it. `--hosts=100` takes fewer hosts than 1,000, `--users=1000` fewer users
//! than 10,000, for a look while something is changed; `--plot` draws docs/fleet.svg again.

mod hosts;
mod logins;
mod memory;
mod plot;

use std::sync::atomic::{AtomicU32, Ordering};

use backupcodes_core::account::Account;
use backupcodes_core::clock;
use backupcodes_core::set::{CodeSet, SpentRecord, State};
use backupcodes_core::store::{FleetStore, Store};
use backupcodes_tests::bench::stack::Folder;
use backupcodes_tests::bench::{machine, option, release};
use backupcodes_tests::etcd::Cluster;
use backupcodes_tests::fleet::{self, ADMIN, Host};

fn main() {
    backupcodes_tests::bench::main(report);
}

fn report() {
    // It says what is missing.
    let Some(cluster) = Cluster::with_disks("1g") else { return };
    fleet::set_up(&cluster, &["host1"]);
    let admin = Host::new(&cluster, ADMIN);
    let folder = Folder::new(&release());
    machine::describe(folder.path());
    println!(
        "All nodes, hosts and clients share this machine. Smaller is better, except where it says a second."
    );
    logins::report(&folder, &cluster);
    logins::transactions(&admin, &cluster);
    let latencies = hosts::report(&cluster, &admin, number("--hosts", 1000));
    memory::report(&cluster, &admin, number("--users", 10_000));
    if option("--plot").is_some() {
        plot::draw(&latencies);
    }
}

fn number(name: &str, usual: usize) -> usize {
    option(name).map_or(usual, |count| count.parse().expect("a number"))
}

/// An unspent code, and who has it.
struct Code(CodeSet, u8);

impl Code {
    /// So many, of new sets of users with this name.
    fn make(admin: &Host, name: &str, count: usize) -> Vec<Self> {
        // A uid has one name.
        static UIDS: AtomicU32 = AtomicU32::new(10_000);
        let account =
            |user| Account { name: format!("{name}{user}"), uid: UIDS.fetch_add(1, Ordering::Relaxed) };
        let sets = fleet::give_sets_of(&admin.store(), (0..count.div_ceil(20)).map(account), 20);
        let of_set = |set: CodeSet| (1..=20).map(move |number| Self(set.clone(), number));
        sets.into_iter().flat_map(of_set).take(count).collect()
    }

    /// Asks what a login asks, without the hash. What went wrong, if anything did.
    fn log_in(&self, store: &FleetStore) -> Result<(), String> {
        let account = Account { name: self.0.label.user.clone(), uid: self.0.label.uid };
        store.own(Some(&account)).map_err(|error| error.to_string())?;
        self.spend(store)
    }

    /// Spends it. What went wrong, if anything did.
    fn spend(&self, store: &FleetStore) -> Result<(), String> {
        let Self(set, number) = self;
        let (number, entry) = set.entries().nth(usize::from(*number) - 1).expect("a code");
        let State::Unspent(hash) = &entry.state else { panic!("a new code") };
        let record = SpentRecord::new(clock::now(), 0, "sshd", "192.0.2.7");
        let spent = store.spend(&set.label.user, number, hash, &record);
        spent.map(drop).map_err(|error| format!("{error:?}"))
    }
}
