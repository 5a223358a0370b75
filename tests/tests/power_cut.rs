//! Whatever a power cut leaves of the disk, a code that let in is spent, and a set is whole: the old one or the new one.
//!
//! A file system lies on a disk that logs what is written to it. After some logins and new sets, what a power cut at this
//! or that moment may have left is made of the log, mounted, and looked at through the command line and by logins.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backupcodes_tests::chance::Chance;
use backupcodes_tests::disk::FileSystem;
use backupcodes_tests::logged_disk::{Log, LoggedDisk};
use backupcodes_tests::mounted::Mounted;
use backupcodes_tests::strace::tampering;
use backupcodes_tests::{Sheet, World, built, feed, me, pam, race_in, sandbox_of_root, sheet, text};

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

struct Size {
    /// Cuts at random moments.
    random: usize,
    /// Whether the kernel gets the time to write of itself what it has, in which up to 35 s go by.
    pauses: bool,
}

const SHORT: Size = Size { random: 8, pauses: false };
const LONG: Size = Size { random: 200, pauses: true };

fn survives(kind: FileSystem, size: &Size) {
    let Some(sandbox) = sandbox_of_root() else { return };
    let Some(world) = World::new("") else { return };
    let start = Instant::now();
    let disk = LoggedDisk::new(&sandbox, kind);
    let mounted = Mounted::first(&world, &disk.file(), kind).unwrap();
    let mut story = Story { world: &world, disk: &disk, mounted, sheets: Vec::new(), events: Vec::new() };
    let pause = |seconds| {
        std::thread::sleep(if size.pauses {
            Duration::from_secs(seconds)
        } else {
            Duration::from_millis(50)
        });
    };

    story.generate();
    story.spend_across_sectors();
    pause(6);
    story.readdress();
    story.generate();
    story.spend(0);
    story.revoke();
    story.generate();
    pause(35);
    story.spend(4);
    let alone = story.events.len();

    let stop = AtomicBool::new(false);
    let neighbour = story.mounted.path("neighbour");
    std::thread::scope(|scope| {
        scope.spawn(|| be_a_neighbour(&neighbour, &stop));
        let _stop = Stop(&stop);
        for _ in 0..2 {
            pause(2);
            story.generate();
            for place in 1..4 {
                story.spend(place);
                pause(2);
            }
            story.readdress();
            story.revoke();
        }
        story.generate();
    });
    let kept = story.events.len();

    story.mounted.sync();
    story.generate_without_flushes();
    story.mounted.sync();
    story.spend_without_flush(7);

    let Story { mounted, sheets, events, .. } = story;
    drop(mounted);
    let log = disk.log();
    let image = disk.path("cut");
    let mut lab = Lab {
        world: &world,
        image,
        log,
        sheets,
        events,
        failures: Vec::new(),
        states: 0,
        halves: [0; 2],
        damaged: 0,
    };
    let told = start.elapsed();

    for number in 0..kept {
        let done = lab.events[number].after;
        lab.look_at(number, done, Stays::Nothing);
        if size.pauses {
            lab.look_at(number, done, Stays::All);
        }
    }
    for number in 0..alone {
        let Event { act: Act::Spend(_), before, after } = lab.events[number] else { continue };
        let Some(marked) = lab.log.when(before, after, is_set) else { panic!("no mark was written") };
        for (sectors, first) in [(1, true), (1, false), (2, true), (2, false)] {
            lab.look_at(number, marked, Stays::Torn { sectors, first });
        }
    }
    let mut chance = Chance(7);
    let kept_time = lab.events[0].before..=lab.events[kept].before;
    for _ in 0..size.random {
        let number = chance.index(kept);
        let Event { before, after, .. } = lab.events[number];
        let mut moments = lab.log.moments(before, after, 10);
        // Before them there is no store, and behind them nothing is flushed that should be.
        moments.retain(|moment| kept_time.contains(moment));
        lab.look_at(number, moments[chance.index(moments.len())], Stays::Random(&mut chance));
    }
    lab.tell(told, start.elapsed());
    assert!(lab.failures.is_empty(), "{:#?}", lab.failures);
    assert!(lab.damaged > 0, "no mark was torn");

    // This test sees what flushes nothing.
    for (number, error) in [(kept, "expected set Some"), (kept + 1, "it is unspent, and now returns 0")] {
        lab.look_at(number, lab.events[number].after, Stays::Nothing);
        let failure = lab.failures.pop().unwrap_or_default();
        assert!(failure.contains(error), "{failure}");
    }
}

/// What was done on a disk.
struct Story<'a> {
    world: &'a World,
    disk: &'a LoggedDisk,
    mounted: Mounted<'a>,
    sheets: Vec<Sheet>,
    events: Vec<Event>,
}

/// An act, the moment before it, and that when it was said to be done.
struct Event {
    act: Act,
    before: u64,
    after: u64,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    /// A new set, by its number.
    Generate(usize),
    /// A code of the set lets in, by its place on the sheet.
    Spend(usize),
    Readdress,
    Revoke,
}

impl Story<'_> {
    fn generate(&mut self) {
        let command = self.world.admin_command();
        self.generate_by(command);
    }

    fn generate_without_flushes(&mut self) {
        let mut strace = without("fsync");
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
        self.spend_in(&mut Command::new(built("pamhost")), place);
    }

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

    /// Spends the codes of a new set whose entries lie in two sectors, so that a mark can be torn.
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

/// A command whose calls of this name do nothing and are said to be done.
fn without(call: &str) -> Command {
    let mut strace = tampering(&format!("{call}:retval=0"));
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

/// What a disk writes whole.
const SECTOR: usize = 512;
/// What file systems count on being written whole: ext4 and btrfs do not mount where this much of them is torn.
const BLOCK: usize = 4096;

/// What stays of writes that were not flushed.
#[derive(Debug)]
enum Stays<'a> {
    Nothing,
    All,
    /// Of each: nothing, all, or a part.
    Random(&'a mut Chance),
    /// All, but of a set only its first sectors, or those behind.
    Torn {
        sectors: usize,
        first: bool,
    },
}

impl Stays<'_> {
    fn part(&mut self, data: &[u8]) -> Range<usize> {
        let all = 0..data.len();
        let parts = |cut: usize, first| if first { 0..cut } else { cut..data.len() };
        match self {
            Self::Nothing => 0..0,
            Self::All => all,
            Self::Random(chance) => {
                let whole = if is_set(data) { SECTOR } else { BLOCK };
                let cut = chance.index(data.len() / whole + 1) * whole;
                [0..0, all, parts(cut, true), parts(cut, false)][chance.index(4)].clone()
            }
            Self::Torn { sectors, first } if is_set(data) => parts(*sectors * SECTOR, *first),
            Self::Torn { .. } => all,
        }
    }
}

fn is_set(data: &[u8]) -> bool {
    data.starts_with(b"format = 1\n")
}

/// Where cuts are made.
struct Lab<'a> {
    world: &'a World,
    image: PathBuf,
    log: Log,
    sheets: Vec<Sheet>,
    events: Vec<Event>,
    failures: Vec<String>,
    states: usize,
    /// States in the middle of an act: as if it had not begun, and as if it were done.
    halves: [usize; 2],
    damaged: usize,
}

impl Lab<'_> {
    fn look_at(&mut self, number: usize, moment: u64, mut stays: Stays) {
        self.states += 1;
        let promise = Promise::at(moment, &self.events);
        self.log.cut(moment, &self.image, &mut |data| stays.part(data));
        let mounted = Mounted::again(self.world, &self.image);
        match mounted.and_then(|_mounted| look(self.world, &self.sheets, &promise)) {
            Ok(seen) => {
                self.damaged += usize::from(seen.damaged);
                if promise.acting.is_some() {
                    self.halves[usize::from(seen.done)] += 1;
                }
            }
            Err(error) => {
                let act = self.events[number].act;
                self.failures.push(format!("{error} ({act:?}, moment {moment}, {stays:?}, {promise:?})"));
            }
        }
    }

    fn tell(&self, told: Duration, all: Duration) {
        let counts = self.events.iter().map(|event| {
            let [writes, flushes] = self.log.count(event.before, event.after);
            format!("{:?} {writes}+{flushes}", event.act)
        });
        println!(
            "{} states, {:?} in the middle of an act (not done, done), {} marks damaged; {told:?} + {:?}; writes + \
             flushes: {}",
            self.states,
            self.halves,
            self.damaged,
            all - told,
            counts.collect::<Vec<_>>().join(", ")
        );
    }
}

/// What a state must be like.
#[derive(Debug, Default)]
struct Promise {
    /// The set, by its number.
    set: Option<usize>,
    /// Its codes that have let in.
    spent: Vec<usize>,
    /// What may have been done or not.
    acting: Option<Act>,
    /// How many sets there have been.
    sets: usize,
    /// How many notices there are at least.
    notices: usize,
}

impl Promise {
    fn at(moment: u64, events: &[Event]) -> Self {
        let mut promise = Self::default();
        for event in events {
            if moment < event.after {
                promise.acting = (event.before < moment).then_some(event.act);
                break;
            }
            promise.notices += 1;
            match event.act {
                Act::Generate(number) => {
                    promise = Self { set: Some(number), spent: Vec::new(), sets: number + 1, ..promise };
                }
                Act::Spend(place) => promise.spent.push(place),
                Act::Readdress => {}
                Act::Revoke => promise.set = None,
            }
        }
        promise
    }

    /// The sets that may be there.
    fn possible(&self) -> [Option<usize>; 2] {
        match self.acting {
            Some(Act::Generate(number)) => [self.set, Some(number)],
            Some(Act::Revoke) => [self.set, None],
            _ => [self.set; 2],
        }
    }
}

/// What was seen of a state.
struct Seen {
    /// A mark is torn.
    damaged: bool,
    /// The act in whose middle it is was done.
    done: bool,
}

/// Looks at what a power cut has left. What breaks the promise comes back.
fn look(world: &World, sheets: &[Sheet], promise: &Promise) -> Result<Seen, String> {
    let output = world.admin(&["status", "--format", "json", &me()]);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let found = match output.status.code() {
        Some(0) => {
            Some(sheets.iter().position(|sheet| status[0]["set"] == sheet.set).ok_or("a set of nobody's")?)
        }
        Some(1) => None,
        _ => return Err(format!("unreadable: {}", text(&output.stderr))),
    };
    if !promise.possible().contains(&found) {
        return Err(format!("set {found:?}, expected set {:?}", promise.set));
    }
    let mut seen = Seen { damaged: false, done: found != promise.set };
    // Of a set that was not yet promised no code was used.
    let (spent, acting) = match promise.acting {
        _ if seen.done => (&[][..], None),
        Some(Act::Spend(place)) => (&promise.spent[..], Some(place)),
        _ => (&promise.spent[..], None),
    };
    let no_codes = Vec::new();
    let codes = status[0]["codes"].as_array().unwrap_or(&no_codes);
    let returned = |place: usize| world.try_answer(&sheets[found.unwrap()].codes[place]);
    let mut unspent = None;
    for (place, code) in codes.iter().enumerate() {
        let state = code["state"].as_str().unwrap();
        if spent.contains(&place) {
            let now = returned(place);
            if state != "spent" || now != pam::AUTH_ERR {
                return Err(format!("code {place} has let in; it is {state}, and now returns {now}"));
            }
        } else if acting == Some(place) {
            (seen.damaged, seen.done) = (state == "damaged", state != "unspent");
            let first = if seen.done { pam::AUTH_ERR } else { pam::SUCCESS };
            let twice = [returned(place), returned(place)];
            if twice != [first, pam::AUTH_ERR] {
                return Err(format!("code {place} was being spent; it is {state}, and returns {twice:?}"));
            }
        } else if state == "unspent" {
            unspent = Some(place);
        } else {
            return Err(format!("code {place} was never used; it is {state}"));
        }
    }
    let due = codes.iter().filter(|code| code["mailed"] == false).count();
    let notices = due + letters(world)?;
    if notices < promise.notices {
        return Err(format!("{notices} notices, expected {}", promise.notices));
    }
    if let Some(place) = unspent {
        let twice = [returned(place), returned(place)];
        if twice != [pam::SUCCESS, pam::AUTH_ERR] {
            return Err(format!("code {place} was never used, and returns {twice:?}"));
        }
    }
    for (number, sheet) in sheets.iter().enumerate().skip(promise.sets.saturating_sub(2)).take(3) {
        if Some(number) != found && world.try_answer(&sheet.codes[9]) != pam::AUTH_ERR {
            return Err(format!("a code of set {number} lets in, and the set is not there"));
        }
    }
    // What is left half done is in nobody's way.
    let new = world.generate();
    if world.try_answer(&new.codes[0]) != pam::SUCCESS {
        return Err("a set that is made after the cut does not let in".into());
    }
    Ok(seen)
}

/// How many letters wait, each of which must be whole.
fn letters(world: &World) -> Result<usize, String> {
    let outbox = world.store().join("outbox");
    let mut count = 0;
    for name in world.other_files().iter().filter(|name| !name.starts_with('.')) {
        let letter = fs::read_to_string(outbox.join(name)).map_err(|error| format!("{name}: {error}"))?;
        if !letter.contains("\nSubject: ") || !letter.contains("\n\n") || !letter.ends_with('\n') {
            return Err(format!("a part of a letter, {name}: {letter:?}"));
        }
        count += 1;
    }
    Ok(count)
}
