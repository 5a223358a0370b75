//! Each use is told of, by the host where it was, or by another.

use backupcodes_core::clock::{self, Time};
use backupcodes_core::set::{SpentRecord, State};
use backupcodes_core::store::Store;
use backupcodes_tests::machine::with_own_hostname;
use backupcodes_tests::postbox::Postbox;
use backupcodes_tests::{me, pam};

use super::logins::fleet;

#[test]
fn the_host_where_a_code_was_used_tells_of_it_once() {
    let Some((_cluster, [admin, one, two])) = fleet() else { return };
    let boxes = [&one, &two].map(|host| Postbox::of(&host.world));
    let codes = admin.generate().codes;
    assert_eq!(one.world.try_answer(&codes[0]), pam::SUCCESS);
    assert_eq!(one.world.status()["codes"][0]["mailed"], false);
    two.world.deliver();
    assert!(boxes[1].handed().is_empty(), "it is the other host's, for now");
    let world = one.world;
    let world = with_own_hostname(move || {
        nix::unistd::sethostname("host1").unwrap();
        world.deliver();
        world.deliver();
        world
    });
    let handed = boxes[0].handed();
    assert_eq!(handed.len(), 1);
    assert!(handed[0].message.contains("  Host:      host1\n"), "{}", handed[0].message);
    assert_eq!(world.status()["codes"][0]["mailed"], true);
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
