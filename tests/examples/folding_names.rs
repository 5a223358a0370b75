//! A library to be loaded before libc: a user database that takes names in any case, as those of a domain do.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

type GetPwNamR = unsafe extern "C" fn(
    *const c_char,
    *mut libc::passwd,
    *mut c_char,
    libc::size_t,
    *mut *mut libc::passwd,
) -> c_int;

/// # Safety
/// As getpwnam_r(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getpwnam_r(
    name: *const c_char,
    entry: *mut libc::passwd,
    buffer: *mut c_char,
    length: libc::size_t,
    result: *mut *mut libc::passwd,
) -> c_int {
    // SAFETY: the caller gives a C string.
    let folded = unsafe { CStr::from_ptr(name) }.to_string_lossy().to_lowercase();
    let folded = CString::new(folded).expect("no NUL in a C string");
    // SAFETY: the next one is libc's, of this type; the caller's arguments are passed on.
    unsafe {
        let next: *mut c_void = libc::dlsym(libc::RTLD_NEXT, c"getpwnam_r".as_ptr());
        let next: GetPwNamR = std::mem::transmute(next);
        next(folded.as_ptr(), entry, buffer, length, result)
    }
}
