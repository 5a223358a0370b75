//! The file system of the sets: whether a code can be spent where no byte is free, and whether a lock means something.

use std::path::Path;
use std::process::Command;

use backupcodes_core::name;
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs};

use super::finding::{Finding, Level};

/// `user` is somebody who has a set.
pub(super) fn check(directory: &Path, user: Option<&String>) -> Vec<Finding> {
    // What cannot be looked at is told of by those who open it.
    let Ok(disk) = statfs(directory) else { return Vec::new() };
    let attributes = said("lsattr", &["-d"], directory);
    let file = user.map(|user| directory.join(name::escaped(user, usize::MAX) + ".toml"));
    let extents = || file.as_deref().map(|file| said("filefrag", &["-v"], file)).unwrap_or_default();
    judge(directory, disk.filesystem_type(), &attributes, extents).into_iter().collect()
}

/// Of Linux's magic.h and the file systems' own sources; nix has no names for these.
const ZFS: FsType = FsType(0x2fc1_2fc1);
const F2FS: FsType = FsType(0xf2f5_2010);
const BCACHEFS: FsType = FsType(0xca45_1a4e);
const SMB2: FsType = FsType(0xfe53_4d42);
const CIFS: FsType = FsType(0xff53_4d42);

fn judge(
    directory: &Path,
    kind: FsType,
    attributes: &str,
    extents: impl FnOnce() -> String,
) -> Option<Finding> {
    let full = |name: &str, remedy: &str| {
        let message = format!("on {name}: when the disk is full, every code is refused");
        Finding::new(Level::Warning, "full-disk-denies", directory.display().to_string(), message, remedy)
    };
    let elsewhere = "keep room free, or put the directory on ext4 or xfs";
    match kind {
        ZFS => Some(full("ZFS", elsewhere)),
        F2FS => Some(full("F2FS", elsewhere)),
        BCACHEFS => Some(full("bcachefs", elsewhere)),
        BTRFS_SUPER_MAGIC if is_cow(attributes) => Some(full(
            "btrfs without chattr +C",
            "move the directory away, make a new one with chattr +C (`systemd-tmpfiles --create` of /usr/lib/backupcodes/tmpfiles.conf does), and make new sets in it",
        )),
        BTRFS_SUPER_MAGIC if has_shared(&extents()) => Some(full(
            "btrfs, and a snapshot or a copy shares blocks with the sets",
            "delete the snapshot, or make new sets; a subvolume of its own keeps snapshots of the rest from doing this",
        )),
        NFS_SUPER_MAGIC | SMB_SUPER_MAGIC | SMB2 | CIFS => Some(Finding::new(
            Level::Error,
            "network-file-system",
            directory.display().to_string(),
            "on a network file system: locks and flushes may mean nothing there, so that a code may work twice",
            "put the directory on a disk of this host",
        )),
        _ => None,
    }
}

/// lsattr(1) shows the letters in front of the name.
fn is_cow(attributes: &str) -> bool {
    attributes.split_whitespace().next().is_some_and(|letters| !letters.contains('C'))
}

/// filefrag(8) ends the line of each extent, which begins with its number, with the extent's flags.
fn has_shared(extents: &str) -> bool {
    let lines =
        extents.lines().filter(|line| line.trim_start().starts_with(|first: char| first.is_ascii_digit()));
    lines
        .filter_map(|line| line.split_whitespace().last())
        .any(|flags| flags.split(',').any(|flag| flag == "shared"))
}

/// What a program of e2fsprogs says; nothing where it is not there.
fn said(program: &str, options: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(options).arg("--").arg(file).env("LC_ALL", "C").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::statfs::{EXT4_SUPER_MAGIC, TMPFS_MAGIC};

    #[test]
    fn file_systems_where_a_full_disk_denies_are_named() {
        let judge = |kind, attributes: &str, extents: &str| {
            judge(Path::new("/s"), kind, attributes, || extents.into())
                .map(|finding| (finding.check, finding.to_string()))
        };
        for (kind, name) in [(ZFS, "ZFS"), (F2FS, "F2FS"), (BCACHEFS, "bcachefs")] {
            let (check, text) = judge(kind, "", "").unwrap();
            assert!(check == "full-disk-denies" && text.contains(name), "{text}");
        }
        let (check, text) = judge(BTRFS_SUPER_MAGIC, "-------------------- /s\n", "").unwrap();
        assert!(check == "full-disk-denies" && text.contains("chattr +C"), "{text}");
        let no_cow = "---------------C---- /s\n";
        assert!(judge(BTRFS_SUPER_MAGIC, no_cow, "0: 0.. 0: 3.. 3: 1: last,eof").is_none());
        assert!(
            judge(BTRFS_SUPER_MAGIC, no_cow, "/shared/a: 1 extent found\n 0: 0.. 0: 3.. 3: 1: last,eof")
                .is_none()
        );
        assert!(judge(BTRFS_SUPER_MAGIC, "", "").is_none(), "no lsattr");
        let (_, text) = judge(BTRFS_SUPER_MAGIC, no_cow, "0: 0.. 0: 3.. 3: 1: last,shared,eof").unwrap();
        assert!(text.contains("snapshot"), "{text}");
        for kind in [NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, SMB2, CIFS] {
            assert_eq!(judge(kind, "", "").unwrap().0, "network-file-system");
        }
        for kind in [EXT4_SUPER_MAGIC, TMPFS_MAGIC] {
            assert!(judge(kind, "", "").is_none());
        }
    }
}
