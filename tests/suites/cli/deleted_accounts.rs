//! The distribution's own programs delete an account, and its codes go with it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use backupcodes_tests::machine::{Account, Machine, append, run};
use backupcodes_tests::{feed, set_mode, text};

/// Where userdel looks.
const HOOK: &str = "/etc/shadow-maint/userdel-post.d/50-backupcodes";

/// The machine, with the package's own hook.
struct Host(Machine);

impl std::ops::Deref for Host {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.0
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_file(HOOK);
        for program in ["getent", "nscd", "sss_cache"] {
            let _ = fs::remove_file(Path::new("/usr/sbin").join(program));
        }
    }
}

/// Puts a script where the hook looks first.
fn program(name: &str, lines: &str) {
    let path = Path::new("/usr/sbin").join(name);
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    set_mode(&path, 0o755);
}

fn machine() -> Option<Host> {
    let machine = Machine::new()?;
    fs::create_dir_all(Path::new(HOOK).parent().unwrap()).unwrap();
    fs::write(HOOK, include_str!("../../../packaging/shadow/50-backupcodes")).unwrap();
    set_mode(Path::new(HOOK), 0o755);
    Some(Host(machine))
}

fn delete(program: &str, arguments: &[&str]) -> Output {
    feed(Command::new(program).args(arguments), "")
}

fn has_set(machine: &Machine, name: &str) -> bool {
    machine.admin(&["status", "--", name]).status.success()
}

fn count_a_failure(name: &str) -> std::path::PathBuf {
    let counters = Path::new("/run/backupcodes/throttle").join(name);
    fs::create_dir_all(&counters).unwrap();
    for folder in ["/run/backupcodes", "/run/backupcodes/throttle", counters.to_str().unwrap()] {
        set_mode(Path::new(folder), if folder == "/run/backupcodes" { 0o755 } else { 0o700 });
    }
    let counter = counters.join("sshd@192.0.2.7");
    fs::write(&counter, ".").unwrap();
    set_mode(&counter, 0o600);
    counter
}

#[test]
fn an_account_that_is_deleted_and_created_again_has_no_codes_whoever_deletes_it() {
    let Some(machine) = machine() else { return };
    for program in ["userdel", "deluser"] {
        let account = machine.account();
        let uid = text(&feed(Command::new("id").args(["-u", &account.name]), "").stdout);
        machine.generate(&account);
        let counter = count_a_failure(&account.name);
        let deleted = delete(program, &[&account.name]);
        assert!(deleted.status.success(), "{program}: {deleted:?}");
        assert!(!text(&deleted.stderr).contains("backupcodes"), "{program}: {deleted:?}");
        assert!(!account.file().exists(), "{program} leaves the set");
        assert!(!counter.exists(), "{program} leaves the counters");
        run(Command::new("useradd").args(["--uid", uid.trim(), &account.name]), "");
        assert!(!has_set(&machine, &account.name), "{program}: the new account has the old codes");
        run(Command::new("userdel").arg(&account.name), "");
    }
}

/// What nobody is told yet must not be lost.
#[test]
fn notices_that_are_due_when_an_account_is_deleted_go_to_its_own_addresses() {
    let Some(machine) = machine() else { return };
    let account = machine.account();
    machine.generate(&account);
    let email = machine.admin(&["email", &account.name, "old@example.org"]);
    assert!(email.status.success(), "{email:?}");
    run(Command::new("userdel").arg(&account.name), "");
    let queued: Vec<_> = fs::read_dir("/var/lib/backupcodes/outbox").unwrap().collect();
    let queued: Vec<_> =
        queued.into_iter().map(|notice| fs::read_to_string(notice.unwrap().path()).unwrap()).collect();
    let revoked =
        queued.iter().find(|notice| notice.contains("Backup codes of ") && notice.contains("revoked"));
    assert!(revoked.is_some_and(|notice| notice.contains("old@example.org")), "{queued:#?}");
}

#[test]
fn names_with_any_characters_are_deleted_with_their_codes() {
    let Some(machine) = machine() else { return };
    for name in ["DOM\\carl", "max.o'neil", "$(id)", "zo\u{eb}", "a b", "*", "user@example.org", "%u"] {
        append("/etc/passwd", &format!("{name}:x:47110:47110::/nonexistent:/bin/sh\n"));
        append("/etc/shadow", &format!("{name}:*:20000:0:99999:7:::\n"));
        let made = machine.admin(&["generate", "--yes", "--", name]);
        assert!(made.status.success(), "{name}: {made:?}");
        assert!(has_set(&machine, name), "{name}");
        let deleted = delete("userdel", &["--", name]);
        assert!(deleted.status.success(), "{name}: {deleted:?}");
        assert!(!has_set(&machine, name), "{name}: its codes stay");
    }
    // The files of this host have no such name, but a directory service may.
    let account = machine.account();
    machine.generate(&account);
    for name in ["-bob", "--yes", "-"] {
        fs::copy(account.file(), account.file().with_file_name(format!("{name}.toml"))).unwrap();
        let hook = feed(Command::new(HOOK).env("SUBJECT", name), "");
        assert!(hook.status.success() && hook.stderr.is_empty(), "{hook:?}");
        assert!(!has_set(&machine, name), "{name}: its codes stay");
    }
}

#[test]
fn userdel_never_fails_for_the_hook_and_one_line_says_what_stays() {
    let Some(machine) = machine() else { return };
    let said = |account: &Account| {
        let deleted = delete("userdel", &[&account.name]);
        assert!(deleted.status.success(), "{deleted:?}");
        let said = text(&deleted.stderr);
        said.lines().filter(|line| line.contains("backup")).map(String::from).collect::<Vec<_>>()
    };
    // No set, and then one in a directory that is not in order.
    assert_eq!(said(&machine.account()), [""; 0]);
    let account = machine.account();
    machine.generate(&account);
    set_mode(Path::new("/var/lib/backupcodes"), 0o777);
    let lines = said(&account);
    set_mode(Path::new("/var/lib/backupcodes"), 0o700);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let start = format!("backupcodes: the backup codes of {} were not removed (", account.name);
    assert!(lines[0].starts_with(&start) && lines[0].ends_with("backupcodes-admin purge"), "{lines:?}");
    assert!(account.file().exists());
    // The package is gone, and its file in /etc is not.
    let account = machine.account();
    machine.generate(&account);
    fs::rename("/usr/sbin/backupcodes-admin", "/usr/sbin/elsewhere").unwrap();
    let lines = said(&account);
    fs::rename("/usr/sbin/elsewhere", "/usr/sbin/backupcodes-admin").unwrap();
    assert_eq!(lines, [""; 0]);
    assert!(account.file().exists());
}

/// As userdel --prefix has it, which runs the hooks of this host.
#[test]
fn an_account_that_another_root_has_lost_keeps_its_codes_here() {
    let Some(machine) = machine() else { return };
    let account = machine.account();
    machine.generate(&account);
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    for file in ["passwd", "shadow", "group", "gshadow"] {
        fs::copy(Path::new("/etc").join(file), root.path().join("etc").join(file)).unwrap();
    }
    let deleted = delete("userdel", &["--prefix", root.path().to_str().unwrap(), &account.name]);
    assert!(deleted.status.success(), "{deleted:?}");
    assert!(has_set(&machine, &account.name));
    let line =
        format!("backupcodes: {} is still an account here, and keeps its backup codes; ", account.name);
    assert!(text(&deleted.stderr).contains(&line), "{deleted:?}");
    // musl's getent takes `--` for a name.
    program("getent", "[ \"$2\" != -- ] || exit 2\nexec /usr/bin/getent \"$@\"");
    let hook = feed(Command::new(HOOK).env("SUBJECT", &account.name), "");
    assert!(text(&hook.stderr).contains(&line), "{hook:?}");
    assert!(has_set(&machine, &account.name));
}

/// A cache that has the account until it is told: until then it stays in passwd here.
#[test]
fn an_account_that_a_cache_still_has_loses_its_codes() {
    let Some(machine) = machine() else { return };
    for (cache, told) in [("nscd", "--invalidate=passwd"), ("sss_cache", "--user=NAME")] {
        let account = machine.account();
        machine.generate(&account);
        let told = told.replace("NAME", &account.name);
        program(cache, &format!("[ \"$*\" = {told} ] && sed -i '/^{}:/d' /etc/passwd", account.name));
        let hook = feed(Command::new(HOOK).env("SUBJECT", &account.name), "");
        assert!(hook.status.success() && hook.stderr.is_empty(), "{cache}: {hook:?}");
        assert!(!account.file().exists(), "{cache}: its codes stay");
        fs::remove_file(Path::new("/usr/sbin").join(cache)).unwrap();
    }
}
