//! When homes were created: a home that is younger than its user's set may belong to an account that was created again, with the same
//! uid.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use backupcodes_core::account::Account;

use crate::accounts::Accounts;
use crate::mounts::Mount;

/// File systems of this host that note when a directory was made.
const LOCAL: [&str; 10] =
    ["bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"];

pub(super) struct Homes<'a> {
    /// By name: those that are one account's alone.
    of: BTreeMap<&'a str, &'a Path>,
    mounts: Mounts,
}

/// Where something is mounted, and whether that is a disk of this host.
type Mounts = BTreeMap<PathBuf, bool>;

impl<'a> Homes<'a> {
    pub(super) fn new(accounts: &'a Accounts) -> Self {
        let mounts = Mount::all().into_iter().map(|mount| (mount.point.clone(), is_local(&mount)));
        Self { of: accounts.homes(), mounts: mounts.collect() }
    }

    /// When the home of this account was made, where that can be told.
    pub(super) fn made(&self, account: &Account) -> Option<SystemTime> {
        let home = self.of.get(account.name.as_str())?;
        // root's home is as old as the host is, or as its last move.
        if account.uid == 0 { None } else { made(home, account.uid, &self.mounts) }
    }
}

fn is_local(mount: &Mount) -> bool {
    LOCAL.contains(&&*mount.kind)
}

fn made(home: &Path, uid: u32, mounts: &Mounts) -> Option<SystemTime> {
    let mut way: Vec<_> = home.ancestors().collect();
    way.reverse();
    let mut last = None;
    // Step by step, and not through links or network mounts: that could hang, or mount something.
    for step in way {
        if mounts.get(step) == Some(&false) {
            return None;
        }
        last = Some(step.symlink_metadata().ok().filter(fs::Metadata::is_dir)?);
    }
    last.filter(|home| home.uid() == uid)?.created().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn homes_are_examined_on_local_disks_only_and_never_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home/alice");
        fs::create_dir_all(&home).unwrap();
        let link = folder.path().join("link");
        symlink(folder.path().join("home"), &link).unwrap();
        let uid = fs::metadata(&home).unwrap().uid();
        let local = Mounts::from([("/".into(), true), (folder.path().into(), true)]);
        assert_eq!(made(&home, uid, &local), Some(fs::metadata(&home).unwrap().created().unwrap()));
        // Another's, missing, behind a link, a link itself, and no directory.
        assert_eq!(made(&home, uid + 1, &local), None);
        assert_eq!(made(&home.join("missing"), uid, &local), None);
        assert_eq!(made(&link.join("alice"), uid, &local), None);
        assert_eq!(made(&link, uid, &local), None);
        fs::write(home.join("file"), "").unwrap();
        assert_eq!(made(&home.join("file"), uid, &local), None);
        for remote in [home.clone(), folder.path().join("home"), folder.path().into()] {
            assert_eq!(made(&home, uid, &Mounts::from([(remote.clone(), false)])), None, "{remote:?}");
        }
    }

    #[test]
    fn disks_of_this_host_are_told_from_others() {
        for (kind, expected) in [
            ("ext4", true),
            ("btrfs", true),
            ("nfs4", false),
            ("autofs", false),
            ("cifs", false),
            ("fuse.sshfs", false),
        ] {
            let line = format!("36 35 98:0 / /home rw,noatime shared:1 - {kind} source rw");
            assert_eq!(is_local(&Mount::parse(&line).unwrap()), expected, "{kind}");
        }
    }
}
