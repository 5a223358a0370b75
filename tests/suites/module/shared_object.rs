//! The module as a file: what it exports, how large it is, and how it was built.

use std::fs;
use std::process::Command;

use backupcodes_tests::{built, sandbox, text};

#[test]
fn it_exports_the_six_entry_points_and_nothing_else() {
    if sandbox().is_none() {
        return;
    }
    let output = Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(built("libpam_backupcodes.so"))
        .output()
        .unwrap();
    let symbols = text(&output.stdout);
    let mut names: Vec<_> = symbols.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    names.sort_unstable();
    let expected = ["acct_mgmt", "authenticate", "chauthtok", "close_session", "open_session", "setcred"];
    assert_eq!(names, expected.map(|name| format!("pam_sm_{name}")));
}

#[test]
fn it_is_smaller_than_700_kib() {
    if sandbox().is_none() {
        return;
    }
    let size = fs::metadata(built("libpam_backupcodes.so")).unwrap().len();
    assert!(size < 700 * 1024, "{} KiB", size / 1024);
}

#[test]
fn it_needs_libpam_and_libc_alone() {
    if sandbox().is_none() {
        return;
    }
    let output = Command::new("readelf").arg("-d").arg(built("libpam_backupcodes.so")).output().unwrap();
    let text = text(&output.stdout);
    let mut needed: Vec<_> = text.lines().filter(|line| line.contains("(NEEDED)")).collect();
    needed.retain(|line| {
        !["[libpam.so.0]", "[libc.so.6]", "[libgcc_s.so.1]", "[ld-linux"]
            .iter()
            .any(|known| line.contains(known))
    });
    assert!(needed.is_empty(), "{needed:?}");
}

/// Without it an attempt takes almost twice the time (docs/performance.md).
#[test]
#[cfg(target_arch = "x86_64")]
fn its_argon2_has_vector_code() {
    if sandbox().is_none() {
        return;
    }
    let output = Command::new("objdump").arg("-d").arg(built("libpam_backupcodes.so")).output().unwrap();
    let count = text(&output.stdout).lines().filter(|line| line.contains("%ymm")).count();
    assert!(count > 500, "{count} instructions");
}
