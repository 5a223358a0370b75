//! The file of one set: find it by the user's name, judge, lock, read and overwrite it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::fdatasync;

use crate::file_name::{escaped, unescaped};
use crate::files::FileError;
use crate::files::directory::Directory;
use crate::files::lock::{Deadline, Locked, PATIENCE, lock};
use crate::files::stat::{Stat, same, stat};
use crate::files::trust::{self, Requirement};
use crate::set::{BadSet, CodeSet};
use crate::store::StoreError;

/// The end of a set file's name.
const ENDING: &str = ".toml";

pub(super) fn name_of(user: &str) -> String {
    escaped(user, usize::MAX) + ENDING
}

pub(super) fn user_of(file: &str) -> Option<String> {
    file.strip_suffix(ENDING).and_then(unescaped)
}

pub(super) fn read_in(directory: &Directory, user: &str) -> Result<Option<CodeSet>, StoreError> {
    let file = directory.find(user, Deadline::after(PATIENCE))?;
    file.map(|file| file.read()).transpose()
}

/// Parses the text of a new file: a file that cannot be read back must not replace a set.
pub(super) fn parse_new(text: &str) -> Result<CodeSet, BadSet> {
    if text.len() > trust::LARGEST {
        return Err(BadSet::Syntax(format!("it has {} bytes, more than {}", text.len(), trust::LARGEST)));
    }
    CodeSet::parse(text)
}

impl Directory {
    /// The user's file, open and judged. `None`, from ENOENT in this directory, is the only proof that no set exists.
    pub(super) fn find(&self, user: &str, deadline: Deadline) -> Result<Option<SetFile<OwnedFd>>, FileError> {
        let name = name_of(user);
        let path = self.path.join(&name);
        loop {
            let found = self.find_file(&name, OFlag::O_RDONLY, Requirement::PrivateFile)?;
            let Some((fd, stat)) = found else { return Ok(None) };
            if stat.st_nlink > 0 {
                return Ok(Some(SetFile { fd, path, name, stat }));
            }
            // Another process replaced the file after the open.
            deadline.pause(&path)?;
        }
    }
}

/// A set file, judged and open for reading. `F` is its descriptor, or [`Locked`].
pub(super) struct SetFile<F> {
    fd: F,
    pub(super) path: PathBuf,
    name: String,
    pub(super) stat: Stat,
}

impl SetFile<OwnedFd> {
    pub(super) fn lock(self, deadline: Deadline) -> Result<SetFile<Locked>, FileError> {
        let Self { fd, path, name, stat } = self;
        Ok(SetFile { fd: lock(fd, &path, deadline)?, path, name, stat })
    }
}

impl<F: AsFd> SetFile<F> {
    /// The set. Under the lock only the states of notices can change: every other writer takes the lock.
    pub(super) fn read(&self) -> Result<CodeSet, StoreError> {
        CodeSet::parse(&self.text()?).map_err(|reason| corrupt(&self.path, reason))
    }

    pub(super) fn text(&self) -> Result<String, StoreError> {
        let bytes = trust::read(self.fd.as_fd()).map_err(FileError::system(&self.path, "read"))?;
        String::from_utf8(bytes)
            .map_err(|error| corrupt(&self.path, BadSet::Syntax(error.utf8_error().to_string())))
    }

    /// Whether the name still refers to the open file.
    pub(super) fn is_still_named_in(&self, directory: &Directory) -> Result<bool, FileError> {
        match directory.stat(&self.name) {
            Ok(now) => Ok(same(&now, &self.stat)),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(FileError::system(&self.path, "examine")(errno)),
        }
    }

    /// Records in the file of `set` that its name is durable. This needs no flush: if it is lost, a later spend flushes the
    /// directory once more.
    pub(super) fn record_durable(&self, directory: &Directory, set: &CodeSet) {
        if let Some((start, text)) = set.durable(self.stat.st_ino) {
            let _ = self.write(directory, start, &text);
        }
    }

    /// Writes `text` at `start` and brings it to stable storage. A failure is final: the code may be spent, and a second
    /// fdatasync would report success for what the first one lost.
    pub(super) fn overwrite(&self, directory: &Directory, start: usize, text: &str) -> Result<(), FileError> {
        let file = self.write(directory, start, text)?;
        fdatasync(&file).map_err(FileError::system(&self.path, "flush"))
    }

    fn write(&self, directory: &Directory, start: usize, text: &str) -> Result<File, FileError> {
        let failed = |action| FileError::system(&self.path, action);
        // Only this opens the file for writing: closing such a descriptor wakes the units that watch the directory.
        let fd = directory.file(&self.name, OFlag::O_RDWR).map_err(failed("open for writing"))?;
        if !stat(&fd).is_ok_and(|now| same(&now, &self.stat)) {
            return Err(failed("find again")(Errno::ESTALE));
        }
        let file = File::from(fd);
        let start = u64::try_from(start).map_err(|_| failed("write")(Errno::EOVERFLOW))?;
        match file.write_at(text.as_bytes(), start) {
            Ok(written) if written == text.len() => Ok(file),
            Ok(_) => Err(failed("write all of the record")(Errno::EIO)),
            Err(error) => Err(failed("write")(trust::errno(&error))),
        }
    }
}

fn corrupt(path: &Path, reason: BadSet) -> StoreError {
    StoreError::Corrupt { path: path.into(), reason }
}
