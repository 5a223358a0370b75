use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::UNIX_EPOCH;

const RULES: ThrottleRules = ThrottleRules {
    free: 3,
    first_delay: Duration::from_secs(2),
    longest_delay: Duration::from_secs(15),
    most: 0,
};
const ALICE: Counter<'static> = Counter { user: Some("alice"), service: "sshd", source: Some("192.0.2.7") };

struct World(tempfile::TempDir, Throttle);

fn world(rules: ThrottleRules) -> World {
    let folder = tempfile::tempdir().unwrap();
    let throttle = Throttle { runtime: folder.path().join("run"), rules };
    World(folder, throttle)
}

impl World {
    /// One failure: the failures before it, and whether it was refused.
    fn fail(&self, counter: Counter<'_>, after: Duration) -> (u32, bool) {
        let counted = self.1.count(counter, now().checked_add(after).unwrap()).unwrap();
        (counted.before, counted.refused.is_some())
    }

    fn folder(&self, user: &str) -> std::path::PathBuf {
        self.1.runtime.join("throttle").join(user)
    }

    fn files(&self, user: &str) -> usize {
        fs::read_dir(self.folder(user)).unwrap().count()
    }
}

fn now() -> SystemTime {
    crate::clock::precise()
}

const AT_ONCE: Duration = Duration::ZERO;

#[test]
fn each_failure_after_the_free_ones_doubles_the_delay() {
    let world = world(RULES);
    for before in 0..3 {
        assert_eq!(world.fail(ALICE, AT_ONCE), (before, false));
    }
    for (before, delay) in (3..).zip([2, 4, 8, 15, 15]) {
        let waited = |seconds: f32| {
            let stat = fs::metadata(world.folder("alice").join("sshd@192.0.2.7")).unwrap();
            world.1.rules.wait(
                before,
                stat.modified().unwrap(),
                stat.modified().unwrap() + Duration::from_secs_f32(seconds),
            )
        };
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let delay = delay as f32;
        assert!(waited(delay - 0.01).is_some() && waited(delay).is_none(), "{before}");
        assert_eq!(world.fail(ALICE, AT_ONCE), (before, true));
    }
    // After the delay a response is examined again; a further failure starts another delay.
    assert_eq!(world.fail(ALICE, Duration::from_secs(16)), (8, false));
    assert_eq!(world.fail(ALICE, AT_ONCE), (9, true));
}

#[test]
fn a_counter_closes_after_the_most_failures_until_it_is_cleared() {
    let world = world(ThrottleRules { free: 1, first_delay: Duration::ZERO, most: 4, ..RULES });
    for before in 0..4 {
        assert_eq!(world.fail(ALICE, AT_ONCE), (before, false));
    }
    let late = now() + Duration::from_secs(1_000_000);
    assert_eq!(world.1.count(ALICE, late).unwrap().refused, Some(Wait::Unlock));
    let throttled = world.1.throttled("alice", late).unwrap();
    let [service, source] = ["sshd", "192.0.2.7"].map(String::from);
    assert_eq!(throttled, [Throttled { service, source, failures: 5, until: Wait::Unlock }]);
    assert_eq!(world.1.clear("alice").unwrap(), 1);
    assert_eq!(world.1.throttled("alice", late).unwrap(), []);
    assert_eq!(world.fail(ALICE, AT_ONCE), (0, false));
}

#[test]
fn if_counters_close_many_sources_have_no_more_attempts_than_66_counters() {
    let world = world(ThrottleRules { free: 1000, first_delay: Duration::ZERO, most: 4, ..RULES });
    let attempts = |source, after| {
        let counter = Counter { source, ..ALICE };
        (0..6).filter(|_| !world.fail(counter, after).1).count()
    };
    let sources: Vec<_> = (0..200).map(|at| format!("2001:db8::{at:x}")).collect();
    let first: usize = sources.iter().map(|source| attempts(Some(source), AT_ONCE)).sum();
    assert_eq!(first, 65 * 4, "64 counters and the one that is shared");
    let years = Duration::from_secs(100_000_000);
    assert_eq!(sources.iter().map(|source| attempts(Some(source), years)).sum::<usize>(), 0);
    assert_eq!((attempts(None, AT_ONCE), attempts(None, years)), (4, 0));
}

#[test]
fn each_user_service_and_source_has_its_own_counter() {
    let world = world(ThrottleRules { free: 0, ..RULES });
    let counters = [
        ALICE,
        Counter { user: Some("bob"), ..ALICE },
        Counter { service: "login", ..ALICE },
        Counter { source: None, ..ALICE },
        Counter { source: Some("local"), ..ALICE },
        Counter { user: None, ..ALICE },
        Counter { service: "sshd@192.0.2.7", source: Some(""), ..ALICE },
    ];
    for counter in counters {
        assert_eq!(world.fail(counter, AT_ONCE).0, 0, "{counter:?}");
    }
    assert!(counters.iter().all(|&counter| world.fail(counter, AT_ONCE).0 == 1));
    assert_eq!(world.1.throttled("alice", now()).unwrap().len(), 5);
}

#[test]
fn a_success_clears_only_its_own_counter() {
    let world = world(RULES);
    let other = Counter { source: Some("192.0.2.8"), ..ALICE };
    world.fail(other, AT_ONCE);
    world.fail(ALICE, AT_ONCE);
    world.1.count(ALICE, now()).unwrap().clear().unwrap();
    assert_eq!((world.fail(ALICE, AT_ONCE).0, world.fail(other, AT_ONCE).0), (0, 1));
}

#[test]
fn all_services_but_one_can_be_cleared() {
    let world = world(RULES);
    let counter = |service, source| Counter { service, source, ..ALICE };
    let all = [counter("sshd", Some("192.0.2.7")), counter("renewal", None), counter("renewals", None)];
    all.iter().for_each(|&counter| _ = world.fail(counter, AT_ONCE));
    world.1.clear_all_but("alice", "renewal").unwrap();
    assert_eq!(all.map(|counter| world.fail(counter, AT_ONCE).0), [0, 1, 0]);
    world.1.clear_all_but("bob", "renewal").unwrap();
}

/// 64 simultaneous failures: the failures before each, and whether it was refused.
fn storm(world: &World) -> Vec<(u32, bool)> {
    let barrier = std::sync::Barrier::new(64);
    let mut seen: Vec<_> = std::thread::scope(|scope| {
        let fail = || {
            barrier.wait();
            world.fail(ALICE, AT_ONCE)
        };
        let all: Vec<_> = (0..64).map(|_| scope.spawn(fail)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    seen.sort_unstable();
    seen
}

#[test]
fn none_of_many_simultaneous_right_codes_is_refused() {
    for _ in 0..20 {
        let world = world(RULES);
        world.fail(ALICE, AT_ONCE);
        let barrier = std::sync::Barrier::new(16);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    barrier.wait();
                    let counted = world.1.count(ALICE, now()).unwrap();
                    assert_eq!((counted.refused, counted.before.min(2)), (None, counted.before));
                    assert!(Deadline::after(PATIENCE).wait(Duration::from_millis(20)));
                    counted.clear().unwrap();
                });
            }
        });
    }
}

#[test]
fn an_attempt_without_a_verdict_is_no_failure_until_it_ends_or_stalls() {
    let world = world(RULES);
    let in_flight: Vec<_> = (0..3).map(|_| world.1.count(ALICE, now()).unwrap()).collect();
    assert!(in_flight.iter().all(|counted| counted.before == 0 && counted.refused.is_none()));
    // The next attempt depends on their verdicts. They stall, so they count as failures.
    let start = std::time::Instant::now();
    let last = world.1.count(ALICE, now()).unwrap();
    assert_eq!((last.before, last.refused.is_some()), (3, true));
    assert!(start.elapsed() >= PATIENCE);
    drop((in_flight, last));
    assert_eq!(world.fail(ALICE, AT_ONCE).0, 4);
    assert_eq!(world.fail(ALICE, AT_ONCE), (5, true));
}

#[test]
fn simultaneous_failures_are_all_counted_and_few_are_examined() {
    for _ in 0..20 {
        let world = world(RULES);
        let expected: Vec<_> = (3..64).map(|before| (before, true)).collect();
        let (examined, refused): (Vec<_>, Vec<_>) =
            storm(&world).into_iter().partition(|(_, refused)| !refused);
        assert_eq!((examined.len(), refused), (3, expected));
        // After a long delay only one of many simultaneous attempts is examined.
        let file = world.folder("alice").join("sshd@192.0.2.7");
        fs::File::open(&file).unwrap().set_modified(UNIX_EPOCH).unwrap();
        let expected: Vec<_> = (64..128).map(|before| (before, before > 64)).collect();
        assert_eq!(storm(&world), expected);
    }
}

#[test]
fn a_flood_of_sources_and_users_leaves_few_files_and_locks_nobody_out() {
    let world = world(RULES);
    for at in 0..300 {
        let source = format!("2001:db8::{at:x}");
        world.fail(Counter { source: Some(&source), ..ALICE }, AT_ONCE);
        world.fail(Counter { user: None, source: Some(&source), ..ALICE }, AT_ONCE);
        world.fail(Counter { service: &source, ..ALICE }, AT_ONCE);
    }
    assert!(world.files("alice") == 64 && world.files("%unknown") == 64);
    assert_eq!(world.fail(Counter { source: Some("203.0.113.9"), ..ALICE }, AT_ONCE), (0, false));
}

#[test]
fn if_all_counters_refuse_a_new_one_evicts_the_one_with_the_fewest_failures() {
    let world = world(RULES);
    let source = |at: u32| format!("2001:db8::{at:x}");
    for at in 0..64 {
        let times = if at == 40 { 4 } else { 5 };
        (0..times).for_each(|_| _ = world.fail(Counter { source: Some(&source(at)), ..ALICE }, AT_ONCE));
    }
    // The user, at a new address and on the console.
    assert_eq!(world.fail(Counter { source: Some("203.0.113.9"), ..ALICE }, AT_ONCE), (0, false));
    assert_eq!(world.fail(Counter { service: "login", source: None, ..ALICE }, AT_ONCE), (0, false));
    assert_eq!(world.files("alice"), 64);
    let shown = world.1.throttled("alice", now()).unwrap();
    assert!(
        shown.len() == 63
            && shown.iter().all(|counter| counter.failures == 5 && counter.source != source(40))
    );
}

#[test]
fn if_counters_close_further_sources_share_one_and_the_console_has_its_own() {
    let world = world(ThrottleRules { most: 3, ..RULES });
    for at in 0..64 {
        let source = format!("2001:db8::{at:x}");
        (0..4).for_each(|_| _ = world.fail(Counter { source: Some(&source), ..ALICE }, AT_ONCE));
    }
    for at in 0..4 {
        let source = format!("203.0.113.{at}");
        assert_eq!(world.fail(Counter { source: Some(&source), ..ALICE }, AT_ONCE), (at, at >= 3));
    }
    let console = Counter { service: "login", source: None, ..ALICE };
    assert_eq!(world.fail(console, AT_ONCE), (0, false));
    (0..3).for_each(|_| _ = world.fail(console, AT_ONCE));
    assert_eq!(world.files("alice"), 66);
    let shown = world.1.throttled("alice", now()).unwrap();
    let mut shared: Vec<_> = shown.iter().filter(|counter| counter.service == "*").collect();
    shared.sort_unstable_by_key(|counter| counter.source.clone());
    assert_eq!(shared.iter().map(|counter| counter.source.as_str()).collect::<Vec<_>>(), ["*", "local"]);
}

#[test]
fn a_flood_at_one_counter_takes_one_page() {
    let world = world(RULES);
    world.fail(ALICE, AT_ONCE);
    let file = world.folder("alice").join("sshd@192.0.2.7");
    fs::write(&file, vec![b'x'; MOST_COUNTED as usize - 1]).unwrap();
    let later = Duration::from_secs(100);
    assert_eq!(world.fail(ALICE, later), (MOST_COUNTED - 1, false));
    fs::File::open(&file).unwrap().set_modified(UNIX_EPOCH).unwrap();
    assert_eq!(world.fail(ALICE, AT_ONCE), (MOST_COUNTED, false));
    assert_eq!(world.fail(ALICE, AT_ONCE), (MOST_COUNTED, true), "its time is updated");
    assert_eq!(fs::metadata(&file).unwrap().len(), u64::from(MOST_COUNTED));
}

#[test]
fn a_clock_that_is_set_back_or_far_ahead_locks_nobody_out() {
    let world = world(RULES);
    for _ in 0..4 {
        world.fail(ALICE, AT_ONCE);
    }
    let file = world.folder("alice").join("sshd@192.0.2.7");
    let set = |time| fs::File::open(&file).unwrap().set_modified(time).unwrap();
    set(now() + Duration::from_secs(86_400 * 365));
    assert_eq!(world.fail(ALICE, AT_ONCE), (4, false), "nobody waits for a year");
    assert_eq!(world.fail(ALICE, AT_ONCE), (5, true));
    set(now() + Duration::from_secs(5));
    assert_eq!(world.fail(ALICE, AT_ONCE), (6, true), "the delay begins again");
    set(UNIX_EPOCH);
    assert_eq!(world.fail(ALICE, AT_ONCE), (7, false));
}

#[test]
fn an_untrusted_counter_is_an_error() {
    type Spoil = fn(&Path);
    let spoil: [(&str, Spoil); 6] = [
        ("mode 0777", |run| mode(run, 0o777)),
        ("mode 0755", |run| mode(&run.join("throttle"), 0o755)),
        ("mode 0710", |run| mode(&run.join("throttle/alice"), 0o710)),
        ("mode 0644", |run| mode(&run.join("throttle/alice/sshd@192.0.2.7"), 0o644)),
        ("2 link(s)", |run| {
            let counter = run.join("throttle/alice/sshd@192.0.2.7");
            fs::hard_link(&counter, run.join("other")).unwrap();
        }),
        ("a symbolic link", |run| {
            let counter = run.join("throttle/alice/sshd@192.0.2.7");
            fs::rename(&counter, run.join("other")).unwrap();
            symlink(run.join("other"), &counter).unwrap();
        }),
    ];
    for (reason, spoil) in spoil {
        let world = world(RULES);
        world.fail(ALICE, AT_ONCE);
        spoil(&world.1.runtime);
        let error = world.1.count(ALICE, now()).err().unwrap().to_string();
        assert!(error.contains(reason) && error.contains("expected"), "{reason}: {error}");
    }
    let world = world(RULES);
    symlink(world.0.path(), &world.1.runtime).unwrap();
    let error = world.1.count(ALICE, now()).err().unwrap().to_string();
    assert!(error.contains("a symbolic link") && error.contains("runtime_directory"), "{error}");
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn long_and_hostile_names_have_ordinary_counters() {
    let world = world(RULES);
    let long = "ä/".repeat(500);
    for counter in [
        Counter { user: Some(&long), service: &long, source: Some(&long) },
        Counter { user: Some(".."), service: "../x", source: Some("a\nb\0") },
        Counter { user: Some("-"), service: "", source: Some("") },
    ] {
        assert_eq!((world.fail(counter, AT_ONCE).0, world.fail(counter, AT_ONCE).0), (0, 1));
    }
    let outside: Vec<_> = fs::read_dir(world.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(outside, ["run"]);
}
