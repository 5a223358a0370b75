//! Who holds a lock for longer than a login does.

use std::collections::BTreeMap;
use std::fs::{read_dir, read_to_string};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backupcodes_core::config::Config;

use super::finding::{Finding, Level};

/// A lock on a set is held for a flush, a slot for a hash: much less than this.
const LONG: Duration = Duration::from_secs(2);

/// Locks of ours at one moment.
pub(super) struct Held {
    when: Instant,
    locks: Vec<Lock>,
}

#[derive(Clone, PartialEq, Eq)]
struct Lock {
    inode: u64,
    process: u32,
    path: PathBuf,
    kind: Kind,
}

/// What is locked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Set,
    Slot,
}

impl Held {
    pub(super) fn now(config: &Config) -> Self {
        Self {
            when: Instant::now(),
            locks: locks(config, &read_to_string("/proc/locks").unwrap_or_default()),
        }
    }

    /// Those that are held now as well, after a while.
    #[expect(clippy::disallowed_methods, reason = "a lock that is held for long can only be told by waiting")]
    pub(super) fn still(self, config: &Config) -> Vec<Finding> {
        if self.locks.is_empty() {
            return Vec::new();
        }
        std::thread::sleep(LONG.saturating_sub(self.when.elapsed()));
        let now = Self::now(config).locks;
        self.locks.into_iter().filter(|lock| now.contains(lock)).map(Lock::finding).collect()
    }
}

impl Lock {
    fn finding(self) -> Finding {
        let Self { process, path, kind, .. } = self;
        let meanwhile = match kind {
            Kind::Directory => "no set is made or removed as long as it does",
            Kind::Set => "the user's codes are refused as long as it does",
            Kind::Slot => "logins may wait for it, for 5 s at most, and then go on without",
        };
        let name = read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        let message = format!(
            "process {process} ({}) has held this lock for more than {} s; {meanwhile}",
            name.trim(),
            LONG.as_secs()
        );
        let remedy = format!("see what it does, and end it if it stands still: kill {process}");
        Finding::new(Level::Warning, "lock-held", path.display().to_string(), message, remedy)
    }
}

/// Ours among those of proc_locks(5): `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`.
fn locks(config: &Config, listed: &str) -> Vec<Lock> {
    let ours = files(config);
    let lock = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let at = fields.iter().position(|field| *field == "FLOCK")?;
        let process = fields.get(at.checked_add(3)?)?.parse().ok()?;
        let inode = fields.get(at.checked_add(4)?)?.rsplit(':').next()?.parse().ok()?;
        let (path, kind) = ours.get(&inode)?;
        // Other file systems have the same numbers.
        has_open(process, path).then(|| Lock { inode, process, path: path.clone(), kind: *kind })
    };
    // One that waits stands behind `->`.
    listed.lines().filter(|line| !line.contains("->")).filter_map(lock).collect()
}

/// What may be locked, by its inode.
fn files(config: &Config) -> BTreeMap<u64, (PathBuf, Kind)> {
    let mut files = BTreeMap::new();
    if let Ok(directory) = config.directory.metadata() {
        files.insert(directory.ino(), (config.directory.clone(), Kind::Directory));
    }
    let folders =
        [(config.directory.clone(), Kind::Set), (config.runtime_directory.join("slots"), Kind::Slot)];
    for (folder, kind) in folders {
        let entries = read_dir(folder).into_iter().flatten().flatten();
        files.extend(entries.map(|entry| (entry.ino(), (entry.path(), kind))));
    }
    files
}

fn has_open(process: u32, path: &Path) -> bool {
    let number = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    let open = read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    number(path).is_some_and(|ours| open.map(|fd| fd.path()).any(|fd| number(&fd) == Some(ours)))
}
