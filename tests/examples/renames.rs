//! A PAM module that says yes, and that the user is somebody else, whom its argument names.

use std::ffi::{c_char, c_int, c_void};

const PAM_USER: c_int = 2;

#[link(name = "pam")]
unsafe extern "C" {
    fn pam_set_item(pamh: *mut c_void, item: c_int, value: *const c_void) -> c_int;
}

/// # Safety
/// As pam_sm_authenticate(3), with an argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pam_sm_authenticate(
    pamh: *mut c_void,
    _: c_int,
    _: c_int,
    arguments: *const *const c_char,
) -> c_int {
    // SAFETY: libpam's own handle and argument; it copies the name.
    unsafe { pam_set_item(pamh, PAM_USER, (*arguments).cast()) }
}
