//! What can be wrong with a file or directory, whatever it is for.

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
    /// Its kind, owner, mode or links are not as expected.
    Untrusted(#[from] Untrusted),
    /// A system call failed.
    System {
        /// The file.
        path: ShownPath,
        /// What was tried.
        action: &'static str,
        /// The error number of the call.
        errno: Errno,
    },
    /// Another process held the lock for too long.
    Busy {
        /// What is locked.
        path: ShownPath,
        /// How long this process waited.
        seconds: u64,
    },
}

impl FileError {
    /// In the parts that its text has.
    #[must_use]
    pub fn explanation(&self) -> Explanation {
        match self {
            Self::NoDirectory(path) => Explanation::new(
                path,
                "no such directory; expected a directory of root's with mode 0700",
                format!("see that its file system is mounted, or make it: install -d -m 0700 -o root {path}"),
            ),
            Self::Untrusted(untrusted) => untrusted.explanation(),
            Self::System { path, action, errno } => Explanation::new(
                path,
                format!("cannot {action} ({errno})"),
                "see that the file system is in order and that this runs as root",
            ),
            Self::Busy { path, seconds } => Explanation::new(
                path,
                format!("locked by another process for {seconds} s"),
                "see who holds it: lslocks",
            ),
        }
    }

    /// Whether there is no room for what was to be written.
    pub(crate) const fn is_full(&self) -> bool {
        matches!(self, Self::System { errno: Errno::ENOSPC | Errno::EDQUOT, .. })
    }

    pub(crate) fn system(path: &Path, action: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::System { path: path.into(), action, errno }
    }
}
