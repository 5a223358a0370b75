//! Whether the storage of the sets loses data at the next boot: then a spent code works again.

use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use crate::mounts::{Mount, unescaped};

/// Storage that is not fit for sets. The text describes it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// What is written there is lost at the next boot, or may be.
    Forgets(String),
    /// It cannot be told from here.
    Unknown(String),
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forgets(what) => {
                write!(f, "{what}: then sets are missing, or used codes work again")
            }
            Self::Unknown(what) => {
                write!(f, "{what}: if that is lost at a boot, sets are missing, or used codes work again")
            }
        }
    }
}

/// What to do about both.
pub(crate) const REMEDY: &str =
    "mount a disk on the directory, or set directory in backupcodes.conf to one on a disk";

/// Overlays over overlays, and disks over files: the kernel has fewer.
const DEEPEST: usize = 8;

/// What is wrong with the storage of a directory. `None` if no fault is known, or if the directory cannot be opened: commands that
/// use it report the reason.
pub(crate) fn judge(directory: &Path) -> Option<Storage> {
    let storage = Mount::of(directory).ok()?.judge(DEEPEST)?;
    Some(if is_container(Path::new("/")) { storage } else { storage.of_a_host() })
}

impl Storage {
    /// On a host of its own, what cannot be seen is what an initramfs has left behind: memory, as a rule.
    fn of_a_host(self) -> Self {
        match self {
            Self::Unknown(why) => Self::Forgets(format!("{why} and may be lost at the next boot")),
            forgets @ Self::Forgets(_) => forgets,
        }
    }
}

/// Whether a container manager has left its mark, whose host has the layers. Each has another one.
fn is_container(root: &Path) -> bool {
    ["run/systemd/container", ".dockerenv", "run/.containerenv"].iter().any(|mark| root.join(mark).exists())
}

impl Mount {
    fn judge(&self, deepest: usize) -> Option<Storage> {
        match self.kind.as_str() {
            "tmpfs" | "ramfs" | "rootfs" | "devtmpfs" => {
                Some(Storage::Forgets(format!("on a {}, which is lost at the next boot", self.kind)))
            }
            "overlay" => self.judge_overlay(deepest),
            _ => is_block_in_memory(&self.block(), deepest)
                .then(|| Storage::Forgets("on a disk in memory, which is lost at the next boot".into())),
        }
    }

    /// The folder of its disk in /sys, which need not exist. btrfs has a number of its own, and names the disk.
    fn block(&self) -> PathBuf {
        let source = fs::metadata(&self.source).ok().filter(|file| file.file_type().is_block_device());
        let device = match source.map(|source| source.rdev()) {
            Some(number) if self.device.starts_with("0:") => format!("{}:{}", major(number), minor(number)),
            _ => self.device.clone(),
        };
        Path::new("/sys/dev/block").join(device)
    }

    /// Whatever is written goes to the upper layer.
    fn judge_overlay(&self, deepest: usize) -> Option<Storage> {
        if self.has_option("volatile") || self.has_option("fsync=volatile") {
            let text =
                "on an overlay that flushes nothing (mount option volatile), which a power cut sets back";
            return Some(Storage::Forgets(text.into()));
        }
        // Without one nothing can be written.
        let upper = unescaped(self.options.iter().find_map(|option| option.strip_prefix("upperdir="))?);
        let layer = format!("on an overlay whose upper layer is {}", upper.display());
        // The process that mounted it saw this path. In a container it is another directory; after an initramfs it is gone.
        let below = Some(&upper).filter(|upper| upper.is_absolute() && upper.is_dir());
        let below = below.and_then(|upper| Self::of(upper).ok()).filter(|below| below != self);
        let (Some(below), Some(deepest)) = (below, deepest.checked_sub(1)) else {
            return Some(Storage::Unknown(format!("{layer}, which cannot be seen from here")));
        };
        below.judge(deepest).map(|storage| match storage {
            Storage::Forgets(why) => Storage::Forgets(format!("{layer}, and that is {why}")),
            Storage::Unknown(why) => Storage::Unknown(format!("{layer}, and that is {why}")),
        })
    }
}

/// Whether a disk, or one that it is made of, is memory, by its folder in /sys.
fn is_block_in_memory(block: &Path, deepest: usize) -> bool {
    let Some((deepest, block)) = deepest.checked_sub(1).zip(fs::canonicalize(block).ok()) else {
        return false;
    };
    // Partitions lie in the folder of their disk.
    let names = block.ancestors().take(2).filter_map(|folder| folder.file_name()?.to_str());
    let is_number = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let is_memory =
        |name: &str| ["ram", "zram"].iter().any(|kind| name.strip_prefix(kind).is_some_and(is_number));
    if names.into_iter().any(is_memory) {
        return true;
    }
    // That of a loop device whose file cannot be seen ends in "(deleted)", or leads nowhere.
    let file = fs::read_to_string(block.join("loop/backing_file"));
    let file = file.ok().and_then(|file| Mount::of(Path::new(file.trim_end_matches('\n'))).ok());
    if file.is_some_and(|mount| matches!(mount.judge(deepest), Some(Storage::Forgets(_)))) {
        return true;
    }
    let parts = fs::read_dir(block.join("slaves")).into_iter().flatten().flatten();
    parts.into_iter().any(|part| is_block_in_memory(&part.path(), deepest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(line: &str) -> Mount {
        Mount::parse(line).unwrap()
    }

    #[test]
    fn storage_in_memory_forgets() {
        for kind in ["tmpfs", "ramfs", "rootfs"] {
            let found = mount(&format!("1 0 0:1 / / rw - {kind} none rw")).judge(DEEPEST);
            assert!(matches!(&found, Some(Storage::Forgets(why)) if why.contains(kind)), "{found:?}");
        }
        assert!(matches!(judge(Path::new("/dev/shm")), Some(Storage::Forgets(_))));
        for kind in ["ext4", "xfs", "squashfs"] {
            assert_eq!(mount(&format!("1 0 0:1 / / rw - {kind} /dev/no-such-disk rw")).judge(DEEPEST), None);
        }
        assert_eq!(judge(Path::new("/no/such/directory")), None);
    }

    #[test]
    fn what_cannot_be_seen_may_forget_unless_a_container_hides_it() {
        let root = tempfile::tempdir().unwrap();
        assert!(!is_container(root.path()));
        for mark in ["run/systemd/container", ".dockerenv", "run/.containerenv"] {
            let mark = root.path().join(mark);
            fs::create_dir_all(mark.parent().unwrap()).unwrap();
            fs::write(&mark, "").unwrap();
            assert!(is_container(root.path()), "{}", mark.display());
            fs::remove_file(&mark).unwrap();
        }
        let unseen =
            mount("1 0 0:1 / / rw - overlay overlayroot rw,lowerdir=/l,upperdir=/no/such/upper,workdir=/w");
        let storage = unseen.judge(DEEPEST).unwrap().of_a_host();
        assert!(
            matches!(&storage, Storage::Forgets(why) if why.ends_with("cannot be seen from here and may be lost at the next boot")),
            "{storage:?}"
        );
        let forgets = || Storage::Forgets("on a tmpfs".into());
        assert_eq!(forgets().of_a_host(), forgets());
    }

    #[test]
    fn a_disk_is_memory_if_a_part_of_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let block = |name: &str, slaves: &[&str]| {
            let at = folder.path().join("block").join(name);
            fs::create_dir_all(at.join("slaves")).unwrap();
            for slave in slaves {
                std::os::unix::fs::symlink(
                    folder.path().join("block").join(slave),
                    at.join("slaves").join(slave),
                )
                .unwrap();
            }
            at
        };
        let file = |name: &str, backing: &str| {
            let at = block(name, &[]);
            fs::create_dir(at.join("loop")).unwrap();
            fs::write(at.join("loop/backing_file"), format!("{backing}\n")).unwrap();
            at
        };
        for (at, memory) in [
            (block("ram0", &[]), true),
            (block("zram1", &[]), true),
            (block("zram1/zram1p1", &[]), true),
            (block("sda/sda1", &[]), false),
            (block("rampart", &[]), false),
            (file("loop0", "/dev/shm"), true),
            (file("loop1", "/proc"), false),
            (file("loop2", "/no/such (deleted)"), false),
            (block("dm-0", &["loop1", "loop0"]), true),
            (block("dm-1", &["dm-0"]), true),
            (block("dm-2", &["loop1", "sda"]), false),
            (block("dm-3", &["dm-3"]), false),
        ] {
            assert_eq!(is_block_in_memory(&at, DEEPEST), memory, "{}", at.display());
        }
    }

    #[test]
    fn an_overlay_is_what_its_upper_layer_is() {
        let judge =
            |options: &str| mount(&format!("1 0 0:1 / / rw - overlay overlay {options}")).judge(DEEPEST);
        let forgets = judge("rw,lowerdir=/l,upperdir=/dev/shm,workdir=/w");
        assert!(
            matches!(&forgets, Some(Storage::Forgets(why)) if why.contains("/dev/shm, and that is on a tmpfs")),
            "{forgets:?}"
        );
        for unseen in ["/no/such/upper", "relative/upper"] {
            let found = judge(&format!("rw,lowerdir=/l,upperdir={unseen},workdir=/w"));
            assert!(matches!(&found, Some(Storage::Unknown(why)) if why.contains(unseen)), "{found:?}");
        }
        assert!(
            matches!(judge("rw,upperdir=/proc,volatile"), Some(Storage::Forgets(why)) if why.contains("volatile"))
        );
        // Read-only, and one on a disk, or what is no less than one.
        assert_eq!(judge("ro,lowerdir=/a:/b"), None);
        assert_eq!(judge("rw,lowerdir=/l,upperdir=/proc,workdir=/w"), None);
    }
}
