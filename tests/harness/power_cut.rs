//! Power cuts: builds from the log of a [`crate::logged_disk`] what a cut at some moment may have left, mounts it, and looks at it by
//! commands and logins.

mod promise;

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use self::promise::{Promise, look};
use crate::chance::Chance;
use crate::logged_disk::Log;
use crate::mounted::Mounted;
use crate::{Sheet, World};

/// An act, the moment before it, and that when it was said to be done.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub act: Act,
    pub before: u64,
    pub after: u64,
}

#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// A new set, by its number.
    Generate(usize),
    /// The same after a `revoke` that was killed before it flushed: until the new set is there, the old one may be gone.
    GenerateAfterRevoke(usize),
    /// A code of the set is accepted, by its place on the sheet.
    Spend(usize),
    /// The same, of the set of this number, while the command that has put it in place has not flushed its name.
    SpendInside {
        set: usize,
        place: usize,
    },
    Readdress,
    Revoke,
}

impl Act {
    pub fn is_spend(self) -> bool {
        matches!(self, Self::Spend(_) | Self::SpendInside { .. })
    }

    pub fn is_generate(self) -> bool {
        matches!(self, Self::Generate(_))
    }
}

/// What a disk writes whole.
pub const SECTOR: usize = 512;
/// What file systems count on being written whole: ext4 and btrfs do not mount where this much of them is torn.
const BLOCK: usize = 4096;

/// What stays of writes that were not flushed.
#[derive(Debug)]
pub enum Stays<'a> {
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
    /// Which part of one.
    pub fn part(&mut self, data: &[u8]) -> Range<usize> {
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

/// Whether this is the file of a set.
pub fn is_set(data: &[u8]) -> bool {
    data.starts_with(b"format = 1\n")
}

/// Where cuts are made.
pub struct Lab<'a> {
    world: &'a World,
    /// The disk as it is after a cut.
    image: PathBuf,
    pub log: Log,
    /// Those of all sets, by their number.
    sheets: Vec<Sheet>,
    pub events: Vec<Event>,
    /// What breaks the promise.
    pub failures: Vec<String>,
    states: usize,
    /// The acts in whose middle a state was, and whether they were done in it; records torn on purpose are left out.
    halves: Vec<(Act, bool)>,
    /// States with a torn record.
    pub damaged: usize,
}

impl<'a> Lab<'a> {
    pub fn new(world: &'a World, image: PathBuf, log: Log, sheets: Vec<Sheet>, events: Vec<Event>) -> Self {
        Self {
            world,
            image,
            log,
            sheets,
            events,
            failures: Vec::new(),
            states: 0,
            halves: Vec::new(),
            damaged: 0,
        }
    }

    /// Cuts the power at a moment around the event of this number.
    pub fn look_at(&mut self, number: usize, moment: u64, mut stays: Stays<'_>) {
        self.states += 1;
        let promise = Promise::at(moment, &self.events);
        self.log.cut(moment, &self.image, &mut |data| stays.part(data));
        let mounted = Mounted::again(self.world, &self.image);
        match mounted.and_then(|_mounted| look(self.world, &self.sheets, &promise)) {
            Ok(seen) => {
                self.damaged += usize::from(seen.damaged);
                if !matches!(stays, Stays::Torn { .. }) {
                    self.halves.extend(promise.acting.map(|act| (act, seen.done)));
                }
            }
            Err(error) => {
                let act = self.events[number].act;
                self.failures.push(format!("{error} ({act:?}, moment {moment}, {stays:?}, {promise:?})"));
            }
        }
    }

    /// What breaks the promise where nothing stays that was not flushed; empty, if it holds.
    pub fn failure_at(&mut self, number: usize, moment: u64) -> String {
        self.look_at(number, moment, Stays::Nothing);
        self.failures.pop().unwrap_or_default()
    }

    /// How many of these acts were not done, and how many were done, in states in their middle.
    pub fn halves(&self, is_one: fn(Act) -> bool) -> [usize; 2] {
        let ones = self.halves.iter().filter(|(act, _)| is_one(*act));
        let done = ones.clone().filter(|(_, done)| *done).count();
        [ones.count() - done, done]
    }

    pub fn tell(&self, told: Duration, all: Duration) {
        let counts = self.events.iter().map(|event| {
            let [writes, flushes] = self.log.count(event.before, event.after);
            format!("{:?} {writes}+{flushes}", event.act)
        });
        println!(
            "{} states; in the middle (not done, done): of a spend {:?}, of a generate {:?}, of all {:?}; {} records \
             damaged; {told:?} + {:?}; writes + flushes: {}",
            self.states,
            self.halves(Act::is_spend),
            self.halves(Act::is_generate),
            self.halves(|_| true),
            self.damaged,
            all - told,
            counts.collect::<Vec<_>>().join(", ")
        );
    }
}
