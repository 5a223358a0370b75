//! File systems for a world's store, which tests fill and break.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::machine::run;
use crate::{World, set_mode};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
    Tmpfs,
}

/// What a full disk has none of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Not even root can write a byte, in a new file or at the end of one.
    Bytes,
    /// No file can be made.
    Inodes,
}

/// A file system at `disk` in a world. When this is dropped it is unmounted, and its loop device goes with it.
pub struct Disk<'a> {
    world: &'a World,
    kind: FileSystem,
    /// Its folders that have a place in the world as well.
    shown: Vec<(String, &'static str)>,
}

impl FileSystem {
    const ALL: [Self; 4] = [Self::Ext4, Self::Xfs, Self::Btrfs, Self::Tmpfs];

    /// Those that there can be a lack of this on. btrfs has no number of inodes: they end with the bytes.
    pub fn all(lack: Lack) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |&kind| lack == Lack::Bytes || kind != Self::Btrfs)
    }

    /// About the smallest that each program makes, with few inodes.
    fn make(self, image: &Path) {
        let (size, program, options) = match self {
            Self::Ext4 => (8 << 20, "mkfs.ext4", vec!["-q", "-N", "64"]),
            Self::Xfs => (300 << 20, "mkfs.xfs", vec!["-q", "-i", "maxpct=1"]),
            Self::Btrfs => (114 << 20, "mkfs.btrfs", vec!["-q"]),
            Self::Tmpfs => return,
        };
        File::create(image).unwrap().set_len(size).unwrap();
        must(program, &[&options[..], &[image.to_str().unwrap()]].concat());
    }
}

impl<'a> Disk<'a> {
    /// A new file system with nothing on it.
    pub fn new(world: &'a World, kind: FileSystem) -> Self {
        kind.make(&world.path("image"));
        fs::create_dir(world.path("disk")).unwrap();
        let mut disk = Self { world, kind, shown: Vec::new() };
        disk.attach();
        disk
    }

    /// One that holds the world's store, on btrfs as a subvolume in which writes in place copy nothing.
    pub fn with_store(world: &'a World, kind: FileSystem) -> Self {
        let mut disk = Self::new(world, kind);
        let store = disk.path("store");
        if kind == FileSystem::Btrfs {
            must("btrfs", &["-q", "subvolume", "create", store.to_str().unwrap()]);
            must("chattr", &["+C", store.to_str().unwrap()]);
        } else {
            fs::create_dir(&store).unwrap();
        }
        set_mode(&store, 0o700);
        disk.show("store", "store");
        disk
    }

    /// Lets a folder of it be what has this name in the world.
    pub fn show(&mut self, folder: &str, name: &'static str) {
        fs::create_dir_all(self.world.path(name)).unwrap();
        bind(&self.path(folder), &self.world.path(name));
        self.shown.push((folder.into(), name));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.at().join(name)
    }

    /// What is there after that comes from the disk alone. (A tmpfs has none.)
    pub fn mount_anew(&mut self) {
        if self.kind != FileSystem::Tmpfs {
            self.detach(MntFlags::empty()).unwrap();
            self.attach();
        }
    }

    pub fn remount(&self, option: &str) {
        must("mount", &["-o", &format!("remount,{option}"), self.at().to_str().unwrap()]);
    }

    /// Takes the device away below it: what is not in memory cannot be read, and nothing can be written.
    pub fn break_off(&self) {
        let (image, device) = (self.world.path("image"), self.device());
        fs::copy(&image, self.world.path("copy")).unwrap();
        File::options().write(true).open(&image).unwrap().set_len(0).unwrap();
        must("losetup", &["--set-capacity", &device]);
    }

    /// Mounts it as it was.
    pub fn bring_back(&mut self) {
        self.detach(MntFlags::empty()).unwrap();
        let mut image = File::options().write(true).truncate(true).open(self.world.path("image")).unwrap();
        io::copy(&mut File::open(self.world.path("copy")).unwrap(), &mut image).unwrap();
        self.attach();
    }

    fn device(&self) -> String {
        must("findmnt", &["-n", "-o", "SOURCE", self.at().to_str().unwrap()]).trim().into()
    }

    pub fn fill(&self, lack: Lack) {
        match lack {
            Lack::Bytes => self.fill_bytes(),
            Lack::Inodes => {
                self.fill_with_files(0);
                expect_full(self.open("new"));
            }
        }
    }

    /// Takes away what filled it.
    pub fn make_room(&self) {
        for file in fs::read_dir(self.at()).unwrap().map(Result::unwrap) {
            if file.file_name().to_str().unwrap().starts_with(FILLER) {
                fs::remove_file(file.path()).unwrap();
            }
        }
        self.flush();
    }

    pub fn flush(&self) {
        nix::unistd::syncfs(File::open(self.at()).unwrap()).unwrap();
    }

    fn at(&self) -> PathBuf {
        self.world.path("disk")
    }

    fn attach(&mut self) {
        let (image, at) = (self.world.path("image"), self.at());
        let [image, at] = [&image, &at].map(|path| path.to_str().unwrap());
        match self.kind {
            FileSystem::Tmpfs => must("mount", &["-t", "tmpfs", "-o", "size=256k,nr_inodes=64", "tmpfs", at]),
            _ => must("mount", &["-o", "loop", image, at]),
        };
        for (folder, name) in &self.shown {
            bind(&self.path(folder), &self.world.path(name));
        }
    }

    fn detach(&self, how: MntFlags) -> nix::Result<()> {
        let shown = self.shown.iter().rev().map(|(_, name)| self.world.path(name));
        shown.chain([self.at()]).try_for_each(|at| umount2(&at, how))
    }

    fn fill_bytes(&self) {
        let filler = self.open(FILLER).unwrap();
        let (mut end, mut size) = (0, 1 << 28);
        // Most of it is taken without a write.
        while size >= 4096 {
            match fallocate(filler.as_fd(), FallocateFlags::empty(), end, size) {
                Ok(()) => end += size,
                Err(Errno::ENOSPC) => size /= 2,
                Err(errno) => panic!("{errno}"),
            }
        }
        drop(filler);
        // btrfs keeps small files where it keeps names; some room comes free when all is flushed.
        while self.fill_a_file() + self.fill_with_files(2000) + self.fill_with_files(1) > 0 {
            self.flush();
        }
        let write = |name| self.open(name).and_then(|mut file| file.write_all(b"x"));
        expect_full(write(FILLER));
        expect_full(write("new"));
    }

    /// Appends to a file what it takes, in ever smaller pieces. How much that was.
    fn fill_a_file(&self) -> usize {
        let Ok(mut filler) = self.open(FILLER) else { return 0 };
        let mut append =
            |size| filler.write(&vec![7; size]).map_err(|error| expect_full::<()>(Err(error))).ok();
        [1 << 16, 1 << 12, 1 << 6, 1]
            .into_iter()
            .map(|size| std::iter::from_fn(|| append(size)).sum::<usize>())
            .sum()
    }

    /// Makes files of this size while it takes them. How many that were.
    fn fill_with_files(&self, size: usize) -> usize {
        let there = fs::read_dir(self.at()).unwrap().count();
        let make = |at| self.open(&format!("{FILLER}{at}"))?.write_all(&vec![7; size]);
        (there..).map_while(|at| make(at).map_err(|error| expect_full::<()>(Err(error))).ok()).count()
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(self.path(name))
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // Where a test has failed, something may be open there.
        let _ = self.detach(MntFlags::MNT_DETACH);
    }
}

/// How the names begin of what fills a disk.
const FILLER: &str = "filler";

fn expect_full<T>(result: io::Result<T>) {
    let error = result.err().expect("a disk that is full");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
}

fn bind(from: &Path, to: &Path) {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// What a program says that must do its work.
pub fn must(program: &str, arguments: &[&str]) -> String {
    run(Command::new(program).args(arguments), "")
}
