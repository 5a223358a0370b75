//! System calls that fail, as strace makes them: each denies and says why, and a right code returns the same as a wrong one.

use std::process::Output;

use backupcodes_tests::level::{CRITICAL, ERROR};
use backupcodes_tests::strace::{injected, tampering};
use backupcodes_tests::{World, built, feed, me, pam, text};

#[test]
fn a_write_that_is_cut_short_denies() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let attempt = world.attempt(&[(&sheet.codes[0]).into()]);
    let outcome = injected(&[], &built("pam-application"), attempt, "pwrite64:retval=40");
    assert_eq!(outcome.codes, [pam::AUTH_ERR]);
    assert!(world.last_line().text.contains("cannot write all of the record"), "{:?}", world.last_line());
}

/// `generate` whose flush of this number fails: the new file's is the first, those of the notice follow (the file, the
/// outbox, what the outbox lies in), and the directory's is the fifth.
fn generate_without_flush(world: &World, number: u32, format: &str) -> Output {
    let mut strace = tampering(&format!("fsync:error=EIO:when={number}"));
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
    let queued = world.other_files();
    for flush in 2..=4 {
        let output = generate_without_flush(&world, flush, "text");
        assert_eq!(output.status.code(), Some(3));
        assert!(text(&output.stderr).contains("THE SHEET ABOVE IS WORTHLESS"), "{output:?}");
        assert_eq!(world.other_files(), queued, "no notice of what did not happen");
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
    let outcome = injected(&options, &built("pam-application"), attempt, "openat:error=EIO:when=2+2");
    assert_eq!(outcome.codes, [pam::AUTHINFO_UNAVAIL], "{:?}", world.log());
}

#[test]
fn uids_that_cannot_be_changed_or_restored_return_the_same_as_a_wrong_code() {
    let Some(world) = World::new("") else { return };
    let Some(application) = world.setuid_application() else { return };
    let sheet = world.generate();
    // Two calls for the count, which comes before the response is examined, and two for the spending.
    for (code, call) in sheet.codes.iter().zip(1..=4) {
        let inject = format!("setresuid:error=EPERM:when={call}");
        let outcome = injected(&["-u", "nobody"], &application, world.attempt(&[code.into()]), &inject);
        let (expected, reason, level) = if call <= 2 {
            (
                pam::AUTHINFO_UNAVAIL,
                "the attempt cannot be counted: this process cannot be shielded from its caller (EPERM",
                ERROR,
            )
        } else {
            (pam::AUTH_ERR, "was right but could not be spent", CRITICAL)
        };
        assert_eq!(outcome.codes, [expected], "call {call}");
        let line = world.last_line();
        assert!(line.text.contains(reason) && line.level == level, "{line:?}");
    }
}
