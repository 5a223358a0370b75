//! Directories, opened first and judged by their descriptor: the directory of the sets, and the runtime directory, whose content
//! is lost at boot and whose missing parts are created.

use std::fs::File;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};
use rustix::fs::RawDir;

use crate::files::FileError;
use crate::files::lock::{Deadline, Locked, lock};
use crate::files::stat::{Stat, errno, stat_in};
use crate::files::trust::{self, OPEN_FLAGS, Requirement};

/// The mode of new files.
const FILE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// An open, judged directory.
pub(crate) struct Directory {
    pub(crate) fd: OwnedFd,
    pub(crate) path: PathBuf,
}

impl Directory {
    /// The directory of the sets. If it is missing, its file system may not be mounted.
    pub(crate) fn of_sets(path: &Path) -> Result<Self, FileError> {
        Self::open(AT_FDCWD, path, path, Requirement::PrivateDirectory)?
            .ok_or_else(|| FileError::NoDirectory(path.into()))
    }

    /// The runtime directory, created if missing. Everyone may enter it: it holds the broker's socket.
    pub(crate) fn runtime(path: &Path) -> Result<Self, FileError> {
        Self::open_or_make(AT_FDCWD, path, path, Requirement::PublicDirectory, 0o755)
    }

    /// The runtime directory, if it exists.
    pub(crate) fn find_runtime(path: &Path) -> Result<Option<Self>, FileError> {
        Self::open(AT_FDCWD, path, path, Requirement::PublicDirectory)
    }

    /// A private directory in this one, created if missing.
    pub(crate) fn inner(&self, name: &str) -> Result<Self, FileError> {
        Self::open_or_make(
            &self.fd,
            Path::new(name),
            &self.path_of(name),
            Requirement::PrivateDirectory,
            0o700,
        )
    }

    /// A private directory in this one, if it exists.
    pub(crate) fn find_inner(&self, name: &str) -> Result<Option<Self>, FileError> {
        Self::open(&self.fd, Path::new(name), &self.path_of(name), Requirement::PrivateDirectory)
    }

    fn open(
        parent: impl AsFd,
        name: &Path,
        path: &Path,
        kind: Requirement,
    ) -> Result<Option<Self>, FileError> {
        let flags = OPEN_FLAGS | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        // With a slash at its end, a link would be followed in spite of O_NOFOLLOW.
        let name: PathBuf = name.components().collect();
        let fd = match openat(&parent, &name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                return Err(kind.refuse_no_directory(parent.as_fd(), &name, path).into());
            }
            Err(errno) => return Err(FileError::system(path, "open")(errno)),
        };
        kind.judge(path, &fd)?;
        Ok(Some(Self { fd, path: path.into() }))
    }

    fn open_or_make(
        parent: impl AsFd,
        name: &Path,
        path: &Path,
        kind: Requirement,
        mode: u32,
    ) -> Result<Self, FileError> {
        if let Some(found) = Self::open(&parent, name, path, kind)? {
            return Ok(found);
        }
        let mode = Mode::from_bits_truncate(mode);
        let failed = FileError::system(path, "make");
        let is_new = match mkdirat(&parent, name, mode) {
            Ok(()) => true,
            // Another login has created it.
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(failed(errno)),
        };
        let made = Self::open(&parent, name, path, kind)?.ok_or_else(|| failed(Errno::ENOENT))?;
        if is_new {
            // The umask of the process does not matter.
            fchmod(&made.fd, mode).map_err(failed)?;
        }
        Ok(made)
    }

    /// Opens and judges a file in this directory, if it exists.
    pub(crate) fn find_file(
        &self,
        name: &str,
        flags: OFlag,
        kind: Requirement,
    ) -> Result<Option<(OwnedFd, Stat)>, FileError> {
        match self.file(name, flags) {
            Err(Errno::ENOENT) => Ok(None),
            opened => self.judged(name, kind, opened).map(Some),
        }
    }

    /// Opens and judges a file in this directory, created if missing.
    pub(crate) fn find_or_make_file(
        &self,
        name: &str,
        flags: OFlag,
        kind: Requirement,
    ) -> Result<(OwnedFd, Stat), FileError> {
        self.judged(name, kind, self.make_file(name, flags))
    }

    fn judged(
        &self,
        name: &str,
        kind: Requirement,
        opened: Result<OwnedFd, Errno>,
    ) -> Result<(OwnedFd, Stat), FileError> {
        let path = self.path_of(name);
        let fd = opened.map_err(|errno| match errno {
            Errno::ELOOP => kind.refuse(&path, "a symbolic link").into(),
            errno => FileError::system(&path, "open")(errno),
        })?;
        let stat = kind.judge(&path, &fd)?;
        Ok((fd, stat))
    }

    /// Opens a file in this directory, without judging it.
    pub(crate) fn file(&self, name: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        openat(&self.fd, name, flags | OPEN_FLAGS | OFlag::O_NOFOLLOW, Mode::empty())
    }

    /// Opens a file in this directory, without judging it, and creates a missing one with mode 0600, regardless of the umask.
    pub(crate) fn make_file(&self, name: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlag::O_CREAT | OPEN_FLAGS | OFlag::O_NOFOLLOW;
        let fd = openat(&self.fd, name, flags, FILE)?;
        fchmod(&fd, FILE).map(|()| fd)
    }

    /// The metadata of a file in this directory.
    pub(crate) fn stat(&self, name: &str) -> Result<Stat, Errno> {
        stat_in(&self.fd, name)
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The names in this directory, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>, FileError> {
        let failed = FileError::system(&self.path, "list");
        let flags = OPEN_FLAGS | OFlag::O_DIRECTORY;
        let fd = openat(&self.fd, ".", flags, Mode::empty()).map_err(&failed)?;
        let mut names = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut listing = RawDir::new(fd, &mut buffer);
        while let Some(entry) = listing.next() {
            let entry = entry.map_err(|error| failed(errno(error)))?;
            names.extend(
                entry.file_name().to_str().ok().filter(|&name| name != "." && name != "..").map(String::from),
            );
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The lock for the replacement of sets in this directory.
    pub(crate) fn lock(&self, deadline: Deadline) -> Result<Locked, FileError> {
        let flags = OPEN_FLAGS | OFlag::O_DIRECTORY;
        lock(openat(&self.fd, ".", flags, Mode::empty()).map_err(self.failed("open"))?, &self.path, deadline)
    }

    /// Brings the names in this directory to stable storage.
    pub(crate) fn flush(&self) -> Result<(), FileError> {
        fsync(&self.fd).map_err(self.failed("flush"))
    }

    pub(crate) fn failed(&self, action: &'static str) -> impl Fn(Errno) -> FileError {
        FileError::system(&self.path, action)
    }

    /// Renames a file in this directory, and replaces any file of the new name.
    pub(crate) fn rename(&self, old: &str, new: &str) -> Result<(), FileError> {
        renameat(&self.fd, old, &self.fd, new).map_err(self.failed("rename a file in"))
    }

    /// Removes a file in this directory, if it exists.
    pub(crate) fn remove(&self, name: &str) -> Result<(), FileError> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(FileError::system(&self.path_of(name), "remove")(errno)),
        }
    }
}

/// A complete file on stable storage, still under a temporary name. Dropping it removes it.
pub(crate) struct NewFile<'a> {
    directory: &'a Directory,
    name: &'a str,
}

impl<'a> NewFile<'a> {
    /// Writes the file under a temporary name that nobody else uses. A file that a crash left under that name is replaced.
    pub(crate) fn write(directory: &'a Directory, name: &'a str, text: &str) -> Result<Self, FileError> {
        directory.remove(name)?;
        let flags = OFlag::O_WRONLY | OFlag::O_EXCL;
        let fd = directory.make_file(name, flags).map_err(directory.failed("make a file in"))?;
        let new = Self { directory, name };
        let mut file = File::from(fd);
        file.write_all(text.as_bytes())
            .map_err(|error| directory.failed("write a new file in")(trust::errno(&error)))?;
        fsync(&file).map_err(directory.failed("flush a new file in"))?;
        Ok(new)
    }

    /// Keeps the temporary file, for a later rename or removal.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }

    /// Gives the file its name, and replaces any file of that name. The caller must then flush the directory.
    pub(crate) fn rename(self, name: &str) -> Result<(), FileError> {
        self.directory.rename(self.name, name)
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        // After a rename this removes nothing.
        let _ = self.directory.remove(self.name);
    }
}
