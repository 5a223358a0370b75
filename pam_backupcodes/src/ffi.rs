//! The C side: entry points, the log and libpam's items here; memory by the page, a moment without the host's disturbance,
//! the host's forks, and the start of another program in rooms of their own.

mod fork;
mod memory;
mod shield;
mod start;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once};

use backupcodes_core::verify::Level;
use backupcodes_core::visible::shown;
use pam::constants::{PamFlag, PamResultCode};
use pam::module::{PamHandle, PamHooks};
use zeroize::Zeroizing;

pub(crate) use self::fork::in_each_child;
pub(crate) use self::memory::FreshMemory;
pub(crate) use self::shield::shielded_from_caller;
pub(crate) use self::start::start_detached;

struct Module;

pam::pam_hooks!(Module);

impl PamHooks for Module {
    fn sm_authenticate(pamh: &mut PamHandle, args: Vec<&CStr>, flags: PamFlag) -> PamResultCode {
        guard(|| crate::attempt::authenticate(pamh, &args, flags)).unwrap_or_else(|at| {
            log_panic(pamh, "refused", &at);
            PamResultCode::PAM_ABORT
        })
    }

    fn sm_setcred(_: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        // No credentials of ours, but in a stack where this module decided, IGNORE would deny the login.
        PamResultCode::PAM_SUCCESS
    }

    fn acct_mgmt(_: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        PamResultCode::PAM_IGNORE
    }

    fn sm_chauthtok(_: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        PamResultCode::PAM_IGNORE
    }

    fn sm_open_session(pamh: &mut PamHandle, args: Vec<&CStr>, flags: PamFlag) -> PamResultCode {
        // A reminder, which takes no login away.
        if let Err(at) = guard(|| crate::reminder::open_session(pamh, &args, flags)) {
            log_panic(pamh, "no reminder", &at);
        }
        PamResultCode::PAM_IGNORE
    }

    fn sm_close_session(_: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        PamResultCode::PAM_IGNORE
    }
}

/// Where the last panic was. The message is not kept: it may hold what was typed.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Runs `f`. A panic ends here, without a word on the host's stderr: the place in the source comes back.
///
/// # Errors
/// The place of the panic.
fn guard<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static SILENCE: Once = Once::new();
    // The standard library is linked into this module: the hook is ours alone, not the host's.
    SILENCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            if let (Ok(mut last), Some(place)) = (LAST_PANIC.try_lock(), panic.location()) {
                *last = place.to_string();
            }
        }));
    });
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        // Dropping a payload may panic again, where nothing would catch it: it is leaked instead.
        std::mem::forget(payload);
        LAST_PANIC.try_lock().map_or_else(|_| "an unknown place".into(), |last| last.clone())
    })
}

fn log_panic(pamh: &PamHandle, outcome: &str, at: &str) {
    let reason = format!("{outcome}: this module failed at {at}, which is a bug: please report it");
    // The log itself must not be the next panic.
    let _ = guard(|| log(pamh, Level::Critical, &reason));
}

#[link(name = "pam")]
unsafe extern "C" {
    fn pam_syslog(pamh: *const PamHandle, priority: c_int, format: *const c_char, ...);
    fn pam_set_item(pamh: *mut PamHandle, item: c_int, value: *const c_void) -> c_int;
    fn pam_getenv(pamh: *mut PamHandle, name: *const c_char) -> *const c_char;
    fn pam_putenv(pamh: *mut PamHandle, name_value: *const c_char) -> c_int;
}

/// Writes one line to the log, by the means of the PAM library. Hidden characters, NUL among them, are replaced.
pub(crate) fn log(pamh: &PamHandle, level: Level, line: &str) {
    let Ok(line) = CString::new(shown(line)) else { return };
    let priority = match level {
        Level::Critical => libc::LOG_CRIT,
        Level::Error => libc::LOG_ERR,
        Level::Warning => libc::LOG_WARNING,
        Level::Notice => libc::LOG_NOTICE,
        Level::Debug => libc::LOG_DEBUG,
    };
    // SAFETY: the handle is a live one, and format and argument are C strings that outlive the call.
    unsafe { pam_syslog(pamh, priority, c"%s".as_ptr(), line.as_ptr()) }
}

/// Puts `answer` where the next module looks for it, PAM_AUTHTOK, or empties that place.
///
/// # Errors
/// What libpam says.
pub(crate) fn hand_on(pamh: &mut PamHandle, answer: Option<&[u8]>) -> Result<(), PamResultCode> {
    const PAM_AUTHTOK: c_int = 6; // _pam_types.h
    let text = answer.map(|answer| Zeroizing::new([answer, &[0]].concat()));
    let text = text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    // SAFETY: the handle is a live one, and libpam copies the text, which ends with a NUL and outlives the call.
    match unsafe { pam_set_item(pamh, PAM_AUTHTOK, text.cast()) } {
        0 => Ok(()),
        code => Err(PamResultCode::try_from(code).unwrap_or(PamResultCode::PAM_SYSTEM_ERR)),
    }
}

/// Sets a variable of the PAM environment, which sshd carries from the authentication to the session: `NAME=value`.
/// A name alone removes the variable.
///
/// # Errors
/// What libpam says, as a number.
pub(crate) fn set_variable(pamh: &mut PamHandle, name_value: &CStr) -> Result<(), c_int> {
    // SAFETY: the handle is a live one, and libpam copies the text.
    match unsafe { pam_putenv(pamh, name_value.as_ptr()) } {
        0 => Ok(()),
        code => Err(code),
    }
}

/// The value of a variable of the PAM environment.
pub(crate) fn variable(pamh: &mut PamHandle, name: &CStr) -> Option<String> {
    // SAFETY: the handle is a live one, and the name a C string.
    let value = unsafe { pam_getenv(pamh, name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: a value that is there is a C string of libpam's, and nothing changes it while it is copied.
    Some(unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned())
}

/// Whether there is memory for an attempt beside its hash. Where it is missing the attempt must not go on: Rust ends the
/// process for a small piece that cannot be had, and whoever starts su may limit its memory.
pub(crate) fn has_memory() -> bool {
    // Enough for a set of 31 codes, and a piece that libc keeps when it is freed.
    const ATTEMPT: usize = 64 << 10;
    let mut room = Vec::<u8>::new();
    let is_there = room.try_reserve_exact(ATTEMPT).is_ok();
    // A compiler leaves out memory that nobody looks at.
    std::hint::black_box(&mut room);
    is_there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_in_the_guard_even_if_its_payload_panics_when_dropped() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::panic_any(Self);
            }
        }
        let place = guard(|| std::panic::panic_any(Bomb)).unwrap_err();
        assert!(place.contains("ffi.rs:"), "{place}");
        let place = guard(|| panic!("a message with a secret")).unwrap_err();
        assert!(!place.contains("secret"), "{place}");
        assert_eq!(guard(|| 7), Ok(7));
    }
}
