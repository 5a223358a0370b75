//! A set that cannot be trusted or read is refused with the reason, even with `nullok`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use backupcodes_tests::level::ERROR;
use backupcodes_tests::machine::run;
use backupcodes_tests::{World, feed, me, pam, refuses, set_mode, text};

#[test]
fn an_account_that_is_created_again_inherits_nothing() {
    let Some(world) = World::new("nullok") else { return };
    let sheet = world.generate();
    let uid = nix::unistd::geteuid().as_raw();
    edit(&world, &format!("uid = {uid}\n"), &format!("uid = {}\n", uid + 1));
    let reason = format!("was made for {0} with uid {1}; expected {0} with uid {uid}", me(), uid + 1);
    refuses(&world, &sheet.codes[0], pam::AUTHINFO_UNAVAIL, ERROR, &reason);
}

#[test]
fn a_set_under_another_users_name_is_refused() {
    let Some(world) = World::new("nullok") else { return };
    let sheet = world.generate();
    edit(&world, &format!("user = {:?}\n", me()), "user = \"mallory\"\n");
    refuses(&world, &sheet.codes[0], pam::AUTHINFO_UNAVAIL, ERROR, "mallory");
}

#[test]
fn sets_that_cannot_be_trusted_or_read_are_refused_even_with_nullok() {
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil); 12] = [
        ("mode 0640", |file| set_mode(file, 0o640)),
        ("mode 0602", |file| set_mode(file, 0o602)),
        ("a symbolic link", |file| {
            fs::rename(file, file.with_extension("elsewhere")).unwrap();
            symlink(file.with_extension("elsewhere"), file).unwrap();
        }),
        ("2 link(s)", |file| fs::hard_link(file, file.with_extension("second")).unwrap()),
        ("a directory", |file| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }),
        ("a FIFO", |file| {
            fs::remove_file(file).unwrap();
            nix::unistd::mkfifo(file, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        }),
        ("65537 bytes", |file| {
            let text = fs::read_to_string(file).unwrap();
            fs::write(file, format!("{text}{}", "#".repeat(65_537 - text.len()))).unwrap();
        }),
        ("not a set of codes", |file| {
            let text = fs::read_to_string(file).unwrap();
            fs::write(file, &text[..text.len() / 2]).unwrap();
        }),
        ("not a set of codes", |file| fs::write(file, [0xff, 0, 7].repeat(200)).unwrap()),
        ("not a set of codes", |file| fs::write(file, "").unwrap()),
        ("not a set of codes", |file| fs::write(file, [0; 1000]).unwrap()),
        ("not a set of codes", |file| {
            let text = fs::read_to_string(file).unwrap();
            fs::write(file, text.replacen("$argon2id", "\0\0\0gon2id", 1)).unwrap();
        }),
    ];
    for (reason, spoil) in spoils {
        let Some(world) = World::new("nullok") else { return };
        let sheet = world.generate();
        spoil(&world.file());
        refuses(&world, &sheet.codes[0], pam::AUTHINFO_UNAVAIL, ERROR, reason);
        let line = world.last_line().text;
        assert!(line.contains(world.file().to_str().unwrap()) && line.contains("expected"), "{line}");
        assert!(!line.contains("argon2"), "hashes are not for the readers of a log: {line}");
        // The way out that the log names.
        if reason == "a directory" {
            let output = world.admin(&["generate", &me()]);
            assert!(output.stdout.is_empty() && output.status.code() == Some(3), "{output:?}");
            assert!(text(&output.stderr).contains("a directory, which must be removed by hand first"));
            fs::remove_dir(world.file()).unwrap();
        }
        if reason == "2 link(s)" {
            fs::remove_file(world.file().with_extension("second")).unwrap();
        }
        let sheet = world.generate();
        assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS, "{reason}");
    }
}

#[test]
fn a_directory_that_cannot_be_trusted_or_is_missing_proves_nothing() {
    let Some(world) = World::new("nullok") else { return };
    let sheet = world.generate();
    for mode in [0o750, 0o701, 0o722, 0o777] {
        set_mode(&world.store(), mode);
        refuses(&world, &sheet.codes[0], pam::AUTHINFO_UNAVAIL, ERROR, &format!("mode {mode:04o}"));
    }
    set_mode(&world.store(), 0o700);
    let aside = world.path("aside");
    fs::rename(world.store(), &aside).unwrap();
    refuses(&world, &sheet.codes[0], pam::AUTHINFO_UNAVAIL, ERROR, "no such directory");
    symlink(&aside, world.store()).unwrap();
    refuses(&world, &sheet.codes[0], pam::AUTHINFO_UNAVAIL, ERROR, "a symbolic link");
    fs::remove_file(world.store()).unwrap();
    fs::write(world.store(), "").unwrap();
    refuses(&world, &sheet.codes[0], pam::AUTHINFO_UNAVAIL, ERROR, "a regular file; expected a directory");
    world.configure_store(&world.store().join("sets"));
    refuses(&world, &sheet.codes[0], pam::AUTHINFO_UNAVAIL, ERROR, "part of its path is not a directory");
    world.configure_store(&world.store());
    fs::remove_file(world.store()).unwrap();
    fs::rename(aside, world.store()).unwrap();
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
}

#[test]
fn a_set_that_a_backup_has_linked_is_good_again_when_the_other_name_is_gone() {
    let Some(world) = World::new("nullok") else { return };
    let sheet = world.generate();
    let backup = world.path("backup");
    run(Command::new("cp").arg("-al").args([world.store(), backup.clone()]), "");
    refuses(&world, &sheet.codes[0], pam::AUTHINFO_UNAVAIL, ERROR, "2 link(s)");
    let line = world.last_line().text;
    assert!(line.contains("its codes are still good") && !line.contains("do not trust"), "{line}");
    // So they are neither replaced nor removed, whoever said yes.
    let (bytes, others) = (fs::read(world.file()).unwrap(), world.other_files());
    for command in [&["generate"][..], &["generate", "--missing"], &["generate", "--yes"], &["revoke"]] {
        let output = world.admin(&[command, &[&me()]].concat());
        assert!(output.status.code() == Some(3) && output.stdout.is_empty(), "{command:?}: {output:?}");
        assert!(text(&output.stderr).contains("its codes are still good"), "{command:?}: {output:?}");
        assert_eq!(fs::read(world.file()).unwrap(), bytes, "{command:?}");
        assert_eq!(world.other_files(), others, "{command:?}");
    }
    // As it says.
    let command = line.split_once("to find it: ").unwrap().1.split_once(')').unwrap().0;
    let found = feed(Command::new("sh").args(["-c", command]), "");
    let found = text(&found.stdout);
    let others: Vec<_> = found.lines().filter(|path| Path::new(path) != world.file()).collect();
    assert_eq!(others, [backup.join(world.file().file_name().unwrap()).to_str().unwrap()]);
    fs::remove_file(others[0]).unwrap();
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    // Where more is wrong with it, nothing is said for it.
    fs::hard_link(world.file(), world.path("second")).unwrap();
    set_mode(&world.file(), 0o640);
    refuses(&world, &sheet.codes[1], pam::AUTHINFO_UNAVAIL, ERROR, "do not trust its codes");
}

#[test]
fn a_directory_that_is_a_link_is_used_when_what_the_message_says_is_done() {
    let Some(world) = World::of_root("nullok") else { return };
    let sheet = world.generate();
    let other = world.path("other place");
    fs::rename(world.store(), &other).unwrap();
    symlink(&other, world.store()).unwrap();
    refuses(&world, &sheet.codes[0], pam::AUTHINFO_UNAVAIL, ERROR, "a symbolic link");
    let line = world.last_line().text;
    assert!(line.contains("set directory in backupcodes.conf") && !line.contains("chmod"), "{line}");
    let command = line.split_once("to the target (").unwrap().1.split_once(')').unwrap().0;
    let target = run(Command::new("sh").args(["-c", command]), "");
    world.configure_store(Path::new(target.trim_end()));
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    // The other way.
    world.configure_store(&world.store());
    fs::remove_file(world.store()).unwrap();
    fs::create_dir(world.store()).unwrap();
    run(Command::new("mount").arg("--bind").args([other, world.store()]), "");
    assert_eq!(world.try_answer(&sheet.codes[1]), pam::SUCCESS);
    // One that is ours alone is made again.
    let throttle = world.path("run/throttle");
    fs::rename(&throttle, world.path("run/other")).unwrap();
    symlink(world.path("run/other"), &throttle).unwrap();
    let reason = "/throttle: a symbolic link";
    refuses(&world, &sheet.codes[2], pam::AUTHINFO_UNAVAIL, ERROR, reason);
    assert!(world.last_line().text.contains("then remove the link"), "{:?}", world.last_line());
    run(Command::new("umount").arg(world.store()), "");
}

#[test]
fn files_of_another_owner_are_refused() {
    let Some(world) = World::of_root("nullok") else { return };
    let sheet = world.generate();
    let chown = |path: &Path, uid| std::os::unix::fs::chown(path, Some(uid), None).unwrap();
    chown(&world.file(), 65_534);
    refuses(&world, &sheet.codes[0], pam::AUTHINFO_UNAVAIL, ERROR, "a regular file of uid 65534");
    chown(&world.file(), 0);
    chown(&world.store(), 65_534);
    refuses(&world, &sheet.codes[0], pam::AUTHINFO_UNAVAIL, ERROR, "a directory of uid 65534");
    chown(&world.store(), 0);
    chown(&world.path("conf"), 65_534);
    refuses(&world, &sheet.codes[0], pam::SERVICE_ERR, ERROR, "a regular file of uid 65534");
    chown(&world.path("conf"), 0);
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
}

fn edit(world: &World, from: &str, to: &str) {
    let text = fs::read_to_string(world.file()).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(world.file(), text.replace(from, to)).unwrap();
}
