//! Whether libpam finds the module, and whether it belongs to this program.

use std::fs::read;
use std::path::{Path, PathBuf};

use backupcodes_core::VERSION;

use super::finding::{Finding, Level};

const MODULE: &str = "pam_backupcodes.so";
/// Every libpam has this one beside ours.
const NEIGHBOUR: &str = "pam_unix.so";
/// What stands in front of the version, in the module's own bytes.
const NAME: &[u8] = b"pam_backupcodes ";

pub(super) fn check(root: &Path) -> Vec<Finding> {
    let directories = security_directories(root);
    let modules: Vec<_> = directories.iter().map(|directory| directory.join(MODULE)).collect();
    let there: Vec<_> = modules.iter().filter(|module| module.exists()).collect();
    if there.is_empty() {
        let place = modules.first().map_or_else(|| MODULE.into(), |module| shown(root, module));
        let remedy = "install it there, from the package that this program is of";
        return vec![Finding::new(Level::Error, "module-missing", place, "there is no such module", remedy)];
    }
    there.into_iter().filter_map(|module| of_another_version(root, module)).collect()
}

/// Where libpam looks for modules, on any distribution and for any processor.
pub(super) fn security_directories(root: &Path) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    for lib in ["usr/lib", "usr/lib64", "lib", "lib64"].map(|lib| root.join(lib)) {
        directories.push(lib.join("security"));
        let inner = std::fs::read_dir(&lib).into_iter().flatten().flatten();
        directories.extend(inner.map(|entry| entry.path().join("security")));
    }
    // /lib is /usr/lib on most.
    let mut real: Vec<_> = directories
        .iter()
        .filter(|directory| directory.join(NEIGHBOUR).exists())
        .filter_map(|directory| directory.canonicalize().ok())
        .collect();
    real.sort_unstable();
    real.dedup();
    real
}

fn of_another_version(root: &Path, module: &Path) -> Option<Finding> {
    let remedy = "install both from one package";
    let found = match read(module) {
        Ok(bytes) => version(&bytes),
        Err(error) => {
            let message = format!("cannot be read ({error})");
            return Some(Finding::new(
                Level::Error,
                "module-unreadable",
                shown(root, module),
                message,
                remedy,
            ));
        }
    };
    if found.as_deref() == Some(VERSION) {
        return None;
    }
    let found = found.map_or_else(|| "of an unknown version".into(), |version| format!("version {version}"));
    let message = format!("the module is {found}, and backupcodes-admin is {VERSION}");
    Some(Finding::new(Level::Warning, "module-version", shown(root, module), message, remedy))
}

/// What the module's own text says.
fn version(bytes: &[u8]) -> Option<String> {
    let places = bytes.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    let mut versions = places.filter_map(|(at, _)| {
        let text = bytes.get(at.checked_add(NAME.len())?..)?;
        let text: Vec<u8> =
            text.iter().copied().take_while(|byte| !b" ;)\n\0".contains(byte)).take(32).collect();
        let text = String::from_utf8(text).ok()?;
        text.starts_with(|first: char| first.is_ascii_digit()).then_some(text)
    });
    versions.next()
}

fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).map_or_else(|_| path.display().to_string(), |path| format!("/{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_module_that_is_missing_or_of_another_version_is_told_of() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let security = root.join("usr/lib/x86_64-linux-gnu/security");
        fs::create_dir_all(&security).unwrap();
        fs::write(security.join(NEIGHBOUR), "").unwrap();
        let check =
            || check(&root).into_iter().map(|finding| (finding.check, finding.subject)).collect::<Vec<_>>();
        let place = "/usr/lib/x86_64-linux-gnu/security/pam_backupcodes.so".to_owned();
        assert_eq!(check(), [("module-missing", place.clone())]);
        fs::write(
            security.join(MODULE),
            format!("\x7fELF unknown pam_backupcodes argument pam_backupcodes {VERSION};"),
        )
        .unwrap();
        assert_eq!(check(), []);
        for other in ["\x7fELF pam_backupcodes 9.9.9;", "\x7fELF"] {
            fs::write(security.join(MODULE), other).unwrap();
            assert_eq!(check(), [("module-version", place.clone())]);
        }
    }
}
