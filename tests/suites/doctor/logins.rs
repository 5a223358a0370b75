//! Real logins by the stacks that `doctor` complains of: each is the way in or the lockout that it says.

use backupcodes_tests::doctor::doctor_of_stacks;
use backupcodes_tests::machine::Machine;
use backupcodes_tests::{Attempt, World, pam};

const UNIX: &str = "auth requisite pam_unix.so nodelay\n";
const OURS: &str = "auth required pam_backupcodes.so\n";

/// Whether a login by these lines, instead of Debian's, succeeds with these answers. `doctor` finds this in them.
fn gets_in(machine: &Machine, world: &World, lines: &str, check: &str, user: &str, answers: &[&str]) -> bool {
    doctor_of_stacks(world, &[("login", lines.into())], "").has(check, &["/etc/pam.d/"]);
    machine.stack_of("login", lines);
    let is_in = Attempt::of_machine("login", user, answers).run().codes[0] == pam::SUCCESS;
    machine.original_stack("login");
    is_in
}

#[test]
fn a_login_does_what_doctor_says_of_its_stack() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let (account, sheet) = machine.user();
    let (password, codes) = (&*account.password, &sheet.codes);
    let gets_in = |lines: &str, check: &str, answers: &[&str]| {
        gets_in(&machine, &world, lines, check, &account.name, answers)
    };

    let first = format!("{OURS}{UNIX}");
    assert!(!gets_in(&first, "code-first", &[&codes[0], "mistyped"]));
    assert!(!gets_in(&first, "code-first", &[&codes[0], password]), "the code is spent");
    assert!(gets_in(&first, "code-first", &[&codes[1], password]));

    for lines in [format!("{UNIX}{OURS}").replace('\n', "\r\n"), format!("{UNIX}\r\n{OURS}")] {
        assert!(!gets_in(&lines, "carriage-return", &[password, &codes[2]]), "{lines:?}");
    }

    let gone = "auth [success=ok ignore=ignore module_unknown=ignore default=bad] /gone/pam_backupcodes.so\n";
    assert!(gets_in(&format!("{UNIX}{gone}"), "refusal-ignored", &[password]));

    for everybody in [
        "pam_usertype.so isregular",
        "pam_localuser.so",
        "pam_shells.so",
        "pam_access.so",
        "pam_securetty.so",
        "pam_nologin.so successok",
        "pam_listfile.so item=user sense=deny file=/gone onerr=succeed",
        "pam_succeed_if.so quiet uid >= 1000",
        "pam_succeed_if.so user notin root uid != 0",
        "pam_succeed_if.so user !~ root uid < 65534",
        "pam_succeed_if.so",
    ] {
        let lines = format!("{UNIX}auth [success=1 default=ignore] {everybody}\n{OURS}");
        assert!(gets_in(&lines, "password-alone", &[password]), "{everybody}");
    }
    for nobody in [
        "pam_usertype.so issystem",
        "pam_succeed_if.so uid = 0",
        "pam_succeed_if.so colour = red",
        "pam_listfile.so item=user sense=deny file=/gone",
    ] {
        let lines = format!("{UNIX}auth [success=ignore default=1] {nobody}\n{OURS}");
        assert!(gets_in(&lines, "password-alone", &[password]), "{nobody}");
    }
}
