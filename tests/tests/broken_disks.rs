//! A disk that does not take the mark, or does not give the set, denies: with one line in the log, without a word on
//! whether the code was right, and never with a second yes later.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;

use backupcodes_tests::disk::{Disk, FileSystem, Lack, must};
use backupcodes_tests::level::{CRITICAL, ERROR, NOTICE};
use backupcodes_tests::strace::injected;
use backupcodes_tests::{Attempt, Outcome, World, built, me, pam, sandbox_of_root, set_mode, sheet};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// Where it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before any look at a hash.
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

    /// Both answers get the same from `attempt`, and each has one line in the log.
    fn are_denied_by(&self, world: &World, attempt: impl Fn(Attempt) -> Outcome, stage: Stage, reason: &str) {
        let (code, levels) = match stage {
            Stage::Look => (pam::AUTHINFO_UNAVAIL, [ERROR; 2]),
            Stage::Spend => (pam::AUTH_ERR, [NOTICE, CRITICAL]),
        };
        let before = world.log().len();
        let both = [&self.wrong, &self.right].map(|answer| attempt(world.attempt(&[answer.into()])));
        let log = world.log().split_off(before);
        let [wrong, right] = both.map(|outcome| (outcome.codes, outcome.said));
        assert_eq!(right, wrong, "{log:#?}");
        assert_eq!((right.0, right.1.len()), (vec![code], 1), "{log:#?}");
        assert_eq!(log.iter().map(|line| line.level).collect::<Vec<_>>(), levels, "{log:#?}");
        let told = if stage == Stage::Look { [reason; 2] } else { ["wrong code for number", reason] };
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
    // The calls of an attempt with a right code, in their order.
    let steps = [
        ("openat:error=EIO:when=1", Stage::Look, "cannot open (EIO", 1),
        ("openat:error=EIO:when=2", Stage::Look, "cannot open (EIO", 1),
        ("pread64:error=EIO:when=1", Stage::Look, "cannot read (EIO", 1),
        ("pread64:error=EIO:when=2", Stage::Look, "cannot read (EIO", 1),
        ("openat:error=EIO:when=3", Stage::Spend, "cannot open (EIO", 1),
        ("openat:error=EIO:when=4", Stage::Spend, "cannot open (EIO", 1),
        ("pread64:error=EIO:when=3", Stage::Spend, "cannot read (EIO", 1),
        ("openat:error=EIO:when=5", Stage::Spend, "cannot open for writing (EIO", 1),
        ("pwrite64:error=EIO", Stage::Spend, "cannot write (EIO", 1),
        ("pwrite64:error=ENOSPC", Stage::Spend, "cannot write (ENOSPC", 1),
        // Not tried again, and final: what is in memory is the mark, what is on the disk nobody knows.
        ("fdatasync:error=EIO:when=1", Stage::Spend, "cannot flush (EIO", 0),
    ];
    let Some(world) = World::new("") else { return };
    for (codes, (inject, stage, reason, left)) in Codes::all_of(&world, steps.len()).iter().zip(steps) {
        // A file is opened by its name in the store, and used by its descriptor.
        let path = if inject.starts_with("openat") { world.store() } else { world.file() };
        let options = ["-P", path.to_str().unwrap()];
        let attempt = |attempt| injected(&options, &built("pamhost"), attempt, inject);
        codes.are_denied_by(&world, attempt, stage, reason);
        assert_eq!(codes.times_accepted(&world), left, "{inject}");
    }
}

#[test]
fn a_disk_that_is_read_only_denies_until_it_is_writable_again() {
    if sandbox_of_root().is_none() {
        return;
    }
    for kind in FileSystem::all(Lack::Bytes) {
        let Some(world) = World::new("") else { return };
        let disk = Disk::with_store(&world, kind);
        let codes = Codes::of(&world);
        disk.remount("ro");
        codes.are_denied(&world, Stage::Spend, "cannot open for writing (EROFS");
        disk.remount("rw");
        let store = world.store();
        must("mount", &["-o", "remount,bind,ro", store.to_str().unwrap()]);
        codes.are_denied(&world, Stage::Spend, "cannot open for writing (EROFS");
        must("mount", &["-o", "remount,bind,rw", store.to_str().unwrap()]);
        assert_eq!(codes.times_accepted(&world), 1, "{kind:?}");
    }
}

#[test]
fn a_quota_that_is_used_up_denies_until_it_is_lifted() {
    if sandbox_of_root().is_none() {
        return;
    }
    let Some(world) = World::new("") else { return };
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
    if sandbox_of_root().is_none() {
        return;
    }
    let Some(world) = World::new("") else { return };
    let disk = Disk::with_store(&world, FileSystem::Btrfs);
    let codes = Codes::of(&world);
    snapshot(&disk.path("store"), &disk.path("snapshot"));
    codes.are_denied_until_there_is_room(&world, &disk);
}

#[test]
fn a_full_btrfs_without_the_attribute_c_denies_until_there_is_room() {
    if sandbox_of_root().is_none() {
        return;
    }
    let Some(world) = World::new("") else { return };
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
    if sandbox_of_root().is_none() {
        return;
    }
    for kind in [FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs] {
        let Some(world) = World::new("") else { return };
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
        // The mark never got there, and nobody was let in by it.
        assert_eq!(codes.times_accepted(&world), 1, "{kind:?}: {:?}", world.last_line());
    }
}

fn snapshot(of: &Path, at: &Path) {
    must("btrfs", &["-q", "subvolume", "snapshot", "-r", of.to_str().unwrap(), at.to_str().unwrap()]);
}
