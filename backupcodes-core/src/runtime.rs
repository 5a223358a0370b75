//! The runtime directory, for what may be lost at boot: counters and slots. What is missing of it is made.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::store::StoreError;
use crate::trust::{CAREFUL, Kind};

/// How files in here are made.
const FILE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// A directory, open and judged.
pub(crate) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// The runtime directory itself, which everyone may enter: the broker's socket is in it.
    ///
    /// # Errors
    /// It is not to be trusted, or cannot be made.
    pub(crate) fn runtime(path: &Path) -> Result<Self, StoreError> {
        let missing = |errno| StoreError::system(path, "make")(errno);
        Self::open(AT_FDCWD, path, path, Kind::PublicDirectory, Some(0o755))?
            .ok_or_else(|| missing(Errno::ENOENT))
    }

    /// The same, where it is there.
    ///
    /// # Errors
    /// It is not to be trusted.
    pub(crate) fn find_runtime(path: &Path) -> Result<Option<Self>, StoreError> {
        Self::open(AT_FDCWD, path, path, Kind::PublicDirectory, None)
    }

    /// A private directory in this one.
    ///
    /// # Errors
    /// It is not to be trusted, or cannot be made.
    pub(crate) fn inner(&self, name: &str) -> Result<Self, StoreError> {
        let path = self.path.join(name);
        let missing = |errno| StoreError::system(&path, "make")(errno);
        Self::open(&self.fd, Path::new(name), &path, Kind::PrivateDirectory, Some(0o700))?
            .ok_or_else(|| missing(Errno::ENOENT))
    }

    /// The same, where it is there.
    ///
    /// # Errors
    /// It is not to be trusted.
    pub(crate) fn find_inner(&self, name: &str) -> Result<Option<Self>, StoreError> {
        Self::open(&self.fd, Path::new(name), &self.path.join(name), Kind::PrivateDirectory, None)
    }

    /// Opens a directory that must be of this kind; with a mode, makes one where there is none.
    fn open(
        parent: impl AsFd,
        name: &Path,
        path: &Path,
        kind: Kind,
        made: Option<u32>,
    ) -> Result<Option<Self>, StoreError> {
        let flags = CAREFUL | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let open = || openat(&parent, name, flags, Mode::empty());
        let fd = match (open(), made.map(Mode::from_bits_truncate)) {
            (Err(Errno::ENOENT), None) => return Ok(None),
            (Err(Errno::ENOENT), Some(mode)) => {
                let is_ours = match mkdirat(&parent, name, mode) {
                    Ok(()) => true,
                    // Another login was faster.
                    Err(Errno::EEXIST) => false,
                    Err(errno) => return Err(StoreError::system(path, "make")(errno)),
                };
                open().and_then(|fd| {
                    // Whatever the umask of the host is.
                    if is_ours { fchmod(&fd, mode).map(|()| fd) } else { Ok(fd) }
                })
            }
            (opened, _) => opened,
        };
        let fd = fd.map_err(|errno| match errno {
            Errno::ENOTDIR | Errno::ELOOP => kind.refuse(path, "no directory, or a link to one").into(),
            errno => StoreError::system(path, "open")(errno),
        })?;
        kind.judge(path, &fd)?;
        Ok(Some(Self { fd, path: path.into() }))
    }

    /// Opens a file in here with these flags as well. With `O_CREAT`, its mode is 0600 or less.
    ///
    /// # Errors
    /// The system's. The file is not judged yet.
    pub(crate) fn file(&self, name: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        openat(&self.fd, name, flags | CAREFUL | OFlag::O_NOFOLLOW, FILE)
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The names in here, sorted.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(crate) fn names(&self) -> Result<Vec<String>, StoreError> {
        let failed = StoreError::system(&self.path, "list");
        let flags = CAREFUL | OFlag::O_DIRECTORY;
        let fd = openat(&self.fd, ".", flags, Mode::empty()).map_err(&failed)?;
        let mut names = Vec::new();
        for entry in Dir::from_fd(fd).map_err(&failed)?.iter() {
            let entry = entry.map_err(&failed)?;
            names.extend(
                entry.file_name().to_str().ok().filter(|&name| name != "." && name != "..").map(String::from),
            );
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Removes a file in here, if it is there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn remove(&self, name: &str) -> Result<(), StoreError> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(StoreError::system(&self.path.join(name), "remove")(errno)),
        }
    }
}
