//! Starts the delivery of notices where no unit does.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::ffi::{start_detached, undisturbed};

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
    undisturbed(|| start_detached(&arguments))?.map_err(|errno| {
        format!("{PROGRAM} cannot be started ({errno}); install it, or set notify.spawn to false where a unit delivers")
    })
}
