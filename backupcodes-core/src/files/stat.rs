//! What the system says of files. Inode numbers, sizes and times have 64 bits here whatever the processor is: libc's functions
//! of the plain names fail for a file of which one does not fit in 32, as on a large disk.

use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use rustix::fs::AtFlags;
pub(crate) use rustix::fs::Stat;

/// # Errors
/// The system's.
pub(crate) fn stat(fd: impl AsFd) -> Result<Stat, Errno> {
    rustix::fs::statat(fd, c"", AtFlags::EMPTY_PATH).map_err(errno)
}

/// The same of what has this name in a directory, also if it is a link.
///
/// # Errors
/// The system's.
pub(crate) fn stat_in(directory: impl AsFd, name: impl rustix::path::Arg) -> Result<Stat, Errno> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(errno)
}

/// Whether both are one file.
pub(crate) fn same(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

/// When it was changed. One from before 1970 was then.
pub(crate) fn changed(stat: &Stat) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or_default());
    #[allow(clippy::useless_conversion, reason = "elsewhere it has 32 bits")]
    let since = seconds.saturating_add(Duration::from_nanos(stat.st_mtime_nsec.into()));
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

pub(crate) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}
