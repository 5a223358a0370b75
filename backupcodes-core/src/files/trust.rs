//! Trust in files: open first, then judge the descriptor, never the path.

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

/// The most bytes of a file that is read: a set of 31 codes has 4 KiB.
pub(crate) const LARGEST: usize = 64 * 1024;

/// Do not wait for the other end of a FIFO, acquire no controlling terminal, and close on exec.
pub(crate) const OPEN_FLAGS: OFlag = OFlag::O_CLOEXEC.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

/// A file or directory that must not be used in its present state.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.explanation())]
pub struct Untrusted {
    pub(crate) path: ShownPath,
    found: String,
    expected: &'static str,
    /// `PATH` stands for the path.
    remedy: &'static str,
    /// The only fault is a second name: the content is good, and must not be discarded.
    pub(crate) has_only_another_link: bool,
}

impl Untrusted {
    /// The error in three parts.
    #[must_use]
    pub fn explanation(&self) -> Explanation {
        let Self { path, found, expected, remedy, .. } = self;
        let remedy = remedy.replace("PATH", &path.to_string());
        Explanation::new(path, format!("{found}; expected {expected}"), remedy)
    }
}

/// A path whose `Display` escapes hidden characters.
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

/// The requirements on a descriptor.
#[derive(Clone, Copy)]
pub(crate) enum Requirement {
    /// A directory that only its owner may enter.
    PrivateDirectory,
    /// A directory that only its owner may change.
    PublicDirectory,
    /// A regular file with one name that only its owner may open.
    PrivateFile,
    /// A private file without codes.
    QueuedNotice,
    /// A regular file that only its owner may write.
    PublicFile,
    /// A private file of which only length and time matter.
    PrivateStamp,
}

impl Requirement {
    const fn expected(self) -> &'static str {
        match self {
            Self::PrivateDirectory => "a directory owned by root with mode 0700",
            Self::PrivateFile | Self::QueuedNotice => {
                "a regular file owned by root with one link, mode 0600 and at most 64 KiB"
            }
            Self::PublicFile => "a regular file of at most 64 KiB, owned by root and writable by no one else",
            Self::PublicDirectory => "a directory owned by root and writable by no one else",
            Self::PrivateStamp => "a regular file owned by root with one link and mode 0600",
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::PrivateDirectory => "see who changed it, then: chown root and chmod 0700",
            Self::PrivateFile => "do not trust its codes: make a new set with backupcodes-admin generate",
            Self::PublicDirectory | Self::PublicFile => "see who changed it, then: chown root and chmod go-w",
            Self::PrivateStamp => "see who changed it, then remove it",
            Self::QueuedNotice => "read it, then remove it",
        }
    }

    pub(crate) fn refuse(self, path: &Path, found: impl Into<String>) -> Untrusted {
        self.refuse_with(path, found.into(), self.remedy())
    }

    fn refuse_with(self, path: &Path, found: String, remedy: &'static str) -> Untrusted {
        Untrusted {
            path: path.into(),
            found,
            expected: self.expected(),
            remedy,
            has_only_another_link: false,
        }
    }

    /// The error for `name` in `parent`, which cannot be opened as a directory.
    pub(crate) fn refuse_no_directory(self, parent: BorrowedFd<'_>, name: &Path, path: &Path) -> Untrusted {
        let stat = stat_in(parent, name);
        let kind = stat.map(|stat| SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()));
        let found = kind.map_or("part of its path is not a directory", kind_name);
        let remedy = match (kind, self) {
            // An inner directory is created again; the others have a configuration key.
            (Ok(SFlag::S_IFLNK), _) if name.is_relative() => "see who made it, then remove the link",
            (Ok(SFlag::S_IFLNK), Self::PublicDirectory) => {
                "set runtime_directory in backupcodes.conf to the target (readlink -f PATH), or replace the link by a directory \
                 and bind-mount the target on it (mount --bind)"
            }
            (Ok(SFlag::S_IFLNK), _) => {
                "set directory in backupcodes.conf to the target (readlink -f PATH), or replace the link by a directory \
                 and bind-mount the target on it (mount --bind)"
            }
            (Ok(_), _) => "see who made it, then move it away",
            (Err(_), _) => "find that part (namei -l PATH), or set another path in backupcodes.conf",
        };
        self.refuse_with(path, found.into(), remedy)
    }

    /// Judges an open descriptor.
    pub(crate) fn judge(self, path: &Path, fd: impl AsFd) -> Result<Stat, Untrusted> {
        let stat = stat(fd).map_err(|error| self.refuse(path, format!("cannot be examined ({error})")))?;
        let (wanted, forbidden) = match self {
            Self::PrivateDirectory => (SFlag::S_IFDIR, 0o077),
            Self::PublicDirectory => (SFlag::S_IFDIR, 0o022),
            Self::PrivateFile | Self::QueuedNotice | Self::PrivateStamp => (SFlag::S_IFREG, 0o077),
            Self::PublicFile => (SFlag::S_IFREG, 0o022),
        };
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        let one_name = matches!(self, Self::PrivateDirectory | Self::PublicDirectory | Self::PublicFile)
            || stat.st_nlink <= 1;
        // Only files that are read must be small: the length of a counter is its value.
        let is_read = matches!(self, Self::PrivateFile | Self::QueuedNotice | Self::PublicFile);
        let small = !is_read || usize::try_from(stat.st_size).is_ok_and(|size| size <= LARGEST);
        // A process that is not root, as in tests, owns its files.
        let owned = stat.st_uid == 0 || stat.st_uid == geteuid().as_raw();
        let all_else = kind == wanted && small && owned && stat.st_mode & forbidden == 0;
        if all_else && one_name {
            return Ok(stat);
        }
        // Only root could add the name. A copy could be lost in a power cut, and spent codes would return.
        let has_only_another_link = matches!(self, Self::PrivateFile) && all_else;
        let remedy = match self {
            Self::PrivateFile if has_only_another_link => {
                "its codes are still good: remove its other name (to find it: find / -samefile PATH), and configure backups \
                 to copy sets instead of linking them"
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
        Err(Untrusted { has_only_another_link, ..self.refuse_with(path, found, remedy) })
    }
}

/// Reads a whole judged file of at most 64 KiB.
pub(crate) fn read(fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        // off_t has 32 or 64 bits.
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

/// The errno of an error, or EIO.
pub(crate) fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// The name of a kind of file.
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
