//! How many hashes a host computes at one time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use backupcodes_tests::patience::wait_until;
use backupcodes_tests::{Attempt, Outcome, Sheet, World, built, pam, race_in, sheets};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const USERS: usize = 100;

/// A control group of its own with so much memory.
struct Group {
    folder: PathBuf,
    /// Where it tells the most that was in use.
    peak: &'static str,
}

impl Group {
    fn new(bytes: u64) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("backupcodes-test-{}-{count}", std::process::id());
        let root = Path::new("/sys/fs/cgroup");
        let (folder, limit, peak) = if root.join("memory").exists() {
            (root.join("memory").join(name), "memory.limit_in_bytes", "memory.max_usage_in_bytes")
        } else {
            (root.join(name), "memory.max", "memory.peak")
        };
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(limit), bytes.to_string()).unwrap();
        Self { folder, peak }
    }

    /// Most bytes that were in use.
    fn peak(&self) -> u64 {
        fs::read_to_string(self.folder.join(self.peak)).unwrap().trim().parse().unwrap()
    }

    /// All attempts at one time, in here.
    fn race(&self, attempts: &[Attempt]) -> Vec<Option<Outcome>> {
        let mut application = Command::new("sh");
        application
            .args(["-c", "echo $$ >\"$0/cgroup.procs\"; exec \"$1\""])
            .arg(&self.folder)
            .arg(built("pam-application"));
        race_in(&mut application, attempts)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

#[test]
fn a_storm_of_logins_gets_in_with_the_memory_of_a_few() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let users = machine.accounts(USERS);
    let generate = || -> Vec<Sheet> {
        let arguments = ["generate", "--yes", "--count", "1", "--format", "json"];
        sheets(
            world.admin_command().args(arguments).args(users.iter().map(|user| &user.name)).output().unwrap(),
        )
    };
    // 20 hashes of 20 MiB, and what a hundred processes take without any.
    const MEMORY: u64 = (20 * 20 + USERS as u64) << 20;
    let race = |settings: &str| {
        let group = Group::new(MEMORY);
        world.configure(settings);
        let attempts: Vec<_> = generate()
            .iter()
            .map(|sheet| {
                let mut attempt = world.attempt(&[(&sheet.codes[0]).into()]);
                attempt.user = sheet.user.clone().into();
                attempt
            })
            .collect();
        (group.race(&attempts), group.peak())
    };
    let (outcomes, bounded) = race("");
    let returned: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().map(|one| one.codes[0])).collect();
    assert_eq!(returned, [Some(pam::SUCCESS); USERS], "None was killed");
    assert!(bounded < MEMORY, "{bounded} bytes");
    // Without a bound it is not enough, or would not be if the machine were less busy.
    let (outcomes, peak) = race("[hash]\nconcurrent = 1000\n");
    assert!(
        outcomes.iter().any(Option::is_none) || peak > 2 * bounded,
        "{peak} bytes for all at once, {bounded} before"
    );
}

/// A process that holds the lock of a file, and is stopped.
struct Stopped(Child);

impl Stopped {
    fn holding(file: &Path) -> Self {
        let mut command = Command::new("flock");
        command.arg("--verbose").arg("--no-fork").arg(file).args(["sleep", "1000"]);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let locked = || {
            let file = fs::File::open(file).ok();
            file.is_some_and(|file| {
                nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).is_err()
            })
        };
        wait_until("the lock", locked);
        kill(pid(&child), Signal::SIGSTOP).unwrap();
        Self(child)
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap())
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn with_every_hash_permit_held_by_a_stopped_process_a_login_works_after_5_seconds() {
    let Some(world) = World::new("") else { return };
    world.configure("[hash]\nmemory_kib = 64\npasses = 1\nconcurrent = 3\n");
    let sheet = world.generate();
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    let held: Vec<_> = (0..3)
        .map(|number| Stopped::holding(&world.path("run/hash-permits").join(number.to_string())))
        .collect();
    let start = Instant::now();
    assert_eq!(world.try_answer(&sheet.codes[1]), pam::SUCCESS);
    let waited = start.elapsed().as_secs_f32();
    assert!((5.0..60.0).contains(&waited), "{waited} s");
    drop(held);
    let start = Instant::now();
    assert_eq!(world.try_answer(&sheet.codes[2]), pam::SUCCESS);
    assert!(start.elapsed().as_secs_f32() < 5.0, "it does not wait where a permit is free");
}
