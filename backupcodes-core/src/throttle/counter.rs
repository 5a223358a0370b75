//! Names and files of counters. None can leave its place, and there are not many.

use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;

use crate::file_name::{escaped, unescaped};
use crate::files::FileError;
use crate::files::directory::Directory;
use crate::files::stat::Stat;
use crate::files::trust::Requirement;

/// What is counted together.
#[derive(Clone, Copy, Debug)]
pub struct Counter<'a> {
    /// The account's name; all that do not exist are counted together.
    pub user: Option<&'a str>,
    /// The PAM service.
    pub service: &'a str,
    /// The remote host; `None` is this one.
    pub source: Option<&'a str>,
}

/// How attempts on the host itself are shown.
pub const LOCAL: &str = "local";

/// The most counters of a user. Attempts from further places share one, so that nobody can fill /run.
const MOST_COUNTERS: usize = 64;

// No escaped name is one of these four.
/// The folder of the users that do not exist.
const UNKNOWN: &str = "%unknown";
/// The source that is this host.
const HERE: &str = "%local";
/// The counter of the further places.
const OTHER: &str = "%other";
/// Those of this host have one of their own: whoever can come from many addresses shall not reach the console.
const OTHER_HERE: &str = "%other@%local";

/// The most bytes of a folder, and of both parts of a counter: with the `@`, a file name of at most 255.
const USER: usize = 250;
const SERVICE: usize = 64;
const SOURCE: usize = 190;

/// The name of a user's folder.
pub(super) fn folder_name(user: Option<&str>) -> String {
    user.map_or_else(|| UNKNOWN.into(), |user| escaped(user, USER))
}

/// The service and source that a counter stands for, `*` for those that are shared.
pub(super) fn service_and_source_of(name: &str) -> (String, String) {
    let (service, source) = name.split_once('@').unwrap_or((name, ""));
    let shown = |part| if part == HERE { Some(LOCAL.into()) } else { unescaped(part) };
    let any = || "*".into();
    match name {
        OTHER => (any(), any()),
        _ => (unescaped(service).unwrap_or_else(any), shown(source).unwrap_or_else(any)),
    }
}

/// The file of a counter, and how it was before.
pub(super) struct CounterFile {
    pub(super) fd: OwnedFd,
    pub(super) stat: Stat,
    pub(super) name: String,
}

/// Opens the counter's file, or makes it. Where there are too many, a new one takes the place of the one that costs least to lose;
/// where none may go, some share one.
pub(super) fn open_counter(
    folder: &Directory,
    counter: Counter<'_>,
    may_go: bool,
) -> Result<CounterFile, FileError> {
    let source = counter.source.map_or_else(|| HERE.into(), |source| escaped(source, SOURCE));
    let name = format!("{}@{source}", escaped(counter.service, SERVICE));
    // Locks of readers need one that can be read.
    let flags = OFlag::O_RDWR | OFlag::O_APPEND;
    if let Some((fd, stat)) = folder.find_file(&name, flags, Requirement::Counter)? {
        return Ok(CounterFile { fd, stat, name });
    }
    let name = if has_room(folder, may_go)? {
        name
    } else if counter.source.is_none() {
        OTHER_HERE.into()
    } else {
        OTHER.into()
    };
    let (fd, stat) = folder.find_or_make_file(&name, flags, Requirement::Counter)?;
    Ok(CounterFile { fd, stat, name })
}

/// Whether there is room for one more counter, made if need be: the fewest failures go first, and of these the oldest.
fn has_room(folder: &Directory, may_go: bool) -> Result<bool, FileError> {
    let mut names = folder.names()?;
    names.retain(|name| ![OTHER, OTHER_HERE].contains(&name.as_str()));
    // More than one, where others came at the same time.
    let surplus = names.len().saturating_add(1).saturating_sub(MOST_COUNTERS);
    if surplus == 0 || !may_go {
        return Ok(surplus == 0);
    }
    let stats = names.into_iter().filter_map(|name| Some((folder.stat(&name).ok()?, name)));
    let mut counters: Vec<_> = stats.collect();
    counters.sort_unstable_by_key(|(stat, _)| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec));
    counters.iter().take(surplus).try_for_each(|(_, name)| folder.remove(name))?;
    Ok(true)
}
