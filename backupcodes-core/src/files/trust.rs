//! Opening trusts nothing: open first, then judge the descriptor, never the path.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;
use nix::sys::uio::pread;
use nix::unistd::geteuid;

use crate::explanation::Explanation;
use crate::files::stat::{Stat, stat, stat_in};
use crate::visible::is_hidden;

/// Most bytes of a file that we read: a set of 31 codes has 4 KiB.
pub(crate) const LARGEST: usize = 64 * 1024;

/// Never wait for the other end of a FIFO, never become a terminal's owner, never pass to a child.
pub(crate) const CAREFUL: OFlag = OFlag::O_CLOEXEC.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

/// A file or directory that must not be used as it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.explanation())]
pub struct Untrusted {
    pub(crate) path: ShownPath,
    found: String,
    expected: &'static str,
    /// With `PATH` for the path.
    remedy: &'static str,
    /// Nothing is wrong but that it has another name: what it holds is good, and must not be thrown away.
    pub(crate) is_only_linked: bool,
}

impl Untrusted {
    /// In the parts that its text has.
    #[must_use]
    pub fn explanation(&self) -> Explanation {
        let Self { path, found, expected, remedy, .. } = self;
        let remedy = remedy.replace("PATH", &path.to_string());
        Explanation::new(path, format!("{found}; expected {expected}"), remedy)
    }
}

/// A path that shows itself without hidden characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownPath(PathBuf);

impl From<&Path> for ShownPath {
    fn from(path: &Path) -> Self {
        Self(path.into())
    }
}

impl std::fmt::Display for ShownPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.0.to_string_lossy();
        text.chars().try_for_each(|c| {
            if is_hidden(c) { write!(f, "{}", c.escape_default()) } else { write!(f, "{c}") }
        })
    }
}

/// What a descriptor must be.
#[derive(Clone, Copy)]
pub(crate) enum Requirement {
    /// A directory that only its owner may enter.
    PrivateDirectory,
    /// A directory that only its owner may change.
    PublicDirectory,
    /// A regular file with one name that only its owner may open.
    PrivateFile,
    /// The same, which holds no codes.
    QueuedNotice,
    /// A regular file that only its owner may write.
    PublicFile,
    /// A file that is worth nothing but its length and time, and as private.
    Counter,
}

impl Requirement {
    const fn expected(self) -> &'static str {
        match self {
            Self::PrivateDirectory => "a directory of root's with mode 0700",
            Self::PrivateFile | Self::QueuedNotice => {
                "a regular file of root's with one link, mode 0600 and at most 64 KiB"
            }
            Self::PublicFile => "a regular file of root's that no one else may write, of at most 64 KiB",
            Self::PublicDirectory => "a directory of root's that no one else may write",
            Self::Counter => "a regular file of root's with one link and mode 0600",
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::PrivateDirectory => "see who changed it, then: chown root and chmod 0700",
            Self::PrivateFile => "do not trust its codes: make a new set with backupcodes-admin generate",
            Self::PublicDirectory | Self::PublicFile => "see who changed it, then: chown root and chmod go-w",
            Self::Counter => "see who changed it, then remove it",
            Self::QueuedNotice => "see what it holds, then remove it",
        }
    }

    /// # Errors
    /// [`Untrusted`] says what does not hold.
    pub(crate) fn refuse(self, path: &Path, found: impl Into<String>) -> Untrusted {
        self.refuse_with(path, found.into(), self.remedy())
    }

    fn refuse_with(self, path: &Path, found: String, remedy: &'static str) -> Untrusted {
        Untrusted { path: path.into(), found, expected: self.expected(), remedy, is_only_linked: false }
    }

    /// Of a directory that cannot be opened as one: `name` in `parent`.
    pub(crate) fn refuse_no_directory(self, parent: BorrowedFd<'_>, name: &Path, path: &Path) -> Untrusted {
        let stat = stat_in(parent, name);
        let kind = stat.map(|stat| SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()));
        let found = kind.map_or("no directory, nor is all of its path", kind_name);
        let remedy = match (kind, self) {
            // An inner one is made anew; for the others the configuration has a key.
            (Ok(SFlag::S_IFLNK), _) if name.is_relative() => "see who made it, then remove the link",
            (Ok(SFlag::S_IFLNK), Self::PublicDirectory) => {
                "set runtime_directory in backupcodes.conf to where it leads (readlink -f PATH), or put a directory in its \
                 place and mount the other one on that (mount --bind)"
            }
            (Ok(SFlag::S_IFLNK), _) => {
                "set directory in backupcodes.conf to where it leads (readlink -f PATH), or put a directory in its place \
                 and mount the other one on that (mount --bind)"
            }
            (Ok(_), _) => "see who made it, then move it away",
            (Err(_), _) => "see which part of it is none (namei -l PATH), or set another in backupcodes.conf",
        };
        self.refuse_with(path, found.into(), remedy)
    }

    /// Judges an open descriptor.
    ///
    /// # Errors
    /// [`Untrusted`] with all that was found.
    pub(crate) fn judge(self, path: &Path, fd: impl AsFd) -> Result<Stat, Untrusted> {
        let stat = stat(fd).map_err(|error| self.refuse(path, format!("cannot be looked at ({error})")))?;
        let (wanted, forbidden) = match self {
            Self::PrivateDirectory => (SFlag::S_IFDIR, 0o077),
            Self::PublicDirectory => (SFlag::S_IFDIR, 0o022),
            Self::PrivateFile | Self::QueuedNotice | Self::Counter => (SFlag::S_IFREG, 0o077),
            Self::PublicFile => (SFlag::S_IFREG, 0o022),
        };
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        let one_name = matches!(self, Self::PrivateDirectory | Self::PublicDirectory | Self::PublicFile)
            || stat.st_nlink <= 1;
        // Only what is read need be small: a counter that is too long counts as what it is.
        let is_read = matches!(self, Self::PrivateFile | Self::QueuedNotice | Self::PublicFile);
        let small = !is_read || usize::try_from(stat.st_size).is_ok_and(|size| size <= LARGEST);
        // The effective user owns what it works with where it is not root, as in tests.
        let owned = stat.st_uid == 0 || stat.st_uid == geteuid().as_raw();
        let all_else = kind == wanted && small && owned && stat.st_mode & forbidden == 0;
        if all_else && one_name {
            return Ok(stat);
        }
        // Who could give it another name is root. A copy in its place could be lost in a power cut, and spent codes come back.
        let is_only_linked = matches!(self, Self::PrivateFile) && all_else;
        let remedy = match self {
            Self::PrivateFile if is_only_linked => {
                "its codes are still good: remove its other name (to find it: find / -samefile PATH), and let backups copy \
                 sets, not link them"
            }
            _ => self.remedy(),
        };
        let found = format!(
            "{} of uid {} with mode {:04o}, {} link(s), {} bytes",
            kind_name(kind),
            stat.st_uid,
            stat.st_mode & 0o7777,
            stat.st_nlink,
            stat.st_size
        );
        Err(Untrusted { is_only_linked, ..self.refuse_with(path, found, remedy) })
    }
}

/// Reads a judged file from its start to its end, which may not lie past 64 KiB.
///
/// # Errors
/// The system's, or EFBIG.
pub(crate) fn read(fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        // An off_t, of whatever width it is here.
        let place = bytes.len().try_into().map_err(|_| Errno::EFBIG)?;
        match pread(fd, &mut chunk, place) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        if bytes.len() > LARGEST {
            return Err(Errno::EFBIG);
        }
    }
}

/// The system's number of an error; EIO where it has none.
pub(crate) fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// What it is, in words.
pub(crate) fn kind_name(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFREG => "a regular file",
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFLNK => "a symbolic link",
        SFlag::S_IFIFO => "a FIFO",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFCHR | SFlag::S_IFBLK => "a device",
        _ => "something unknown",
    }
}
