//! Replies that are lost: what the store has performed is asked again, and known to be ours.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use backupcodes_core::account::Account;
use backupcodes_core::clock;
use backupcodes_core::set::{CodeSet, SpentRecord, State};
use backupcodes_core::store::{Expected, FleetStore, Prepared, Store};
use backupcodes_tests::etcd::Cluster;
use backupcodes_tests::fleet::{self, ADMIN, Host};

/// All connections to a node, of which one is cut instead of delivering a reply.
struct Line {
    address: String,
    /// How many more times it delivers; then it cuts once.
    deliveries: Arc<AtomicUsize>,
}

/// Delivers as often as anybody asks.
const ALWAYS: usize = usize::MAX / 2;

impl Line {
    fn to(node: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let deliveries = Arc::new(AtomicUsize::new(ALWAYS));
        let (node, left) = (node.trim_start_matches("https://").to_owned(), Arc::clone(&deliveries));
        // Until the tests end.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, left) = (client.unwrap(), Arc::clone(&left));
                let Ok(node) = TcpStream::connect(&node) else { continue };
                let ends = (client.try_clone().unwrap(), node.try_clone().unwrap());
                thread::spawn(move || carry(ends.0, ends.1, || true));
                let deliver = move || left.fetch_sub(1, Ordering::SeqCst) != 0;
                thread::spawn(move || carry(node, client, deliver));
            }
        });
        Self { address, deliveries }
    }

    fn cut_after(&self, deliveries: usize) {
        self.deliveries.store(deliveries, Ordering::SeqCst);
    }

    /// Whether it has cut since.
    fn has_cut(&self) -> bool {
        self.deliveries.load(Ordering::SeqCst) > ALWAYS
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, deliver: impl Fn() -> bool) {
    let mut buffer = [0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if !deliver() || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// A call of an administrator or a login for a user with this set, and its name.
type Way<'a> = (&'static str, &'a dyn Fn(&str, &CodeSet));

#[test]
fn what_was_performed_is_known_to_be_ours_whichever_reply_is_lost() {
    let Some(cluster) = Cluster::new() else { return };
    fleet::set_up(&cluster, &["host1"]);
    let line = Line::to(&cluster.endpoints()[0]);
    let [admin, one] = [ADMIN, "host1"].map(|name| Host::behind(&cluster, name, &line.address));
    let other = Host::new(&cluster, ADMIN);
    let calm = other.store();
    let read = |user: &str| calm.read(user).unwrap();
    let spend = |user: &str, store: &FleetStore, set: &CodeSet| {
        let (number, entry) = set.entries().next().unwrap();
        let State::Unspent(hash) = &entry.state else { panic!("a new code") };
        store.spend(user, number, hash, &SpentRecord::new(clock::now(), 0, "sshd", "192.0.2.7"))
    };
    let spends = |user: &str, set: &CodeSet| {
        assert_eq!(spend(user, &one.store(), set).unwrap().left(), 1);
        assert!(spend(user, &calm, set).is_err(), "it is spent");
    };
    let replaces = |user: &str, old: &CodeSet| {
        let text = fleet::random_set(&Account { name: user.into(), uid: 1000 }, 2);
        fleet::replace(&admin, user, &old.label.set, &text);
        assert_eq!(read(user).unwrap().text(), text);
        spend(user, &calm, &read(user).unwrap()).unwrap();
    };
    let revokes = |user: &str, old: &CodeSet| {
        let store = admin.store();
        store.prepare(user, Expected::Set(&old.label.set), None).unwrap().commit(|_| Vec::new()).unwrap();
        assert!(read(user).is_none());
    };
    let readdresses = |user: &str, _: &CodeSet| {
        let to = ["a@example.org".to_owned()];
        assert!(admin.store().change_addresses(user, &to, |_| Vec::new()).unwrap());
        assert_eq!(read(user).unwrap().label.email, to);
    };
    let renames = |user: &str, old: &CodeSet| {
        let account = Account { name: format!("new-{user}"), uid: 1000 };
        assert_eq!(admin.store().rename(user, &account).unwrap().as_ref(), Some(&old.label.set));
        assert!(read(user).is_none());
        spend(&account.name, &calm, &read(&account.name).unwrap()).unwrap();
    };
    let ways: [Way; 5] = [
        ("spend", &spends),
        ("replace", &replaces),
        ("revoke", &revokes),
        ("readdress", &readdresses),
        ("rename", &renames),
    ];
    for (name, way) in ways {
        let mut cuts = 0;
        for at in 0.. {
            let user = format!("{name}-{at}");
            let set = fleet::give_sets_to(&calm, std::slice::from_ref(&user), 2).remove(0);
            line.cut_after(at);
            println!("{name}, reply {at} is lost");
            way(&user, &set);
            if !line.has_cut() {
                break;
            }
            cuts += 1;
        }
        assert!(cuts > 2, "{name}: only {cuts} replies were lost");
    }
}
