//! Directories, opened first and judged by their descriptor: that of the sets, and the runtime directory for what may be
//! lost at boot. What is missing of the latter is made.

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
use crate::files::trust::{self, CAREFUL, Requirement};

/// How files in here are made.
const FILE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// A directory, open and judged.
pub(crate) struct Directory {
    pub(crate) fd: OwnedFd,
    pub(crate) path: PathBuf,
}

impl Directory {
    /// The directory of the sets. Where there is none, its file system may not be mounted.
    ///
    /// # Errors
    /// It is not there, or not to be trusted.
    pub(crate) fn of_sets(path: &Path) -> Result<Self, FileError> {
        Self::open(AT_FDCWD, path, path, Requirement::PrivateDirectory)?
            .ok_or_else(|| FileError::NoDirectory(path.into()))
    }

    /// The runtime directory, which everyone may enter: the broker's socket is in it.
    ///
    /// # Errors
    /// It is not to be trusted, or cannot be made.
    pub(crate) fn runtime(path: &Path) -> Result<Self, FileError> {
        Self::open_or_make(AT_FDCWD, path, path, Requirement::PublicDirectory, 0o755)
    }

    /// The same, where it is there.
    ///
    /// # Errors
    /// It is not to be trusted.
    pub(crate) fn find_runtime(path: &Path) -> Result<Option<Self>, FileError> {
        Self::open(AT_FDCWD, path, path, Requirement::PublicDirectory)
    }

    /// A private directory in this one.
    ///
    /// # Errors
    /// It is not to be trusted, or cannot be made.
    pub(crate) fn inner(&self, name: &str) -> Result<Self, FileError> {
        Self::open_or_make(
            &self.fd,
            Path::new(name),
            &self.path_of(name),
            Requirement::PrivateDirectory,
            0o700,
        )
    }

    /// The same, where it is there.
    ///
    /// # Errors
    /// It is not to be trusted.
    pub(crate) fn find_inner(&self, name: &str) -> Result<Option<Self>, FileError> {
        Self::open(&self.fd, Path::new(name), &self.path_of(name), Requirement::PrivateDirectory)
    }

    /// `None` where there is none.
    fn open(
        parent: impl AsFd,
        name: &Path,
        path: &Path,
        kind: Requirement,
    ) -> Result<Option<Self>, FileError> {
        let flags = CAREFUL | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        // Behind a link, a slash at the end would be followed for all that.
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
        let is_ours = match mkdirat(&parent, name, mode) {
            Ok(()) => true,
            // Another login was faster.
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(failed(errno)),
        };
        let made = Self::open(&parent, name, path, kind)?.ok_or_else(|| failed(Errno::ENOENT))?;
        if is_ours {
            // Whatever the umask of the host is.
            fchmod(&made.fd, mode).map_err(failed)?;
        }
        Ok(made)
    }

    /// Opens and judges a file in here. `None` where there is none.
    ///
    /// # Errors
    /// It cannot be opened, or is not to be trusted.
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

    /// The same of a file that is made where there is none.
    ///
    /// # Errors
    /// It cannot be opened or made, or is not to be trusted.
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

    /// Opens a file in here with these flags as well.
    ///
    /// # Errors
    /// The system's. The file is not judged yet.
    pub(crate) fn file(&self, name: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        openat(&self.fd, name, flags | CAREFUL | OFlag::O_NOFOLLOW, Mode::empty())
    }

    /// The same, and makes the file where there is none, with mode 0600 whatever the umask of the host is.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn make_file(&self, name: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlag::O_CREAT | CAREFUL | OFlag::O_NOFOLLOW;
        let fd = openat(&self.fd, name, flags, FILE)?;
        fchmod(&fd, FILE).map(|()| fd)
    }

    /// Looks at a file in here.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn stat(&self, name: &str) -> Result<Stat, Errno> {
        stat_in(&self.fd, name)
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The names in here, sorted.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(crate) fn names(&self) -> Result<Vec<String>, FileError> {
        let failed = FileError::system(&self.path, "list");
        let flags = CAREFUL | OFlag::O_DIRECTORY;
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

    /// The lock under which sets in here are replaced.
    ///
    /// # Errors
    /// It is held by another for too long.
    pub(crate) fn lock(&self, deadline: Deadline) -> Result<Locked, FileError> {
        let flags = CAREFUL | OFlag::O_DIRECTORY;
        lock(openat(&self.fd, ".", flags, Mode::empty()).map_err(self.failed("open"))?, &self.path, deadline)
    }

    /// Brings to stable storage which names there are.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn flush(&self) -> Result<(), FileError> {
        fsync(&self.fd).map_err(self.failed("flush"))
    }

    pub(crate) fn failed(&self, action: &'static str) -> impl Fn(Errno) -> FileError {
        FileError::system(&self.path, action)
    }

    /// Gives a file in here another name, and takes the place of what has it.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn rename(&self, old: &str, new: &str) -> Result<(), FileError> {
        renameat(&self.fd, old, &self.fd, new).map_err(self.failed("rename a file in"))
    }

    /// Removes a file in here, if it is there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn remove(&self, name: &str) -> Result<(), FileError> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(FileError::system(&self.path_of(name), "remove")(errno)),
        }
    }
}

/// A whole file, on stable storage, that does not have its name yet. Dropping it removes it.
pub(crate) struct NewFile<'a> {
    directory: &'a Directory,
    name: &'a str,
}

impl<'a> NewFile<'a> {
    /// Writes it under another name, which nobody else uses, and which may be there from a crash.
    ///
    /// # Errors
    /// The system's.
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

    /// Leaves the file where it is, for a later rename or removal.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }

    /// Puts it in the place of what has this name. The directory is to be flushed after that.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn rename(self, name: &str) -> Result<(), FileError> {
        self.directory.rename(self.name, name)
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        // After the rename there is nothing to remove.
        let _ = self.directory.remove(self.name);
    }
}
