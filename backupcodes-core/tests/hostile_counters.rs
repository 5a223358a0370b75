//! Counters of any length and time, other files instead of counters, and clocks that jump.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backupcodes_core::clock;
use backupcodes_core::config::{Config, ThrottleRules};
use backupcodes_core::throttle::{CountedAttempt, Counter, Throttle, Wait};
use proptest::prelude::*;

const COUNTER: Counter<'static> = Counter { user: Some("alice"), service: "sshd", source: Some("192.0.2.7") };

struct World(tempfile::TempDir, Throttle, ThrottleRules);

impl World {
    fn new(rules: ThrottleRules) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let runtime_directory = folder.path().join("run");
        let config = Config { runtime_directory, throttle: rules.clone(), ..Config::default() };
        let world = Self(folder, Throttle::new(&config), rules);
        world.count(now());
        world
    }

    fn count(&self, now: SystemTime) -> CountedAttempt {
        self.1.count(COUNTER, now).unwrap()
    }

    /// Gives the counter `length` failures, the last one at `last`.
    fn counter(&self, length: u64, last: SystemTime) {
        let file = File::options().write(true).open(self.file()).unwrap();
        file.set_len(length).unwrap();
        file.set_modified(last).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("run/throttle/alice/sshd@192.0.2.7")
    }

    fn longest(&self) -> Duration {
        self.2.longest_delay
    }
}

fn now() -> SystemTime {
    clock::precise()
}

/// Any time of a file, mostly near a limit.
fn times() -> impl Strategy<Value = SystemTime> {
    let around = |middle: i64| (-200..200_i64).prop_map(move |seconds| middle + seconds);
    let days = (-40_000..40_000_i64).prop_map(|days| 1_795_000_000 + days * 86_400);
    let seconds =
        prop_oneof![around(0), around(i32::MAX.into()), around(u32::MAX.into()), days, any::<i64>()];
    (seconds, 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| {
        let distance = Duration::new(seconds.unsigned_abs(), nanos);
        let time =
            if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
        time.unwrap_or(UNIX_EPOCH)
    })
}

fn lengths() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..20_u64,
        4090..4100_u64,
        65_530..65_540_u64,
        any::<u32>().prop_map(u64::from),
        0..1_u64 << 40
    ]
}

fn rules() -> impl Strategy<Value = ThrottleRules> {
    let delays = prop_oneof![Just((1, 60)), (0..1000_u32, 0..1000_u32), any::<(u32, u32)>()];
    (0..10_u32, delays).prop_map(|(free, (first, longest))| ThrottleRules {
        free,
        first_delay: Duration::from_secs(first.min(longest).into()),
        longest_delay: Duration::from_secs(longest.into()),
        most: 0,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// For any counter and any time: an attempt after the longest delay is examined.
    #[test]
    fn nobody_waits_longer_than_the_longest_delay(
        rules in rules(), length in lengths(), last in times(), jumped in times(),
    ) {
        let world = World::new(rules);
        world.counter(length, last);
        // At the new time after the clock jumps, and after the longest delay.
        let counted = world.count(jumped);
        prop_assert_eq!(u64::from(counted.before), length.min(u64::from(u32::MAX)));
        prop_assert_ne!(counted.refused, Some(Wait::Unlock));
        drop(counted);
        let quiet = world.count(now() + world.longest());
        prop_assert!(quiet.before > 0 || world.2.free > 0);
        prop_assert_eq!(quiet.refused, None, "after {} failures", quiet.before);
    }

    /// For any counter and any time: a counter is closed if and only if it has reached `most`.
    #[test]
    fn no_clock_opens_a_closed_counter(
        rules in rules(), most in 1..200_u32, length in lengths(), last in times(), jumped in times(),
    ) {
        let world = World::new(ThrottleRules { most, ..rules });
        world.counter(length, last);
        prop_assert_eq!(world.count(jumped).refused == Some(Wait::Unlock), length >= most.into());
    }

    /// Without other attempts: a clock set back by more than the longest delay is detected, and one set back by less adds that
    /// time to the delay.
    #[test]
    fn a_clock_that_is_set_back_makes_nobody_wait_for_it(
        rules in rules(), failures in 1..100_u64, now in times(), back in 0..4_000_000_000_u64,
    ) {
        let world = World::new(rules);
        let Some(last) = now.checked_add(Duration::from_secs(back)) else { return Ok(()) };
        world.counter(failures, last);
        // File systems limit times, and no clock is before 1970.
        let last = fs::metadata(world.file()).unwrap().modified().unwrap().max(UNIX_EPOCH);
        let ahead = last.duration_since(now).unwrap_or_default();
        match world.count(now).refused {
            Some(Wait::Until(end)) => {
                prop_assert!(ahead <= world.longest());
                let latest = last + world.longest() + Duration::from_secs(1);
                prop_assert!(end <= latest.into(), "until {end}, and not {last:?}");
            }
            other => prop_assert_eq!(other, None),
        }
    }
}

#[test]
fn anything_else_instead_of_a_counter_or_directory_is_refused_and_unchanged() {
    type Put = fn(&Path);
    let put: [(&str, Put); 6] = [
        ("a directory", |place| fs::create_dir(place).unwrap()),
        ("a FIFO", |place| {
            let mode = nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR;
            nix::unistd::mkfifo(place, mode).unwrap();
        }),
        ("a socket", |place| drop(UnixListener::bind(place).unwrap())),
        // The target of these links would be trusted.
        ("a link to a file", |place| symlink(private("file", place), place).unwrap()),
        ("a link to a folder", |place| symlink(private("folder", place), place).unwrap()),
        ("a file", |place| {
            let mut options = OpenOptions::new();
            drop(options.write(true).create_new(true).mode(0o600).open(place).unwrap());
        }),
    ];
    for depth in 0..4 {
        for (what, put) in put {
            let world = World::new(ThrottleRules { free: 0, ..Config::default().throttle });
            let place = world.file().ancestors().nth(depth).unwrap().to_owned();
            // The expected kind.
            if what == if depth == 0 { "a file" } else { "a directory" } {
                continue;
            }
            fs::remove_dir_all(&place).or_else(|_| fs::remove_file(&place)).unwrap();
            put(&place);
            let before = fs::symlink_metadata(&place).unwrap();
            let error = world.1.count(COUNTER, now()).err().unwrap().to_string();
            assert!(error.contains(place.to_str().unwrap()), "{what}: {error}");
            let after = fs::symlink_metadata(&place).unwrap();
            assert_eq!(before.modified().unwrap(), after.modified().unwrap(), "{what}");
            assert!(before.file_type() == after.file_type() && before.len() == after.len());
        }
    }
}

/// A private file or folder beside the runtime directory.
fn private(what: &str, place: &Path) -> PathBuf {
    let is_beside = |path: &Path| path.file_name().is_some_and(|name| name == "run");
    let path = place.ancestors().find(|path| is_beside(path)).unwrap().with_file_name(what);
    if what == "file" {
        drop(OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap());
    } else {
        DirBuilder::new().mode(0o700).create(&path).unwrap();
    }
    path
}
