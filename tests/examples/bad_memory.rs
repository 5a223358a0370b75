//! A PAM module that reads what it has freed, and loses what it has not: errors that a test of memory must see.

use std::ffi::{c_char, c_int, c_void};
use std::hint::black_box;

const PAM_IGNORE: c_int = 25;

#[unsafe(no_mangle)]
pub extern "C" fn pam_sm_authenticate(_: *mut c_void, _: c_int, _: c_int, _: *const *const c_char) -> c_int {
    // More than one: the last address may still stand in a register.
    for _ in 0..8 {
        std::mem::forget(black_box(vec![1_u8; 100]));
    }
    let freed = black_box(Box::into_raw(Box::new(1_u8)));
    // SAFETY: the first line takes what was a box; the second one is the error, on purpose.
    unsafe {
        drop(Box::from_raw(freed));
        black_box(freed.read_volatile());
    }
    PAM_IGNORE
}
