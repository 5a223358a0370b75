//! A connection's process is killed at one of its system calls, before or after it, while it checks a code for an ordinary user's
//! application: the code is accepted at most once, nobody is accepted by an unspent code, and all others go on working.
//!
//! The short form kills after each call that changes something others see; the long form kills at every call.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backupcodes_tests::patience::PATIENCE;
use backupcodes_tests::scene::{Scene, USER};
use backupcodes_tests::traced::{Stop, killed_at_serving, report};
use backupcodes_tests::{built, pam, set_mode, sheet};

/// In the place of the process that listens, which does no more than this: it starts one that serves.
struct Listener {
    scene: Scene,
    socket: UnixListener,
}

impl Listener {
    fn new() -> Option<Self> {
        let mut scene = Scene::new("")?;
        scene.broker.kill().unwrap();
        scene.broker.wait().unwrap();
        fs::remove_file(scene.socket()).unwrap();
        let socket = UnixListener::bind(scene.socket()).unwrap();
        set_mode(&scene.socket(), 0o666);
        socket.set_nonblocking(true).unwrap();
        Some(Self { scene, socket })
    }

    fn accept(&self) -> UnixStream {
        let start = Instant::now();
        loop {
            match self.socket.accept() {
                Ok((stream, _)) => return stream,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            assert!(start.elapsed() < PATIENCE, "nobody connects");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What the module returns to an application of the user's, whose check is killed at this stop.
    fn try_killed(&self, code: &str, counts: fn(&Stop) -> bool, number: usize) -> (i32, Option<Stop>) {
        let mut broker = Command::new(built("backupcodes-broker"));
        broker.arg("--connection").arg(self.scene.world.path("conf"));
        broker.env_clear().env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1").stdout(Stdio::null());
        std::thread::scope(|scope| {
            let application = scope.spawn(|| self.scene.try_as_user(code).0);
            let stop = killed_at_serving(broker, self.accept(), counts, number);
            (application.join().unwrap(), stop)
        })
    }

    /// These codes are spent and no others, and none is damaged.
    fn assert_spent(&self, spent: &[usize]) {
        let status = self.scene.status();
        for (at, code) in status["codes"].as_array().unwrap().iter().enumerate() {
            let expected = if spent.contains(&at) { "spent" } else { "unspent" };
            assert_eq!(code["state"], expected, "{status:#}");
        }
    }
}

/// Each check has the next code of a set, after which one of the last codes gets in: so all get their turn but the one in the middle.
fn sweep(counts: fn(&Stop) -> bool) {
    let Some(listener) = Listener::new() else { return };
    let scene = &listener.scene;
    let as_root = |code: &str| scene.attempt(code).run().codes[0];
    let (mut killed, mut spent, mut told) = (Vec::new(), 0, 0);
    'all: loop {
        let generate = ["generate", "--yes", "--count", "31", "--format", "json", USER];
        let codes = sheet(scene.world.admin(&generate)).codes;
        let mut uses = Vec::new();
        for place in 0..15 {
            let (code, other, at) = (&codes[place], 30 - place, killed.len());
            let _ = fs::remove_dir_all(scene.world.path("run"));
            let (answer, stop) = listener.try_killed(code, counts, at);
            let is_spent = scene.status()["codes"][place]["state"] == "spent";
            assert!([pam::SUCCESS, pam::AUTHINFO_UNAVAIL].contains(&answer), "{answer} at stop {at}");
            assert!(is_spent || answer != pam::SUCCESS, "accepted, and not spent, at stop {at}");
            let Some(stop) = stop else {
                assert_eq!(answer, pam::SUCCESS);
                break 'all;
            };
            uses.extend(is_spent.then_some(place));
            listener.assert_spent(&uses);
            assert_eq!(as_root(code), if is_spent { pam::AUTH_ERR } else { pam::SUCCESS }, "stop {at}");
            assert_eq!(as_root(code), pam::AUTH_ERR, "a second time, stop {at}");
            assert_eq!(as_root(&codes[other]), pam::SUCCESS, "stop {at}: {:?}", scene.world.last_line());
            uses.extend([place, other]);
            listener.assert_spent(&uses);
            spent += usize::from(is_spent);
            told += usize::from(answer == pam::SUCCESS);
            killed.push(stop);
        }
    }
    let calls = [libc::SYS_mkdirat, libc::SYS_openat, libc::SYS_pwrite64, libc::SYS_fdatasync];
    report("a check", &killed, &calls);
    assert!(0 < told && told < spent && spent < killed.len(), "{told} told, {spent} of {}", killed.len());
}

#[test]
fn a_check_that_is_killed_where_something_changes_accepts_its_code_at_most_once() {
    sweep(Stop::changes);
}

#[test]
#[ignore = "over a minute: tests/long kills"]
fn a_check_that_is_killed_at_any_call_accepts_its_code_at_most_once() {
    sweep(Stop::does_something);
}
