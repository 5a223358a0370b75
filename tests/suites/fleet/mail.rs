//! Each use is told of, by the host where it was, or by another.

use std::sync::Barrier;
use std::thread;

use backupcodes_core::clock::{self, Time};
use backupcodes_core::set::{SpentRecord, State};
use backupcodes_core::store::Store;
use backupcodes_tests::postbox::Postbox;
use backupcodes_tests::{fleet as harness, me, pam, text};

use super::logins::{LoginHost, fleet};

#[test]
fn the_host_where_a_code_was_used_tells_of_it_once() {
    let Some((_cluster, [admin, one, two])) = fleet() else { return };
    let boxes = [&one, &two].map(|host| Postbox::of(&host.world));
    let codes = admin.generate().codes;
    assert_eq!(one.world.try_answer(&codes[0]), pam::SUCCESS);
    assert_eq!(one.world.status()["codes"][0]["mailed"], false);
    two.world.deliver();
    assert!(boxes[1].handed().is_empty(), "it is the other host's, for now");
    one.world.deliver();
    one.world.deliver();
    let handed = boxes[0].handed();
    assert_eq!(handed.len(), 1);
    assert!(handed[0].message.contains("  Host:      host1\n"), "{}", handed[0].message);
    assert_eq!(one.world.status()["codes"][0]["mailed"], true);
}

#[test]
fn what_a_host_leaves_another_one_tells() {
    let Some((_cluster, [admin, one, two])) = fleet() else { return };
    let postbox = Postbox::of(&two.world);
    admin.generate();
    let store = one.host.store();
    let set = store.read(&me()).unwrap().unwrap();
    for ((number, entry), age) in set.entries().zip([290, 310]) {
        let State::Unspent(hash) = &entry.state else { panic!("a new code") };
        let time = Time::of_seconds(clock::now().seconds() - age);
        store.spend(&me(), number, hash, &SpentRecord::new(time, 0, "sshd", "192.0.2.7")).unwrap();
    }
    two.world.deliver();
    let handed = postbox.handed();
    assert_eq!(handed.len(), 1, "not the one of less than five minutes ago");
    assert!(handed[0].message.contains("Backup code 2 of") && handed[0].message.contains("on host1"));
    two.world.deliver();
    assert_eq!(postbox.handed().len(), 1);
}

#[test]
fn of_many_hosts_one_takes_over_what_another_has_left() {
    let Some((cluster, [admin, one, two])) = fleet() else { return };
    admin.generate();
    let store = one.host.store();
    let set = store.read(&me()).unwrap().unwrap();
    let (number, entry) = set.entries().next().unwrap();
    let State::Unspent(hash) = &entry.state else { panic!("a new code") };
    let time = Time::of_seconds(clock::now().seconds() - 310);
    store.spend(&me(), number, hash, &SpentRecord::new(time, 0, "sshd", "192.0.2.7")).unwrap();
    let due = |host: &LoginHost| host.host.store().due().unwrap().len();
    assert_eq!([due(&two), due(&one), due(&admin), due(&two), due(&one)], [1, 0, 0, 1, 0]);
    // And a third one, if that does not do it either.
    let key = format!("/backupcodes/due/{}/{}/01", me(), set.label.set);
    let value = text(&cluster.ctl(&cluster.root(), &["get", "--print-value-only", &key]).stdout);
    let (before, at) = value.trim().rsplit_once(r#""at":"#).expect("when it was taken over");
    let at: u64 = at.trim_end_matches('}').parse().unwrap();
    let earlier = format!(r#"{before}"at":{}}}}}"#, at - 310);
    cluster.must_ctl(&cluster.root(), &["put", &key, &earlier]);
    assert_eq!([due(&admin), due(&two), due(&one), due(&admin)], [1, 0, 0, 1]);
}

#[test]
fn many_notices_that_are_due_are_read_in_time() {
    let Some((_cluster, [admin, one, _])) = fleet() else { return };
    let users: Vec<_> = (0..250).map(|user| format!("user{user}")).collect();
    let store = one.host.store();
    for set in harness::give_sets(&admin.host, &users, 4) {
        for (number, entry) in set.entries() {
            let State::Unspent(hash) = &entry.state else { panic!("a new code") };
            let record = SpentRecord::new(clock::now(), 0, "sshd", "192.0.2.7");
            store.spend(&set.label.user, number, hash, &record).unwrap();
        }
    }
    assert_eq!(store.due().unwrap().len(), 1000);
}

#[test]
fn of_hosts_that_take_over_at_the_same_moment_each_notice_has_one() {
    let Some((_cluster, [admin, one, two])) = fleet() else { return };
    let users: Vec<_> = (0..30).map(|user| format!("user{user}")).collect();
    let store = one.host.store();
    let time = Time::of_seconds(clock::now().seconds() - 310);
    for set in harness::give_sets(&admin.host, &users, 1) {
        let (number, entry) = set.entries().next().unwrap();
        let State::Unspent(hash) = &entry.state else { panic!("a new code") };
        store.spend(&set.label.user, number, hash, &SpentRecord::new(time, 0, "sshd", "192.0.2.7")).unwrap();
    }
    one.host.kill();
    let start = Barrier::new(2);
    let due = |host: &LoginHost| {
        let store = host.host.store();
        start.wait();
        let notices = store.due().unwrap();
        notices.into_iter().map(|notice| notice.user).collect::<Vec<_>>()
    };
    let (mine, theirs) = thread::scope(|scope| {
        let theirs = scope.spawn(|| due(&admin));
        (due(&two), theirs.join().unwrap())
    });
    let mut all = [mine, theirs].concat();
    all.sort_unstable();
    let mut users = users;
    users.sort_unstable();
    assert_eq!(all, users, "each notice has one sender");
}

#[test]
fn a_use_that_is_told_of_when_its_set_is_replaced_names_its_host() {
    let Some((_cluster, [admin, one, _])) = fleet() else { return };
    let codes = admin.generate().codes;
    assert_eq!(one.world.try_answer(&codes[0]), pam::SUCCESS);
    let postbox = Postbox::of(&admin.world);
    admin.generate();
    admin.world.deliver();
    let used = postbox.handed().into_iter().find(|handed| handed.message.contains("was used to log in"));
    let message = used.expect("a notice of the use").message;
    assert!(message.contains("was used on host1") && message.contains("  Host:      host1\n"), "{message}");
}
