//! `doctor` on a real host: each fault has its finding, and its remedy ends the finding.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use backupcodes_tests::disk::{Disk, FileSystem, must};
use backupcodes_tests::doctor::{doctor, doctor_of_stacks, doctor_where};
use backupcodes_tests::machine::{alone, run};
use backupcodes_tests::{World, me, pam, readme, set_mode, sheet, text};

#[test]
fn a_host_in_order_has_no_finding_of_sets_and_locks() {
    let _alone = alone();
    let Some(world) = World::of_root("") else { return };
    let _disk = Disk::with_store(&world, FileSystem::Ext4);
    world.generate();
    // Other tests have changed the sandbox's own stacks.
    let found = doctor_of_stacks(&world, &[], "");
    for finding in &found.0 {
        assert!(
            ["no-sendmail", "printer-keeps-sheets"].contains(&finding["check"].as_str().unwrap()),
            "{finding}"
        );
    }
}

#[test]
fn directories_that_are_missing_or_open_are_errors() {
    let Some(world) = World::of_root("") else { return };
    world.generate();
    set_mode(&world.store(), 0o750);
    doctor(&world).has("directory", &["error", "mode 0750", "chmod 0700"]);
    set_mode(&world.store(), 0o700);
    doctor(&world).has_none(&["directory"]);

    let runtime = world.path("run");
    fs::create_dir_all(&runtime).unwrap();
    set_mode(&runtime, 0o777);
    doctor(&world).has("runtime-directory", &["error", "mode 0777", "chmod go-w"]);
    set_mode(&runtime, 0o755);
    doctor(&world).has_none(&["runtime-directory"]);

    fs::rename(world.store(), world.path("away")).unwrap();
    doctor(&world).has("directory", &["error", "no such directory", "install -d -m 0700 -o root"]);
}

#[test]
fn a_directory_that_is_not_in_order_proves_nothing_of_anybody() {
    let Some((_machine, world)) = World::on_machine("") else { return };
    let found = || doctor_of_stacks(&world, &[("su", readme::block("console"))], "");
    found().has("no-set-locked-out", &["warning", &me()]);
    set_mode(&world.store(), 0o750);
    found().has("directory", &["error"]);
    found().has_none(&["no-set-locked-out"]);
    set_mode(&world.store(), 0o700);
    fs::rename(world.store(), world.path("away")).unwrap();
    found().has("directory", &["error"]);
    found().has_none(&["no-set-locked-out"]);
}

#[test]
fn the_configuration_of_a_line_and_its_directory_are_examined() {
    let Some((_machine, world)) = World::on_machine("") else { return };
    world.generate();
    let file = world.path("other.conf");
    let conf = file.display().to_string();
    let lines = format!("auth requisite pam_unix.so\nauth required pam_backupcodes.so nullok conf={conf}\n");
    let found = || doctor_of_stacks(&world, &[("su", lines.clone())], "");
    found().has("configuration", &["error", &conf, "cannot be read", "conf= in /etc/pam.d/su:"]);
    fs::write(&file, "directry = \"/x\"\n").unwrap();
    found().has("configuration", &["error", &conf, "unknown key", "conf= in /etc/pam.d/su:"]);
    let other = world.path("elsewhere");
    fs::write(&file, format!("directory = {other:?}\n")).unwrap();
    found().has("directory", &["error", other.to_str().unwrap(), "no such directory"]);
    fs::create_dir(&other).unwrap();
    set_mode(&other, 0o755);
    found().has("directory", &["error", other.to_str().unwrap(), "mode 0755"]);
    set_mode(&other, 0o700);
    fs::write(other.join("root.toml"), "").unwrap();
    set_mode(&other.join("root.toml"), 0o640);
    found().has("set-unreadable", &["error", other.join("root.toml").to_str().unwrap(), "mode 0640"]);
    fs::remove_file(other.join("root.toml")).unwrap();
    found().has_none(&["directory", "configuration", "set-unreadable", "no-set-locked-out"]);
    // Who has a set in the one has none in the other.
    let strict = lines.replace(" nullok", "");
    let found = doctor_of_stacks(&world, &[("su", strict)], "");
    found.has("no-set-locked-out", &["warning", &me()]);
}

#[test]
fn each_unusable_set_is_reported_with_a_remedy() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let accounts = machine.accounts(6);
    let [unreadable, damaged, gone, stale, none, few] =
        [0, 1, 2, 3, 4, 5].map(|at| accounts[at].name.as_str());
    let mut arguments = vec!["generate", "--count", "4", "--format", "json"];
    arguments.extend(accounts.iter().map(|account| account.name.as_str()));
    assert!(world.admin(&arguments).status.success());
    let checks = ["set-unreadable", "set-damaged", "set-orphaned", "set-stale", "no-codes", "few-codes"];
    doctor(&world).has_none(&checks);

    let file = |user: &str| world.store().join(format!("{user}.toml"));
    let change = |user: &str, from: &str, to: &str, count: usize| {
        let text = fs::read_to_string(file(user)).unwrap();
        fs::write(file(user), text.replacen(from, to, count)).unwrap();
    };
    set_mode(&file(unreadable), 0o640);
    change(damaged, "$argon2id", "$argon2iX", 1);
    run(Command::new("userdel").arg(gone), "");
    run(Command::new("usermod").args(["--uid", "47333", stale]), "");
    change(none, "$argon2id", "$argon2iX", 4);
    change(few, "$argon2id", "$argon2iX", 1);
    let found = doctor(&world);
    found.has("set-unreadable", &["error", unreadable, "mode 0640", "generate"]);
    found.has("set-damaged", &["warning", damaged, "(they count as used): 1;", "generate"]);
    found.has("set-orphaned", &["warning", gone, "backupcodes-admin purge"]);
    found.has("set-stale", &["warning", stale, "another uid", "generate"]);
    found.has("no-codes", &["warning", none, "status --none"]);
    found.has("few-codes", &["note", few, "status --low"]);

    // As it says.
    let all = [unreadable, damaged, stale, none, few];
    assert!(world.admin(&[&["generate", "--yes"], &all[..]].concat()).status.success());
    assert!(world.admin(&["purge", "--yes"]).status.success());
    doctor(&world).has_none(&checks);
}

#[test]
fn two_sets_of_one_user_are_reported_with_both_files() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let accounts = machine.accounts(2);
    let [alice, bob] = [0, 1].map(|at| accounts[at].name.as_str());
    assert!(world.admin(&["generate", "--format", "json", alice]).status.success());
    let file = |name: &str| world.store().join(format!("{name}.toml"));
    let own = file(alice);
    let copies = [
        (format!("{alice}.bak"), "warning", "rm "),
        (format!("{}%40example.org", alice.to_uppercase()), "warning", "rm "),
        (bob.into(), "error", "backupcodes-admin generate "),
    ];
    for (name, level, remedy) in copies {
        let copy = file(&name);
        fs::copy(&own, &copy).unwrap();
        let parts = [level, copy.to_str().unwrap(), own.to_str().unwrap(), alice, remedy];
        let found = doctor(&world);
        found.has("set-misfiled", &parts);
        found.has_none(&["set-orphaned", "set-stale"]);
        // `purge` knows it too, and `status` which is which.
        let purge = text(&world.admin(&["purge"]).stderr);
        assert!(purge.contains(remedy) && !purge.contains("rename"), "{purge}");
        assert!(own.exists() && copy.exists());
        let status = text(&world.admin(&["status"]).stdout);
        let place = name.replace("%40", "@");
        assert!(status.contains(&format!("\n{place} (of {alice})  ")), "{status}");
        let rows = text(&world.admin(&["status", "--format", "csv"]).stdout);
        for name in [alice, &place] {
            let start = format!("{name},");
            assert_eq!(rows.lines().filter(|row| row.starts_with(&start)).count(), 1, "{rows}");
        }
        if name == bob {
            // What it warns of.
            let mut attempt = world.attempt(&["none".into()]);
            attempt.user = bob.into();
            assert_eq!(attempt.run().codes, [pam::AUTHINFO_UNAVAIL], "{:?}", world.last_line());
            assert!(world.admin(&["generate", "--yes", bob]).status.success());
        } else {
            fs::remove_file(copy).unwrap();
        }
        doctor(&world).has_none(&["set-misfiled"]);
    }
    // The only one: it is not thrown away, nor does bob's new set take its place.
    for (name, level) in [(format!("{alice}.old"), "warning"), (bob.into(), "error")] {
        let codes = fs::read(&own).unwrap();
        fs::rename(&own, file(&name)).unwrap();
        let line = format!("mv -n '{}' '{}'", file(&name).display(), own.display());
        let found = doctor(&world);
        let other = format!("backupcodes-admin generate {alice}");
        found.has("set-misfiled", &[level, &name, alice, &line, &other]);
        let purge = text(&world.admin(&["purge"]).stderr);
        assert!(purge.contains(&line) && purge.contains(&other) && !purge.contains("rename"), "{purge}");
        run(Command::new("sh").args(["-c", &line]), "");
        assert_eq!(fs::read(&own).unwrap(), codes);
        doctor(&world).has_none(&["set-misfiled"]);
    }
}

#[test]
fn a_set_that_is_older_than_its_users_home_is_reported() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let accounts = machine.accounts(2);
    let [recreated, same] = [0, 1].map(|at| accounts[at].name.as_str());
    assert!(world.admin(&["generate", "--format", "json", recreated, same]).status.success());
    doctor(&world).has_none(&["set-older-than-home"]);
    std::thread::sleep(Duration::from_millis(1100));
    // As userdel and useradd do, with the same uid.
    let home = Path::new("/home").join(recreated);
    let owner = fs::metadata(&home).unwrap();
    fs::remove_dir_all(&home).unwrap();
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(owner.uid()), Some(owner.gid())).unwrap();
    let found = doctor(&world);
    found.has("set-older-than-home", &["warning", recreated, "created again", "generate", "pam_mkhomedir"]);
    assert!(!found.find("set-older-than-home").unwrap().contains(same));
    assert!(world.admin(&["generate", "--yes", recreated]).status.success());
    doctor(&world).has_none(&["set-older-than-home"]);
}

#[test]
fn a_second_name_of_a_uid_without_its_own_set_is_reported() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let account = machine.account();
    let second = format!("{}-too", account.name);
    let uid = fs::metadata(Path::new("/home").join(&account.name)).unwrap().uid().to_string();
    run(Command::new("useradd").args(["--non-unique", "--uid", &uid, &second]), "");
    doctor(&world).has_none(&["set-of-same-uid"]);
    assert!(world.admin(&["generate", &account.name]).status.success());
    let named = format!("{second} (uid of {})", account.name);
    doctor(&world).has("set-of-same-uid", &["warning", &named, "a set belongs to a name", "generate"]);
    assert!(world.admin(&["generate", &second]).status.success());
    doctor(&world).has_none(&["set-of-same-uid"]);
    run(Command::new("userdel").args(["--force", &second]), "");
}

#[test]
fn a_configuration_that_refuses_every_login_is_an_error_and_does_not_stop_the_rest() {
    let Some(world) = World::of_root("") else { return };
    world.configure("[codes]\ncount = 99\n");
    let (directory, module) = without_module(&world);
    let found = doctor_where(&world, &[(&directory, module.parent().unwrap().to_str().unwrap())]);
    found.has("configuration", &["error", "codes.count is 99", "backupcodes.conf(5)"]);
    found.has("module-missing", &["pam_backupcodes.so"]);
}

fn empty(world: &World, name: &str) -> PathBuf {
    fs::write(world.path(name), "").unwrap();
    world.path(name)
}

#[test]
fn users_who_will_not_learn_of_a_use_are_named() {
    let Some(world) = World::of_root("") else { return };
    world.notify("sendmail = [\"/no/such/sendmail\"]");
    let sheet = world.generate();
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    let found = doctor(&world);
    found.has("no-sendmail", &["warning", "/no/such/sendmail", "notify.sendmail"]);
    found.has_none(&["notices-stuck"]);
    // Two hours later: the queued notice is named by its time, and the record has one.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let outbox = world.store().join("outbox");
    let queued = fs::read_dir(&outbox).unwrap().next().unwrap().unwrap().path();
    let name = queued.file_name().unwrap().to_str().unwrap();
    let (user, rest) = name.split_once('@').unwrap();
    let older = format!("{user}@{:010x}{}", now - 7200, &rest[10..]);
    fs::rename(&queued, outbox.join(older)).unwrap();
    doctor(&world).has("notices-stuck", &["warning", &me(), "more than an hour", "backupcodes-admin notify"]);
    fs::remove_dir_all(&outbox).unwrap();
    doctor(&world).has_none(&["notices-stuck"]);
    let set = fs::read_to_string(world.file()).unwrap();
    let year = &sheet.created[..4];
    fs::write(world.file(), set.replacen(&format!("spent {year}"), "spent 2001", 1)).unwrap();
    doctor(&world).has("notices-stuck", &["warning", &me()]);
    world.notify("sendmail = [\"/bin/true\"]");
    world.deliver();
    doctor(&world).has_none(&["notices-stuck", "no-sendmail", "notices-refused"]);
    // What sendmail refuses is named at once.
    world.notify("sendmail = [\"/bin/false\"]");
    world.generate();
    assert_eq!(world.admin(&["notify"]).status.code(), Some(3));
    let found = doctor(&world);
    found.has("notices-refused", &["warning", &me(), "backupcodes-admin status", "backupcodes-admin email"]);
    found.has_none(&["notices-stuck"]);
}

#[test]
fn a_missing_module_is_reported() {
    let Some(world) = World::of_root("") else { return };
    world.generate();
    doctor(&world).has_none(&["module-missing"]);
    let (directory, module) = without_module(&world);
    doctor_where(&world, &[(&directory, module.parent().unwrap().to_str().unwrap())])
        .has("module-missing", &["error", module.to_str().unwrap(), "package"]);
}

/// A directory of modules without ours, and where the sandbox has that.
fn without_module(world: &World) -> (PathBuf, PathBuf) {
    let found = run(
        Command::new("find").args(["/usr/lib", "-name", "pam_backupcodes.so", "-not", "-path", "*/doc/*"]),
        "",
    );
    let module = PathBuf::from(found.lines().next().expect("the sandbox has it"));
    let directory = world.path("security");
    fs::create_dir(&directory).unwrap();
    fs::copy(module.with_file_name("pam_unix.so"), directory.join("pam_unix.so")).unwrap();
    (directory, module)
}

#[test]
fn a_file_system_that_refuses_codes_when_full_is_reported() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let mut disk = Disk::new(&world, FileSystem::Btrfs);
    let store = disk.path("store");
    must("btrfs", &["-q", "subvolume", "create", store.to_str().unwrap()]);
    set_mode(&store, 0o700);
    disk.show("store", "store");
    world.generate();
    doctor(&world).has("full-disk-denies", &["warning", "btrfs without chattr +C"]);
    // Too late for the set that is there.
    must("chattr", &["+C", world.store().to_str().unwrap()]);
    doctor(&world)
        .has("full-disk-denies", &["warning", &me(), "older than the directory's chattr +C", "generate"]);
    world.generate();
    doctor(&world).has_none(&["full-disk-denies"]);
    let name = format!("a{}", &machine.account().name);
    run(Command::new("useradd").arg(&name), "");
    assert!(world.admin(&["generate", &name]).status.success());
    disk.flush();
    must(
        "btrfs",
        &["-q", "subvolume", "snapshot", store.to_str().unwrap(), disk.path("snapshot").to_str().unwrap()],
    );
    doctor(&world).has("full-disk-denies", &["warning", "a snapshot or a copy shares blocks"]);
    // Also where the first of the sets is newer than it.
    assert!(world.admin(&["generate", "--yes", &name]).status.success());
    doctor(&world).has("full-disk-denies", &["warning", "a snapshot or a copy shares blocks"]);
    world.generate();
    doctor(&world).has_none(&["full-disk-denies", "disk-not-judged"]);
    let no_programs = empty(&world, "no-program");
    for program in ["/usr/bin/lsattr", "/usr/sbin/filefrag"] {
        doctor_where(&world, &[(&no_programs, program)])
            .has("disk-not-judged", &["note", "btrfs", "e2fsprogs"]);
    }
    must("btrfs", &["-q", "subvolume", "delete", disk.path("snapshot").to_str().unwrap()]);
}

#[test]
fn doctor_and_generate_report_storage_that_forgets() {
    let Some(world) = World::of_root("") else { return };
    let warning = || {
        let output = world.admin(&["generate", "--yes", &me(), "--format", "json"]);
        assert_eq!(sheet(output.clone()).codes.len(), 10, "the set is made all the same");
        text(&output.stderr)
    };
    let checks = ["storage-forgets", "storage-not-judged"];
    let disk = Disk::with_store(&world, FileSystem::Tmpfs);
    let said = warning();
    assert!(
        said.lines().count() == 1 && said.contains("on a tmpfs") && said.contains("work again"),
        "{said}"
    );
    assert_eq!(world.admin(&["generate", "--yes", &me(), "root"]).stderr.len(), said.len(), "once");
    let found = doctor(&world);
    found.has("storage-forgets", &["error", "on a tmpfs", "mount a disk on the directory"]);
    // As it says.
    let image = world.path("disk-image");
    fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    must("mkfs.ext4", &["-q", image.to_str().unwrap()]);
    must("mount", &["-o", "loop", image.to_str().unwrap(), world.store().to_str().unwrap()]);
    set_mode(&world.store(), 0o700);
    assert_eq!(warning(), "");
    doctor(&world).has_none(&checks);
    must("umount", &[world.store().to_str().unwrap()]);
    drop(disk);
}

#[test]
fn an_overlay_is_judged_by_its_upper_layer() {
    let Some(world) = World::of_root("") else { return };
    let mount = |upper: &Path, options: &str| {
        let [lower, upper, work] = [world.path("lower"), upper.join("upper"), upper.join("work")];
        for folder in [&lower, &upper, &work] {
            fs::create_dir_all(folder).unwrap();
        }
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}{options}",
            lower.display(),
            upper.display(),
            work.display()
        );
        must("mount", &["-t", "overlay", "-o", &layers, "overlay", world.store().to_str().unwrap()]);
        set_mode(&world.store(), 0o700);
    };
    let unmount = |path: &Path| must("umount", &["--lazy", path.to_str().unwrap()]);
    let memory = world.path("memory, and more");
    fs::create_dir(&memory).unwrap();
    must("mount", &["-t", "tmpfs", "tmpfs", memory.to_str().unwrap()]);
    // A comma cannot stand in the options as they are given.
    let plain = world.path("memory");
    std::os::unix::fs::symlink(&memory, &plain).unwrap();
    mount(&plain, "");
    let sheet = world.generate();
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::AUTH_ERR);
    doctor(&world).has("storage-forgets", &["error", "overlay whose upper layer", "on a tmpfs"]);
    let output = world.admin(&["generate", "--yes", &me()]);
    assert!(text(&output.stderr).contains("on a tmpfs") && output.status.success(), "{output:?}");
    // Its path leads nowhere from here, as that of an initramfs.
    unmount(&memory);
    fs::remove_file(&plain).unwrap();
    let is_container = ["/run/systemd/container", "/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|mark| Path::new(mark).exists());
    let found = doctor(&world);
    let said = text(&world.admin(&["generate", "--yes", &me()]).stderr);
    if is_container {
        found.has("storage-not-judged", &["warning", "cannot be seen from here"]);
        found.has_none(&["storage-forgets"]);
        assert_eq!(said, "");
    } else {
        found.has("storage-forgets", &["error", "cannot be seen from here and may be lost"]);
        assert!(said.contains("may be lost at the next boot"), "{said}");
    }
    unmount(&world.store());

    let disk = Disk::new(&world, FileSystem::Ext4);
    mount(&disk.path(""), "");
    world.generate();
    doctor(&world).has_none(&["storage-forgets", "storage-not-judged"]);
    unmount(&world.store());
    mount(&disk.path(""), ",volatile");
    doctor(&world).has("storage-forgets", &["error", "volatile"]);
    unmount(&world.store());
}

#[test]
fn without_a_disk_below_it_a_code_works_again_after_a_boot() {
    // The control: what doctor calls an error is one.
    let Some(world) = World::of_root("") else { return };
    let lower = world.path("lower");
    let sheet = world.generate();
    fs::rename(world.store(), &lower).unwrap();
    fs::create_dir(world.store()).unwrap();
    let memory = world.path("memory");
    fs::create_dir(&memory).unwrap();
    for _ in 0..2 {
        must("mount", &["-t", "tmpfs", "tmpfs", memory.to_str().unwrap()]);
        fs::create_dir(memory.join("upper")).unwrap();
        fs::create_dir(memory.join("work")).unwrap();
        let layers =
            format!("lowerdir={0},upperdir={1}/upper,workdir={1}/work", lower.display(), memory.display());
        must("mount", &["-t", "overlay", "-o", &layers, "overlay", world.store().to_str().unwrap()]);
        set_mode(&world.store(), 0o700);
        assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
        assert_eq!(world.try_answer(&sheet.codes[0]), pam::AUTH_ERR);
        doctor(&world).has("storage-forgets", &["error"]);
        must("umount", &[world.store().to_str().unwrap()]);
        must("umount", &[memory.to_str().unwrap()]);
    }
}
