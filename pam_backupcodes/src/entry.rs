//! The entry points for libpam. No panic leaves them.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once};

use backupcodes_core::verify::Level;
use pam::constants::{PamFlag, PamResultCode};
use pam::module::{PamHandle, PamHooks};

use crate::authenticate::authenticate;
use crate::handle::Handle;
use crate::session::open_session;

struct Module;

pam::pam_hooks!(Module);

impl PamHooks for Module {
    fn sm_authenticate(pamh: &mut PamHandle, args: Vec<&CStr>, flags: PamFlag) -> PamResultCode {
        guard(|| authenticate(&mut Handle::of(pamh), &args, flags)).unwrap_or_else(|at| {
            log_panic(&Handle::of(pamh), "refused", &at);
            PamResultCode::PAM_ABORT
        })
    }

    fn sm_setcred(_: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        // This module sets no credentials, but if it decided the stack, PAM_IGNORE would deny the login.
        PamResultCode::PAM_SUCCESS
    }

    fn acct_mgmt(_: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        PamResultCode::PAM_IGNORE
    }

    fn sm_chauthtok(_: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        PamResultCode::PAM_IGNORE
    }

    fn sm_open_session(pamh: &mut PamHandle, args: Vec<&CStr>, flags: PamFlag) -> PamResultCode {
        // The session only shows a reminder, which must not fail a login.
        if let Err(at) = guard(|| open_session(&mut Handle::of(pamh), &args, flags)) {
            log_panic(&Handle::of(pamh), "no reminder", &at);
        }
        PamResultCode::PAM_IGNORE
    }

    fn sm_close_session(_: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        PamResultCode::PAM_IGNORE
    }
}

/// The source location of the last panic. The message is dropped: it may contain a response.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Runs `f`, and catches a panic without output on the application's stderr.
fn guard<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static SILENCE: Once = Once::new();
    // The module has its own copy of the standard library: the hook does not affect the application.
    SILENCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            if let (Ok(mut last), Some(place)) = (LAST_PANIC.try_lock(), panic.location()) {
                *last = place.to_string();
            }
        }));
    });
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        // The payload is leaked: its drop may panic again, and nothing would catch that.
        std::mem::forget(payload);
        LAST_PANIC.try_lock().map_or_else(|_| "an unknown place".into(), |last| last.clone())
    })
}

fn log_panic(handle: &Handle<'_>, outcome: &str, at: &str) {
    let reason = format!("{outcome}: this module failed at {at}, which is a bug: please report it");
    // The log call may panic as well.
    let _ = guard(|| handle.log(Level::Critical, &reason));
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
        assert!(place.contains("entry.rs:"), "{place}");
        let place = guard(|| panic!("a message with a secret")).unwrap_err();
        assert!(!place.contains("secret"), "{place}");
        assert_eq!(guard(|| 7), Ok(7));
    }
}
