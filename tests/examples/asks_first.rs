//! A PAM module that asks, and leaves the response to the next module, as password modules do. It keeps no copy.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::null;

const PAM_AUTHTOK: c_int = 6;
const PAM_IGNORE: c_int = 25;

#[link(name = "pam")]
unsafe extern "C" {
    fn pam_get_authtok(
        pamh: *mut c_void,
        item: c_int,
        answer: *mut *const c_char,
        prompt: *const c_char,
    ) -> c_int;
}

/// # Safety
/// As pam_sm_authenticate(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pam_sm_authenticate(
    pamh: *mut c_void,
    _: c_int,
    _: c_int,
    _: *const *const c_char,
) -> c_int {
    let mut answer = null();
    // SAFETY: libpam's own handle, and a place for one pointer; without a prompt libpam has one.
    unsafe { pam_get_authtok(pamh, PAM_AUTHTOK, &raw mut answer, null()) };
    PAM_IGNORE
}
