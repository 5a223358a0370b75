//! What the user reads at the start of a session: which code was used, and how many are left.
//!
//! sshd shows what is said in the session, and may lose what is said in the authentication, of which it carries nothing
//! over but PAM's environment. So the authentication leaves a variable there, which is removed before the session has it.

use std::ffi::{CStr, CString};

use backupcodes_core::code::CodeNumber;
use backupcodes_core::config::Config;
use backupcodes_core::config::module_options::Options;
use backupcodes_core::store::{FileStore, Store};
use backupcodes_core::verify::Accepted;
use backupcodes_core::verify::Level;
use pam::constants::{PAM_SILENT, PAM_TEXT_INFO, PamFlag};
use pam::module::PamHandle;

use crate::attempt::{Denial, account, converse};
use crate::ffi::{log, set_variable, variable};

/// Number of the code, and how many are left.
const USED: &CStr = c"BACKUPCODES_USED";

/// Leaves word of an accepted code for the session.
pub(crate) fn leave(pamh: &mut PamHandle, accepted: &Accepted) {
    let Accepted { number, left, .. } = accepted;
    if let Ok(variable) = CString::new(format!("{}={number} {left}", USED.to_string_lossy())) {
        // Without it the session says nothing of the code.
        let _ = set_variable(pamh, &variable);
    }
}

/// Takes that word back, and says what it was.
pub(crate) fn forget(pamh: &mut PamHandle) -> Option<String> {
    let used = variable(pamh, USED)?;
    // What cannot be removed is not ours to mend.
    let _ = set_variable(pamh, USED);
    Some(used)
}

/// Says at the start of a session what there is to say. Nothing of it can fail a login.
pub(crate) fn open_session(pamh: &mut PamHandle, arguments: &[&CStr], flags: PamFlag) {
    let used = forget(pamh);
    let (options, usable) = Options::parse(arguments);
    if let Err(reason) = usable {
        log(pamh, Level::Error, &reason);
    }
    if options.quiet || flags & PAM_SILENT != 0 {
        return;
    }
    match text(pamh, &options, used.as_deref().and_then(read)) {
        Ok(Some(text)) => drop(converse(pamh, PAM_TEXT_INFO, &text)),
        Ok(None) => {}
        Err(reason) => log(pamh, Level::Error, &format!("no reminder of codes left: {reason}")),
    }
}

fn read(variable: &str) -> Option<(CodeNumber, usize)> {
    let (number, left) = variable.split_once(' ')?;
    Some((CodeNumber::new(number.parse().ok()?)?, left.parse().ok()?))
}

fn text(
    pamh: &mut PamHandle,
    options: &Options,
    used: Option<(CodeNumber, usize)>,
) -> Result<Option<String>, String> {
    let config = Config::load(options.conf.as_deref()).map_err(|error| error.to_string())?;
    let low = config.codes.low;
    if let Some((number, left)) = used {
        return Ok(Some(after_use(number, left, low)));
    }
    let account = account(pamh).map_err(|Denial(_, _, reason)| reason)?;
    let store = FileStore::new(&config.directory);
    let Some(account) = account.filter(|_| !store.wants_broker()) else { return Ok(None) };
    let set = store.read(&account.name).map_err(|error| error.to_string())?;
    let own = set.filter(|set| set.label.judge_owner(&account).is_ok());
    Ok(own
        .map(|set| set.left())
        .filter(|&left| left <= low)
        .map(|left| format!("{}.{ADVICE}", codes_left(left))))
}

/// What is said when a code was accepted, now or at the start of the session.
pub(crate) fn after_use(number: CodeNumber, left: usize, low: usize) -> String {
    let advice = if left <= low { ADVICE } else { "" };
    format!("Backup code {number} was accepted, and is used up. {}.{advice}", codes_left(left))
}

const ADVICE: &str = " Get a new set soon: ask your administrator.";

fn codes_left(left: usize) -> String {
    match left {
        0 => "Denial backup code is left".into(),
        1 => "1 backup code is left".into(),
        _ => format!("{left} backup codes are left"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_reads_which_code_went_and_how_many_are_left() {
        let said = |left| after_use(CodeNumber::new(3).unwrap(), left, 3);
        assert_eq!(said(7), "Backup code 3 was accepted, and is used up. 7 backup codes are left.");
        assert!(said(1).ends_with(" 1 backup code is left. Get a new set soon: ask your administrator."));
        assert!(said(0).contains("Denial backup code is left. Get a new set"));
    }

    #[test]
    fn a_variable_that_is_not_ours_says_nothing() {
        assert_eq!(read("3 7"), Some((CodeNumber::new(3).unwrap(), 7)));
        for other in ["", "3", "3 ", "0 7", "32 7", "3 -1", "x y", "3  7", "3 7 9"] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
