//! After a power cut in a delivery, each notice reaches each recipient: before the cut, or by the next delivery.
//!
//! A sendmail on another disk notes how long the log of this disk was when it took a message.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use backupcodes_tests::chance::Chance;
use backupcodes_tests::disk::FileSystem;
use backupcodes_tests::logged_disk::{Log, LoggedDisk};
use backupcodes_tests::mounted::Mounted;
use backupcodes_tests::power_cut::Stays;
use backupcodes_tests::strace::tampering;
use backupcodes_tests::{Sheet, World, built, feed, me, pam, sandbox_of_root, set_mode, text};

#[test]
fn each_use_is_told_after_power_cuts_in_its_delivery_on_ext4() {
    is_told(FileSystem::Ext4, SHORT);
}

#[test]
fn each_use_is_told_after_power_cuts_in_its_delivery_on_xfs() {
    is_told(FileSystem::Xfs, SHORT);
}

#[test]
fn each_use_is_told_after_power_cuts_in_its_delivery_on_btrfs() {
    is_told(FileSystem::Btrfs, SHORT);
}

#[test]
#[ignore = "over a minute: tests/long power-cuts"]
fn each_use_is_told_after_200_power_cuts_in_its_delivery_on_ext4() {
    is_told(FileSystem::Ext4, LONG);
}

#[test]
#[ignore = "over a minute: tests/long power-cuts"]
fn each_use_is_told_after_200_power_cuts_in_its_delivery_on_xfs() {
    is_told(FileSystem::Xfs, LONG);
}

#[test]
#[ignore = "over a minute: tests/long power-cuts"]
fn each_use_is_told_after_200_power_cuts_in_its_delivery_on_btrfs() {
    is_told(FileSystem::Btrfs, LONG);
}

/// Gets what the user gets.
const COPY: &str = "copy@example.org";
/// Cuts in each of two deliveries, at random moments.
const SHORT: usize = 8;
const LONG: usize = 100;

fn is_told(kind: FileSystem, cuts: usize) {
    let Some(sandbox) = sandbox_of_root() else { return };
    let Some(world) = World::new("") else { return };
    let disk = LoggedDisk::new(&sandbox, kind);
    let mounted = Mounted::first(&world, &disk.file(), kind).unwrap();
    let sendmail = Sendmail::of(&world, &disk.path("log"));
    let sheet = world.generate();
    let mut story = Story { world: &world, disk: &disk, sheet, promised: Vec::new() };
    story.promise("made".into());
    story.spend(0..3);
    // Notices are queued for the one recipient, and uses are marked as notified.
    sendmail.takes_the_copy(false);
    let first = story.deliver(&mut world.admin_command());
    story.spend(3..5);
    // Queued notices are removed, and uses are marked as notified.
    sendmail.takes_the_copy(true);
    let second = story.deliver(&mut world.admin_command());
    mounted.sync();
    story.spend(5..7);
    sendmail.takes_the_copy(false);
    let mut without_flushes = tampering("fsync:retval=0");
    without_flushes.arg(built("backupcodes-admin")).arg("--config").arg(world.path("conf"));
    let control = story.deliver(&mut without_flushes);
    sendmail.takes_the_copy(true);
    drop(mounted);

    let Story { promised, .. } = story;
    let told = sendmail.taken();
    let mut lab =
        Lab { world, image: disk.path("cut"), log: disk.log(), sendmail, promised, told, again: 0, late: 0 };
    let mut chance = Chance(11);
    for (before, after) in [first, second] {
        let moments = lab.log.moments(before, after, 4);
        lab.look_at(after, Stays::Nothing).unwrap();
        for cut in 0..cuts {
            let moment = moments[chance.index(moments.len())];
            let stays = if cut % 2 == 0 { Stays::Nothing } else { Stays::Random(&mut chance) };
            lab.look_at(moment, stays).unwrap();
        }
    }
    println!("{} notices told once more, {} told after the cut alone", lab.again, lab.late);
    assert!(lab.again > 0 && lab.late > 0);

    // This test sees a queued notice that is not flushed before its record.
    let error = lab.look_at(control.1, Stays::Nothing).unwrap_err();
    assert!(error.contains("is not told of"), "{error}");
}

/// What was done on a disk.
struct Story<'a> {
    world: &'a World,
    disk: &'a LoggedDisk,
    sheet: Sheet,
    /// From when on there was a notice of what.
    promised: Vec<(u64, String)>,
}

impl Story<'_> {
    fn promise(&mut self, what: String) {
        self.promised.push((self.disk.now(), format!("{}.{what}", self.sheet.set)));
    }

    fn spend(&mut self, places: std::ops::Range<usize>) {
        for place in places {
            assert_eq!(self.world.try_answer(&self.sheet.codes[place]), pam::SUCCESS);
            self.promise(format!("used-{}", place + 1));
        }
    }

    /// The moments before and after it.
    fn deliver(&self, admin: &mut std::process::Command) -> (u64, u64) {
        let before = self.disk.now();
        let output = feed(admin.arg("notify"), "");
        assert!(output.status.code().is_some(), "{output:?}");
        (before, self.disk.now())
    }
}

/// A program that takes messages into a folder.
struct Sendmail(PathBuf);

/// A message that it took.
struct Taken {
    /// When, as a moment of the disk's log.
    at: u64,
    /// The set, and what happened.
    notice: String,
    to: String,
}

impl Sendmail {
    fn of(world: &World, log: &Path) -> Self {
        let folder = world.path("taken");
        fs::create_dir(&folder).unwrap();
        let program = world.path("sendmail");
        let script = format!(
            "#!/bin/sh\ncd {folder:?} || exit 75\n[ ! -e ../later ] || [ \"$3\" != {COPY} ] || exit 75\n\
             {{ echo \"$3\"; cat; stat -c %s {log:?}; }} >\"$(mktemp XXXXXXXX)\" || exit 75\n"
        );
        fs::write(&program, script).unwrap();
        set_mode(&program, 0o755);
        world.notify(&format!("sendmail = [{program:?}, \"-i\"]\ncopy_to = [{COPY:?}]"));
        Self(folder)
    }

    /// Whether it takes what is for the copy now, or wants to be asked later.
    fn takes_the_copy(&self, now: bool) {
        let later = self.0.with_file_name("later");
        if now { fs::remove_file(later) } else { fs::write(later, "") }.unwrap();
    }

    /// All messages so far, which it then has no more.
    fn taken(&self) -> Vec<Taken> {
        let read = |file: std::io::Result<fs::DirEntry>| {
            let path = file.unwrap().path();
            let message = text(&fs::read(&path).unwrap());
            fs::remove_file(path).unwrap();
            let (to, rest) = message.split_once('\n').unwrap();
            let (_, at) = rest.trim_end().rsplit_once('\n').unwrap();
            let id = rest.lines().find_map(|line| line.strip_prefix("Message-ID: <")).unwrap();
            let notice = id.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
            Taken { at: at.parse().unwrap(), notice, to: to.into() }
        };
        fs::read_dir(&self.0).unwrap().map(read).collect()
    }
}

/// Where cuts are made.
struct Lab {
    world: World,
    image: PathBuf,
    log: Log,
    sendmail: Sendmail,
    promised: Vec<(u64, String)>,
    told: Vec<Taken>,
    /// Notices that were told before a cut and after it, and those that only a delivery after it told.
    again: usize,
    late: usize,
}

impl Lab {
    /// Cuts the power at this moment, and delivers what is due then.
    fn look_at(&mut self, moment: u64, mut stays: Stays<'_>) -> Result<(), String> {
        self.log.cut(moment, &self.image, &mut |data| stays.part(data));
        let _mounted = Mounted::again(&self.world, &self.image)?;
        let output = self.world.admin(&["notify"]);
        let due = self.world.status()["due"].clone();
        if !output.status.success() || due != 0 {
            return Err(format!("at {moment}: {due} due, {output:?}"));
        }
        let key = |taken: &Taken| (taken.notice.clone(), taken.to.clone());
        let before: HashSet<_> = self.told.iter().filter(|taken| taken.at <= moment).map(key).collect();
        let after: HashSet<_> = self.sendmail.taken().iter().map(key).collect();
        self.again += before.intersection(&after).count();
        self.late += after.difference(&before).count();
        for (_, notice) in self.promised.iter().filter(|(from, _)| *from <= moment) {
            for to in [&me(), COPY] {
                let it = (notice.clone(), to.to_owned());
                if !before.contains(&it) && !after.contains(&it) {
                    return Err(format!("at {moment}: {to} is not told of {notice}"));
                }
            }
        }
        Ok(())
    }
}
