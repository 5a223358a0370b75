//! A disk that logs each write and each flush, so that a test can build what a power cut at any moment leaves.
//!
//! Writes before the last flush are there. Of later writes any part may be there, in any order.

use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::built;
use crate::disk::FileSystem;
use crate::machine::run;
use crate::mounted::unmount;
use crate::patience::wait_until;

/// The start of an entry of the log: where it was written, and how much.
const HEAD: usize = 16;
/// Where a flush is "written".
const FLUSH: u64 = u64::MAX;

/// How long an unmounted disk may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file that can be mounted, for as long as this lives.
pub struct LoggedDisk {
    folder: tempfile::TempDir,
    server: Child,
}

impl LoggedDisk {
    /// A disk with a new file system, of about the smallest size that is made as larger ones are. `folder` is best in
    /// memory.
    pub fn new(folder: &Path, kind: FileSystem) -> Self {
        let (mebibytes, program, options): (u64, _, &[&str]) = match kind {
            // Else it has small blocks, and goes on making itself in the background.
            FileSystem::Ext4 => {
                (64, "mkfs.ext4", &["-q", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            }
            FileSystem::Xfs => (300, "mkfs.xfs", &["-q"]),
            FileSystem::Btrfs => (128, "mkfs.btrfs", &["-q"]),
            FileSystem::Tmpfs => panic!("a tmpfs has no disk"),
        };
        let size = mebibytes << 20;
        let folder = tempfile::tempdir_in(folder).unwrap();
        let path = |name| folder.path().join(name);
        File::create(path("first")).unwrap().set_len(size).unwrap();
        run(Command::new(program).args(options).arg(path("first")), "");
        copy(&path("first"), &path("image"));
        File::create(path("disk")).unwrap();
        let mut server = Command::new(built("logged-disk"));
        server.args([path("image"), path("log"), path("disk")]).stdin(Stdio::null());
        let disk = Self { server: server.spawn().unwrap(), folder };
        wait_until("the disk", || fs::metadata(disk.file()).unwrap().len() == size);
        disk
    }

    pub fn file(&self) -> PathBuf {
        self.path("disk")
    }

    /// This moment, as a place in the log: what is there is done.
    pub fn now(&self) -> u64 {
        fs::metadata(self.path("log")).unwrap().len()
    }

    pub fn log(&self) -> Log {
        let bytes = fs::read(self.path("log")).unwrap();
        let mut entries = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some((head, behind)) = rest.split_at_checked(HEAD) {
            let [start, length] = [0, 8].map(|at| u64::from_le_bytes(head[at..at + 8].try_into().unwrap()));
            let Some((data, behind)) = behind.split_at_checked(length.try_into().unwrap()) else { break };
            rest = behind;
            let what = if start == FLUSH { What::Flush } else { What::Write(start, data.into()) };
            entries.push(Entry { end: (bytes.len() - rest.len()) as u64, what });
        }
        Log { first: self.path("first"), entries }
    }

    /// A place for files beside it, which go with it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for LoggedDisk {
    fn drop(&mut self) {
        unmount(&self.file());
        let start = Instant::now();
        while self.server.try_wait().is_ok_and(|status| status.is_none()) && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A file with the same holes.
fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("--sparse=always").args([from, to]), "");
}

/// Writes the log of a disk.
pub struct Recorder(File);

impl Recorder {
    /// # Errors
    /// The system's.
    pub fn create(path: &str) -> std::io::Result<Self> {
        File::create(path).map(Self)
    }

    /// # Errors
    /// The system's.
    pub fn write(&self, start: u64, data: &[u8]) -> std::io::Result<()> {
        let mut entry = Vec::with_capacity(HEAD + data.len());
        entry.extend(start.to_le_bytes());
        entry.extend((data.len() as u64).to_le_bytes());
        entry.extend(data);
        (&self.0).write_all(&entry)
    }

    /// # Errors
    /// The system's.
    pub fn flush(&self) -> std::io::Result<()> {
        self.write(FLUSH, &[])
    }
}

/// All that was asked of a disk, in its order.
pub struct Log {
    first: PathBuf,
    entries: Vec<Entry>,
}

struct Entry {
    /// The moment when it was done.
    end: u64,
    what: What,
}

enum What {
    Write(u64, Vec<u8>),
    Flush,
}

impl Log {
    /// Makes `image` the disk as a power cut at this moment leaves it: of each write that was not flushed, the part that
    /// `stays` says.
    pub fn cut(&self, moment: u64, image: &Path, stays: &mut dyn FnMut(&[u8]) -> Range<usize>) {
        copy(&self.first, image);
        let image = File::options().write(true).open(image).unwrap();
        let entries = &self.entries[..self.index(moment)];
        let flushed = entries.iter().rposition(|entry| matches!(entry.what, What::Flush)).unwrap_or(0);
        for (number, entry) in entries.iter().enumerate() {
            let What::Write(start, data) = &entry.what else { continue };
            let part = if number < flushed { 0..data.len() } else { stays(data) };
            image.write_all_at(&data[part.clone()], start + part.start as u64).unwrap();
        }
    }

    /// The moments when something was done between these two, and so many on either side.
    pub fn moments(&self, from: u64, to: u64, around: usize) -> Vec<u64> {
        let last = (self.index(to) + around).min(self.entries.len());
        let first = self.index(from).saturating_sub(around);
        self.entries[first..last].iter().map(|entry| entry.end).collect()
    }

    /// When, between these two, something like this was written for the first time.
    pub fn when(&self, from: u64, to: u64, is_it: fn(&[u8]) -> bool) -> Option<u64> {
        let entries = &self.entries[self.index(from)..self.index(to)];
        let is_it = |entry: &&Entry| matches!(&entry.what, What::Write(_, data) if is_it(data));
        entries.iter().find(is_it).map(|entry| entry.end)
    }

    /// How many writes and flushes were done between these moments.
    pub fn count(&self, from: u64, to: u64) -> [usize; 2] {
        let entries = &self.entries[self.index(from)..self.index(to)];
        let flushes = entries.iter().filter(|entry| matches!(entry.what, What::Flush)).count();
        [entries.len() - flushes, flushes]
    }

    /// The number of entries that were done at this moment.
    fn index(&self, moment: u64) -> usize {
        self.entries.partition_point(|entry| entry.end <= moment)
    }
}
