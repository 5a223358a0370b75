//! The configuration, as the module and the tool take it from real files.

use std::fs;
use std::os::unix::fs::symlink;

use backupcodes_tests::{World, me, pam, sandbox_of_root, set_mode, text};
use nix::sys::stat::Mode;

#[test]
fn what_is_there_and_cannot_be_read_is_not_taken_for_missing() {
    let Some(world) = World::new("nullok") else { return };
    let sheet = world.generate();
    let (conf, drop_ins) = (world.path("conf"), world.path("conf.d"));
    let good = fs::read(&conf).unwrap();
    let refused = |reason: &str| {
        assert_eq!(world.try_answer(&sheet.codes[0]), pam::SERVICE_ERR, "{reason}");
        assert!(world.last_line().text.contains(reason), "{:?}", world.last_line());
    };
    fs::remove_dir_all(&drop_ins).unwrap();
    fs::write(&drop_ins, "").unwrap();
    refused("ENOTDIR");
    fs::remove_file(&drop_ins).unwrap();
    fs::create_dir(&drop_ins).unwrap();
    symlink("1.conf", world.path("conf.d/1.conf")).unwrap();
    refused("ELOOP");
    fs::remove_dir_all(&drop_ins).unwrap();
    fs::remove_file(&conf).unwrap();
    nix::unistd::mkfifo(&conf, Mode::S_IRUSR).unwrap();
    refused("a FIFO");
    fs::remove_file(&conf).unwrap();
    fs::write(&conf, good).unwrap();
    set_mode(&conf, 0o644);
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
}

#[test]
fn a_named_file_stands_alone() {
    let Some(_) = sandbox_of_root() else { return };
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    // The system's own is not even looked at.
    let system = "/etc/security/backupcodes.conf";
    fs::write(system, "rubbish\n").unwrap();
    let (code, status) = (world.try_answer(&sheet.codes[0]), world.admin(&["status"]).status.code());
    fs::remove_file(system).unwrap();
    assert_eq!((code, status), (pam::SUCCESS, Some(0)));
}

#[test]
fn what_is_set_is_used() {
    let Some(world) = World::new("") else { return };
    world.configure("[codes]\ncount = 4\nlength = 20\nlow = 1\n[hash]\nmemory_kib = 64\npasses = 1\n");
    let sheet = world.generate();
    assert!(sheet.codes.len() == 4 && sheet.codes.iter().all(|code| code.replace('-', "").len() == 22));
    let said = |at: usize| world.attempt(&[(&sheet.codes[at]).into()]).run().said[1].text.clone();
    let status = || text(&world.admin(&["status", &me()]).stdout);
    assert!(!said(0).contains("new set") && !said(1).contains("new set") && !status().contains("LOW"));
    assert!(said(2).contains("new set") && status().contains("LOW"));
}
