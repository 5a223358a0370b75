//! One call of `pam_open_session`: a reminder of the codes that are left. It cannot fail a login.

use std::ffi::CStr;

use backupcodes_core::code::CodeNumber;
use backupcodes_core::config::Config;
use backupcodes_core::config::module_options::Options;
use backupcodes_core::store::{FileStore, Store};
use backupcodes_core::verify::Level;
use pam::constants::{PAM_SILENT, PAM_TEXT_INFO, PamFlag};

use crate::handle::Handle;
use crate::reminder;

/// Shows at the start of a session which code was used, and whether few codes are left.
pub(crate) fn open_session(handle: &mut Handle<'_>, arguments: &[&CStr], flags: PamFlag) {
    let used = reminder::take(handle);
    let (options, usable) = Options::parse(arguments);
    if let Err(reason) = usable {
        handle.log(Level::Error, &reason);
    }
    if options.quiet || flags & PAM_SILENT != 0 {
        return;
    }
    match text(handle, &options, used) {
        Ok(Some(text)) => drop(handle.converse(PAM_TEXT_INFO, &text)),
        Ok(None) => {}
        Err(reason) => handle.log(Level::Error, &format!("no reminder of codes left: {reason}")),
    }
}

fn text(
    handle: &mut Handle<'_>,
    options: &Options,
    used: Option<(CodeNumber, usize)>,
) -> Result<Option<String>, String> {
    let config = Config::load(options.conf.as_deref()).map_err(|error| error.to_string())?;
    let low = config.codes.low;
    if let Some((number, left)) = used {
        return Ok(Some(reminder::after_use(number, left, low)));
    }
    let account = handle.account().map_err(|denial| denial.reason)?;
    let store = FileStore::new(&config.directory);
    let Some(account) = account.filter(|_| !store.wants_broker()) else { return Ok(None) };
    let set = store.read(&account.name).map_err(|error| error.to_string())?;
    let own = set.filter(|set| set.label.judge_owner(&account).is_ok());
    Ok(own.map(|set| set.left()).filter(|&left| left <= low).map(reminder::few_left))
}
