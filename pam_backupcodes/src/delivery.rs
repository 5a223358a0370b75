//! Starts the delivery of notices where no unit does.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sys::{shielded_from_caller, start_detached};

/// What delivers.
const PROGRAM: &str = "/usr/sbin/backupcodes-admin";

/// Starts the delivery, and does not wait for it. It is root in every sense from its first moment, so that who started su
/// cannot stop it.
///
/// # Errors
/// Why it was not started, in words for the log. The notice stays due.
pub(crate) fn start(conf: Option<&Path>) -> Result<(), String> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| "a path with a NUL".to_owned());
    let mut arguments = vec![text(PROGRAM.as_bytes())?];
    if let Some(conf) = conf {
        arguments.extend([text(b"--config")?, text(conf.as_os_str().as_bytes())?]);
    }
    arguments.push(text(b"notify")?);
    shielded_from_caller(|| start_detached(&arguments, is_in_a_group_of_others()))?.map_err(|errno| {
        format!("{PROGRAM} cannot be started ({errno}); install it, or set notify.spawn to false where a unit delivers")
    })
}

/// Whether others than root may end or freeze the control group that this process is in, or one around it: cgroups(7). One of root's is not left, since
/// the login would wait for that as long as for the hash.
fn is_in_a_group_of_others() -> bool {
    let Ok(groups) = fs::read_to_string("/proc/thread-self/cgroup") else { return true };
    groups.lines().filter_map(|group| group.split_once(':')?.1.split_once(':')).any(|(hierarchy, path)| {
        // The second version has no name, and lies beside those of the first where there are both.
        let is_others = |place: &str, group: &Path| {
            fs::metadata(format!("/sys/fs/cgroup/{place}{hierarchy}{}", group.display()))
                .is_ok_and(|group| group.uid() != 0 || group.mode() & 0o022 != 0)
        };
        ["", "unified"].iter().any(|place| Path::new(path).ancestors().any(|group| is_others(place, group)))
    })
}
