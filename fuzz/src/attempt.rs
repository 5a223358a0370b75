use arbitrary::{Arbitrary, Unstructured};
use backupcodes_core::clock;
use backupcodes_core::set::Mail;

// The unit tests check the same property.
pub(crate) use hostile_sets as hostile;
use hostile_sets::{CODES, Scene, World};

use crate::time::Clock;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    of_bob: bool,
    uses: [Use; CODES],
    changes: Vec<Change<'a>>,
    is_new_account: bool,
    answers: Vec<Answer<'a>>,
    counter: Option<(u16, Clock)>,
    clock: Clock,
    source: &'a str,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Use {
    None,
    Due,
    Ok,
}

#[derive(Arbitrary, Debug)]
enum Answer<'a> {
    Alices(u8),
    Bobs(u8),
    Other(&'a [u8]),
}

#[derive(Arbitrary, Debug)]
enum Change<'a> {
    Cut(u16),
    Flip(u16, u8),
    Overwrite(u16, &'a [u8]),
    Insert(u16, &'a [u8]),
    Remove(u16, u8),
    Swap(u16, u16, u8),
    SwapLines(u8, u8),
    RepeatLine(u8, u8),
    Splice(u16, u16, u16),
}

thread_local! {
    static WORLD: World = World::new();
}

/// Whole attempts with a torn or changed set file: see [`World::play`].
pub fn attempt(bytes: &[u8]) -> bool {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(bytes)) else { return false };
    WORLD.with(|world| world.play(&input.scene()) > 0)
}

impl Input<'_> {
    fn scene(&self) -> Scene {
        let now = clock::precise();
        Scene {
            of_bob: self.of_bob,
            uses: self.uses.map(|used| match used {
                Use::None => None,
                Use::Due => Some(Mail::Due),
                Use::Ok => Some(Mail::Ok),
            }),
            changes: self.changes.iter().take(6).map(Change::change).collect(),
            is_new_account: self.is_new_account,
            answers: self.answers.iter().take(2).map(Answer::answer).collect(),
            counter: self.counter.as_ref().map(|(failures, clock)| (*failures, clock.time(now))),
            now: self.clock.time(now),
            source: self.source.into(),
        }
    }
}

impl Answer<'_> {
    fn answer(&self) -> hostile::Answer {
        match *self {
            Self::Alices(at) => hostile::Answer::Alices(at.into()),
            Self::Bobs(at) => hostile::Answer::Bobs(at.into()),
            Self::Other(bytes) => hostile::Answer::Other(bytes.into()),
        }
    }
}

impl Change<'_> {
    fn change(&self) -> hostile::Change {
        use hostile::Change as To;
        match *self {
            Self::Cut(at) => To::Cut(at.into()),
            Self::Flip(at, bit) => To::Flip { at: at.into(), bit },
            Self::Overwrite(at, bytes) => To::Overwrite { at: at.into(), bytes: bytes.into() },
            Self::Insert(at, bytes) => To::Insert { at: at.into(), bytes: bytes.into() },
            Self::Remove(at, length) => To::Remove { at: at.into(), length: length.into() },
            Self::Swap(at, with, length) => {
                To::Swap { at: at.into(), with: with.into(), length: length.into() }
            }
            Self::SwapLines(a, b) => To::SwapLines(a.into(), b.into()),
            Self::RepeatLine(line, before) => To::RepeatLine { line: line.into(), before: before.into() },
            Self::Splice(at, from, length) => {
                To::Splice { at: at.into(), from: from.into(), length: length.into() }
            }
        }
    }
}
