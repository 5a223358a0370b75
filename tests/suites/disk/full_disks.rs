//! With no room for a byte or a file, a code works once. What needs room does not happen, and says why.

use std::fs;

use backupcodes_tests::disk::{Disk, FileSystem, Lack};
use backupcodes_tests::level::{NOTICE, WARNING};
use backupcodes_tests::{World, me, pam, race, text};

/// Of 8 logins at once with one code, on a disk that this has filled, one gets in; and the disk knows it.
fn a_code_works_once(lack: Lack) {
    for (kind, counts_there) in FileSystem::all(lack).flat_map(|kind| [(kind, false), (kind, true)]) {
        let Some(world) = World::of_root("") else { return };
        let mut disk = Disk::with_store(&world, kind);
        if counts_there {
            fs::create_dir(disk.path("run")).unwrap();
            disk.show("run", "run");
        }
        let sheet = world.generate();
        disk.fill(lack);
        let at_once = vec![world.attempt(&[(&sheet.codes[0]).into()]); 8];
        let mut codes: Vec<_> = race(&at_once).into_iter().map(|outcome| outcome.unwrap().codes[0]).collect();
        codes.sort_unstable();
        let log = world.log();
        assert_eq!(codes, [[pam::SUCCESS].as_slice(), &[pam::AUTH_ERR; 7]].concat(), "{kind:?}: {log:#?}");
        assert_eq!(world.try_answer(&sheet.codes[0]), pam::AUTH_ERR);
        disk.mount_anew();
        assert_eq!(world.status()["codes"][0]["state"], "spent", "{kind:?}");
        assert_eq!(world.try_answer(&sheet.codes[0]), pam::AUTH_ERR);
        let before = world.log().len();
        assert_eq!(world.try_answer(&sheet.codes[1]), pam::SUCCESS, "{kind:?}: {:?}", world.last_line());
        let log = world.log().split_off(before);
        let levels: Vec<_> = log.iter().map(|line| line.level).collect();
        // An attempt that cannot be counted is accepted with a warning.
        assert!(levels == [NOTICE] || counts_there && levels == [NOTICE, WARNING], "{kind:?}: {log:#?}");
    }
}

#[test]
fn a_code_works_once_on_a_disk_with_no_byte_free() {
    a_code_works_once(Lack::Bytes);
}

#[test]
fn a_code_works_once_on_a_disk_with_no_inode_free() {
    a_code_works_once(Lack::Inodes);
}

#[test]
fn a_set_that_finds_no_room_is_not_shown_and_leaves_the_old_one_as_it_was() {
    let all = |lack| FileSystem::all(lack).map(move |kind| (kind, lack));
    for (kind, lack) in all(Lack::Bytes).chain(all(Lack::Inodes)) {
        let Some(world) = World::of_root("") else { return };
        let disk = Disk::with_store(&world, kind);
        let sheet = world.generate();
        let (file, others) = (fs::read(world.file()).unwrap(), world.other_files());
        disk.fill(lack);
        let user = me();
        let changes = [
            vec!["generate", "--yes", &user],
            vec!["revoke", &user],
            vec!["email", &user, "new@example.org"],
        ];
        for arguments in changes {
            let output = world.admin(&arguments);
            let said = text(&output.stderr);
            // A tmpfs is warned of before.
            let said = said.lines().last().unwrap_or_default();
            assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), String::new()), "{said}");
            assert!(said.contains(world.store().to_str().unwrap()), "{said}");
            assert!(said.contains("ENOSPC"), "{said}");
            assert!(fs::read(world.file()).unwrap() == file, "{kind:?} {lack:?}");
            assert_eq!(world.other_files(), others, "{kind:?} {lack:?}");
        }
        assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS, "{kind:?}");
        disk.make_room();
        let new = world.generate();
        assert_eq!(world.try_answer(&new.codes[0]), pam::SUCCESS, "{kind:?}");
        assert_eq!(world.try_answer(&sheet.codes[1]), pam::AUTH_ERR);
    }
}
