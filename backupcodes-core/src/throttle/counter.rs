//! The names and files of counters. No name can leave its directory, and the number of files is limited.

use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;

use crate::file_name::{escaped, unescaped};
use crate::files::FileError;
use crate::files::directory::Directory;
use crate::files::stat::Stat;
use crate::files::trust::Requirement;

/// The user, service and source whose failures count together.
#[derive(Clone, Copy, Debug)]
pub struct Counter<'a> {
    /// The account's name; `None` for all unknown users.
    pub user: Option<&'a str>,
    /// The PAM service.
    pub service: &'a str,
    /// The remote host; `None` is this machine.
    pub source: Option<&'a str>,
}

/// The shown source of attempts on the machine itself.
pub const LOCAL: &str = "local";

/// The most counters of a user. Further services and sources share one, so that nobody can fill /run.
const MOST_COUNTERS: usize = 64;

// No escaped name equals one of these four.
/// The directory of unknown users.
const UNKNOWN: &str = "%unknown";
/// The source of attempts on the machine itself.
const LOCAL_SOURCE: &str = "%local";
/// The counter that further services and sources share.
const SHARED: &str = "%other";
/// The shared counter of attempts on the machine itself: an attacker with many addresses must not lock the console.
const SHARED_LOCAL: &str = "%other@%local";

/// The most bytes of a directory name, and of both parts of a counter: with the `@`, a file name of at most 255.
const USER: usize = 250;
const SERVICE: usize = 64;
const SOURCE: usize = 190;

/// The name of a user's directory.
pub(super) fn folder_name(user: Option<&str>) -> String {
    user.map_or_else(|| UNKNOWN.into(), |user| escaped(user, USER))
}

/// The service and source of a counter; `*` for shared ones.
pub(super) fn service_and_source_of(name: &str) -> (String, String) {
    let (service, source) = name.split_once('@').unwrap_or((name, ""));
    let shown = |part| if part == LOCAL_SOURCE { Some(LOCAL.into()) } else { unescaped(part) };
    let any = || "*".into();
    match name {
        SHARED => (any(), any()),
        _ => (unescaped(service).unwrap_or_else(any), shown(source).unwrap_or_else(any)),
    }
}

/// The file of a counter, with its metadata before this attempt.
pub(super) struct CounterFile {
    pub(super) fd: OwnedFd,
    pub(super) stat: Stat,
    pub(super) name: String,
}

/// Opens the counter's file, or creates it. If the user has too many, a new counter evicts the least valuable one, or shares
/// one if none may be evicted.
pub(super) fn open_counter(
    folder: &Directory,
    counter: Counter<'_>,
    may_evict: bool,
) -> Result<CounterFile, FileError> {
    let source = counter.source.map_or_else(|| LOCAL_SOURCE.into(), |source| escaped(source, SOURCE));
    let name = format!("{}@{source}", escaped(counter.service, SERVICE));
    // A read lock needs a readable file.
    let flags = OFlag::O_RDWR | OFlag::O_APPEND;
    if let Some((fd, stat)) = folder.find_file(&name, flags, Requirement::PrivateStamp)? {
        return Ok(CounterFile { fd, stat, name });
    }
    let name = if make_room(folder, may_evict)? {
        name
    } else if counter.source.is_none() {
        SHARED_LOCAL.into()
    } else {
        SHARED.into()
    };
    let (fd, stat) = folder.find_or_make_file(&name, flags, Requirement::PrivateStamp)?;
    Ok(CounterFile { fd, stat, name })
}

/// Makes room for one more counter, if it may: the counters with the fewest failures are evicted first, older ones before newer
/// ones. Returns whether there is room.
fn make_room(folder: &Directory, may_evict: bool) -> Result<bool, FileError> {
    let mut names = folder.names()?;
    names.retain(|name| ![SHARED, SHARED_LOCAL].contains(&name.as_str()));
    if names.len() < MOST_COUNTERS || !may_evict {
        return Ok(names.len() < MOST_COUNTERS);
    }
    // Simultaneous attempts may have created more than one, or evicted some of these.
    let stats = names.into_iter().filter_map(|name| Some((folder.stat(&name).ok()?, name)));
    let mut counters: Vec<_> = stats.collect();
    let surplus = counters.len().saturating_add(1).saturating_sub(MOST_COUNTERS);
    counters.sort_unstable_by_key(|(stat, _)| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec));
    counters.iter().take(surplus).try_for_each(|(_, name)| folder.remove(name))?;
    Ok(true)
}
