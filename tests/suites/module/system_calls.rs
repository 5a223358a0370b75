//! The system calls of the module and the commands, as strace sees them.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use backupcodes_tests::strace::calls;
use backupcodes_tests::{World, built, feed, me, pam, text};

fn attempt(world: &World, code: &str, which: &str) -> Vec<String> {
    let attempts = serde_json::to_string(&[world.attempt(&[code.into()])]).unwrap();
    let (calls, output) = calls(&Command::new(built("pam-application")), &attempts, which);
    assert!(text(&output.stdout).contains("\"codes\":[0]"), "{output:?}");
    calls
}

#[test]
fn success_is_said_after_one_write_in_place_and_one_flush_under_the_lock() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let calls = attempt(
        &world,
        &sheet.codes[0],
        "flock,pwrite64,fdatasync,fsync,sync,rename,renameat,unlinkat,ftruncate,sendto",
    );
    let file = world.file();
    let file = file.to_str().unwrap();
    let mine: Vec<_> =
        calls.iter().filter(|call| call.contains(file) || call.contains("pam_backupcodes(")).collect();
    let kinds: Vec<_> = mine.iter().map(|call| call.split('(').next().unwrap()).collect();
    // The line in the log comes last: nothing is told before the record is on the disk.
    assert_eq!(kinds, ["flock", "pwrite64", "fdatasync", "flock", "sendto"], "{mine:#?}");
    assert!(mine[0].contains("LOCK_EX|LOCK_NB") && mine[3].contains("LOCK_UN"), "{mine:#?}");
    assert!(mine[1].contains("\"spent 20") && mine[1].contains(", 94, "), "{mine:#?}");
    assert!(
        calls.iter().all(|call| !call.starts_with("rename") && !call.starts_with("ftruncate")),
        "{calls:#?}"
    );
}

#[test]
fn a_refused_code_opens_nothing_for_writing_and_takes_no_lock() {
    let Some(world) = World::new("") else { return };
    let old = world.generate();
    world.generate();
    let attempts = serde_json::to_string(&[world.attempt(&[(&old.codes[0]).into()])]).unwrap();
    let (calls, _) =
        calls(&Command::new(built("pam-application")), &attempts, "openat,flock,pwrite64,fdatasync");
    let store = world.store();
    let mine: Vec<_> = calls.iter().filter(|call| call.contains(store.to_str().unwrap())).collect();
    let reads = |call: &str| call.starts_with("openat") && call.contains("O_RDONLY");
    assert!(mine.len() >= 2 && mine.iter().all(|call| reads(call)), "{calls:#?}");
    assert!(
        calls.iter().all(|call| !call.starts_with("pwrite64") && !call.starts_with("fdatasync")),
        "{calls:#?}"
    );
}

#[test]
fn a_hash_has_its_memory_under_a_permit_that_is_free_again_before_the_set_is_locked() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let calls = attempt(&world, &sheet.codes[0], "write,flock,close,madvise,munmap,pwrite64");
    let at = |what: [&str; 2]| {
        let is_it = |call: &String| what.iter().all(|part| call.contains(part));
        calls.iter().position(is_it).unwrap_or_else(|| panic!("no {what:?} in {calls:#?}"))
    };
    let order = [
        ["write(", "/run/throttle/"],
        ["/run/hash-permits/", "LOCK_EX|LOCK_NB) = 0"],
        ["madvise(", "MADV_DONTDUMP"],
        ["/run/hash-permits/", "LOCK_UN"],
        [".toml>", "LOCK_EX|LOCK_NB) = 0"],
        ["pwrite64(", "spent"],
    ];
    assert!(order.map(at).is_sorted(), "{calls:#?}");
}

/// A queued notice and its directories, flushed.
const NOTICE: [&str; 5] = ["write", "fsync", "renameat", "fsync", "fsync"];

#[test]
fn a_new_set_is_flushed_before_it_is_renamed_and_the_directory_after() {
    let Some(world) = World::new("") else { return };
    world.generate();
    let (calls, _) =
        calls(world.admin_command().args(["generate", "--yes", &me()]), "", "flock,fsync,renameat,write");
    let kinds: Vec<_> = calls
        .iter()
        .filter(|call| call.contains(world.store().to_str().unwrap()) || call.contains("BACKUP CODES"))
        .map(|call| call.split('(').next().unwrap())
        .collect();
    // Directory lock; new file, flushed; the sheet; the old set's lock; the notice; its end; the directory flushed;
    // unlocked.
    let before = ["flock", "write", "fsync", "write", "flock"];
    let after = ["renameat", "fsync", "flock", "flock"];
    let expected = [before.as_slice(), &NOTICE, &after].concat();
    assert_eq!(kinds, expected, "{calls:#?}");
}

#[test]
fn in_a_setuid_application_the_lock_is_held_with_ids_that_the_caller_cannot_signal() {
    let Some(world) = World::new("") else { return };
    let Some(application) = world.setuid_application() else { return };
    let sheet = world.generate();
    let attempts = serde_json::to_string(&[world.attempt(&[(&sheet.codes[0]).into()])]).unwrap();
    let mut strace = Command::new("strace");
    let trace = world.path("trace");
    strace
        .args(["-u", "nobody", "-f", "-y", "-e", "trace=setresuid,flock,rt_sigprocmask,fdatasync", "-o"])
        .arg(&trace);
    let output = feed(strace.arg(&application), &attempts);
    assert!(text(&output.stdout).contains("\"codes\":[0]"), "{output:?}");
    // The attempt was counted before, in the same way.
    let trace = text(&fs::read(trace).unwrap());
    let trace = trace.split_once("setresuid(65534, 0, 0)").expect("ids that are given back").1;
    let at = |what: &str| trace.find(what).unwrap_or_else(|| panic!("no {what} in {trace}"));
    let order = [
        "SIG_SETMASK, ~[",
        "setresuid(0, 0, 0)",
        ".toml>, LOCK_EX",
        "fdatasync",
        ".toml>, LOCK_UN",
        "setresuid(65534, 0, 0)",
    ];
    assert!(order.map(at).is_sorted(), "{trace}");
}

#[test]
fn a_code_is_written_nowhere_but_to_the_terminal_and_starts_no_program() {
    let Some(world) = World::new("debug") else { return };
    let sheet = world.generate();
    let out = "write,writev,pwrite64,pwritev,sendto,sendmsg,sendmmsg,execve,execveat,memfd_create";
    let calls = attempt(&world, &sheet.codes[0], out);
    let code = sheet.codes[0].replace('-', "");
    assert!(calls.iter().any(|call| call.contains("accepted code 1")), "the trace sees the log: {calls:#?}");
    assert_eq!(
        calls.iter().filter(|call| call.starts_with("execve")).count(),
        1,
        "the application itself: {calls:#?}"
    );
    assert!(calls.iter().all(|call| !call.contains(&sheet.codes[0]) && !call.contains(&code)), "{calls:#?}");

    let arguments = ["generate", "--yes", "--format", "json", &me()];
    let (calls, output) = self::calls(world.admin_command().args(arguments), "", out);
    let sheet = backupcodes_tests::sheet(output);
    let showing: Vec<_> =
        calls.iter().filter(|call| sheet.codes.iter().any(|code| call.contains(code))).collect();
    assert!(!showing.is_empty() && showing.iter().all(|call| call.starts_with("write(1<")), "{showing:#?}");
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
}

#[test]
fn a_removed_set_is_locked_and_its_end_is_flushed() {
    let Some(world) = World::new("") else { return };
    world.generate();
    let (calls, _) =
        calls(world.admin_command().args(["revoke", &me()]), "", "flock,fsync,unlinkat,renameat,write");
    let kinds: Vec<_> = calls
        .iter()
        .filter(|call| call.contains(world.store().to_str().unwrap()) && !call.contains(", 0) = -1 ENOENT"))
        .map(|call| call.split('(').next().unwrap())
        .collect();
    // The set, and what its uid led to.
    let (before, after) = (["flock", "flock"], ["unlinkat", "unlinkat", "fsync", "flock", "flock"]);
    assert_eq!(kinds, [before.as_slice(), &NOTICE, &after].concat(), "{calls:#?}");
}

#[test]
fn json_is_out_before_the_set_is_in_place() {
    let Some(world) = World::new("") else { return };
    let arguments = ["generate", "--yes", "--format", "json", &me()];
    let (calls, output) = calls(world.admin_command().args(arguments), "", "write,renameat");
    let sheet = backupcodes_tests::sheet(output);
    let at = |what: &str| calls.iter().position(|call| call.contains(what)).unwrap();
    assert!(at(&sheet.codes[9]) < at("renameat("), "{calls:#?}");
}

#[test]
fn a_sheet_in_a_file_is_flushed_before_its_set_is_in_place() {
    let Some(world) = World::new("") else { return };
    let directory = world.path("sheets");
    let directory = directory.to_str().unwrap();
    let arguments = ["generate", "--output", directory, &me()];
    let (calls, output) = calls(world.admin_command().args(arguments), "", "write,fsync,renameat");
    assert!(output.status.success(), "{output:?}");
    let sheet = format!("{directory}/{}.txt", me());
    let at = |what: &str, file: &str| {
        calls.iter().position(|call| call.starts_with(what) && call.contains(&format!("<{file}>"))).unwrap()
    };
    let in_place =
        calls.iter().position(|call| call.starts_with("renameat") && call.contains(".toml")).unwrap();
    let order = [at("write", &sheet), at("fsync", &sheet), at("fsync", directory), in_place];
    assert!(order.is_sorted(), "{calls:#?}");
    let code = |call: &&String| call.contains("\\n   1  1");
    assert!(calls.iter().filter(code).all(|call| call.contains(&sheet)), "{calls:#?}");
}

#[test]
fn files_are_opened_with_care() {
    let Some(world) = World::new("") else { return };
    world.notify("sendmail = [\"/bin/true\"]");
    let sheet = world.generate();
    let which = "?open,openat,?openat2,?creat";
    let mut opened = attempt(&world, &sheet.codes[0], which);
    let me = me();
    for arguments in [
        ["generate", "--yes", &me].as_slice(),
        &["verify", &me],
        &["email", &me, "me@example.org"],
        &["notify"],
        &["status", &me],
        &["unlock", &me],
        &["revoke", &me],
        &["notify"],
    ] {
        opened.extend(calls(world.admin_command().args(arguments), "", which).0);
    }
    let folders = [world.store(), world.path("run")].map(|folder| folder.to_str().unwrap().to_owned());
    // O_PATH opens nothing: it asks what mount a name lies on.
    opened.retain(|call| folders.iter().any(|folder| call.contains(folder)) && !call.contains("|O_PATH"));
    let [queued, new_queued] = ["", "."].map(|dot| format!("outbox>, \"{dot}{me}@"));
    for place in [
        "store\", ",
        ".toml\", ",
        "store>, \".new\", ",
        "\"outbox\", ",
        &queued,
        &new_queued,
        "run\", ",
        "\"throttle\", ",
        "@192.0.2.7\", ",
        "\"hash-permits\", ",
        "hash-permits>, ",
        "\"notify\", ",
        "\"lock\", ",
    ] {
        assert!(opened.iter().any(|call| call.contains(place)), "no {place} in {opened:#?}");
    }
    for call in opened {
        assert!(call.starts_with("openat("), "{call}");
        // A directory that is open is opened once more, for its names or its lock: "." is never a link.
        let by_name = if call.contains(">, \".\", ") { "O_DIRECTORY" } else { "O_NOFOLLOW" };
        let care = [by_name, "O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY"];
        assert!(care.iter().all(|flag| call.contains(flag)), "{call}");
        assert!(!call.contains("O_CREAT") || call.contains(", 0600) = "), "{call}");
        let is_new = call.contains(".new\"") || call.contains(&new_queued);
        assert!(!is_new || call.contains("O_CREAT|O_EXCL|"), "{call}");
    }
}

#[test]
fn a_link_to_a_directory_is_refused_however_it_is_written() {
    let Some(world) = World::new("") else { return };
    world.generate();
    symlink(world.store(), world.path("link")).unwrap();
    let status = |store: &str, run: &str| {
        let [store, run] = [store, run].map(|name| world.folder.path().join(name));
        let text = format!("directory = {store:?}\nruntime_directory = {run:?}\n");
        fs::write(world.path("conf"), text).unwrap();
        world.admin(&["status", &me()])
    };
    for slashed in ["store", "store/", "store/."] {
        assert!(status(slashed, "run").status.success());
    }
    for link in ["link", "link/", "link/."] {
        for output in [status(link, "run"), status("store", link)] {
            assert!(
                text(&output.stderr).contains("a symbolic link; expected a directory"),
                "{link}: {output:?}"
            );
        }
    }
}

#[test]
fn the_memory_of_a_hash_is_huge_pages_that_no_core_dump_has_and_is_given_back() {
    let Some(world) = World::new("") else { return };
    world.configure("");
    let sheet = world.generate();
    let calls = attempt(&world, &sheet.codes[0], "madvise,munmap");
    let count = |what: &str| calls.iter().filter(|call| call.contains(what)).count();
    // 19 MiB are ten pages of 2 MiB, and one more to find an aligned address in.
    assert_eq!(count(", 20971520, MADV_DONTDUMP) = 0"), 1, "{calls:#?}");
    assert_eq!(count(", 20971520, MADV_HUGEPAGE)"), 1, "{calls:#?}");
    assert_eq!(count(", 23068672)"), 1, "unmapped: {calls:#?}");
}

#[test]
fn the_tool_leaves_no_core_dump_before_it_looks_at_a_set() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    for (arguments, input) in [(vec!["generate", "--yes"], ""), (vec!["verify"], sheet.codes[0].as_str())] {
        let (calls, _) = calls(world.admin_command().args(arguments).arg(me()), input, "prctl,openat");
        let at = |what: &str| calls.iter().position(|call| call.contains(what)).unwrap();
        assert!(at("PR_SET_DUMPABLE, SUID_DUMP_DISABLE") < at(".toml"), "{calls:#?}");
    }
}
