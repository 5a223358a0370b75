//! Metadata of files, with 64-bit inode numbers, sizes and times on all machines: on 32-bit machines libc's plain functions fail
//! for large values, as on a large disk.

use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use rustix::fs::AtFlags;
pub(crate) use rustix::fs::Stat;

use crate::clock::precise;

pub(crate) fn stat(fd: impl AsFd) -> Result<Stat, Errno> {
    rustix::fs::statat(fd, c"", AtFlags::EMPTY_PATH).map_err(errno)
}

/// The metadata of a name in a directory; a link is not followed.
pub(crate) fn stat_in(directory: impl AsFd, name: impl rustix::path::Arg) -> Result<Stat, Errno> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(errno)
}

/// Whether both are the same file.
pub(crate) fn same(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

/// The time of the last change, or 1970 for earlier times.
pub(crate) fn changed(stat: &Stat) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or_default());
    #[allow(clippy::useless_conversion, reason = "it has 32 bits on other machines")]
    let since = seconds.saturating_add(Duration::from_nanos(stat.st_mtime_nsec.into()));
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

/// How far the last change is from now. A change in the future comes from a clock that was wrong.
pub(crate) fn age(stat: &Stat) -> Duration {
    precise().duration_since(changed(stat)).unwrap_or_else(|ahead| ahead.duration())
}

pub(crate) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}
