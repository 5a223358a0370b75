//! One attempt, from the response to the verdict, with its log lines. The module runs it in the process of the application, and
//! the broker for applications without access to the sets.

mod judge;

use std::fmt::Display;

pub use self::judge::{MatchedCode, Refusal, Request, has_no_set, judge};
use crate::account::Account;
use crate::clock;
use crate::config::Config;
use crate::hash::Memory;
use crate::origin::Origin;
use crate::set::SpentRecord;
use crate::store::{Accepted, Sets, StoreError};
use crate::throttle::permit::WithPermit;
use crate::throttle::{CountedAttempt, Throttle};

/// The user of an attempt and its origin.
pub struct Login<'a> {
    /// The configuration of this machine.
    pub config: &'a Config,
    /// The account, or `None` if the user database has none.
    pub account: Option<&'a Account>,
    /// The origin of the attempt.
    pub origin: &'a Origin,
}

/// An attempt that is not accepted: the outcome for the application, and a line for the log.
#[derive(Debug)]
pub struct Denial {
    /// The outcome for the application.
    pub outcome: Outcome,
    /// The priority of the line.
    pub level: Level,
    /// The line. It may reveal that a code was right, so only administrators may read it.
    pub reason: String,
}

/// The outcome of an attempt that is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Wrong, spent, malformed, throttled, or right but not spent: the application cannot tell them apart.
    Refused,
    /// The user database has no such account.
    UserUnknown,
    /// Nothing is known: the store, a counter or a memory allocation failed.
    Unavailable,
}

/// Priorities of the log, as syslog(3) names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A right code that cannot be spent.
    Critical,
    /// A fault that an administrator must fix.
    Error,
    /// An event that an administrator should examine.
    Warning,
    /// A normal event.
    Notice,
    /// Details for an administrator.
    Debug,
}

/// What an attempt needs from its process.
pub trait Process {
    /// Memory for one hash.
    fn memory(&self) -> Box<dyn Memory>;

    /// Runs `f` while the user who started the process can neither stop it nor make it fail.
    ///
    /// # Errors
    /// The process cannot be shielded, as text for the log. `f` may have run.
    fn shielded(&self, f: &mut dyn FnMut()) -> Result<(), String>;

    /// Writes a line to the log.
    fn log(&self, level: Level, line: &str);
}

/// [`Process::shielded`] with a result.
fn shielded<T>(process: &dyn Process, f: impl FnOnce() -> T) -> Result<T, String> {
    let (mut f, mut result) = (Some(f), None);
    process.shielded(&mut || result = f.take().map(|f| f()))?;
    result.ok_or_else(|| "a step of the attempt did not run; please report this bug".into())
}

impl Login<'_> {
    /// Judges the response and spends its code. On return an accepted code is logged, and spent on stable storage.
    ///
    /// # Errors
    /// [`Denial`]: the response must not be accepted.
    pub fn attempt(&self, response: &[u8], process: &dyn Process) -> Result<Accepted, Denial> {
        let Self { config, account, origin } = *self;
        let store = Sets::new(config);
        let request = Request { account, response, cost: config.hash.cost };
        let mut memory = WithPermit::new(config, process.memory());
        let judged = judge(&store, request, || self.count(process), &mut memory);
        // The memory and the permit are released before the set is locked.
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

    /// Checks whether the response would be accepted. Nothing is spent; a wrong response counts as a failure, to limit guessing.
    ///
    /// # Errors
    /// [`Refusal`]: why it would not be accepted.
    pub fn verify(&self, response: &[u8], process: &dyn Process) -> Result<(), Refusal> {
        let store = Sets::new(self.config);
        let request = Request { account: self.account, response, cost: self.config.hash.cost };
        let mut memory = WithPermit::new(self.config, process.memory());
        let (_, counted) = judge(&store, request, || self.count(process), &mut memory)?;
        // The attempt was no failure.
        let _ = counted.clear();
        Ok(())
    }

    /// Whether it is proven that the user has no set. After an error the user is prompted, and the attempt fails.
    #[must_use]
    #[inline(never)] // for the module's size
    pub fn has_no_set(&self) -> bool {
        let store = Sets::new(self.config);
        self.account.is_some_and(|account| has_no_set(&store, account).unwrap_or(false))
    }

    /// Counts the attempt under the shield, so that a file size limit of the caller cannot prevent it.
    fn count(&self, process: &dyn Process) -> Result<CountedAttempt, Refusal> {
        let throttle = Throttle::new(self.config);
        let counted = shielded(process, || throttle.count(self.origin.counter(), clock::precise()))
            .map_err(Refusal::Uncounted)?
            .map_err(|error| Refusal::Uncounted(error.to_string()))?;
        match counted.refused {
            Some(wait) => Err(Refusal::Throttled(counted.before, wait)),
            None => Ok(counted),
        }
    }

    /// A failed spend has the outcome of a wrong code: a user who can make it fail must not learn that the code was right.
    fn spend(
        &self,
        found: MatchedCode<'_, Sets>,
        counted: &CountedAttempt,
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
        // The user sees the same as without a set.
        Refusal::Store(StoreError::OtherName { .. }) => (Outcome::Refused, Level::Error),
        Refusal::NoUser => (Outcome::UserUnknown, Level::Notice),
        Refusal::Throttled(..) => (Outcome::Refused, Level::Warning),
        Refusal::Uncounted(_) | Refusal::Store(_) | Refusal::Hash(_) => (Outcome::Unavailable, Level::Error),
    };
    Denial { outcome, level, reason: format!("refused: {refusal}; {origin}") }
}
