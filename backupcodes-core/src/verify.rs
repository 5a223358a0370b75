//! One attempt from its answer to its verdict, and what the log is told of it: the same whoever runs it, the module in its
//! host or the broker for hosts that cannot.

mod judge;

use std::fmt::Display;

pub use self::judge::{Accepted, Match, Refusal, Request, has_no_set, judge};
use crate::account::Account;
use crate::clock;
use crate::config::Config;
use crate::hash::Memory;
use crate::origin::Place;
use crate::set::Mark;
use crate::store::{FileStore, StoreError};
use crate::throttle::permit::InSlot;
use crate::throttle::{Counted, Throttle};

/// Who logs in, and from where.
pub struct Login<'a> {
    /// The rules of this host.
    pub config: &'a Config,
    /// The account, or `None` where the user database has none.
    pub account: Option<&'a Account>,
    /// Where the attempt comes from.
    pub place: &'a Place,
}

/// Anything but a yes: what the application is told, and what the log is to be told.
#[derive(Debug)]
pub struct No {
    /// What the application is told.
    pub answer: Answer,
    /// The weight of the line.
    pub level: Level,
    /// The line, which may say that a code was right: it is for nobody's eyes but an administrator's.
    pub reason: String,
}

/// How an answer that is not accepted is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Wrong, spent, malformed, throttled, or right and not spent: they are answered alike.
    Refused,
    /// The user database has no such account.
    UserUnknown,
    /// Nothing is known: the store, a counter or memory failed.
    Unavailable,
}

/// Weights of the log, as syslog(3) names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A right code that could not be spent.
    Critical,
    /// Something that an administrator has to mend.
    Error,
    /// Something that an administrator should look at.
    Warning,
    /// What happens.
    Notice,
    /// What an administrator looks for.
    Debug,
}

/// What an attempt needs of the process that it runs in.
pub trait Host {
    /// Memory for one hash.
    type Memory: Memory + Default;

    /// Runs `f` where whoever started the process cannot get at it.
    ///
    /// # Errors
    /// The process cannot be shielded, in words for the log. `f` may have run all the same.
    fn undisturbed<T>(&self, f: impl FnOnce() -> T) -> Result<T, String>;

    /// Writes a line to the log.
    fn log(&self, level: Level, line: &str);
}

impl Login<'_> {
    /// Judges the answer and spends its code. On return an accepted code is logged, and spent on stable storage.
    ///
    /// # Errors
    /// [`No`]: the answer must not be accepted.
    pub fn attempt<H: Host>(&self, answer: &[u8], host: &H) -> Result<Accepted, No> {
        let Self { config, account, place } = *self;
        let store = FileStore::new(&config.directory);
        let request = Request { account, answer, cost: config.hash.cost };
        let mut memory = InSlot::new(config, H::Memory::default());
        let judged = judge(&store, request, || self.count(host), &mut memory);
        // Neither memory nor slot is kept while the set is locked.
        drop(memory);
        let (found, counted) = judged.map_err(|refusal| refused(&refusal, place))?;
        let accepted = self.spend(found, &counted, host)?;
        let Accepted { slot, set, left } = &accepted;
        host.log(Level::Notice, &format!("accepted code {slot} of set {set}, {left} left; {place}"));
        if let Err(error) = counted.clear() {
            host.log(
                Level::Warning,
                &format!("failures are not counted as they should be: {error}; {place}"),
            );
        }
        Ok(accepted)
    }

    /// Whether the answer would be accepted. Nothing is spent; a wrong one counts as a failure, or this would be a way to guess.
    ///
    /// # Errors
    /// [`Refusal`], which says why it would not be.
    pub fn verify<H: Host>(&self, answer: &[u8], host: &H) -> Result<(), Refusal> {
        let store = FileStore::new(&self.config.directory);
        let request = Request { account: self.account, answer, cost: self.config.hash.cost };
        let mut memory = InSlot::new(self.config, H::Memory::default());
        let (_, counted) = judge(&store, request, || self.count(host), &mut memory)?;
        // It was no failure.
        let _ = counted.clear();
        Ok(())
    }

    /// Whether it is proven that the user has no set. Only a proof counts: any error leads on to the prompt, and fails there.
    #[must_use]
    pub fn has_no_set(&self) -> bool {
        let store = FileStore::new(&self.config.directory);
        self.account.is_some_and(|account| has_no_set(&store, account).unwrap_or(false))
    }

    /// Counts the attempt where it cannot be disturbed: a file size limit of the caller's is no way around it.
    fn count<H: Host>(&self, host: &H) -> Result<Counted, Refusal> {
        let throttle = Throttle::new(self.config);
        let counted = host
            .undisturbed(|| throttle.count(self.place.key(), clock::precise()))
            .map_err(Refusal::Uncounted)?
            .map_err(|error| Refusal::Uncounted(error.to_string()))?;
        match counted.refused {
            Some(wait) => Err(Refusal::Throttled(counted.before, wait)),
            None => Ok(counted),
        }
    }

    /// A spend that fails is answered like a wrong code: who can make it fail must not learn that the code was right.
    fn spend<H: Host>(
        &self,
        found: Match<'_, FileStore>,
        counted: &Counted,
        host: &H,
    ) -> Result<Accepted, No> {
        let Self { place, .. } = self;
        let slot = found.slot();
        let mark = Mark::new(clock::now(), counted.before, &place.service, place.source());
        let failed = |error: &dyn Display| {
            let reason = format!(
                "refused: code {slot} was right but could not be spent, and may be lost: {error}; {place}"
            );
            No { answer: Answer::Refused, level: Level::Critical, reason }
        };
        host.undisturbed(|| found.spend(&mark))
            .map_err(|error| failed(&error))?
            .map_err(|error| failed(&error))
    }
}

fn refused(refusal: &Refusal, place: &Place) -> No {
    let (answer, level) = match refusal {
        Refusal::Malformed
        | Refusal::NoSlot(_)
        | Refusal::Spent(..)
        | Refusal::Damaged(_)
        | Refusal::Wrong(_) => (Answer::Refused, Level::Notice),
        Refusal::NoSet => (Answer::Refused, Level::Debug),
        // Told as no set is.
        Refusal::Store(StoreError::OtherName { .. }) => (Answer::Refused, Level::Error),
        Refusal::NoUser => (Answer::UserUnknown, Level::Notice),
        Refusal::Throttled(..) => (Answer::Refused, Level::Warning),
        Refusal::Uncounted(_) | Refusal::Store(_) | Refusal::Hash(_) => (Answer::Unavailable, Level::Error),
    };
    No { answer, level, reason: format!("refused: {refusal}; {place}") }
}
