//! What our module can return to `pam_authenticate`, and its options.

use std::ffi::CString;

use backupcodes_core::config::module_options::Options;
use pam_stack::modules::{self, Results};
use pam_stack::{Entry, RESULTS};

/// Ours, by its file name.
pub(crate) const OURS: &str = "pam_backupcodes.so";

/// What a module is for: ours, or as [`modules::Role`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Ours,
    FirstFactor,
    OtherFactor,
    Silent,
}

pub(crate) fn role(entry: &Entry) -> Role {
    match modules::role(entry) {
        _ if entry.module() == Some(OURS) => Role::Ours,
        modules::Role::FirstFactor => Role::FirstFactor,
        modules::Role::OtherFactor => Role::OtherFactor,
        modules::Role::Silent => Role::Silent,
    }
}

/// All that a module may return to somebody who is not root.
pub(crate) fn results(entry: &Entry) -> Vec<&'static str> {
    if role(entry) != Role::Ours {
        return modules::results(entry).to_vec();
    }
    let ignored = options(entry).nullok.then_some("ignore");
    failures().chain(["success"]).chain(ignored).collect()
}

/// The results of a login that our module does not accept. libpam adds its own: a module that it cannot load is `module_unknown`, for
/// example if the caller of su limits its memory.
pub(crate) fn failures() -> impl Iterator<Item = &'static str> {
    // At `incomplete` libpam returns to the program, whatever the control says.
    RESULTS.iter().copied().filter(|result| !["success", "ignore", "incomplete"].contains(result))
}

/// What ours returns to somebody without a set.
pub(crate) fn results_without_set(entry: &Entry) -> Results {
    // With `forward_pass`, a short response is refused before the module looks for a set.
    if options(entry).nullok {
        &["auth_err", "authinfo_unavail", "service_err", "ignore"]
    } else {
        &["auth_err"]
    }
}

/// Whether a module may leave what was typed for those after it (`PAM_AUTHTOK`).
pub(crate) fn may_leave_authtok(entry: &Entry) -> bool {
    if role(entry) != Role::Ours {
        return modules::may_leave_authtok(entry);
    }
    let options = options(entry);
    options.forward_pass && !options.use_first_pass
}

/// The module's options in a line, without those that it does not know.
pub(crate) fn options(entry: &Entry) -> Options {
    Options::parse(&arguments(entry)).0
}

/// Arguments that the module does not know.
pub(crate) fn unknown_options(entry: &Entry) -> Vec<&str> {
    let judged = arguments(entry).into_iter().zip(entry.arguments());
    judged.filter(|(c, _)| Options::parse(&[c]).1.is_err()).map(|(_, text)| text.as_str()).collect()
}

fn arguments(entry: &Entry) -> Vec<CString> {
    // C ends a line at a NUL.
    let until_nul = |text: &String| text.split('\0').next().and_then(|text| CString::new(text).ok());
    entry.arguments().iter().map(|text| until_nul(text).unwrap_or_default()).collect()
}
