//! Which names have a set of one uid, so that an account with another name by now is not taken for one without a set. A link
//! `uid-1000` beside the sets lists them in its target: one call reads it, however many sets there are.
//!
//! What it says is a hint: the set under the name has the last word.

use std::ffi::OsString;

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::unistd::symlinkat;

use super::StoreError;
use crate::directory::Directory;
use crate::name::{escaped, unescaped};

/// A link that gets its name by a rename. Only who holds the directory's lock may touch it.
const NEW: &str = ".uid";
/// Between two names: no escaped name has one.
const BETWEEN: char = ':';
/// The longest target of a link: PATH_MAX of linux/limits.h, without its NUL.
const LONGEST: usize = 4095;

/// The names that have, or had, a set of this uid.
///
/// # Errors
/// The link cannot be read, so that nothing is known.
pub(super) fn of_uid(directory: &Directory, uid: u32) -> Result<Vec<String>, StoreError> {
    let link = link(uid);
    let target = match readlinkat(&directory.fd, link.as_str()) {
        Ok(target) => target,
        Err(Errno::ENOENT) => OsString::new(),
        Err(errno) => return Err(StoreError::system(&directory.path_of(&link), "read the link")(errno)),
    };
    Ok(target
        .to_string_lossy()
        .split(BETWEEN)
        .filter_map(unescaped)
        .filter(|name| !name.is_empty())
        .collect())
}

/// Adds a name. The directory must be locked, and flushed after that.
///
/// # Errors
/// The system's.
pub(super) fn add(directory: &Directory, uid: u32, name: &str) -> Result<(), StoreError> {
    let mut names = of_uid(directory, uid)?;
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    names.push(name.into());
    write(directory, uid, names)
}

/// Takes a name away. The directory must be locked.
///
/// # Errors
/// The system's.
pub(super) fn remove(directory: &Directory, uid: u32, name: &str) -> Result<(), StoreError> {
    let mut names = of_uid(directory, uid)?;
    let before = names.len();
    names.retain(|known| known != name);
    if names.len() == before { Ok(()) } else { write(directory, uid, names) }
}

fn write(directory: &Directory, uid: u32, names: Vec<String>) -> Result<(), StoreError> {
    let mut names: Vec<_> = names.iter().map(|name| escaped(name, usize::MAX)).collect();
    let text = |names: &[String]| names.join(&BETWEEN.to_string());
    // Hundreds of names of one uid: the latest are kept.
    while text(&names).len() > LONGEST {
        names.remove(0);
    }
    if names.is_empty() {
        return directory.remove(&link(uid));
    }
    directory.remove(NEW)?;
    symlinkat(text(&names).as_str(), &directory.fd, NEW).map_err(directory.failed("make a link in"))?;
    directory.rename(NEW, &link(uid))
}

fn link(uid: u32) -> String {
    format!("uid-{uid}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn names_of_a_uid_are_added_and_removed_whatever_is_in_them() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let directory = Directory::of_sets(folder.path()).unwrap();
        let names = || of_uid(&directory, 1000).unwrap();
        assert!(names().is_empty());
        for name in ["alice", "DOM\\a:b/../c", "alice", "a@example.org"] {
            add(&directory, 1000, name).unwrap();
        }
        assert_eq!(names(), ["alice", "DOM\\a:b/../c", "a@example.org"]);
        assert!(of_uid(&directory, 1001).unwrap().is_empty());
        remove(&directory, 1000, "alice").unwrap();
        remove(&directory, 1000, "nobody").unwrap();
        assert_eq!(names().len(), 2);
        for at in 0..40 {
            add(&directory, 1000, &format!("{at}{}", "x".repeat(200))).unwrap();
        }
        assert!(names().len() > 10 && names().last().unwrap().starts_with("39x"));
        names().iter().for_each(|name| remove(&directory, 1000, name).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        std::fs::write(folder.path().join("uid-1000"), "no link").unwrap();
        assert!(of_uid(&directory, 1000).unwrap_err().to_string().contains("uid-1000: cannot read the link"));
    }
}
