//! packaging/tmpfiles makes a directory in which a code works on a full disk, even on btrfs after a snapshot.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use backupcodes_tests::disk::{Disk, FileSystem, Lack, must};
use backupcodes_tests::level::CRITICAL;
use backupcodes_tests::{World, feed, pam, refuses};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/tmpfiles/backupcodes.conf");
const STORE: &str = "root/var/lib/backupcodes";

fn tmpfiles(disk: &Disk<'_>) {
    let root = format!("--root={}", disk.path("root").display());
    assert_eq!(must("systemd-tmpfiles", &[&root, "--create", FILE]), "");
}

/// A disk whose `root` is a root directory; on btrfs a subvolume or not. tmpfiles makes what is the world's store then.
fn installed(world: &World, kind: FileSystem, is_subvolume: bool) -> Disk<'_> {
    let mut disk = Disk::new(world, kind);
    if is_subvolume {
        btrfs("create", &[&disk.path("root")]);
    } else {
        fs::create_dir(disk.path("root")).unwrap();
    }
    tmpfiles(&disk);
    let store = disk.path(STORE);
    let stat = fs::metadata(&store).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o700, 0, 0));
    let shown = feed(Command::new("btrfs").args(["subvolume", "show"]).arg(&store), "");
    assert_eq!(shown.status.success(), is_subvolume, "{shown:?}");
    let attributes = must("lsattr", &["-d", store.to_str().unwrap()]);
    let attributes = attributes.split(' ').next().unwrap();
    assert_eq!(attributes.contains('C'), kind == FileSystem::Btrfs, "{attributes}");
    disk.show(STORE, "store");
    disk
}

fn btrfs(command: &str, paths: &[&Path]) {
    let paths: Vec<_> = paths.iter().map(|path| path.to_str().unwrap()).collect();
    must("btrfs", &[&["-q", "subvolume", command], &paths[..]].concat());
}

#[test]
fn the_directory_is_roots_alone_and_what_is_in_it_stays_when_it_is_made_again() {
    for (kind, is_subvolume) in
        [(FileSystem::Ext4, false), (FileSystem::Btrfs, true), (FileSystem::Btrfs, false)]
    {
        let Some(world) = World::of_root("") else { return };
        let disk = installed(&world, kind, is_subvolume);
        let sheet = world.generate();
        let state = || {
            let stat =
                |path: &Path| fs::metadata(path).map(|stat| (stat.mode(), stat.ino(), stat.ctime())).unwrap();
            let text = fs::read(world.file()).unwrap();
            (stat(&world.store()), stat(&world.file()), text, world.other_files())
        };
        let before = state();
        tmpfiles(&disk);
        assert_eq!(state(), before);
        assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS, "{:?}", world.last_line());
    }
}

#[test]
fn a_code_works_once_on_a_full_btrfs_after_a_snapshot_of_what_the_directory_lies_in() {
    for is_subvolume in [true, false] {
        let Some(world) = World::of_root("") else { return };
        let disk = installed(&world, FileSystem::Btrfs, is_subvolume);
        let sheet = world.generate();
        let parent = if is_subvolume { "root" } else { "" };
        btrfs("snapshot", &[&disk.path(parent), &disk.path("snapshot")]);
        disk.fill(Lack::Bytes);
        if is_subvolume {
            assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS, "{:?}", world.last_line());
        } else {
            // What the subvolume is for: here the snapshot has the blocks too.
            refuses(&world, &sheet.codes[0], pam::AUTH_ERR, CRITICAL, "cannot write (ENOSPC");
            disk.make_room();
            assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
        }
        assert_eq!(world.try_answer(&sheet.codes[0]), pam::AUTH_ERR);
    }
}
