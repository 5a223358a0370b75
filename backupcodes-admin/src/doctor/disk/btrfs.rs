//! btrfs writes in place only where it was told so before the file was made, and where no other file shares the blocks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use backupcodes_core::file_name;

use super::full_disk_denies;
use crate::doctor::finding::{Finding, Level, some_of};

/// So many files are asked about at once.
const BATCH: usize = 1000;

/// What a program of e2fsprogs says of files.
type Said<'a> = &'a dyn Fn(&str, &str, &[PathBuf]) -> Result<String, String>;

/// Judges the directory and the sets that `users` have in it.
pub(super) fn check(directory: &Path, users: &BTreeSet<String>, said: Said<'_>) -> Vec<Finding> {
    look(directory, users, said).unwrap_or_else(|why| {
        let message = format!("on btrfs, and it is not known whether a full disk refuses every code: {why}");
        let remedy = "install e2fsprogs";
        vec![Finding::new(Level::Note, "disk-not-judged", directory.display().to_string(), message, remedy)]
    })
}

fn look(directory: &Path, users: &BTreeSet<String>, said: Said<'_>) -> Result<Vec<Finding>, String> {
    if are_cow(&said("lsattr", "-d", &[directory.into()])?).contains(&true) {
        return Ok(vec![full_disk_denies(
            directory,
            "btrfs without chattr +C",
            "move the directory away, create a new one with chattr +C (`systemd-tmpfiles --create /usr/lib/backupcodes/tmpfiles.conf` does), and make new sets in it",
        )]);
    }
    let users: Vec<&String> = users.iter().collect();
    let mut older = Vec::new();
    let mut is_shared = false;
    for users in users.chunks(BATCH) {
        let file = |user: &&String| directory.join(file_name::escaped(user, usize::MAX) + ".toml");
        let files: Vec<_> = users.iter().map(file).collect();
        let cow = are_cow(&said("lsattr", "-d", &files)?);
        // A set that is gone by now has no line, and the lines are nobody's.
        let is_whole = cow.len() == users.len();
        let of_users = users.iter().zip(cow).filter(|(_, is_cow)| *is_cow && is_whole);
        older.extend(of_users.map(|(user, _)| (*user).clone()));
        is_shared |= has_shared(&said("filefrag", "-v", &files)?);
    }
    let mut findings = Vec::new();
    if !older.is_empty() {
        findings.push(Finding::new(
            Level::Warning,
            "full-disk-denies",
            some_of(&older),
            "their sets are older than the directory's chattr +C: a full disk refuses each of their codes",
            "make new sets for them: backupcodes-admin generate USER",
        ));
    }
    if is_shared {
        findings.push(full_disk_denies(
            directory,
            "btrfs, and a snapshot or a copy shares blocks with the sets",
            "delete the snapshot, or make new sets; a separate subvolume avoids this",
        ));
    }
    Ok(findings)
}

/// lsattr(1) has a line a file, with the letters in front of the name.
fn are_cow(attributes: &str) -> Vec<bool> {
    let letters = attributes.lines().filter_map(|line| line.split_whitespace().next());
    letters.map(|letters| !letters.contains('C')).collect()
}

/// filefrag(8) ends the line of each extent, which begins with its number, with the extent's flags.
fn has_shared(extents: &str) -> bool {
    let lines =
        extents.lines().filter(|line| line.trim_start().starts_with(|first: char| first.is_ascii_digit()));
    lines
        .filter_map(|line| line.split_whitespace().last())
        .any(|flags| flags.split(',').any(|flag| flag == "shared"))
}

/// Asks the real program.
pub(super) fn said(program: &str, option: &str, files: &[PathBuf]) -> Result<String, String> {
    let output = Command::new(program).args([option, "--"]).args(files).env("LC_ALL", "C").output();
    let output = output.map_err(|error| format!("{program} cannot be run ({error})"))?;
    // One file that is gone by now makes a failure of all.
    if output.stdout.is_empty() && !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} says: {}", complaint.lines().next().unwrap_or_default()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COW: &str = "--------------------";
    const NO_COW: &str = "---------------C----";
    const ALONE: &str = " 0: 0.. 0: 3.. 3: 1: last,eof";

    /// Judges the sets of users `0`, `1`, … in `/shared`, of which `cow` is not +C and `shared` has a copy.
    fn found(directory: &str, count: usize, cow: Option<usize>, shared: Option<usize>) -> Vec<String> {
        let is = |file: &Path, user: Option<usize>| {
            user.is_some_and(|user| file.ends_with(format!("{user}.toml")))
        };
        let line = |program: &str, file: &PathBuf| match program {
            "lsattr" if file.ends_with("shared") => format!("{directory} /shared\n"),
            "lsattr" if is(file, cow) => format!("{COW} {}\n", file.display()),
            "lsattr" => format!("{NO_COW} {}\n", file.display()),
            _ if is(file, shared) => ALONE.replace("last", "last,shared") + "\n",
            _ => format!("{ALONE}\n{}: 1 extent found\n", file.display()),
        };
        let said = |program: &str, _: &str, files: &[PathBuf]| {
            assert!(files.len() <= BATCH);
            Ok(files.iter().map(|file| line(program, file)).collect())
        };
        let users = (0..count).map(|user| user.to_string()).collect();
        let found = check(Path::new("/shared"), &users, &said);
        assert!(found.iter().all(|found| found.check == "full-disk-denies"), "{found:?}");
        found.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn copy_on_write_is_reported_for_the_directory_and_for_every_set() {
        assert_eq!(found(NO_COW, 2500, None, None), [""; 0]);
        assert!(found(COW, 3, None, None)[0].contains("btrfs without chattr +C"));
        let older = found(NO_COW, 2500, Some(2400), None);
        assert!(older.len() == 1 && older[0].starts_with("2400: their sets are older"), "{older:?}");
        let shared = found(NO_COW, 2500, None, Some(2499));
        assert!(shared.len() == 1 && shared[0].contains("snapshot"), "{shared:?}");
        assert_eq!(found(NO_COW, 3, Some(0), Some(1)).len(), 2);
    }

    #[test]
    fn without_e2fsprogs_nothing_is_known() {
        let missing =
            |program: &str, option: &str, files: &[PathBuf]| said(&format!("no-{program}"), option, files);
        let found = check(Path::new("/s"), &BTreeSet::new(), &missing);
        assert_eq!((found[0].check, found[0].level), ("disk-not-judged", Level::Note));
        assert!(found[0].message.contains("no-lsattr cannot be run"), "{}", found[0]);
        assert!(said("lsattr", "-d", &["/no/such".into()]).unwrap_err().contains("/no/such"));
    }
}
