//! A file system in any state, with a world's store on it; one that cannot be mounted is a result, not a failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::disk::FileSystem;
use crate::machine::run;
use crate::{World, feed, set_mode, text};

/// A file system whose folder `store` is the world's store, for as long as this lives.
pub struct Mounted<'a> {
    world: &'a World,
    folder: PathBuf,
}

impl<'a> Mounted<'a> {
    /// Makes the store on one that is new.
    pub fn first(world: &'a World, disk: &Path, kind: FileSystem) -> Result<Self, String> {
        let mounted = Self::mount(world, disk)?;
        let store = mounted.path("store");
        fs::create_dir(&store).unwrap();
        set_mode(&store, 0o700);
        if kind == FileSystem::Btrfs {
            run(Command::new("chattr").arg("+C").arg(&store), "");
        }
        mounted.sync();
        mounted.open_store()
    }

    pub fn again(world: &'a World, disk: &Path) -> Result<Self, String> {
        Self::mount(world, disk)?.open_store()
    }

    fn mount(world: &'a World, disk: &Path) -> Result<Self, String> {
        let folder = world.path("mounted");
        fs::create_dir_all(&folder).unwrap();
        // The loop device goes with the last mount.
        mount(Command::new("mount").args(["-o", "loop"]).args([disk, &folder]))?;
        Ok(Self { world, folder })
    }

    fn open_store(self) -> Result<Self, String> {
        mount(Command::new("mount").arg("--bind").args([self.path("store"), self.world.store()]))?;
        Ok(self)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn sync(&self) {
        run(Command::new("sync").arg("--file-system").arg(&self.folder), "");
    }
}

fn mount(command: &mut Command) -> Result<(), String> {
    let output = feed(command, "");
    output.status.success().then_some(()).ok_or_else(|| format!("{command:?}: {}", text(&output.stderr)))
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        for folder in [&self.world.store(), &self.folder] {
            unmount(folder);
        }
    }
}

/// Even where it is in use.
pub(crate) fn unmount(path: &Path) {
    if !feed(Command::new("umount").arg(path), "").status.success() {
        let _ = feed(Command::new("umount").arg("--lazy").arg(path), "");
    }
}
