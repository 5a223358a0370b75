//! Whether libpam finds the module.

use std::path::{Path, PathBuf};

use super::finding::{Finding, Level};

const MODULE: &str = "pam_backupcodes.so";
/// A module that every libpam has.
const NEIGHBOUR: &str = "pam_unix.so";

pub(super) fn check(root: &Path) -> Option<Finding> {
    let directories = security_directories(root);
    let modules: Vec<_> = directories.iter().map(|directory| directory.join(MODULE)).collect();
    if modules.iter().any(|module| module.exists()) {
        return None;
    }
    let place = modules.first().map_or_else(|| MODULE.into(), |module| shown(root, module));
    let remedy = "install the package that contains this program";
    Some(Finding::new(Level::Error, "module-missing", place, "there is no such module", remedy))
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

fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).map_or_else(|_| path.display().to_string(), |path| format!("/{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_missing_module_is_reported() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let security = root.join("usr/lib/x86_64-linux-gnu/security");
        fs::create_dir_all(&security).unwrap();
        fs::write(security.join(NEIGHBOUR), "").unwrap();
        let found = check(&root).unwrap();
        let place = "/usr/lib/x86_64-linux-gnu/security/pam_backupcodes.so";
        assert_eq!((found.check, &*found.subject), ("module-missing", place));
        fs::write(security.join(MODULE), "").unwrap();
        assert_eq!(check(&root), None);
    }
}
