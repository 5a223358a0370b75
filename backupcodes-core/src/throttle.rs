//! What failures cost. 65 random bits need no throttle against guessing; it is there against noise, and must not become
//! a way to lock someone out. So failures are counted for each user, service and source: who hammers sshd from one
//! address slows that address down, and neither the console nor the owner elsewhere.
//!
//! A counter is a file `throttle/<user>/<service>@<source>` in the runtime directory. An attempt is counted before it is
//! hashed, by appending one byte: that takes no lock that others wait for, 64 at once count as 64, and a killed process has
//! counted. The length is the count of failures in a row, the time of the last change is the clock, and a success removes
//! the file. An attempt without a verdict is no failure yet: where it matters what becomes of it, the next one waits.

mod counter;
mod in_flight;
pub mod permit;
mod wait;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;

use crate::config::{Config, MOST_COUNTED, Rules};
use crate::files::FileError;
use crate::files::directory::Directory;
use crate::files::lock::Deadline;
use crate::files::lock::PATIENCE;
use crate::files::stat::{Stat, changed, stat};
use crate::files::trust::Requirement;

pub use self::counter::{Counter, LOCAL};
use self::counter::{CounterFile, folder_name, open_counter, service_and_source_of};
use self::in_flight::InFlight;
pub use self::wait::Wait;

/// How often it is looked what became of others: a hash takes longer.
const PAUSE: Duration = Duration::from_millis(5);
/// The folder in the runtime directory.
const FOLDER: &str = "throttle";

/// Counters of failures.
pub struct Throttle {
    runtime: PathBuf,
    rules: Rules,
}

/// An attempt that was counted. Others take it for one without a verdict until it is dropped, but where it is refused.
pub struct Counted {
    /// Failures in a row before it.
    pub before: u32,
    /// Why it is refused, whatever the answer is.
    pub refused: Option<Wait>,
    /// The file that counts, or why there is none.
    place: Result<(Directory, String), FileError>,
    /// Where it has a byte of its own.
    in_flight: Option<InFlight>,
}

/// A counter that refuses at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttled {
    /// The PAM service; `*` for the counter that all places share that came after the first 64.
    pub service: String,
    /// The source; `*` likewise.
    pub source: String,
    /// Failures in a row.
    pub failures: u32,
    /// Until when.
    pub until: Wait,
}

/// Users that had failures when they were listed.
pub struct CountedUsers(HashSet<String>);

impl CountedUsers {
    /// Whether this one may have to wait.
    #[must_use]
    pub fn has(&self, user: &str) -> bool {
        self.0.contains(&folder_name(Some(user)))
    }
}

impl Throttle {
    /// The throttle of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { runtime: config.runtime_directory.clone(), rules: config.throttle.clone() }
    }

    /// Counts an attempt, and says whether it is refused without a look at its answer. Where there is no room to count
    /// in, it goes on uncounted, unless a counter may close: some ordinary users can fill /run, and must lock nobody out.
    ///
    /// # Errors
    /// It could not be counted, and so must not be looked at.
    pub fn count(&self, counter: Counter<'_>, now: SystemTime) -> Result<Counted, FileError> {
        match self.count_one(counter, now) {
            Err(error) if error.is_full() && self.rules.most == 0 => {
                Ok(Counted { before: 0, refused: None, place: Err(error), in_flight: None })
            }
            counted => counted,
        }
    }

    fn count_one(&self, counter: Counter<'_>, now: SystemTime) -> Result<Counted, FileError> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let folder =
                Directory::runtime(&self.runtime)?.inner(FOLDER)?.inner(&folder_name(counter.user))?;
            let CounterFile { fd, stat, name } = open_counter(&folder, counter, self.rules.most == 0)?;
            let path = folder.path_of(&name);
            let failed = FileError::system(&path, "count in");
            let seen = count_of(&stat);
            let Some(short) = u16::try_from(seen).ok().filter(|_| seen < MOST_COUNTED) else {
                // Long enough; only its time is new.
                futimens(&fd, &TimeSpec::UTIME_NOW, &TimeSpec::UTIME_NOW).map_err(failed)?;
                let refused = self.rules.wait(seen, changed(&stat), now);
                return Ok(Counted { before: seen, refused, place: Ok((folder, name)), in_flight: None });
            };
            let (in_flight, counted) = InFlight::count(fd, short).map_err(failed)?;
            // Where others came between our look and our byte, the last failure was just now.
            let last = if counted == seen { changed(&stat) } else { now };
            if let Some((before, refused)) = self.verdict(&in_flight, counted, last, now, deadline) {
                let in_flight = Some(in_flight).filter(|_| refused.is_none());
                return Ok(Counted { before, refused, place: Ok((folder, name)), in_flight });
            }
        }
    }

    /// How many of those that were counted before an attempt have failed, and whether it is refused for them. What that hangs on
    /// is waited for. `None`: the counter is gone, since one of them was right.
    fn verdict(
        &self,
        attempt: &InFlight,
        counted: u32,
        last: SystemTime,
        now: SystemTime,
        deadline: Deadline,
    ) -> Option<(u32, Option<Wait>)> {
        // At worst all of them fail.
        let worst = self.rules.wait(counted, last, now);
        loop {
            let others = attempt.others();
            let failed = counted.saturating_sub(others);
            // In this order: who was right removes the counter, and has a verdict then.
            let is_gone = stat(attempt.counter()).is_ok_and(|stat| stat.st_nlink == 0);
            let is_closed = self.rules.most > 0 && failed >= self.rules.most;
            if !is_gone && (worst.is_none() || others == 0 || is_closed) {
                return Some((failed, worst));
            }
            if !deadline.wait(if is_gone { Duration::ZERO } else { PAUSE }) {
                // Whoever stands still for so long has failed, or a stopped process would be a way around the rules.
                return Some((counted, worst));
            }
            if is_gone {
                return None;
            }
        }
    }

    /// Forgets all failures of a user, and says how many counters there were.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn clear(&self, user: &str) -> Result<usize, FileError> {
        let Some(folder) = self.find(user)? else { return Ok(0) };
        let names = folder.names()?;
        names.iter().try_for_each(|name| folder.remove(name))?;
        Ok(names.len())
    }

    /// Forgets all failures of a user but those of one service.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn clear_all_but(&self, user: &str, service: &str) -> Result<(), FileError> {
        let Some(folder) = self.find(user)? else { return Ok(()) };
        let names = folder.names()?;
        names
            .iter()
            .filter(|name| service_and_source_of(name).0 != service)
            .try_for_each(|name| folder.remove(name))
    }

    /// The counters of a user that refuse at the moment.
    ///
    /// # Errors
    /// They cannot be read or trusted.
    pub fn throttled(&self, user: &str, now: SystemTime) -> Result<Vec<Throttled>, FileError> {
        let Some(folder) = self.find(user)? else { return Ok(Vec::new()) };
        let mut throttled = Vec::new();
        for name in folder.names()? {
            let found = folder.find_file(&name, OFlag::O_RDONLY, Requirement::Counter)?;
            // Cleared since the folder was listed.
            let Some((_, stat)) = found else { continue };
            let failures = count_of(&stat);
            if let Some(until) = self.rules.wait(failures, changed(&stat), now) {
                let (service, source) = service_and_source_of(&name);
                throttled.push(Throttled { service, source, failures, until });
            }
        }
        Ok(throttled)
    }

    /// The users that have counters at all.
    ///
    /// # Errors
    /// They cannot be read or trusted.
    pub fn counted(&self) -> Result<CountedUsers, FileError> {
        let names = self.find_all()?.map_or_else(|| Ok(Vec::new()), |all| all.names())?;
        Ok(CountedUsers(names.into_iter().collect()))
    }

    /// The folder of a user, where there is one.
    fn find(&self, user: &str) -> Result<Option<Directory>, FileError> {
        let Some(all) = self.find_all()? else { return Ok(None) };
        all.find_inner(&folder_name(Some(user)))
    }

    fn find_all(&self) -> Result<Option<Directory>, FileError> {
        let Some(runtime) = Directory::find_runtime(&self.runtime)? else { return Ok(None) };
        runtime.find_inner(FOLDER)
    }
}

impl Counted {
    /// Forgets the failures of this service and source, after a success.
    ///
    /// # Errors
    /// They stay, or this attempt was never counted.
    pub fn clear(self) -> Result<(), FileError> {
        let (folder, name) = self.place?;
        let removed = folder.remove(&name);
        // Those who wait for this verdict look whether the counter is gone.
        drop(self.in_flight);
        removed
    }
}

fn count_of(stat: &Stat) -> u32 {
    u32::try_from(stat.st_size).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
