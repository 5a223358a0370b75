//! Starts the delivery of notices on systems without a unit for it.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sys::{shielded_from_caller, start_detached};

const PROGRAM: &str = "/usr/sbin/backupcodes-admin";

/// Starts the delivery, and does not wait for it. All its uids are root's from the start, so that the user of su cannot stop it.
///
/// # Errors
/// Why it was not started, as text for the log. The notice stays due.
pub(crate) fn start(conf: Option<&Path>) -> Result<(), String> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| "a path with a NUL".to_owned());
    let mut arguments = vec![text(PROGRAM.as_bytes())?];
    if let Some(conf) = conf {
        arguments.extend([text(b"--config")?, text(conf.as_os_str().as_bytes())?]);
    }
    arguments.push(text(b"notify")?);
    shielded_from_caller(|| start_detached(&arguments, is_in_foreign_cgroup()))?.map_err(|errno| {
        format!("{PROGRAM} cannot be started ({errno}); install it, or set notify.spawn to false if a unit delivers")
    })
}

/// Whether a user other than root may end or freeze a control group of this process, or a parent of one: cgroups(7). The delivery
/// does not leave root's groups, since that would take the login as long as the hash.
fn is_in_foreign_cgroup() -> bool {
    let Ok(groups) = fs::read_to_string("/proc/thread-self/cgroup") else { return true };
    groups.lines().filter_map(|group| group.split_once(':')?.1.split_once(':')).any(|(hierarchy, path)| {
        // The hierarchy of version 2 has no name. With both versions it is mounted as `unified`.
        let is_foreign = |mount: &str, group: &Path| {
            fs::metadata(format!("/sys/fs/cgroup/{mount}{hierarchy}{}", group.display()))
                .is_ok_and(|group| group.uid() != 0 || group.mode() & 0o022 != 0)
        };
        ["", "unified"].iter().any(|mount| Path::new(path).ancestors().any(|group| is_foreign(mount, group)))
    })
}
