//! One attempt from its answer to its verdict, and what the log is told of it: the same whoever runs it, the module in its
//! host or the broker for hosts that cannot.

mod judge;

use std::fmt::Display;

pub use self::judge::{Match, Refusal, Request, has_no_set, judge};
use crate::account::Account;
use crate::clock;
use crate::config::Config;
use crate::hash::Memory;
use crate::origin::Origin;
use crate::set::SpentRecord;
use crate::store::{Accepted, FileStore, StoreError};
use crate::throttle::permit::WithPermit;
use crate::throttle::{Counted, Throttle};

/// Who logs in, and from where.
pub struct Login<'a> {
    /// The rules of this host.
    pub config: &'a Config,
    /// The account, or `None` where the user database has none.
    pub account: Option<&'a Account>,
    /// Where the attempt comes from.
    pub origin: &'a Origin,
}

/// Anything but a yes: what the application is told, and what the log is to be told.
#[derive(Debug)]
pub struct Denial {
    /// What the application is told.
    pub outcome: Outcome,
    /// The weight of the line.
    pub level: Level,
    /// The line, which may say that a code was right: it is for nobody's eyes but an administrator's.
    pub reason: String,
}

/// How an answer that is not accepted is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
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
pub trait Process {
    /// Memory for one hash.
    fn memory(&self) -> Box<dyn Memory>;

    /// Runs `f` where the user who started the process can neither stop it nor make it fail.
    ///
    /// # Errors
    /// The process cannot be shielded, in words for the log. `f` may have run all the same.
    fn shielded(&self, f: &mut dyn FnMut()) -> Result<(), String>;

    /// Writes a line to the log.
    fn log(&self, level: Level, line: &str);
}

/// [`Process::shielded`] for what gives a result.
fn shielded<T>(process: &dyn Process, f: impl FnOnce() -> T) -> Result<T, String> {
    let (mut f, mut result) = (Some(f), None);
    process.shielded(&mut || result = f.take().map(|f| f()))?;
    result.ok_or_else(|| "a step of the attempt did not run; please report this bug".into())
}

impl Login<'_> {
    /// Judges the answer and spends its code. On return an accepted code is logged, and spent on stable storage.
    ///
    /// # Errors
    /// [`No`]: the answer must not be accepted.
    pub fn attempt(&self, answer: &[u8], process: &dyn Process) -> Result<Accepted, Denial> {
        let Self { config, account, origin } = *self;
        let store = FileStore::new(&config.directory);
        let request = Request { account, answer, cost: config.hash.cost };
        let mut memory = WithPermit::new(config, process.memory());
        let judged = judge(&store, request, || self.count(process), &mut memory);
        // Neither memory nor permit is kept while the set is locked.
        drop(memory);
        let (found, counted) = judged.map_err(|refusal| refused(&refusal, origin))?;
        let accepted = self.spend(found, &counted, process)?;
        let (number, left, set) = (accepted.number(), accepted.left(), accepted.set().unwrap_or("?"));
        process.log(Level::Notice, &format!("accepted code {number} of set {set}, {left} left; {origin}"));
        if let Err(error) = counted.clear() {
            process.log(
                Level::Warning,
                &format!("failures are not counted as they should be: {error}; {origin}"),
            );
        }
        Ok(accepted)
    }

    /// Whether the answer would be accepted. Nothing is spent; a wrong one counts as a failure, or this would be a way to guess.
    ///
    /// # Errors
    /// [`Refusal`], which says why it would not be.
    pub fn verify(&self, answer: &[u8], process: &dyn Process) -> Result<(), Refusal> {
        let store = FileStore::new(&self.config.directory);
        let request = Request { account: self.account, answer, cost: self.config.hash.cost };
        let mut memory = WithPermit::new(self.config, process.memory());
        let (_, counted) = judge(&store, request, || self.count(process), &mut memory)?;
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
    fn count(&self, process: &dyn Process) -> Result<Counted, Refusal> {
        let throttle = Throttle::new(self.config);
        let counted = shielded(process, || throttle.count(self.origin.counter(), clock::precise()))
            .map_err(Refusal::Uncounted)?
            .map_err(|error| Refusal::Uncounted(error.to_string()))?;
        match counted.refused {
            Some(wait) => Err(Refusal::Throttled(counted.before, wait)),
            None => Ok(counted),
        }
    }

    /// A spend that fails is answered like a wrong code: who can make it fail must not learn that the code was right.
    fn spend(
        &self,
        found: Match<'_, FileStore>,
        counted: &Counted,
        process: &dyn Process,
    ) -> Result<Accepted, Denial> {
        let Self { origin, .. } = self;
        let number = found.number();
        let record = SpentRecord::new(clock::now(), counted.before, &origin.service, origin.source());
        let failed = |error: &dyn Display| {
            let reason = format!(
                "refused: code {number} was right but could not be spent, and may be lost: {error}; {origin}"
            );
            Denial { outcome: Outcome::Refused, level: Level::Critical, reason }
        };
        shielded(process, || found.spend(&record))
            .map_err(|error| failed(&error))?
            .map_err(|error| failed(&error))
    }
}

fn refused(refusal: &Refusal, origin: &Origin) -> Denial {
    let (outcome, level) = match refusal {
        Refusal::Malformed
        | Refusal::NoSuchNumber(_)
        | Refusal::Spent(..)
        | Refusal::Damaged(_)
        | Refusal::Wrong(_) => (Outcome::Refused, Level::Notice),
        Refusal::NoSet => (Outcome::Refused, Level::Debug),
        // Told as no set is.
        Refusal::Store(StoreError::OtherName { .. }) => (Outcome::Refused, Level::Error),
        Refusal::NoUser => (Outcome::UserUnknown, Level::Notice),
        Refusal::Throttled(..) => (Outcome::Refused, Level::Warning),
        Refusal::Uncounted(_) | Refusal::Store(_) | Refusal::Hash(_) => (Outcome::Unavailable, Level::Error),
    };
    Denial { outcome, level, reason: format!("refused: {refusal}; {origin}") }
}
