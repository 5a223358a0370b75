//! Delays after failures. Codes with 65 random bits need no throttle against guessing; it limits noise, and must not lock users
//! out. Failures are therefore counted for each user, service and source: an attack on sshd from one address delays only
//! that address, neither the console nor the user at other addresses.
//!
//! A counter is a file `throttle/<user>/<service>@<source>` in the runtime directory. An attempt is counted before its hash, by
//! an append of one byte: this needs no lock, 64 simultaneous attempts count as 64, and a killed process has counted. The
//! length is the number of failures in a row, the modification time is the time of the last one, and a success removes the
//! file. An attempt without a verdict is no failure yet: the next attempt waits for the verdict if it depends on it.

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

use crate::config::{Config, MOST_COUNTED, ThrottleRules};
use crate::files::FileError;
use crate::files::directory::Directory;
use crate::files::lock::{Deadline, PATIENCE};
use crate::files::stat::{Stat, changed, stat};
use crate::files::trust::Requirement;

pub use self::counter::{Counter, LOCAL};
use self::counter::{CounterFile, folder_name, open_counter, service_and_source_of};
use self::in_flight::InFlight;
pub use self::wait::Wait;

/// The pause between two checks for the verdicts of other attempts: a hash takes longer.
const PAUSE: Duration = Duration::from_millis(5);
/// The folder in the runtime directory.
const FOLDER: &str = "throttle";

/// The counters of failures.
pub struct Throttle {
    runtime: PathBuf,
    rules: ThrottleRules,
}

/// An attempt that was counted. Unless it is refused, others see it as one without a verdict until it is dropped.
pub struct CountedAttempt {
    /// Failures in a row before it.
    pub before: u32,
    /// Until when any response is refused.
    pub refused: Option<Wait>,
    /// The counter's directory and name, or why the attempt is not counted.
    file: Result<(Directory, String), FileError>,
    /// Its own byte of the counter, if any.
    in_flight: Option<InFlight>,
}

/// A counter that refuses at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttled {
    /// The PAM service; `*` for the counter that all further services and sources share.
    pub service: String,
    /// The source, or `*`.
    pub source: String,
    /// Failures in a row.
    pub failures: u32,
    /// The end of the delay.
    pub until: Wait,
}

/// The users with counters, at one moment.
pub struct UsersWithCounters(HashSet<String>);

impl UsersWithCounters {
    /// Whether this user has a counter, and so may have to wait.
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

    /// Counts an attempt, and decides whether it is refused regardless of the response. On a full file system the attempt goes on
    /// uncounted, unless counters may close: ordinary users may be able to fill /run, and must lock nobody out.
    ///
    /// # Errors
    /// The attempt cannot be counted, so its response must not be examined.
    pub fn count(&self, counter: Counter<'_>, now: SystemTime) -> Result<CountedAttempt, FileError> {
        match self.count_one(counter, now) {
            Err(error) if error.is_full() && self.rules.most == 0 => {
                Ok(CountedAttempt { before: 0, refused: None, file: Err(error), in_flight: None })
            }
            counted => counted,
        }
    }

    fn count_one(&self, counter: Counter<'_>, now: SystemTime) -> Result<CountedAttempt, FileError> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let folder =
                Directory::runtime(&self.runtime)?.inner(FOLDER)?.inner(&folder_name(counter.user))?;
            let CounterFile { fd, stat, name } = open_counter(&folder, counter, self.rules.most == 0)?;
            let path = folder.path_of(&name);
            let failed = FileError::system(&path, "count in");
            let seen = count_of(&stat);
            let Some(short) = u16::try_from(seen).ok().filter(|_| seen < MOST_COUNTED) else {
                // The counter is full: only its time changes.
                futimens(&fd, &TimeSpec::UTIME_NOW, &TimeSpec::UTIME_NOW).map_err(failed)?;
                let refused = self.rules.wait(seen, changed(&stat), now);
                return Ok(CountedAttempt {
                    before: seen,
                    refused,
                    file: Ok((folder, name)),
                    in_flight: None,
                });
            };
            let (in_flight, counted) = InFlight::count(fd, short).map_err(failed)?;
            // If others were counted since the stat, the last failure is now.
            let last = if counted == seen { changed(&stat) } else { now };
            if let Some((before, refused)) = self.verdict(&in_flight, counted, last, now, deadline) {
                let in_flight = Some(in_flight).filter(|_| refused.is_none());
                return Ok(CountedAttempt { before, refused, file: Ok((folder, name)), in_flight });
            }
        }
    }

    /// The number of failures before an attempt, and whether they refuse it. This waits for verdicts that decide it. `None`: one
    /// of the earlier attempts was right, and has removed the counter.
    fn verdict(
        &self,
        attempt: &InFlight,
        counted: u32,
        last: SystemTime,
        now: SystemTime,
        deadline: Deadline,
    ) -> Option<(u32, Option<Wait>)> {
        // The wait if all earlier attempts fail.
        let worst = self.rules.wait(counted, last, now);
        loop {
            let others = attempt.others();
            let failed = counted.saturating_sub(others);
            // The order matters: a success removes the counter before it drops its byte.
            let is_gone = stat(&attempt.counter).is_ok_and(|stat| stat.st_nlink == 0);
            let is_closed = self.rules.most > 0 && failed >= self.rules.most;
            if !is_gone && (worst.is_none() || others == 0 || is_closed) {
                return Some((failed, worst));
            }
            if !deadline.wait(if is_gone { Duration::ZERO } else { PAUSE }) {
                // An attempt without a verdict for so long has failed: a stopped process must not evade the rules.
                return Some((counted, worst));
            }
            if is_gone {
                return None;
            }
        }
    }

    /// Clears all failures of a user. Returns the number of counters.
    ///
    /// # Errors
    /// A counter cannot be removed.
    pub fn clear(&self, user: &str) -> Result<usize, FileError> {
        let Some(folder) = self.find(user)? else { return Ok(0) };
        let names = folder.names()?;
        names.iter().try_for_each(|name| folder.remove(name))?;
        Ok(names.len())
    }

    /// Clears all failures of a user except those of one service.
    ///
    /// # Errors
    /// A counter cannot be removed.
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
            let found = folder.find_file(&name, OFlag::O_RDONLY, Requirement::PrivateStamp)?;
            // Cleared after the directory was listed.
            let Some((_, stat)) = found else { continue };
            let failures = count_of(&stat);
            if let Some(until) = self.rules.wait(failures, changed(&stat), now) {
                let (service, source) = service_and_source_of(&name);
                throttled.push(Throttled { service, source, failures, until });
            }
        }
        Ok(throttled)
    }

    /// The users with counters.
    ///
    /// # Errors
    /// They cannot be read or trusted.
    pub fn counted(&self) -> Result<UsersWithCounters, FileError> {
        let names = self.find_all()?.map_or_else(|| Ok(Vec::new()), |all| all.names())?;
        Ok(UsersWithCounters(names.into_iter().collect()))
    }

    /// The directory of a user's counters, if it exists.
    fn find(&self, user: &str) -> Result<Option<Directory>, FileError> {
        let Some(all) = self.find_all()? else { return Ok(None) };
        all.find_inner(&folder_name(Some(user)))
    }

    fn find_all(&self) -> Result<Option<Directory>, FileError> {
        let Some(runtime) = Directory::find_runtime(&self.runtime)? else { return Ok(None) };
        runtime.find_inner(FOLDER)
    }
}

impl CountedAttempt {
    /// Clears the failures of this service and source, after a success.
    ///
    /// # Errors
    /// They cannot be cleared, or this attempt was not counted.
    pub fn clear(self) -> Result<(), FileError> {
        let (folder, name) = self.file?;
        let removed = folder.remove(&name);
        // Attempts that wait for this verdict check whether the counter is removed.
        drop(self.in_flight);
        removed
    }
}

fn count_of(stat: &Stat) -> u32 {
    u32::try_from(stat.st_size).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
