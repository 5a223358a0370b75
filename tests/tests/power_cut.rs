//! A power cut at any moment leaves a code that let in spent, and a set whole: the old one or the new one.
//!
//! Each file system lies on a disk that logs what is written to it. After a time of logins and new sets, states that a
//! power cut may have left are made from the log, mounted, and looked at through the command line and through logins.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backupcodes_tests::chance::Chance;
use backupcodes_tests::hosts::run;
use backupcodes_tests::logged_disk::{Log, LoggedDisk};
use backupcodes_tests::{
    Sheet, World, built, feed, me, pam, race_in, sandbox_of_root, set_mode, sheet, text,
};

#[derive(Clone, Copy)]
enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
}

impl FileSystem {
    /// A disk of a size that its file system takes.
    fn disk(self, folder: &Path) -> LoggedDisk {
        let (megabytes, format): (u64, &[&str]) = match self {
            // A disk's initialization goes on in the background otherwise.
            Self::Ext4 => (64, &["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"]),
            Self::Xfs => (300, &["mkfs.xfs", "-q"]),
            Self::Btrfs => (128, &["mkfs.btrfs", "-q"]),
        };
        LoggedDisk::new(folder, megabytes << 20, Command::new(format[0]).args(&format[1..]))
    }
}

/// A world whose store lies on a disk, for as long as this lives.
struct Mounted<'a> {
    world: &'a World,
    disk: PathBuf,
}

impl<'a> Mounted<'a> {
    fn new(world: &'a World, image: &Path) -> Result<Self, String> {
        let disk = world.path("mounted");
        fs::create_dir_all(&disk).unwrap();
        let output = feed(Command::new("mount").args(["-o", "loop"]).arg(image).arg(&disk), "");
        if !output.status.success() {
            return Err(format!("it cannot be mounted: {}", text(&output.stderr)));
        }
        Ok(Self { world, disk })
    }

    fn make_store(&self, file_system: FileSystem) {
        let store = self.store();
        fs::create_dir(&store).unwrap();
        set_mode(&store, 0o700);
        if matches!(file_system, FileSystem::Btrfs) {
            run(Command::new("chattr").arg("+C").arg(&store), "");
        }
        self.sync();
    }

    fn open_store(&self) {
        run(Command::new("mount").arg("--bind").args([&self.store(), &self.world.store()]), "");
    }

    fn store(&self) -> PathBuf {
        self.disk.join("store")
    }

    fn sync(&self) {
        run(Command::new("sync").arg("--file-system").arg(&self.disk), "");
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // The loop device goes with the last mount.
        let _ = feed(Command::new("umount").arg(self.world.store()), "");
        if !feed(Command::new("umount").arg(&self.disk), "").status.success() {
            let _ = feed(Command::new("umount").arg("--lazy").arg(&self.disk), "");
        }
    }
}

/// What was done on the disk.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    /// A set is in place from here on, by its number.
    Generate(usize),
    /// A code of the set lets in, by its place on the sheet.
    Spend(usize),
    Readdress,
    Revoke,
}

/// An act, the moment before it, and the one when it was said to be done.
struct Event {
    act: Act,
    before: u64,
    after: u64,
}

/// The time of a disk.
struct Story<'a> {
    world: &'a World,
    mounted: Mounted<'a>,
    disk: &'a LoggedDisk,
    sheets: Vec<Sheet>,
    events: Vec<Event>,
}

impl Story<'_> {
    fn note(&mut self, act: Act, before: u64) {
        self.events.push(Event { act, before, after: self.disk.now() });
    }

    fn generate(&mut self) {
        let before = self.disk.now();
        let sheet = self.world.generate();
        self.note(Act::Generate(self.sheets.len()), before);
        self.sheets.push(sheet);
    }

    /// A new set none of whose flushes is made, though all are said to be.
    fn generate_without_flushes(&mut self) {
        let before = self.disk.now();
        let mut strace = without("fsync");
        strace.arg(built("backupcodes-admin")).arg("--config").arg(self.world.path("conf"));
        let output = feed(strace.args(["generate", "--yes", "--format", "json", &me()]), "");
        self.note(Act::Generate(self.sheets.len()), before);
        self.sheets.push(sheet(output));
    }

    fn spend(&mut self, place: usize) {
        self.spend_in(&mut Command::new(built("pamhost")), place);
    }

    /// The same where the flush is not made, though it is said to be.
    fn spend_without_flush(&mut self, place: usize) {
        self.spend_in(without("fdatasync").arg(built("pamhost")), place);
    }

    fn spend_in(&mut self, host: &mut Command, place: usize) {
        let code = &self.sheets.last().unwrap().codes[place];
        let attempt = self.world.attempt(&[code.into()]);
        let before = self.disk.now();
        let outcome = race_in(host, &[attempt]).pop().flatten().unwrap();
        self.note(Act::Spend(place), before);
        assert_eq!(outcome.codes, [pam::SUCCESS], "{:?}", self.world.last_line());
    }

    /// The codes whose entries lie in two sectors of the disk, which a cut can part.
    fn spend_across_sectors(&mut self) {
        let file = fs::read(self.world.file()).unwrap();
        let starts: Vec<_> = (0..file.len()).filter(|&at| file[at..].starts_with(b"$argon2id")).collect();
        assert_eq!(starts.len(), self.sheets.last().unwrap().codes.len(), "all are unspent");
        for (place, ends) in starts.windows(2).enumerate() {
            // A little of the entry on either side.
            if (ends[0] + 8) / SECTOR != (ends[1] - 16) / SECTOR {
                self.spend(place);
            }
        }
    }

    fn readdress(&mut self) {
        let before = self.disk.now();
        let output = self.world.admin(&["email", &me(), "root@example.org"]);
        assert!(output.status.success(), "{output:?}");
        self.note(Act::Readdress, before);
    }

    fn revoke(&mut self) {
        let before = self.disk.now();
        let output = self.world.admin(&["revoke", &me()]);
        assert!(output.status.success(), "{output:?}");
        self.note(Act::Revoke, before);
    }

    fn pause(&self, milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }
}

/// A command whose calls of this name do nothing and say that all is well.
fn without(call: &str) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:retval=0")]);
    strace
}

const SECTOR: usize = 512;

/// What else goes on on the disk: files that are written and flushed, and with them the journal.
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

/// What a state must be like.
#[derive(Debug)]
struct Promise {
    /// The set, by its number.
    set: Option<usize>,
    /// Its codes that have let in, by their places.
    spent: Vec<usize>,
    /// What may have been done or not.
    acting: Option<Act>,
    /// How many notices there are at least.
    notices: usize,
}

fn promised(events: &[Event], moment: u64) -> Promise {
    let mut promise = Promise { set: None, spent: Vec::new(), acting: None, notices: 0 };
    for event in events {
        if moment < event.after {
            promise.acting = (event.before < moment).then_some(event.act);
            break;
        }
        promise.notices += 1;
        match event.act {
            Act::Generate(number) => {
                promise.set = Some(number);
                promise.spent.clear();
            }
            Act::Spend(place) => promise.spent.push(place),
            Act::Readdress => {}
            Act::Revoke => promise.set = None,
        }
    }
    promise
}

/// What was seen of a state.
#[derive(Default)]
struct Seen {
    damaged: usize,
    /// The act in whose middle it was had been done.
    done: bool,
}

/// Looks at the store of a world as a power cut has left it. What breaks a promise comes back.
fn look(world: &World, sheets: &[Sheet], promise: &Promise) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let status = world.admin(&["status", "--format", "json", &me()]);
    let sets: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
    let (code, said) = (status.status.code(), text(&status.stderr));
    let found = match code {
        Some(0) => {
            let id = sets[0]["set"].as_str().unwrap();
            Some(sheets.iter().position(|sheet| sheet.set == id).ok_or("a set that nobody made")?)
        }
        Some(1) => None,
        _ => return Err(format!("it cannot be read: {said}")),
    };
    let possible = match promise.acting {
        Some(Act::Generate(number)) => [promise.set, Some(number)],
        Some(Act::Revoke) => [promise.set, None],
        _ => [promise.set; 2],
    };
    if !possible.contains(&found) {
        return Err(format!("set {found:?}, expected {:?}", promise.set));
    }
    let is_new = found != promise.set;
    seen.done = is_new;
    let acting = match promise.acting {
        Some(Act::Spend(place)) => Some(place),
        _ => None,
    };
    let tries = |place: usize| world.try_answer(&sheets[found.unwrap()].codes[place]);
    let mut unspent = Vec::new();
    let mut notices = letters(world)?;
    for (place, code) in sets[0]["codes"].as_array().into_iter().flatten().enumerate() {
        let state = code["state"].as_str().unwrap();
        notices += usize::from(state == "spent" && code["mailed"] == false);
        if !is_new && promise.spent.contains(&place) {
            // The accepted code first: nothing may have touched the set since it was mounted.
            let returned = tries(place);
            if state != "spent" || returned != pam::AUTH_ERR {
                return Err(format!("code {place} has let in; it is {state}, and now returns {returned}"));
            }
        } else if acting == Some(place) {
            seen.damaged += usize::from(state == "damaged");
            seen.done = state != "unspent";
            let returned = [tries(place), tries(place)];
            let first = if state == "unspent" { pam::SUCCESS } else { pam::AUTH_ERR };
            if returned != [first, pam::AUTH_ERR] {
                return Err(format!(
                    "code {place}, {state}, in the act of being spent: returns {returned:?}"
                ));
            }
        } else if state != "unspent" {
            return Err(format!("code {place} was never used; it is {state}"));
        } else {
            unspent.push(place);
        }
    }
    if notices < promise.notices {
        return Err(format!("{notices} notices, expected {}", promise.notices));
    }
    if let Some(&place) = unspent.last() {
        let returned = [tries(place), tries(place)];
        if returned != [pam::SUCCESS, pam::AUTH_ERR] {
            return Err(format!("code {place} was never used; returns {returned:?}"));
        }
    }
    for (number, sheet) in sheets.iter().enumerate().filter(|&(number, _)| Some(number) != found) {
        let returned = world.try_answer(sheet.codes.last().unwrap());
        if returned != pam::AUTH_ERR {
            return Err(format!("a code of set {number}, which is not there, returns {returned}"));
        }
    }
    // What the cut has left is in nobody's way.
    let new = world.generate();
    match world.try_answer(&new.codes[0]) {
        pam::SUCCESS => Ok(seen),
        returned => Err(format!("a code of a set that was made after the cut returns {returned}")),
    }
}

/// How many letters wait in the outbox, each of which is whole.
fn letters(world: &World) -> Result<usize, String> {
    let names = world.other_files().into_iter().filter(|name| !name.starts_with('.'));
    let mut count = 0;
    for name in names {
        let letter =
            fs::read_to_string(world.store().join("outbox").join(&name)).map_err(|e| e.to_string())?;
        if !letter.contains("\nSubject: ") || !letter.contains("\n\n") || !letter.ends_with('\n') {
            return Err(format!("a part of a letter: {name}: {letter:?}"));
        }
        count += 1;
    }
    Ok(count)
}

/// What stays of writes that were not flushed.
enum Stays<'a> {
    Nothing,
    All,
    /// Any of them, or any part.
    Random(&'a mut Chance),
    /// All of each, but of sets only their first sectors, or those behind.
    Torn {
        sectors: usize,
        first: bool,
    },
}

impl Stays<'_> {
    fn part(&mut self, data: &[u8]) -> std::ops::Range<usize> {
        let all = 0..data.len();
        match self {
            Self::Nothing => 0..0,
            Self::All => all,
            Self::Random(chance) => {
                let cut = chance.index(data.len() / SECTOR + 1) * SECTOR;
                match chance.below(6) {
                    0 | 1 => 0..0,
                    2 | 3 => all,
                    4 => 0..cut,
                    _ => cut..data.len(),
                }
            }
            &mut Self::Torn { sectors, first } => {
                let cut = (sectors * SECTOR).min(data.len());
                match (is_set(data), first) {
                    (false, _) => all,
                    (true, true) => 0..cut,
                    (true, false) => cut..data.len(),
                }
            }
        }
    }
}

fn is_set(data: &[u8]) -> bool {
    data.starts_with(b"format = 1\n")
}

/// How much is done: seconds in tests that run always, minutes in others.
struct Size {
    random: usize,
    pauses: bool,
}

const SHORT: Size = Size { random: 8, pauses: false };
const LONG: Size = Size { random: 200, pauses: true };

fn survives(file_system: FileSystem, size: &Size) {
    let Some(sandbox) = sandbox_of_root() else { return };
    let Some(world) = World::new("") else { return };
    let started = Instant::now();
    let disk = file_system.disk(&sandbox);
    let mounted = Mounted::new(&world, &disk.file()).unwrap();
    mounted.make_store(file_system);
    mounted.open_store();
    let mut story = Story { world: &world, mounted, disk: &disk, sheets: Vec::new(), events: Vec::new() };
    let pause = |story: &Story, seconds: u64| story.pause(if size.pauses { seconds * 1000 } else { 100 });

    // Alone on the disk.
    story.generate();
    story.spend_across_sectors();
    pause(&story, 6);
    story.readdress();
    story.generate();
    story.spend(0);
    story.revoke();
    story.generate();
    pause(&story, 35);
    story.spend(4);
    let alone = story.events.len();

    // Beside another who writes and flushes.
    let stop = AtomicBool::new(false);
    let neighbour = story.mounted.disk.join("neighbour");
    std::thread::scope(|scope| {
        scope.spawn(|| be_a_neighbour(&neighbour, &stop));
        let stop = Stop(&stop);
        pause(&story, 2);
        for _ in 0..2 {
            story.generate();
            for place in 1..4 {
                story.pause(30);
                story.spend(place);
            }
            pause(&story, 6);
            story.readdress();
            story.revoke();
        }
        story.generate();
        drop(stop);
    });
    let kept = story.events.len();

    // What flushes nothing is seen by this test.
    story.mounted.sync();
    story.generate_without_flushes();
    story.mounted.sync();
    story.spend_without_flush(7);

    let Story { mounted, sheets, events, .. } = story;
    drop(mounted);
    let log = disk.log();
    let told = started.elapsed();
    let mut lab = Lab {
        world: &world,
        image: sandbox.join(&world.service),
        log,
        sheets,
        events,
        states: 0,
        damaged: 0,
        half: [0; 2],
    };

    let mut failures = Vec::new();
    let mut note = |what: String, result: Result<(), String>| {
        failures.extend(result.err().map(|error| format!("{what}: {error}")))
    };
    for number in 0..kept {
        let Event { act, after, .. } = lab.events[number];
        note(format!("{act:?} was done, nothing else stays"), lab.look_at(after, Stays::Nothing));
    }
    if size.pauses {
        for number in 0..kept {
            let Event { act, after, .. } = lab.events[number];
            note(format!("{act:?} was done, all stays"), lab.look_at(after, Stays::All));
        }
    }
    for number in 0..alone {
        let Event { act: Act::Spend(place), before, after } = lab.events[number] else { continue };
        let moments = lab.log.moments(before, after, 0);
        for sectors in 1..4 {
            for first in [true, false] {
                let torn = Stays::Torn { sectors, first };
                note(
                    format!("the mark of {place} is torn at {sectors}, {first}"),
                    lab.look_at(moments[0], torn),
                );
            }
        }
    }
    let mut chance = Chance(7);
    for _ in 0..size.random {
        let Event { act, before, after } = lab.events[chance.index(kept)];
        let moments = lab.log.moments(before, after, 10);
        let moment = moments[chance.index(moments.len())];
        note(format!("around {act:?}, {moment}"), lab.look_at(moment, Stays::Random(&mut chance)));
    }
    let spends = lab.events.iter().filter(|event| matches!(event.act, Act::Spend(_))).take(4);
    let counts: Vec<_> = spends.map(|event| lab.log.count(event.before, event.after)).collect();
    println!(
        "{} states, {} damaged, half {:?}; [writes, flushes] of logins {counts:?}; told {told:?}, {:?} in all",
        lab.states,
        lab.damaged,
        lab.half,
        started.elapsed()
    );
    for event in &lab.events {
        println!("{:?} {:?}", event.act, lab.log.count(event.before, event.after));
    }
    assert!(failures.is_empty(), "{failures:#?}");
    let controls = [kept, kept + 1].map(|number| lab.look_at(lab.events[number].after, Stays::Nothing));
    println!("{controls:?}");
    assert!(controls[0].as_ref().is_err_and(|error| error.contains("expected Some")), "{controls:?}");
    assert!(
        controls[1].as_ref().is_err_and(|error| error.contains("it is unspent, and now returns 0")),
        "{controls:?}"
    );
    assert!(lab.damaged > 0, "no mark was torn");
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Where states are looked at.
struct Lab<'a> {
    world: &'a World,
    image: PathBuf,
    log: Log,
    sheets: Vec<Sheet>,
    events: Vec<Event>,
    states: usize,
    damaged: usize,
    /// Of those in the middle of an act: not done, done.
    half: [usize; 2],
}

impl Lab<'_> {
    fn look_at(&mut self, moment: u64, mut stays: Stays) -> Result<(), String> {
        self.states += 1;
        self.log.cut(moment, &self.image, &mut |data| stays.part(data));
        let promise = promised(&self.events, moment);
        let mounted = Mounted::new(self.world, &self.image)?;
        if !mounted.store().exists() {
            return Err("no store".into());
        }
        mounted.open_store();
        let seen =
            look(self.world, &self.sheets, &promise).map_err(|error| format!("{error}; {promise:?}"))?;
        self.damaged += seen.damaged;
        if promise.acting.is_some() {
            self.half[usize::from(seen.done)] += 1;
        }
        Ok(())
    }
}

#[test]
fn what_let_in_is_spent_and_sets_are_whole_after_a_power_cut_on_ext4() {
    survives(FileSystem::Ext4, &SHORT);
}

#[test]
fn what_let_in_is_spent_and_sets_are_whole_after_a_power_cut_on_xfs() {
    survives(FileSystem::Xfs, &SHORT);
}

#[test]
fn what_let_in_is_spent_and_sets_are_whole_after_a_power_cut_on_btrfs() {
    survives(FileSystem::Btrfs, &SHORT);
}

#[test]
#[ignore = "over a minute: tests/long"]
fn what_let_in_is_spent_and_sets_are_whole_after_200_power_cuts_on_ext4() {
    survives(FileSystem::Ext4, &LONG);
}

#[test]
#[ignore = "over a minute: tests/long"]
fn what_let_in_is_spent_and_sets_are_whole_after_200_power_cuts_on_xfs() {
    survives(FileSystem::Xfs, &LONG);
}

#[test]
#[ignore = "over a minute: tests/long"]
fn what_let_in_is_spent_and_sets_are_whole_after_200_power_cuts_on_btrfs() {
    survives(FileSystem::Btrfs, &LONG);
}
