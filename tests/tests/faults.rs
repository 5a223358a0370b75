//! System calls that fail, as strace makes them: each denies, says why, and is answered like a wrong code where the
//! code was right.

use std::path::Path;
use std::process::{Command, Output};

use backupcodes_tests::level::{CRITICAL, ERROR};
use backupcodes_tests::{Attempt, Sheet, World, built, feed, me, pam, text};

/// What an attempt returns in a host whose calls are tampered with as `inject` says.
fn injected(options: &[&str], host: &Path, attempt: Attempt, inject: &str) -> String {
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

/// `generate` whose flush of this number fails: the new file's is the first, those of the notice follow (the letter, the
/// outbox, what the outbox lies in), and the directory's is the fifth.
fn generate_without_flush(world: &World, number: u32, format: &str) -> Output {
    let mut strace = Command::new("strace");
    strace.args(["-o", "/dev/null", "-e", "trace=fsync"]);
    strace.args(["-e", &format!("inject=fsync:error=EIO:when={number}")]);
    strace.arg(built("backupcodes-admin")).arg("--config").arg(world.path("conf"));
    feed(strace.args(["generate", "--yes", "--format", format, &me()]), "")
}

#[test]
fn a_new_set_that_cannot_be_flushed_is_not_shown_and_changes_nothing() {
    let Some(world) = World::new("") else { return };
    let old = world.generate();
    let output = generate_without_flush(&world, 1, "text");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), String::new()));
    assert_eq!(world.try_answer(&old.codes[0]), pam::SUCCESS);
}

#[test]
fn a_set_whose_notice_cannot_be_flushed_is_said_to_be_worthless_and_changes_nothing() {
    let Some(world) = World::new("") else { return };
    let old = world.generate();
    let letters = world.other_files();
    for flush in 2..=4 {
        let output = generate_without_flush(&world, flush, "text");
        assert_eq!(output.status.code(), Some(3));
        assert!(text(&output.stderr).contains("THE SHEET ABOVE IS WORTHLESS"), "{output:?}");
        assert_eq!(world.other_files(), letters, "no notice of what did not happen");
    }
    assert_eq!(world.try_answer(&old.codes[0]), pam::SUCCESS);
}

#[test]
fn a_directory_that_cannot_be_flushed_leaves_a_sheet_that_is_live_and_said_to_be() {
    let Some(world) = World::new("") else { return };
    let old = world.generate();
    let output = generate_without_flush(&world, 5, "json");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("keep both sheets"), "{output:?}");
    let sheets: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(world.try_answer(sheets[0]["codes"][0].as_str().unwrap()), pam::SUCCESS);
    assert_eq!(world.try_answer(&old.codes[0]), pam::AUTH_ERR);
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
    let Some(world) = World::new("") else { return };
    let Some(host) = world.setuid_host() else { return };
    let sheet = world.generate();
    // Two calls for the count, which comes before any look at the answer, and two for the spending.
    for (code, call) in sheet.codes.iter().zip(1..=4) {
        let inject = format!("setresuid:error=EPERM:when={call}");
        let returned = injected(&["-u", "nobody"], &host, world.attempt(&[code.into()]), &inject);
        let (expected, reason, level) = if call <= 2 {
            (
                pam::AUTHINFO_UNAVAIL,
                "the attempt cannot be counted: this process cannot be shielded from its caller (EPERM",
                ERROR,
            )
        } else {
            (pam::AUTH_ERR, "was right but could not be spent", CRITICAL)
        };
        assert_eq!(returned, expected.to_string(), "call {call}");
        let line = world.last_line();
        assert!(line.text.contains(reason) && line.level == level, "{line:?}");
    }
}
