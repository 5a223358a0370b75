//! A disk that takes no spent record, or does not give the set, denies: with one line in the log, without a word on whether the
//! code was right, and never with a second yes later.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use backupcodes_tests::disk::{Disk, FileSystem, Lack, must};
use backupcodes_tests::level::{CRITICAL, ERROR, NOTICE, WARNING};
use backupcodes_tests::strace::injected;
use backupcodes_tests::{Attempt, Line, Outcome, World, built, me, pam, set_mode, sheet};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// Where it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before anybody is asked.
    Start,
    /// Before any hash is examined.
    Look,
    /// When the code was right.
    Spend,
}

/// A right code, and a wrong one of an older sheet for the same number.
struct Codes {
    right: String,
    wrong: String,
}

impl Codes {
    fn of(world: &World) -> Self {
        Self::all_of(world, 1).remove(0)
    }

    /// For each number.
    fn all_of(world: &World, count: usize) -> Vec<Self> {
        let generate = || {
            let count = count.to_string();
            sheet(world.admin(&["generate", "--yes", "--format", "json", "--count", &count, &me()])).codes
        };
        let (wrong, right) = (generate(), generate());
        right.into_iter().zip(wrong).map(|(right, wrong)| Self { right, wrong }).collect()
    }

    /// Both responses get the same from `attempt`, and each has one line in the log.
    fn are_denied_by(&self, world: &World, attempt: impl Fn(Attempt) -> Outcome, stage: Stage, reason: &str) {
        let (code, levels) = match stage {
            Stage::Start | Stage::Look => (pam::AUTHINFO_UNAVAIL, [ERROR; 2]),
            Stage::Spend => (pam::AUTH_ERR, [NOTICE, CRITICAL]),
        };
        let before = world.log().len();
        let both = [&self.wrong, &self.right].map(|answer| attempt(world.attempt(&[answer.into()])));
        // Where the sets are read-only, that is said as well.
        let is_other = |line: &Line| line.text.contains(": no broker (");
        let mut log = world.log().split_off(before);
        log.retain(|line| !is_other(line));
        let [wrong, right] = both.map(|outcome| (outcome.codes, outcome.said));
        assert_eq!(right, wrong, "{log:#?}");
        assert_eq!((right.0, right.1.len()), (vec![code], usize::from(stage != Stage::Start)), "{log:#?}");
        assert_eq!(log.iter().map(|line| line.level).collect::<Vec<_>>(), levels, "{log:#?}");
        let told = if stage == Stage::Spend { ["wrong code for number", reason] } else { [reason; 2] };
        assert!(log.iter().zip(told).all(|(line, told)| line.text.contains(told)), "{reason}: {log:#?}");
        assert!(log[1].text.contains("was right but could not be spent") == (stage == Stage::Spend));
    }

    fn are_denied(&self, world: &World, stage: Stage, reason: &str) {
        self.are_denied_by(world, |attempt| attempt.run(), stage, reason);
    }

    fn are_denied_until_there_is_room(&self, world: &World, disk: &Disk<'_>) {
        disk.fill(Lack::Bytes);
        self.are_denied(world, Stage::Spend, "cannot write (ENOSPC");
        disk.make_room();
        assert_eq!(self.times_accepted(world), 1);
    }

    /// Of two tries with the right code.
    fn times_accepted(&self, world: &World) -> usize {
        (0..2).filter(|_| world.try_answer(&self.right) == pam::SUCCESS).count()
    }
}

#[test]
fn eio_at_any_step_denies_both_alike_and_the_code_works_at_most_once_after_it() {
    let Some(world) = World::new("") else { return };
    // A file is opened and named by its directory, and used by its descriptor.
    let [store, file] = [&world.store(), &world.file()];
    // The calls of an attempt with a right code, in their order.
    let steps = [
        ("openat:error=EIO:when=1", store, Stage::Look, "cannot open (EIO", 1),
        ("newfstatat:error=EIO:when=1", store, Stage::Look, "cannot be examined (EIO", 1),
        ("openat:error=EIO:when=2", store, Stage::Look, "cannot open (EIO", 1),
        ("newfstatat:error=EIO:when=1", file, Stage::Look, "cannot be examined (EIO", 1),
        ("pread64:error=EIO:when=1", file, Stage::Look, "cannot read (EIO", 1),
        ("pread64:error=EIO:when=2", file, Stage::Look, "cannot read (EIO", 1),
        ("openat:error=EIO:when=3", store, Stage::Spend, "cannot open (EIO", 1),
        ("newfstatat:error=EIO:when=2", store, Stage::Spend, "cannot be examined (EIO", 1),
        ("openat:error=EIO:when=4", store, Stage::Spend, "cannot open (EIO", 1),
        ("newfstatat:error=EIO:when=2", file, Stage::Spend, "cannot be examined (EIO", 1),
        ("flock:error=EIO:when=1", file, Stage::Spend, "cannot lock (EIO", 1),
        ("newfstatat:error=EIO:when=3", store, Stage::Spend, "cannot examine (EIO", 1),
        ("pread64:error=EIO:when=3", file, Stage::Spend, "cannot read (EIO", 1),
        ("pread64:error=EIO:when=4", file, Stage::Spend, "cannot read (EIO", 1),
        ("openat:error=EIO:when=5", store, Stage::Spend, "cannot open for writing (EIO", 1),
        ("newfstatat:error=EIO:when=3", file, Stage::Spend, "cannot find again (ESTALE", 1),
        ("pwrite64:error=EIO", file, Stage::Spend, "cannot write (EIO", 1),
        ("pwrite64:error=ENOSPC", file, Stage::Spend, "cannot write (ENOSPC", 1),
        // Not tried again, and final: what is in memory is the record, what is on the disk nobody knows.
        ("fdatasync:error=EIO:when=1", file, Stage::Spend, "cannot flush (EIO", 0),
    ];
    for (codes, (inject, path, stage, reason, left)) in Codes::all_of(&world, steps.len()).iter().zip(steps) {
        codes.are_denied_by(&world, |attempt| injected_at(path, attempt, inject), stage, reason);
        assert_eq!(codes.times_accepted(&world), left, "{inject}");
    }
}

/// What comes of an attempt whose calls on this path are tampered with.
fn injected_at(path: &Path, attempt: Attempt, inject: &str) -> Outcome {
    injected(&["-P", path.to_str().unwrap()], &built("pam-application"), attempt, inject)
}

/// Where failures are counted of the user who runs the tests: the runtime directory, what is in it, and in the end the
/// file.
fn counters(world: &World) -> [PathBuf; 4] {
    let run = world.path("run");
    let all = run.join("throttle");
    let mine = all.join(me());
    let file = mine.join(format!("{}@192.0.2.7", world.service));
    [run, all, mine, file]
}

#[test]
fn eio_at_any_step_of_the_count_denies_both_alike_and_leaves_the_code_good() {
    let Some(world) = World::new("") else { return };
    let [run, all, mine, file] = &counters(&world);
    // The calls of a count where nothing is there yet, in their order.
    let steps = [
        ("openat:error=EIO:when=1", run, "cannot open (EIO"),
        ("mkdirat:error=EIO:when=1", run, "cannot make (EIO"),
        ("openat:error=EIO:when=2", run, "cannot open (EIO"),
        ("newfstatat:error=EIO:when=1", run, "cannot be examined (EIO"),
        ("fchmod:error=EIO:when=1", run, "cannot make (EIO"),
        ("openat:error=EIO:when=3", run, "cannot open (EIO"),
        ("mkdirat:error=EIO:when=2", run, "cannot make (EIO"),
        ("openat:error=EIO:when=4", run, "cannot open (EIO"),
        ("newfstatat:error=EIO:when=1", all, "cannot be examined (EIO"),
        ("fchmod:error=EIO:when=1", all, "cannot make (EIO"),
        ("openat:error=EIO:when=1", all, "cannot open (EIO"),
        ("mkdirat:error=EIO:when=1", all, "cannot make (EIO"),
        ("openat:error=EIO:when=2", all, "cannot open (EIO"),
        ("newfstatat:error=EIO:when=1", mine, "cannot be examined (EIO"),
        ("fchmod:error=EIO:when=1", mine, "cannot make (EIO"),
        ("openat:error=EIO:when=1", mine, "cannot open (EIO"),
        ("openat:error=EIO:when=2", mine, "cannot list (EIO"),
        ("getdents64:error=EIO:when=1", mine, "cannot list (EIO"),
        ("getdents64:error=EIO:when=2", mine, "cannot list (EIO"),
        ("openat:error=EIO:when=3", mine, "cannot open (EIO"),
        ("fchmod:error=EIO:when=1", file, "cannot open (EIO"),
        ("newfstatat:error=EIO:when=1", file, "cannot be examined (EIO"),
        ("write:error=EIO:when=1", file, "cannot count in (EIO"),
        ("write:retval=0:when=1", file, "cannot count in (EIO"),
        ("lseek:error=EIO:when=1", file, "cannot count in (EIO"),
    ];
    for (codes, (inject, path, reason)) in Codes::all_of(&world, steps.len()).iter().zip(steps) {
        let attempt = |attempt| {
            let _ = fs::remove_dir_all(run);
            injected_at(path, attempt, inject)
        };
        codes.are_denied_by(&world, attempt, Stage::Look, reason);
        assert!(world.last_line().text.contains("the attempt cannot be counted"), "{:?}", world.last_line());
        assert_eq!(codes.times_accepted(&world), 1, "{inject}");
    }
}

#[test]
fn a_count_that_has_no_room_or_cannot_be_forgotten_locks_nobody_out_and_the_code_works_once() {
    let Some(world) = World::new("") else { return };
    let [_, _, mine, file] = &counters(&world);
    let steps = [
        ("write:error=ENOSPC", file, "cannot count in (ENOSPC"),
        ("write:error=EDQUOT", file, "cannot count in (EDQUOT"),
        ("unlinkat:error=EIO", mine, "cannot remove (EIO"),
    ];
    for (codes, (inject, path, reason)) in Codes::all_of(&world, steps.len()).iter().zip(steps) {
        let before = world.log().len();
        let outcome = injected_at(path, world.attempt(&[(&codes.right).into()]), inject);
        let log = world.log().split_off(before);
        assert_eq!(outcome.codes, [pam::SUCCESS], "{log:#?}");
        assert_eq!(log.iter().map(|line| line.level).collect::<Vec<_>>(), [NOTICE, WARNING], "{log:#?}");
        let warning = &log[1].text;
        assert!(warning.contains("failures are not counted as they should be"), "{warning}");
        assert!(warning.contains(reason), "{warning}");
        assert_eq!(codes.times_accepted(&world), 0, "{inject}");
    }
}

/// Whatever is spent is on the disk by then.
#[test]
fn a_lock_that_cannot_be_given_back_changes_nothing() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let attempt = world.attempt(&[(&sheet.codes[0]).into()]);
    let outcome = injected_at(&world.file(), attempt, "flock:error=EIO:when=2");
    assert_eq!(outcome.codes, [pam::SUCCESS], "{:#?}", world.log());
    assert_eq!(sheet.codes.iter().filter(|code| world.try_answer(*code) == pam::SUCCESS).count(), 9);
}

#[test]
fn a_disk_that_is_read_only_denies_until_it_is_writable_again() {
    for kind in FileSystem::all(Lack::Bytes) {
        let Some(world) = World::of_root("") else { return };
        let disk = Disk::with_store(&world, kind);
        let codes = Codes::of(&world);
        disk.remount("ro");
        codes.are_denied(&world, Stage::Start, "the sets are read-only here, and there is no broker");
        disk.remount("rw");
        let store = world.store();
        must("mount", &["-o", "remount,bind,ro", store.to_str().unwrap()]);
        codes.are_denied(&world, Stage::Start, "the sets are read-only here, and there is no broker");
        must("mount", &["-o", "remount,bind,rw", store.to_str().unwrap()]);
        assert_eq!(codes.times_accepted(&world), 1, "{kind:?}");
    }
}

#[test]
fn a_quota_that_is_used_up_denies_until_it_is_lifted() {
    let Some(world) = World::of_root("") else { return };
    let disk = Disk::with_store(&world, FileSystem::Btrfs);
    let codes = Codes::of(&world);
    let store = disk.path("store");
    let store = store.to_str().unwrap();
    must("btrfs", &["quota", "enable", store]);
    must("btrfs", &["quota", "rescan", "-w", store]);
    must("btrfs", &["qgroup", "limit", "4k", store]);
    codes.are_denied(&world, Stage::Spend, "cannot write (EDQUOT");
    must("btrfs", &["quota", "disable", disk.path("").to_str().unwrap()]);
    assert_eq!(codes.times_accepted(&world), 1);
}

#[test]
fn on_a_full_btrfs_a_snapshot_of_the_store_denies_until_there_is_room() {
    let Some(world) = World::of_root("") else { return };
    let disk = Disk::with_store(&world, FileSystem::Btrfs);
    let codes = Codes::of(&world);
    snapshot(&disk.path("store"), &disk.path("snapshot"));
    codes.are_denied_until_there_is_room(&world, &disk);
}

#[test]
fn a_full_btrfs_without_the_attribute_c_denies_until_there_is_room() {
    let Some(world) = World::of_root("") else { return };
    let mut disk = Disk::new(&world, FileSystem::Btrfs);
    fs::create_dir(disk.path("store")).unwrap();
    set_mode(&disk.path("store"), 0o700);
    disk.show("store", "store");
    Codes::of(&world).are_denied_until_there_is_room(&world, &disk);
}

/// Forgets what is in memory of a file, so that it must be read again.
fn forget(file: &Path) {
    let file = File::open(file).unwrap();
    posix_fadvise(file.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
}

#[test]
fn a_disk_that_is_gone_denies_and_the_code_works_at_most_once_when_it_is_back() {
    for kind in [FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs] {
        let Some(world) = World::of_root("") else { return };
        let mut disk = Disk::with_store(&world, kind);
        let codes = Codes::of(&world);
        disk.flush();
        disk.break_off();
        // The set is in memory still.
        codes.are_denied(&world, Stage::Spend, "cannot flush (EIO");
        assert_eq!(codes.times_accepted(&world), 0, "{kind:?}");
        forget(&world.file());
        codes.are_denied(&world, Stage::Look, "cannot read (EIO");
        disk.bring_back();
        // The record never got there, and nobody was accepted by it.
        assert_eq!(codes.times_accepted(&world), 1, "{kind:?}: {:?}", world.last_line());
    }
}

fn snapshot(of: &Path, at: &Path) {
    must("btrfs", &["-q", "subvolume", "snapshot", "-r", of.to_str().unwrap(), at.to_str().unwrap()]);
}
