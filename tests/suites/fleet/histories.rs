//! Recorded histories of clients that compete for codes on two hosts while the store or the services fail.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use backupcodes_core::clock;
use backupcodes_core::code::CodeNumber;
use backupcodes_core::config::Config;
use backupcodes_core::protocol::fleet::{ErrorName, FLEET, Spend, SpendReply};
use backupcodes_core::protocol::{CallError, Connection, ServiceError};
use backupcodes_core::set::{SpentRecord, State};
use backupcodes_core::store::Store;
use backupcodes_tests::chance::Chance;
use backupcodes_tests::etcd::Cluster;
use backupcodes_tests::fleet::{self, ADMIN, Host};
use backupcodes_tests::patience::PATIENCE;
use nix::errno::Errno;
use rand::TryRng;
use rand::rngs::SysRng;

use self::faults::Fault;
use self::judge::{Call, Outcome, is_possible};

mod faults;
mod judge;

const CLIENTS: usize = 12;
/// What a busy machine may add to the time of an answer.
const BUSY: Duration = Duration::from_secs(2);
/// In a set.
const CODES: u8 = 20;

#[test]
fn a_code_is_spent_at_most_once_whatever_fails() {
    let mut seed = Seed::of_this_run();
    let Some((cluster, admin, hosts)) = start() else { return };
    for fault in Fault::ALL {
        let run = Run { fault, codes: 600, tries: 8, calls: 1000, faults: 2, seed: seed.next() };
        run.check(&cluster, &admin, &hosts);
    }
}

#[test]
#[ignore = "tests/long fleet"]
fn of_100_000_codes_none_is_spent_twice_whatever_fails() {
    let mut seed = Seed::of_this_run();
    let mut spent = 0;
    for fault in Fault::ALL {
        let Some((cluster, admin, hosts)) = start() else { return };
        let run = Run { fault, codes: 10_000, tries: 2, calls: 20_000, faults: 15, seed: seed.next() };
        spent += run.check(&cluster, &admin, &hosts);
    }
    assert!(spent >= 100_000, "only {spent} codes were spent");
}

fn start() -> Option<(Cluster, Host, [Host; 2])> {
    let cluster = Cluster::new()?;
    fleet::set_up(&cluster, &["host1", "host2"]);
    let admin = Host::new(&cluster, ADMIN);
    let hosts = ["host1", "host2"].map(|name| Host::prepare(&cluster, name, ""));
    for host in &hosts {
        host.set_clock(0);
        host.start();
    }
    Some((cluster, admin, hosts))
}

/// The numbers that a run begins with: each is printed.
struct Seed(Chance);

impl Seed {
    /// That in `BACKUPCODES_SEED`, or another one each time.
    fn of_this_run() -> Self {
        let seed = std::env::var("BACKUPCODES_SEED").map(|seed| seed.parse().expect("a number"));
        let seed = seed.unwrap_or_else(|_| SysRng.try_next_u64().unwrap() >> 1);
        say(&format!("BACKUPCODES_SEED={seed}"));
        Self(Chance(seed.max(1)))
    }

    fn next(&mut self) -> u64 {
        1 + self.0.below(u64::MAX - 1)
    }
}

/// Clients spend codes while one kind of fault happens again and again.
struct Run {
    fault: Fault,
    /// How many codes there are. When all were tried, the clients try them again.
    codes: u64,
    /// About so many calls try each code, before the next is tried.
    tries: u64,
    /// At least.
    calls: u64,
    faults: u64,
    seed: u64,
}

/// A code in the store.
struct Code {
    user: String,
    number: CodeNumber,
    hash: String,
}

/// What all clients of a run share.
struct Scene<'a> {
    codes: Vec<Code>,
    tries: u64,
    hosts: &'a [Host],
    /// How many calls were begun.
    begun: AtomicU64,
    is_over: AtomicBool,
    /// Orders the beginnings and the ends of all calls, without a clock.
    time: AtomicU64,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    /// By code.
    histories: BTreeMap<usize, Vec<Call>>,
    slowest: Duration,
    /// How many answers took longer than `fleet.timeout` and [`BUSY`].
    late: usize,
    /// How often a client had to give up.
    given_up: usize,
    /// Replies that no spend may get here.
    wrong: Vec<String>,
}

impl Run {
    /// Returns how many codes were spent.
    fn check(&self, cluster: &Cluster, admin: &Host, hosts: &[Host]) -> usize {
        let scene = self.scene(admin, hosts);
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (scene, chance) = (&scene, Chance(self.seed ^ (client as u64 + 1)));
                scope.spawn(move || scene.client(&hosts[client % hosts.len()], chance));
            }
            // Also where a fault panics.
            let _end = EndOfRun(&scene.is_over);
            self.let_it_happen(&scene, cluster);
            scene.wait_for(self.calls);
        });
        cluster.wait_healthy();
        scene.look(&hosts[0]);
        self.judge(&scene)
    }

    fn scene<'a>(&self, admin: &Host, hosts: &'a [Host]) -> Scene<'a> {
        let count = self.codes / u64::from(CODES) + 1;
        let users: Vec<_> =
            (0..count).map(|user| format!("{:?}-{user}", self.fault).to_lowercase()).collect();
        let mut codes = Vec::new();
        for set in fleet::give_sets(admin, &users, CODES) {
            codes.extend(set.entries().map(|(number, entry)| {
                let State::Unspent(hash) = &entry.state else { panic!("a new code") };
                Code { user: set.label.user.clone(), number, hash: hash.phc() }
            }));
        }
        Scene {
            codes,
            tries: self.tries,
            hosts,
            begun: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            time: AtomicU64::new(0),
            record: Mutex::default(),
        }
    }

    /// One fault in each of equal parts of the run.
    fn let_it_happen(&self, scene: &Scene<'_>, cluster: &Cluster) {
        let mut chance = Chance(self.seed);
        let part = self.calls / self.faults;
        for fault in 0..self.faults {
            scene.wait_for(fault * part + chance.below(part / 2));
            self.fault.happen(cluster, scene.hosts, &mut chance);
        }
    }

    fn judge(&self, scene: &Scene<'_>) -> usize {
        let record = scene.record.lock().unwrap();
        let Record { histories, slowest, late, given_up, wrong } = &*record;
        let mut counts = BTreeMap::new();
        histories.values().flatten().for_each(|call| *counts.entry(call.outcome).or_insert(0) += 1);
        let what = format!("{:?}, {} times, seed {}", self.fault, self.faults, self.seed);
        say(&format!("{what}: {counts:?}, slowest answer {} ms, {late} too late", slowest.as_millis()));
        let bad = histories.iter().filter(|(_, history)| !is_possible(history));
        let bad: Vec<_> = bad.map(|(&code, history)| (&scene.codes[code].user, history)).collect();
        assert!(bad.is_empty(), "{what}: {} impossible histories: {:#?}", bad.len(), bad.first());
        assert_eq!((*late, *given_up, wrong), (0, 0, &Vec::new()), "{what}");
        assert!(
            counts.contains_key(&Outcome::Accepted) && counts.contains_key(&Outcome::Refused),
            "{counts:?}"
        );
        counts[&Outcome::Seen { spent: true }]
    }
}

/// No more calls are begun when this value ends.
struct EndOfRun<'a>(&'a AtomicBool);

impl Drop for EndOfRun<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Scene<'_> {
    /// One client of a host. All try the same few codes at about the same time, and then the next ones.
    fn client(&self, host: &Host, mut chance: Chance) {
        let (socket, mut again) = (host.socket(), None);
        while !self.is_over.load(Ordering::SeqCst) {
            let begun = self.begun.fetch_add(1, Ordering::SeqCst);
            let place = usize::try_from(begun / self.tries).unwrap() + chance.index(3);
            let place = again.take().unwrap_or(place % self.codes.len());
            let start = Instant::now();
            let begin = self.time.fetch_add(1, Ordering::SeqCst);
            let reply = self.codes[place].spend(&socket);
            let end = self.time.fetch_add(1, Ordering::SeqCst);
            let duration = start.elapsed();
            let outcome = self.record.lock().unwrap().add(place, (begin, end), &reply, duration);
            match outcome {
                // As a user does.
                Outcome::Unknown if chance.below(2) == 0 => again = Some(place),
                // Nobody listens: the next calls wait for somebody.
                Outcome::Nothing => sleep(Duration::from_millis(20)),
                _ => {}
            }
        }
    }

    fn wait_for(&self, begun: u64) {
        while self.begun.load(Ordering::SeqCst) < begun {
            sleep(Duration::from_millis(1));
        }
    }

    /// Adds the last state of each code to its history.
    fn look(&self, host: &Host) {
        let store = host.store();
        let mut record = self.record.lock().unwrap();
        let mut sets = BTreeMap::new();
        for (place, code) in self.codes.iter().enumerate() {
            let read = || {
                let begin = self.time.fetch_add(1, Ordering::SeqCst);
                let set = store.read(&code.user).unwrap().expect("the set");
                (begin, self.time.fetch_add(1, Ordering::SeqCst), set)
            };
            let &mut (begin, end, ref set) = sets.entry(&code.user).or_insert_with(read);
            let spent = match &set.entry(code.number).unwrap().state {
                State::Unspent(_) => false,
                State::Spent(_) => true,
                State::Damaged => panic!("a damaged code of {}", code.user),
            };
            let seen = Call { begin, end, outcome: Outcome::Seen { spent } };
            record.histories.entry(place).or_default().push(seen);
        }
    }
}

impl Code {
    fn spend(&self, socket: &std::path::Path) -> Result<SpendReply, CallError> {
        let record = SpentRecord::new(clock::now(), 0, "sshd", "192.0.2.7").text();
        let question = Spend {
            user: self.user.as_str().into(),
            number: self.number.get(),
            hash: self.hash.as_str().into(),
            record: record.into(),
        };
        // Much longer than the service takes: it is the service that has to reply in time.
        Connection::open(&FLEET, socket, PATIENCE)?.call("Spend", &question, PATIENCE)
    }
}

impl Record {
    fn add(
        &mut self,
        code: usize,
        (begin, end): (u64, u64),
        reply: &Result<SpendReply, CallError>,
        duration: Duration,
    ) -> Outcome {
        let outcome = match reply {
            Ok(_) => Outcome::Accepted,
            Err(error) => self.outcome_of(error),
        };
        self.histories.entry(code).or_default().push(Call { begin, end, outcome });
        self.slowest = self.slowest.max(duration);
        self.late += usize::from(duration > Config::default().fleet.timeout + BUSY);
        outcome
    }

    fn outcome_of(&mut self, error: &CallError) -> Outcome {
        match (ErrorName::of_call(error), error) {
            (Some(ErrorName::Changed), _) => Outcome::Refused,
            (Some(ErrorName::Unknown), _) => Outcome::Unknown,
            (Some(ErrorName::Unavailable), _) => Outcome::Nothing,
            // A service that was killed did not see the call, or did not reply to it.
            (
                None,
                CallError::Service(ServiceError::Absent {
                    errno: Errno::ECONNREFUSED | Errno::ENOENT, ..
                }),
            ) => Outcome::Nothing,
            (
                None,
                CallError::Service(ServiceError::NoReply { errno: Errno::ECONNRESET | Errno::EPIPE, .. }),
            ) => Outcome::Unknown,
            (None, CallError::Service(ServiceError::NoReply { errno: Errno::ETIMEDOUT, .. })) => {
                self.given_up += 1;
                Outcome::Unknown
            }
            _ => {
                self.wrong.push(error.to_string());
                Outcome::Unknown
            }
        }
    }
}

/// Written directly: what is printed by a test that passes is not shown.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
