//! The module and the commands read the configuration from real files.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use backupcodes_tests::doctor::doctor;
use backupcodes_tests::machine::Machine;
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{World, me, pam, set_mode, text};
use nix::sys::stat::Mode;

#[test]
fn an_unreadable_file_does_not_count_as_missing() {
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
    let Some((_machine, world)) = World::on_machine("") else { return };
    let sheet = world.generate();
    // The system's own is not even looked at.
    let system = "/etc/security/backupcodes.conf";
    fs::write(system, "rubbish\n").unwrap();
    let (code, status) = (world.try_answer(&sheet.codes[0]), world.admin(&["status"]).status.code());
    fs::remove_file(system).unwrap();
    assert_eq!((code, status), (pam::SUCCESS, Some(0)));
}

/// What nobody meant to be read, but for the names that begin with a dot.
const OTHERS: [(&str, &str); 4] = [
    ("device.conf", "a device"),
    ("old.conf", "a directory"),
    ("pipe.conf", "a FIFO"),
    ("socket.conf", "a socket"),
];

/// Leaves in a directory of drop-ins what editors and tools leave there, and what stands in one by mistake.
fn litter(directory: &Path) -> Vec<PathBuf> {
    fs::create_dir_all(directory).unwrap();
    let at = |name: &str| directory.join(name);
    symlink("root@host.example.org.4711:1764500000", at(".#10.conf")).unwrap();
    fs::write(at("._10.conf"), "\0\u{5}\u{16}\u{7}\0\u{2}\0\0Mac OS X").unwrap();
    fs::write(at(".ansible_tmpx1y2z310.conf"), "[codes]\ncou").unwrap();
    symlink("/dev/null", at("masked.conf")).unwrap();
    symlink("/dev/zero", at("device.conf")).unwrap();
    fs::create_dir(at("old.conf")).unwrap();
    nix::unistd::mkfifo(&at("pipe.conf"), Mode::S_IRUSR).unwrap();
    drop(UnixListener::bind(at("socket.conf")).unwrap());
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn leftover_files_of_editors_and_tools_among_the_drop_ins_refuse_no_login() {
    let Some(world) = World::new("") else { return };
    let codes = world.generate().codes;
    let drop_ins = world.path("conf.d");
    litter(&drop_ins);
    assert_eq!(world.try_answer(&codes[0]), pam::SUCCESS);
    assert_eq!(world.log().len(), 1, "the module says nothing of it: {:#?}", world.log());
    let found = doctor(&world);
    let of_drop_ins: Vec<_> =
        found.0.iter().filter(|finding| finding["check"] == "drop-in-passed-over").collect();
    assert_eq!(of_drop_ins.len(), OTHERS.len(), "{of_drop_ins:#?}");
    for ((name, what), finding) in OTHERS.iter().zip(of_drop_ins) {
        assert_eq!(finding["level"], "warning");
        assert_eq!(finding["subject"], drop_ins.join(name).to_str().unwrap());
        assert!(finding["message"].as_str().unwrap().contains(what), "{finding}");
    }
    found.has_none(&["configuration"]);
    // What the administrator wanted to be read is still missed, or not trusted.
    let link = drop_ins.join("20.conf");
    symlink("/no/such/file", &link).unwrap();
    assert_eq!(world.try_answer(&codes[1]), pam::SERVICE_ERR);
    doctor(&world).has("configuration", &["error", "20.conf", "ENOENT"]);
    fs::remove_file(&link).unwrap();
    fs::write(&link, "").unwrap();
    set_mode(&link, 0o666);
    assert_eq!(world.try_answer(&codes[1]), pam::SERVICE_ERR);
    set_mode(&link, 0o644);
    assert_eq!(world.try_answer(&codes[1]), pam::SUCCESS);
}

#[test]
fn on_the_host_itself_they_lock_nobody_out_nor_does_a_configuration_that_is_masked() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("su", "console");
    let [caller, account] = [(); 2].map(|()| machine.account());
    let sheet = machine.generate(&account);
    let file = Path::new("/etc/security/backupcodes.conf");
    symlink("/dev/null", file).unwrap();
    let mut made = litter(Path::new("/etc/security/backupcodes.conf.d"));
    made.retain(|path| !path.ends_with("notify.conf"));
    made.push(file.into());
    let mut terminal = Terminal::start(caller.command().args(["su", &account.name, "-c", "echo let in"]));
    terminal.expect("Password: ");
    terminal.send(&account.password);
    let prompt = terminal.expect_one_of(&["Backup code: ", "Error in service module"]);
    for path in made {
        let is_directory = path.symlink_metadata().unwrap().is_dir();
        if is_directory { fs::remove_dir(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    assert_eq!(prompt, "Backup code: ");
    terminal.send(&sheet.codes[0]);
    terminal.expect("let in");
}

#[test]
fn configured_values_are_used() {
    let Some(world) = World::new("") else { return };
    world.configure("[codes]\ncount = 4\nlength = 20\nlow = 1\n[hash]\nmemory_kib = 64\npasses = 1\n");
    let sheet = world.generate();
    assert!(sheet.codes.len() == 4 && sheet.codes.iter().all(|code| code.replace('-', "").len() == 22));
    let said = |at: usize| world.attempt(&[(&sheet.codes[at]).into()]).run().said[1].text.clone();
    let status = || text(&world.admin(&["status", &me()]).stdout);
    assert!(!said(0).contains("new set") && !said(1).contains("new set") && !status().contains("LOW"));
    assert!(said(2).contains("new set") && status().contains("LOW"));
}
