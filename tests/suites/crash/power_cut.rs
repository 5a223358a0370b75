//! After a power cut, an accepted code is spent, and a set is whole: the old one or the new one.
//!
//! A file system lies on a disk that logs each write. After some logins and new sets, the test builds from that log what a power
//! cut at some moment may have left, mounts it, and looks at it by commands and logins.

use std::cell::Cell;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use backupcodes_tests::broker::connections;
use backupcodes_tests::chance::Chance;
use backupcodes_tests::disk::FileSystem;
use backupcodes_tests::logged_disk::LoggedDisk;
use backupcodes_tests::mounted::Mounted;
use backupcodes_tests::patience::wait_until;
use backupcodes_tests::power_cut::{Act, Event, Lab, SECTOR, Stays, is_set};
use backupcodes_tests::renewal::{SERVICE, codes};
use backupcodes_tests::stopped::Stopped;
use backupcodes_tests::strace::tampering;
use backupcodes_tests::{Sheet, World, built, feed, me, pam, sandbox_of_root, sheet};
use nix::sys::signal::{Signal, kill};

#[test]
fn what_was_accepted_is_spent_and_sets_are_whole_after_a_power_cut_on_ext4() {
    survives(FileSystem::Ext4, &SHORT);
}

#[test]
fn what_was_accepted_is_spent_and_sets_are_whole_after_a_power_cut_on_xfs() {
    survives(FileSystem::Xfs, &SHORT);
}

#[test]
fn what_was_accepted_is_spent_and_sets_are_whole_after_a_power_cut_on_btrfs() {
    survives(FileSystem::Btrfs, &SHORT);
}

#[test]
#[ignore = "over a minute: tests/long power-cuts"]
fn what_was_accepted_is_spent_and_sets_are_whole_after_200_power_cuts_on_ext4() {
    survives(FileSystem::Ext4, &LONG);
}

#[test]
#[ignore = "over a minute: tests/long power-cuts"]
fn what_was_accepted_is_spent_and_sets_are_whole_after_200_power_cuts_on_xfs() {
    survives(FileSystem::Xfs, &LONG);
}

#[test]
#[ignore = "over a minute: tests/long power-cuts"]
fn what_was_accepted_is_spent_and_sets_are_whole_after_200_power_cuts_on_btrfs() {
    survives(FileSystem::Btrfs, &LONG);
}

/// Some of the acts.
type Choice = fn(Act) -> bool;

struct Size {
    /// Cuts at random moments around these acts.
    random: &'static [(Choice, usize)],
    /// Whether the kernel gets the time to write of itself what it has, in which up to 35 s go by.
    pauses: bool,
}

const SHORT: Size = Size { random: &[(|_| true, 8)], pauses: false };
const LONG: Size =
    Size { random: &[(Act::is_spend, 200), (Act::is_generate, 200), (|_| true, 50)], pauses: true };

fn survives(kind: FileSystem, size: &Size) {
    let Some(sandbox) = sandbox_of_root() else { return };
    let Some(world) = World::new("") else { return };
    let start = Instant::now();
    let disk = LoggedDisk::new(&sandbox, kind);
    let mounted = Mounted::first(&world, &disk.file(), kind).unwrap();
    let mut story = Story {
        world: &world,
        disk: &disk,
        mounted,
        sheets: Vec::new(),
        events: Vec::new(),
        before_rename: Cell::default(),
    };
    let alone = story.alone(size);
    story.beside_a_neighbour(size);
    story.inside_of_what_renames();
    let kept = story.events.len();
    let controls = story.without_flushes(kind);
    let end = disk.now();
    let Story { mounted, sheets, events, .. } = story;
    drop(mounted);
    let mut lab = Lab::new(&world, disk.path("cut"), disk.log(), sheets, events);
    let told = start.elapsed();

    for number in 0..kept {
        let Event { before, after, .. } = lab.events[number];
        lab.look_at(number, after, Stays::Nothing);
        if size.pauses {
            lab.look_at(number, after, Stays::All);
            let moments = lab.log.moments(before, after, 0);
            let Some(last) = moments.into_iter().rfind(|&moment| moment < after) else { continue };
            lab.look_at(number, last, Stays::All);
        }
    }
    for number in 0..alone {
        let Event { act: Act::Spend(_), before, after } = lab.events[number] else { continue };
        let Some(marked) = lab.log.when(before, after, is_set) else { continue };
        for (sectors, first) in [(1, true), (1, false), (2, true), (2, false)] {
            lab.look_at(number, marked, Stays::Torn { sectors, first });
        }
    }
    let mut chance = Chance(7);
    let kept_time = lab.events[0].before..=lab.events[kept].before;
    for &(is_one, count) in size.random {
        let numbers: Vec<_> = (0..kept).filter(|&number| is_one(lab.events[number].act)).collect();
        for _ in 0..count {
            let number = numbers[chance.index(numbers.len())];
            let Event { before, after, .. } = lab.events[number];
            let mut moments = lab.log.moments(before, after, 10);
            // Before them there is no store, and behind them nothing is flushed that should be.
            moments.retain(|moment| kept_time.contains(moment));
            lab.look_at(number, moments[chance.index(moments.len())], Stays::Random(&mut chance));
        }
    }
    lab.tell(told, start.elapsed());
    assert!(lab.failures.is_empty(), "{:#?}", lab.failures);
    assert!(lab.damaged > 0, "no record was torn");
    if size.pauses {
        for is_one in [Act::is_spend, Act::is_generate] {
            let halves = lab.halves(is_one);
            assert!(halves.iter().all(|&count| count > 0), "in the middle, not done and done: {halves:?}");
        }
    }

    // This test sees what flushes nothing, or too late.
    for (number, error) in controls {
        let failure = lab.failure_at(number, lab.events[number].after);
        assert!(failure.contains(error), "{error}: {failure}");
    }
    // What was flushed too late for the yes is there in the end.
    let last = lab.events.len() - 1;
    assert_eq!(lab.failure_at(last, end), "");
}

impl Size {
    fn pause(&self, seconds: u64) {
        std::thread::sleep(if self.pauses {
            Duration::from_secs(seconds)
        } else {
            Duration::from_millis(50)
        });
    }
}

/// What was done on a disk.
struct Story<'a> {
    world: &'a World,
    disk: &'a LoggedDisk,
    mounted: Mounted<'a>,
    sheets: Vec<Sheet>,
    events: Vec<Event>,
    /// The inode of the set before the command that renames.
    before_rename: Cell<u64>,
}

/// What keeps a command from its last flush.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Halt {
    Pause,
    Kill,
}

impl Story<'_> {
    /// The first acts, with nothing else on the disk. How many they are.
    fn alone(&mut self, size: &Size) -> usize {
        self.generate();
        self.spend_across_sectors();
        size.pause(6);
        self.readdress();
        self.generate();
        self.spend(0);
        self.revoke();
        self.generate();
        size.pause(35);
        self.spend(4);
        self.events.len()
    }

    fn beside_a_neighbour(&mut self, size: &Size) {
        let stop = AtomicBool::new(false);
        let neighbour = self.mounted.path("neighbour");
        std::thread::scope(|scope| {
            scope.spawn(|| be_a_neighbour(&neighbour, &stop));
            let _stop = Stop(&stop);
            for _ in 0..2 {
                size.pause(2);
                self.generate();
                for place in 1..4 {
                    self.spend(place);
                    size.pause(2);
                }
                self.readdress();
                self.revoke();
            }
            self.generate();
        });
    }

    /// Logins between the rename of each command and its flush: while it stands still there, and after it was killed there.
    fn inside_of_what_renames(&mut self) {
        for how in [Halt::Pause, Halt::Kill] {
            self.generate();
            self.spend_inside(how, 5);
            self.readdress_inside(how, &mut Command::new(built("pam-application")), 6);
            self.renew_inside(how, 5);
            self.revoke_inside(how);
        }
        self.generate();
        self.readdress_twice_inside(8);
        self.revoke();
        self.generate();
    }

    /// `email` that is killed twice, so that the last file may get the inode that the one before the first had, and a login.
    fn readdress_twice_inside(&mut self, place: usize) {
        let mut first = self.halted(Halt::Kill, "email", &["root@example.com"]);
        assert!(!first.stdout(Stdio::null()).status().unwrap().success());
        self.readdress_inside(Halt::Kill, &mut Command::new(built("pam-application")), place);
    }

    /// `generate`, and a login by a code of the new set.
    fn spend_inside(&mut self, how: Halt, place: usize) {
        let before = self.disk.now();
        let sheet = tempfile::NamedTempFile::new().unwrap();
        let mut command = self.halted(how, "generate", &["--yes", "--format", "json"]);
        let generate = command.stdout(sheet.reopen().unwrap()).spawn().unwrap();
        self.wait_for_rename();
        // The end of the list is written last.
        let list = fs::read_to_string(sheet.path()).unwrap() + "]";
        self.sheets.append(&mut serde_json::from_str(&list).unwrap());
        self.login_inside(generate, how, &mut Command::new(built("pam-application")), place, before);
    }

    /// A renewal by the broker, and a login by a code of the new set.
    fn renew_inside(&mut self, how: Halt, place: usize) {
        // The PAM service has one place for the tests of all file systems.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        fs::write(SERVICE, "auth required pam_permit.so\naccount required pam_permit.so\n").unwrap();
        let (socket, conf) = (self.world.path("broker"), self.world.path("renewing"));
        let usual = fs::read_to_string(self.world.path("conf")).unwrap();
        fs::write(&conf, format!("broker = {socket:?}\n{usual}")).unwrap();
        let mut broker = self.halted_program(how, "backupcodes-broker");
        let mut broker = broker.arg("--config").arg(&conf).arg("--socket").arg(&socket).spawn().unwrap();
        wait_until("a broker", || UnixStream::connect(&socket).is_ok());
        let before = self.disk.now();
        let shown = tempfile::NamedTempFile::new().unwrap();
        let mut renew = Command::new(built("backupcodes"));
        let renew = renew.arg("--config").arg(&conf).arg("renew").stdin(Stdio::null()).stderr(Stdio::null());
        let renew = renew.stdout(shown.reopen().unwrap()).spawn().unwrap();
        self.wait_for_rename();
        let text = fs::read_to_string(shown.path()).unwrap();
        let set = text.split("  Set   ").nth(1).unwrap().split_whitespace().next().unwrap();
        let sheet = Sheet { user: me(), set: set.into(), created: String::new(), codes: codes(&text) };
        self.sheets.push(sheet);
        self.login_inside(renew, how, &mut Command::new(built("pam-application")), place, before);
        connections(&broker).into_iter().for_each(|pid| kill(pid, Signal::SIGKILL).unwrap());
        broker.wait().unwrap();
        fs::remove_file(SERVICE).unwrap();
        fs::remove_file(socket).unwrap();
    }

    /// `email`, and a login by a code of the set.
    fn readdress_inside(&mut self, how: Halt, application: &mut Command, place: usize) {
        let before = self.disk.now();
        let email = self.halted(how, "email", &["root@example.net"]).stdout(Stdio::null()).spawn().unwrap();
        self.wait_for_rename();
        self.login_inside(email, how, application, place, before);
    }

    fn login_inside(
        &mut self,
        mut command: Child,
        how: Halt,
        application: &mut Command,
        place: usize,
        before: u64,
    ) {
        if how == Halt::Kill {
            assert!(!command.wait().unwrap().success());
        }
        let set = self.sheets.len() - 1;
        let stopped = self.begin(application, place);
        self.note(Act::SpendInside { set, place }, before);
        let is_over = command.try_wait().unwrap().is_some();
        assert_eq!(is_over, how == Halt::Kill, "the login came before the flush");
        assert_eq!(stopped.go_on().codes, [pam::SUCCESS, 0], "{:?}", self.world.last_line());
        let _ = command.wait().unwrap();
    }

    /// `revoke`, and logins by a code of the set that is gone.
    fn revoke_inside(&mut self, how: Halt) {
        let before = self.disk.now();
        let mut revoke = self.halted(how, "revoke", &[]).stdout(Stdio::null()).spawn().unwrap();
        wait_until("the end of the set", || !self.world.file().exists());
        let code = &self.sheets.last().unwrap().codes[7];
        assert_eq!(self.world.try_answer(code), pam::AUTH_ERR);
        let _ = revoke.wait().unwrap();
        // One that was killed may be undone.
        if how == Halt::Kill {
            self.revoked_or_not(before);
        } else {
            self.note(Act::Revoke, before);
        }
    }

    /// A new set is there in any case.
    fn revoked_or_not(&mut self, before: u64) {
        let output = feed(self.world.admin_command().args(["generate", "--format", "json", &me()]), "");
        self.note(Act::GenerateAfterRevoke(self.sheets.len()), before);
        self.sheets.push(sheet(output));
    }

    /// A command that does not come to the flush of the sets' directory.
    fn halted(&self, how: Halt, command: &str, arguments: &[&str]) -> Command {
        let mut strace = self.halted_program(how, "backupcodes-admin");
        strace.arg("--config").arg(self.world.path("conf")).args([command, &me()]).args(arguments);
        strace
    }

    fn halted_program(&self, how: Halt, program: &str) -> Command {
        self.before_rename.set(fs::metadata(self.world.file()).map_or(0, |file| file.ino()));
        let mut strace = tampering(match how {
            // The first flush of that directory is for the folder of the notice.
            Halt::Pause => "fsync:delay_enter=2s:when=2",
            Halt::Kill => "fsync:signal=KILL:when=2",
        });
        strace.arg("-f").arg("-P").arg(self.world.store()).arg(built(program)).stdin(Stdio::null());
        strace
    }

    fn wait_for_rename(&self) {
        let is_new = |file: fs::Metadata| file.ino() != self.before_rename.get();
        wait_until("a rename", || fs::metadata(self.world.file()).is_ok_and(is_new));
    }

    /// Acts without one of their flushes, or with a late one: their numbers, and what must be seen to be wrong when they are
    /// done. The last is the late one.
    fn without_flushes(&mut self, kind: FileSystem) -> Vec<(usize, &'static str)> {
        let mut controls = Vec::new();
        let mut expect = |story: &Self, error| {
            controls.push((story.events.len() - 1, error));
            story.mounted.sync();
        };
        self.mounted.sync();
        self.generate_without_flush(DIRECTORY);
        expect(self, "expected set Some");
        // In nobody's place: what is renamed over another file ext4 writes of itself (auto_da_alloc), at times soon enough.
        self.revoke();
        self.generate_without_flush(FILE);
        expect(self, "not a set of codes: format is missing");
        // The login that meets a name which is not known to be durable. xfs and btrfs bring the name with the record.
        self.generate();
        if kind == FileSystem::Ext4 {
            self.readdress_inside(Halt::Kill, without("fsync:retval=0").arg(built("pam-application")), 6);
            expect(self, "code 6 was accepted; it is unspent, and now returns 0");
        }
        self.spend_with_a_late_flush(7);
        controls.push((self.events.len() - 1, "it is unspent, and now returns 0"));
        controls
    }

    fn generate(&mut self) {
        let command = self.world.admin_command();
        self.generate_by(command);
    }

    fn generate_without_flush(&mut self, number: u32) {
        let mut strace = without(&format!("fsync:retval=0:when={number}"));
        strace.arg(built("backupcodes-admin")).arg("--config").arg(self.world.path("conf"));
        self.generate_by(strace);
    }

    fn generate_by(&mut self, mut command: Command) {
        let before = self.disk.now();
        let output = feed(command.args(["generate", "--yes", "--format", "json", &me()]), "");
        self.note(Act::Generate(self.sheets.len()), before);
        self.sheets.push(sheet(output));
    }

    fn spend(&mut self, place: usize) {
        self.spend_in(&mut Command::new(built("pam-application")), place, || {});
    }

    fn spend_with_a_late_flush(&mut self, place: usize) {
        let file = self.world.file();
        let flush = || File::open(file).unwrap().sync_all().unwrap();
        self.spend_in(without("fdatasync:retval=0").arg(built("pam-application")), place, flush);
    }

    /// The act is done when `pam_authenticate` has returned; `after` that, the application goes on.
    fn spend_in(&mut self, application: &mut Command, place: usize, after: impl FnOnce()) {
        let before = self.disk.now();
        let stopped = self.begin(application, place);
        self.note(Act::Spend(place), before);
        after();
        assert_eq!(stopped.go_on().codes, [pam::SUCCESS, 0], "{:?}", self.world.last_line());
    }

    /// An attempt that stands still when `pam_authenticate` has returned.
    fn begin(&self, application: &mut Command, place: usize) -> Stopped {
        let code = &self.sheets.last().unwrap().codes[place];
        let mut attempt = self.world.attempt(&[code.into()]);
        attempt.calls.push("stop".into());
        Stopped::start(application, &attempt)
    }

    /// Spends the codes of a new set whose entries lie in two sectors, so that a record can be torn.
    fn spend_across_sectors(&mut self) {
        let file = fs::read_to_string(self.world.file()).unwrap();
        let entries = file
            .match_indices("$argon2id$")
            .map(|(start, _)| start..start + file[start..].find('"').unwrap());
        let parted = |(place, entry): (usize, Range<usize>)| {
            (entry.start / SECTOR < (entry.end - 1) / SECTOR).then_some(place)
        };
        let places: Vec<_> = entries.enumerate().filter_map(parted).collect();
        assert!(!places.is_empty());
        places.into_iter().for_each(|place| self.spend(place));
    }

    fn readdress(&mut self) {
        self.change(Act::Readdress, &["email", &me(), "root@example.org"]);
    }

    fn revoke(&mut self) {
        self.change(Act::Revoke, &["revoke", &me()]);
    }

    fn change(&mut self, act: Act, arguments: &[&str]) {
        let before = self.disk.now();
        let output = self.world.admin(arguments);
        self.note(act, before);
        assert!(output.status.success(), "{output:?}");
    }

    fn note(&mut self, act: Act, before: u64) {
        self.events.push(Event { act, before, after: self.disk.now() });
    }
}

/// The flushes of `generate`, by their number: the new file's is the first. Those of the notice follow, and the directory's
/// is the last.
const FILE: u32 = 1;
const DIRECTORY: u32 = 5;

/// A command whose calls do nothing, and are said to be done.
fn without(calls: &str) -> Command {
    let mut strace = tampering(calls);
    strace.arg("-f");
    strace
}

/// What else goes on on a disk: files are written and flushed, and with them the journal.
fn be_a_neighbour(folder: &Path, stop: &AtomicBool) {
    let mut chance = Chance(3);
    fs::create_dir(folder).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let path = folder.join(chance.below(8).to_string());
        fs::write(&path, vec![7; chance.index(16_384)]).unwrap();
        if chance.below(3) == 0 {
            fs::File::open(&path).unwrap().sync_all().unwrap();
        }
        std::thread::sleep(Duration::from_millis(chance.below(60)));
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
