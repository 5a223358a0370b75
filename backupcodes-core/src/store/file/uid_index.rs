//! The names with a set of one uid, so that a renamed account does not look like one without a set. The target of a link
//! `uid-1000` beside the sets lists them: one call reads it, regardless of the number of sets.
//!
//! The list is a hint: the set under the name decides.

use std::ffi::OsString;

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::unistd::symlinkat;

use crate::file_name::{escaped, unescaped};
use crate::files::FileError;
use crate::files::directory::Directory;

/// A new link before its rename. Only the holder of the directory's lock may touch it.
const NEW: &str = ".uid";
/// Separates two names; escaped names never contain it.
const BETWEEN: char = ':';
/// Replaces names that do not fit; no escaped name equals it.
const MORE: &str = "*";
/// The longest target: xfs allows 1024 bytes, ext4 one block of at least 1024 with the NUL.
const LONGEST: usize = 1000;

/// The names that have, or once had, a set of this uid.
///
/// # Errors
/// The link cannot be read or does not list all names, so nothing is known.
pub(super) fn of_uid(directory: &Directory, uid: u32) -> Result<Vec<String>, FileError> {
    let names = listed(directory, uid)?;
    if names.iter().any(|name| name == MORE) {
        return Err(FileError::system(&directory.path_of(&link(uid)), "list all names of the uid")(
            Errno::E2BIG,
        ));
    }
    Ok(names.iter().filter_map(|name| unescaped(name)).collect())
}

/// The escaped names in the link.
fn listed(directory: &Directory, uid: u32) -> Result<Vec<String>, FileError> {
    let link = link(uid);
    let target = match readlinkat(&directory.fd, link.as_str()) {
        Ok(target) => target,
        Err(Errno::ENOENT) => OsString::new(),
        Err(errno) => return Err(FileError::system(&directory.path_of(&link), "read the link")(errno)),
    };
    Ok(target.to_string_lossy().split(BETWEEN).filter(|name| !name.is_empty()).map(String::from).collect())
}

/// Adds a name. The directory must be locked, and the caller must flush it afterwards.
pub(super) fn add(directory: &Directory, uid: u32, name: &str) -> Result<(), FileError> {
    let (mut names, name) = (listed(directory, uid)?, escaped(name, usize::MAX));
    if names.contains(&name) {
        return Ok(());
    }
    names.push(name);
    write(directory, uid, names)
}

/// Removes a name. The directory must be locked.
pub(super) fn remove(directory: &Directory, uid: u32, name: &str) -> Result<(), FileError> {
    // A crash may have left this.
    directory.remove(NEW)?;
    let (mut names, name) = (listed(directory, uid)?, escaped(name, usize::MAX));
    if !names.contains(&name) {
        return Ok(());
    }
    names.retain(|known| *known != name);
    write(directory, uid, names)
}

fn write(directory: &Directory, uid: u32, mut names: Vec<String>) -> Result<(), FileError> {
    let text = |names: &[String]| names.join(&BETWEEN.to_string());
    if text(&names).len() > LONGEST {
        // With dozens of names of one uid, the link no longer proves that another name has no set.
        names = vec![MORE.into()];
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
    fn any_name_of_a_uid_can_be_added_and_removed() {
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
        for at in 0..4 {
            add(&directory, 1000, &format!("{at}{}", "x".repeat(200))).unwrap();
        }
        assert!(names().len() == 6 && names().last().unwrap().starts_with("3x"));
        names().iter().for_each(|name| remove(&directory, 1000, name).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        // Too many to be listed: nothing is known.
        (0..40).for_each(|at| add(&directory, 1000, &format!("{at}{}", "x".repeat(24))).unwrap());
        assert!(of_uid(&directory, 1000).unwrap_err().to_string().contains("list all names of the uid"));
        remove(&directory, 1000, "alice").unwrap();
        assert!(of_uid(&directory, 1000).is_err());
        std::fs::remove_file(folder.path().join("uid-1000")).unwrap();
        std::fs::write(folder.path().join("uid-1000"), "no link").unwrap();
        assert!(of_uid(&directory, 1000).unwrap_err().to_string().contains("uid-1000: cannot read the link"));
    }
}
