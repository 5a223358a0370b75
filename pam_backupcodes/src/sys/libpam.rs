//! Functions that the libpam binding lacks: the log, PAM_AUTHTOK, and the PAM environment.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use backupcodes_core::verify::Level;
use backupcodes_core::visible::shown;
use pam::constants::PamResultCode;
use pam::module::PamHandle;
use zeroize::Zeroizing;

#[link(name = "pam")]
unsafe extern "C" {
    fn pam_syslog(pamh: *const PamHandle, priority: c_int, format: *const c_char, ...);
    fn pam_set_item(pamh: *mut PamHandle, item: c_int, value: *const c_void) -> c_int;
    fn pam_getenv(pamh: *mut PamHandle, name: *const c_char) -> *const c_char;
    fn pam_putenv(pamh: *mut PamHandle, name_value: *const c_char) -> c_int;
}

/// Writes one line to the log through libpam. Hidden characters, including NUL, are replaced.
pub(crate) fn log(pamh: &PamHandle, level: Level, line: &str) {
    let Ok(line) = CString::new(shown(line)) else { return };
    let priority = match level {
        Level::Critical => libc::LOG_CRIT,
        Level::Error => libc::LOG_ERR,
        Level::Warning => libc::LOG_WARNING,
        Level::Notice => libc::LOG_NOTICE,
        Level::Debug => libc::LOG_DEBUG,
    };
    // SAFETY: the handle is live, and format and argument are C strings that outlive the call.
    unsafe { pam_syslog(pamh, priority, c"%s".as_ptr(), line.as_ptr()) }
}

/// Sets or clears PAM_AUTHTOK, which the next module reads.
pub(crate) fn set_authtok(pamh: &mut PamHandle, token: Option<&[u8]>) -> Result<(), PamResultCode> {
    const PAM_AUTHTOK: c_int = 6; // _pam_types.h
    let text = token.map(|token| Zeroizing::new([token, &[0]].concat()));
    let text = text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    // SAFETY: the handle is live, and libpam copies the text, which ends with a NUL and outlives the call.
    match unsafe { pam_set_item(pamh, PAM_AUTHTOK, text.cast()) } {
        0 => Ok(()),
        code => Err(PamResultCode::try_from(code).unwrap_or(PamResultCode::PAM_SYSTEM_ERR)),
    }
}

/// Sets a variable of the PAM environment, which sshd carries from the authentication to the session: `NAME=value`.
/// A name alone removes the variable. If this fails, only the reminder is missing.
pub(crate) fn set_variable(pamh: &mut PamHandle, name_value: &CStr) {
    // SAFETY: the handle is live, and libpam copies the text.
    unsafe { pam_putenv(pamh, name_value.as_ptr()) };
}

/// The value of a variable of the PAM environment.
pub(crate) fn variable(pamh: &mut PamHandle, name: &CStr) -> Option<String> {
    // SAFETY: the handle is live, and the name is a C string.
    let value = unsafe { pam_getenv(pamh, name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: a value that is not null is a C string owned by libpam, and nothing changes it during the copy.
    Some(unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned())
}
