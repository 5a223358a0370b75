//! Errors of files and directories, independent of their purpose.

use std::path::Path;

use nix::errno::Errno;

use crate::explanation::Explanation;
use crate::files::trust::{ShownPath, Untrusted};

/// A file or directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub enum FileError {
    /// The directory of the sets does not exist, which proves nothing about any set.
    NoDirectory(ShownPath),
    /// It has an unexpected kind, owner, mode or number of links.
    Untrusted(#[from] Untrusted),
    /// A system call failed.
    System {
        /// The file.
        path: ShownPath,
        /// The action that failed.
        action: &'static str,
        /// The error number of the call.
        errno: Errno,
    },
    /// Another process held the lock for too long.
    Busy {
        /// The locked file.
        path: ShownPath,
        /// How long this process waited.
        seconds: u64,
    },
}

impl FileError {
    /// The error in three parts.
    #[must_use]
    pub fn explanation(&self) -> Explanation {
        match self {
            Self::NoDirectory(path) => Explanation::new(
                path,
                "no such directory; expected a directory owned by root with mode 0700",
                format!("mount its file system, or make it: install -d -m 0700 -o root {path}"),
            ),
            Self::Untrusted(untrusted) => untrusted.explanation(),
            Self::System { path, action, errno } => Explanation::new(
                path,
                format!("cannot {action} ({errno})"),
                "check the file system, and that this process runs as root",
            ),
            Self::Busy { path, seconds } => Explanation::new(
                path,
                format!("locked by another process for {seconds} s"),
                "see who holds it: lslocks",
            ),
        }
    }

    /// Whether the disk or the quota is full.
    pub(crate) const fn is_full(&self) -> bool {
        matches!(self, Self::System { errno: Errno::ENOSPC | Errno::EDQUOT, .. })
    }

    pub(crate) fn system(path: &Path, action: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::System { path: path.into(), action, errno }
    }
}
