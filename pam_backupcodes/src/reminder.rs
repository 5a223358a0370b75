//! The reminder after a login by code: which code was used, and how many are left.
//!
//! sshd shows the texts of the session, but may lose those of the authentication and keeps only the PAM environment. The
//! authentication therefore sets a variable, and the session removes it before the user's programs can see it.

use std::ffi::CStr;

use backupcodes_core::code::CodeNumber;
use backupcodes_core::store::Accepted;

use crate::handle::Handle;

/// A variable with the number of the code and how many codes are left: `3 7`.
const USED: &CStr = c"BACKUPCODES_USED";

/// Sets the variable for the session.
pub(crate) fn leave(handle: &mut Handle<'_>, accepted: &Accepted) {
    let (number, left) = (accepted.number(), accepted.left());
    handle.set_variable(&format!("{}={number} {left}", USED.to_string_lossy()));
}

/// Removes the variable, and returns its content.
pub(crate) fn take(handle: &mut Handle<'_>) -> Option<(CodeNumber, usize)> {
    let used = handle.variable(USED)?;
    handle.set_variable(&USED.to_string_lossy());
    read(&used)
}

fn read(variable: &str) -> Option<(CodeNumber, usize)> {
    let (number, left) = variable.split_once(' ')?;
    Some((CodeNumber::new(number.parse().ok()?)?, left.parse().ok()?))
}

/// The text for the user after an accepted code, at once or at the start of the session.
pub(crate) fn after_use(number: CodeNumber, left: usize, low: usize) -> String {
    let advice = if left <= low { ADVICE } else { "" };
    format!("Backup code {number} was accepted, and is used up. {}.{advice}", codes_left(left))
}

/// The text for a user with few codes left.
pub(crate) fn few_left(left: usize) -> String {
    format!("{}.{ADVICE}", codes_left(left))
}

const ADVICE: &str = " Get a new set soon: run backupcodes renew, or ask your administrator.";

fn codes_left(left: usize) -> String {
    match left {
        0 => "No backup code is left".into(),
        1 => "1 backup code is left".into(),
        _ => format!("{left} backup codes are left"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_reads_which_code_was_used_and_how_many_are_left() {
        let text = |left| after_use(CodeNumber::new(3).unwrap(), left, 3);
        assert_eq!(text(7), "Backup code 3 was accepted, and is used up. 7 backup codes are left.");
        assert!(text(1).ends_with(
            " 1 backup code is left. Get a new set soon: run backupcodes renew, or ask your administrator."
        ));
        assert!(text(0).contains("No backup code is left. Get a new set"));
    }

    #[test]
    fn a_malformed_variable_is_ignored() {
        assert_eq!(read("3 7"), Some((CodeNumber::new(3).unwrap(), 7)));
        for other in ["", "3", "3 ", "0 7", "32 7", "3 -1", "x y", "3  7", "3 7 9"] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
