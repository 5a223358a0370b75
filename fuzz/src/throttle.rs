use std::fs::{self, File};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use backupcodes_core::clock;
use backupcodes_core::config::{Config, ThrottleRules};
use backupcodes_core::throttle::{Counter, Throttle, Wait};
use nix::sys::stat::Mode;

use crate::folder::Folder;
use crate::time::Clock;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    free: u8,
    first_delay: u32,
    longest_delay: u32,
    most: u16,
    steps: Vec<Step>,
    /// One name a line.
    names: &'a str,
}

/// A name is given by its number in `names`; a number without a name is an unknown user or the local source.
#[derive(Arbitrary, Debug)]
enum Step {
    Count {
        user: u8,
        service: u8,
        source: u8,
        clock: Clock,
    },
    Clear(u8),
    Show(u8, Clock),
    /// Replaces a file or directory.
    Put {
        place: u8,
        thing: Thing,
    },
}

#[derive(Arbitrary, Debug)]
enum Thing {
    Counter { length: u32, clock: Clock },
    Public,
    Folder,
    Fifo,
    Link,
    Nothing,
}

thread_local! {
    static FOLDER: Folder = Folder::new();
}

/// Counts attempts with any rules and clocks, in counters of any length and time, and with other files instead of counters. Nothing
/// changes outside the runtime directory or below a counter, and unless counters may close, nobody waits longer than the
/// longest delay.
pub fn throttle(bytes: &[u8]) -> bool {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(bytes)) else { return false };
    FOLDER.with(|folder| {
        let runtime = folder.path().join("run");
        let _ = fs::remove_dir_all(&runtime);
        let outside = folder.write("outside", b"as it was");
        let rules = ThrottleRules {
            free: input.free.into(),
            first_delay: Duration::from_secs(input.first_delay.min(input.longest_delay).into()),
            longest_delay: Duration::from_secs(input.longest_delay.into()),
            most: u32::from(input.most).min(4096),
        };
        let config =
            Config { runtime_directory: runtime.clone(), throttle: rules.clone(), ..Config::default() };
        let throttle = Throttle::new(&config);
        let names: Vec<&str> = input.names.split('\n').collect();
        let name = |number: &u8| names.get(usize::from(*number)).copied();
        let (mut was_refused, mut last) = (false, None);
        for step in input.steps.iter().take(8) {
            match step {
                Step::Count { user, service, source, clock } => {
                    let service = name(service).unwrap_or_default();
                    let counter = Counter { user: name(user), service, source: name(source) };
                    was_refused |= count(&throttle, counter, clock, &rules);
                    last = Some(counter);
                }
                Step::Clear(user) => drop(throttle.clear(name(user).unwrap_or("alice"))),
                Step::Show(user, clock) => {
                    drop(throttle.throttled(name(user).unwrap_or("alice"), clock.time(clock::precise())));
                }
                Step::Put { place, thing } => put(&runtime, *place, thing, &outside),
            }
        }
        if let Some(counter) = last {
            waits_no_longer(&throttle, counter, &rules);
        }
        assert_eq!(fs::read(&outside).unwrap(), b"as it was");
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort_unstable();
        assert!(names == ["outside"] || names == ["outside", "run"], "{names:?}");
        was_refused
    })
}

/// Counts one attempt, and returns whether it was refused.
fn count(throttle: &Throttle, counter: Counter<'_>, clock: &Clock, rules: &ThrottleRules) -> bool {
    let Ok(counted) = throttle.count(counter, clock.time(clock::precise())) else { return false };
    match &counted.refused {
        Some(Wait::Unlock) => assert!(rules.most > 0 && counted.before >= rules.most),
        Some(Wait::Until(_)) => {
            assert!(counted.before >= rules.free.max(1) && !rules.longest_delay.is_zero())
        }
        None => {}
    }
    counted.refused.is_some()
}

/// An attempt after the longest delay is examined.
fn waits_no_longer(throttle: &Throttle, counter: Counter<'_>, rules: &ThrottleRules) {
    let longest = rules.longest_delay;
    if throttle.count(counter, clock::precise()).is_err() {
        return;
    }
    let late = throttle.count(counter, clock::precise() + longest).unwrap();
    assert!(late.before > 0, "the first one has counted");
    assert!(!matches!(late.refused, Some(Wait::Until(_))), "it waits longer than the longest delay");
}

/// The runtime directory, and everything in it.
fn places(runtime: &Path) -> Vec<PathBuf> {
    let mut places = vec![runtime.to_owned()];
    let mut at = 0;
    while let Some(place) = places.get(at) {
        let is_folder = place.symlink_metadata().is_ok_and(|data| data.is_dir());
        if is_folder {
            assert!(place.components().count() <= runtime.components().count() + 3);
            let mut inner: Vec<_> = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
            inner.sort_unstable();
            places.extend(inner);
        }
        at += 1;
    }
    places
}

fn put(runtime: &Path, place: u8, thing: &Thing, outside: &Path) {
    let places = places(runtime);
    let place = &places[usize::from(place) % places.len()];
    let _ = fs::remove_dir_all(place).or_else(|_| fs::remove_file(place));
    if !place.parent().unwrap().is_dir() {
        return;
    }
    let file = |mode| -> File {
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(place).unwrap()
    };
    match thing {
        Thing::Counter { length, clock } => {
            let file = file(0o600);
            file.set_len((*length).into()).unwrap();
            file.set_modified(clock.time(clock::precise())).unwrap();
        }
        Thing::Public => drop(file(0o666)),
        Thing::Folder => fs::create_dir(place).unwrap(),
        Thing::Fifo => nix::unistd::mkfifo(place, Mode::S_IRUSR | Mode::S_IWUSR).unwrap(),
        Thing::Link => symlink(outside, place).unwrap(),
        Thing::Nothing => {}
    }
}
