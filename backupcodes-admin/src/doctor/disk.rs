//! The file system of the sets: whether a code can be spent on a full disk, whether locks work, and whether data survives a boot.

mod btrfs;

use std::collections::BTreeSet;
use std::path::Path;

use nix::sys::statfs::{BTRFS_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs};

use super::finding::{Finding, Level};
use crate::storage::{self, Storage};

/// `users` have sets in the directory.
pub(super) fn check(directory: &Path, users: &BTreeSet<String>) -> Vec<Finding> {
    // The check that opens it tells of the error.
    let Ok(disk) = statfs(directory) else { return Vec::new() };
    let mut findings = match disk.filesystem_type() {
        BTRFS_SUPER_MAGIC => btrfs::check(directory, users, &btrfs::said),
        other => judge(directory, other).into_iter().collect(),
    };
    findings.extend(storage::judge(directory).map(|storage| {
        let (level, check) = match storage {
            Storage::Forgets(_) => (Level::Error, "storage-forgets"),
            Storage::Unknown(_) => (Level::Warning, "storage-not-judged"),
        };
        Finding::new(level, check, directory.display().to_string(), storage.to_string(), storage::REMEDY)
    }));
    findings
}

/// Of Linux's magic.h and the file systems' own sources; nix has no names for these. Where the type has 32 bits it has a sign.
const ZFS: FsType = FsType(0x2fc1_2fc1_u32 as _);
const F2FS: FsType = FsType(0xf2f5_2010_u32 as _);
const BCACHEFS: FsType = FsType(0xca45_1a4e_u32 as _);
const SMB2: FsType = FsType(0xfe53_4d42_u32 as _);
const CIFS: FsType = FsType(0xff53_4d42_u32 as _);

fn judge(directory: &Path, kind: FsType) -> Option<Finding> {
    let elsewhere = "keep space free, or move the directory to ext4 or xfs";
    match kind {
        ZFS => Some(full_disk_denies(directory, "ZFS", elsewhere)),
        F2FS => Some(full_disk_denies(directory, "F2FS", elsewhere)),
        BCACHEFS => Some(full_disk_denies(directory, "bcachefs", elsewhere)),
        NFS_SUPER_MAGIC | SMB_SUPER_MAGIC | SMB2 | CIFS => Some(Finding::new(
            Level::Error,
            "network-file-system",
            directory.display().to_string(),
            "on a network file system: locks and flushes may not work there, so a code may work twice",
            "move the directory to a disk of this host",
        )),
        _ => None,
    }
}

fn full_disk_denies(directory: &Path, name: &str, remedy: &str) -> Finding {
    let message = format!("on {name}: a full disk refuses every code");
    Finding::new(Level::Warning, "full-disk-denies", directory.display().to_string(), message, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the number that statfs(2) gives.
    fn found(number: u32) -> Option<Finding> {
        judge(Path::new("/s"), FsType(number as _))
    }

    #[test]
    fn file_systems_where_a_full_disk_denies_are_named() {
        // Numbers as in Linux's magic.h, fs/bcachefs and OpenZFS.
        for (number, name) in [(0x2fc1_2fc1, "ZFS"), (0xf2f5_2010, "F2FS"), (0xca45_1a4e, "bcachefs")] {
            let found = found(number).unwrap();
            assert!(found.check == "full-disk-denies" && found.message.contains(name), "{found}");
        }
        // NFS, SMB, SMB2 and CIFS.
        for number in [0x6969, 0x517b, 0xfe53_4d42, 0xff53_4d42] {
            assert_eq!(found(number).unwrap().check, "network-file-system");
        }
        // ext4, xfs and tmpfs.
        for number in [0xef53, 0x5846_5342, 0x0102_1994] {
            assert_eq!(found(number), None);
        }
    }
}
