//! System calls that fail, as strace makes them: each denies, says why, and is answered like a wrong code where the
//! code was right.

use std::fs;
use std::process::Command;

use backupcodes_tests::{
    Attempt, Sheet, World, built, feed, me, pam, sandbox, sandbox_of_root, set_mode, text,
};

const CRITICAL: u32 = 2;

/// What an attempt returns in a host whose calls are tampered with as `inject` says.
fn injected(options: &[&str], host: &std::path::Path, attempt: Attempt, inject: &str) -> String {
    let call = inject.split(':').next().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null"]).args(options);
    strace.args(["-e", &format!("trace={call}"), "-e", &format!("inject={inject}")]).arg(host);
    let outcome = text(&feed(&mut strace, &serde_json::to_string(&[attempt]).unwrap()).stdout);
    outcome.split("\"codes\":[").nth(1).unwrap_or(&outcome).split(']').next().unwrap().into()
}

/// A world, its set, and what became of its first code.
fn first_code(inject: &str) -> Option<(World, Sheet, String)> {
    let world = World::new("")?;
    let sheet = world.generate();
    let attempt = world.attempt(&[(&sheet.codes[0]).into()]);
    let code = injected(&[], &built("pamhost"), attempt, inject);
    Some((world, sheet, code))
}

#[test]
fn a_write_that_fails_denies_and_leaves_the_code() {
    let Some((world, sheet, code)) = first_code("pwrite64:error=ENOSPC") else { return };
    assert_eq!(code, pam::AUTH_ERR.to_string());
    let line = world.last_line();
    assert!(line.text.contains("cannot write (ENOSPC") && line.level == CRITICAL, "{line:?}");
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
}

#[test]
fn a_write_that_is_cut_short_denies() {
    let Some((world, _, code)) = first_code("pwrite64:retval=40") else { return };
    assert_eq!(code, pam::AUTH_ERR.to_string());
    assert!(world.last_line().text.contains("cannot write all of the mark"), "{:?}", world.last_line());
}

#[test]
fn a_flush_that_fails_once_is_not_tried_again() {
    let Some((world, sheet, code)) = first_code("fdatasync:error=EIO:when=1") else { return };
    assert_eq!(code, pam::AUTH_ERR.to_string());
    let line = world.last_line();
    assert!(line.text.contains("cannot flush (EIO") && line.level == CRITICAL, "{line:?}");
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::AUTH_ERR, "it counts as spent");
    assert_eq!(world.try_answer(&sheet.codes[1]), pam::SUCCESS);
}

#[test]
fn a_new_set_that_cannot_be_flushed_is_not_shown_and_changes_nothing() {
    let Some(world) = World::new("") else { return };
    let old = world.generate();
    let mut strace = Command::new("strace");
    strace.args(["-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1"]);
    strace.arg(built("backupcodes-admin")).arg("--config").arg(world.path("conf"));
    let output = feed(strace.args(["generate", "--yes", &me()]), "");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), String::new()));
    assert_eq!(world.try_answer(&old.codes[0]), pam::SUCCESS);
}

#[test]
fn an_error_of_the_disk_does_not_prove_that_there_is_no_set() {
    let Some(world) = World::new("nullok") else { return };
    let sheet = world.generate();
    let store = world.store();
    // Of each look at the store the first call opens the directory, the second one the file in it.
    let attempt = world.attempt(&[(&sheet.codes[0]).into()]);
    let options = ["-P", store.to_str().unwrap()];
    let code = injected(&options, &built("pamhost"), attempt, "openat:error=EIO:when=2+2");
    assert_eq!(code, pam::AUTHINFO_UNAVAIL.to_string(), "{:?}", world.log());
}

#[test]
fn uids_that_cannot_be_taken_or_given_back_are_answered_like_a_wrong_code() {
    let (Some(sandbox), Some(world)) = (sandbox_of_root().and(sandbox()), World::new("")) else { return };
    let sheet = world.generate();
    let host = sandbox.join(format!("setuid-{}", world.service));
    fs::copy(built("pamhost"), &host).unwrap();
    set_mode(&host, 0o4755);
    for (code, call) in sheet.codes.iter().zip(["1", "2"]) {
        let inject = format!("setresuid:error=EPERM:when={call}");
        let returned = injected(&["-u", "nobody"], &host, world.attempt(&[code.into()]), &inject);
        assert_eq!(returned, pam::AUTH_ERR.to_string(), "call {call}");
        let line = world.last_line();
        assert!(line.text.contains("was right but could not be spent") && line.level == CRITICAL, "{line:?}");
    }
}
