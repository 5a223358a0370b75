//! One `pam_authenticate`: from the arguments to the verdict.

use std::ffi::CStr;
use std::fmt::Display;

use backupcodes_core::account::Account;
use backupcodes_core::config::Config;
use backupcodes_core::config::module_options::Options;
use backupcodes_core::store::FileStore;
use backupcodes_core::verify::Accepted;
use backupcodes_core::verify::{self, Level, Login, Outcome, Process};
use nix::unistd::geteuid;
use pam::constants::PamResultCode::{
    self, PAM_AUTH_ERR, PAM_AUTHINFO_UNAVAIL, PAM_CONV_AGAIN, PAM_CONV_ERR, PAM_IGNORE, PAM_INCOMPLETE,
    PAM_SERVICE_ERR, PAM_SUCCESS, PAM_SYSTEM_ERR, PAM_USER_UNKNOWN,
};
use pam::constants::{PAM_SILENT, PAM_TEXT_INFO, PamFlag, PamMessageStyle};
use pam::conv::Conv;
use pam::items::User;
use pam::module::{PamHandle, PamResult};
use pam::secret::SecretBytes;

use crate::ffi::{FreshMemory, has_memory, log, shielded_from_caller};
use crate::{answer, broker, limits, notify, origin, reminder};

/// Asks for a code, and says yes only once it is spent on stable storage.
pub(crate) fn authenticate(pamh: &mut PamHandle, arguments: &[&CStr], flags: PamFlag) -> PamResultCode {
    match attempt(pamh, arguments, flags) {
        Ok(()) => PAM_SUCCESS,
        Err(Denial(code, level, reason)) => {
            log(pamh, level, &reason);
            code
        }
    }
}

/// Anything but a yes: what libpam is told, and what the log is told.
pub(crate) struct Denial(pub(crate) PamResultCode, pub(crate) Level, pub(crate) String);

fn attempt(pamh: &mut PamHandle, arguments: &[&CStr], flags: PamFlag) -> Result<(), Denial> {
    limits::know_forks();
    // Of an attempt that another module refused in the end.
    reminder::forget(pamh);
    let (options, usable) = Options::parse(arguments);
    // Before all that can fail here: our faults take nobody's verification code away.
    let early = if options.forward_pass { Some(answer::or_hand_on(pamh, &options)?) } else { None };
    usable.map_err(unusable)?;
    if !has_memory() {
        return Err(unavailable("no memory for an attempt; see the limits of the program (ulimit -v)"));
    }
    let config = Config::load(options.conf.as_deref()).map_err(unusable)?;
    let store = FileStore::new(&config.directory);
    let mut is_lost = false;
    let by_broker = store.wants_broker()
        && match broker::is_there(&config) {
            Ok(()) => true,
            Err(error) => {
                let no = unavailable(error);
                // Nobody is asked for what cannot be judged.
                if !geteuid().is_root() {
                    return Err(no);
                }
                // Root can still see that there is no set, on a disk that went read-only.
                log(pamh, no.1, &no.2);
                is_lost = true;
                false
            }
        };
    let account = account(pamh)?;
    let origin = origin::of(pamh, account.as_ref());
    let login = Login { config: &config, account: account.as_ref(), origin: &origin };
    let name = account.as_ref().map_or("", |account| &account.name);
    let has_no_set = || {
        if by_broker { broker::has_no_set(&config, name) } else { Ok(login.has_no_set()) }
    };
    // An error: nobody is asked for what cannot be judged.
    if options.nullok && has_no_set().map_err(unavailable)? {
        return Err(Denial(
            PAM_IGNORE,
            Level::Debug,
            format!("passed over: no set, and nullok is given; {origin}"),
        ));
    }
    if is_lost {
        return Err(unavailable("the sets are read-only here, and there is no broker"));
    }
    let answer = early.map_or_else(|| answer::get(pamh, &options), Ok)?;
    if options.debug {
        let directory = config.directory.display();
        // `backupcodes-admin doctor` looks for these first words in the file.
        let line = format!(
            concat!("pam_backupcodes ", env!("CARGO_PKG_VERSION"), "; looking in {}; {}"),
            directory, origin
        );
        log(pamh, Level::Debug, &line);
    }
    let answer = answer.as_ref().map_or([].as_slice(), SecretBytes::as_bytes);
    let accepted = if by_broker {
        broker::attempt(&config, name, answer, &origin)
    } else {
        login.attempt(answer, &ThisProcess(pamh))
    };
    let accepted = accepted.map_err(told)?;
    // The broker starts a delivery of its own.
    if config.notify.spawn && !by_broker {
        if let Err(error) = notify::start(options.conf.as_deref()) {
            log(pamh, Level::Warning, &format!("the notice of this use stays due: {error}; {origin}"));
        }
    }
    reminder::leave(pamh, &accepted);
    if !options.quiet && flags & PAM_SILENT == 0 {
        // A text that does not arrive takes no one's login away.
        let Accepted { number, left, .. } = accepted;
        let _ = converse(pamh, PAM_TEXT_INFO, &reminder::after_use(number, left, config.codes.low));
    }
    Ok(())
}

/// The host process that the module was loaded into.
struct ThisProcess<'a>(&'a PamHandle);

impl Process for ThisProcess<'_> {
    type Memory = FreshMemory;

    fn shielded<T>(&self, f: impl FnOnce() -> T) -> Result<T, String> {
        shielded_from_caller(f)
    }

    fn log(&self, level: Level, line: &str) {
        log(self.0, level, line);
    }
}

fn told(verify::Denial { answer, level, reason }: verify::Denial) -> Denial {
    let code = match answer {
        Outcome::Refused => PAM_AUTH_ERR,
        Outcome::UserUnknown => PAM_USER_UNKNOWN,
        Outcome::Unavailable => PAM_AUTHINFO_UNAVAIL,
    };
    Denial(code, level, reason)
}

fn unusable(reason: impl Display) -> Denial {
    Denial(PAM_SERVICE_ERR, Level::Error, reason.to_string())
}

fn unavailable(error: impl Display) -> Denial {
    Denial(PAM_AUTHINFO_UNAVAIL, Level::Error, error.to_string())
}

/// The account that logs in, `None` where there is none. The name is asked anew at every entry: it may change between
/// the calls of a host.
pub(crate) fn account(pamh: &mut PamHandle) -> Result<Option<Account>, Denial> {
    let name = match pamh.get_user(None) {
        Ok(name) => name,
        // There is a name, but it is not UTF-8, and so no account's here.
        Err(PAM_SYSTEM_ERR) if matches!(pamh.get_item::<User<'_>>(), Ok(Some(_))) => return Ok(None),
        Err(code) => return Err(no_conversation("name", code)),
    };
    Account::by_name(&name).map_err(unavailable)
}

/// Says `text` to the user, or asks.
pub(crate) fn converse(
    pamh: &PamHandle,
    style: PamMessageStyle,
    text: &str,
) -> PamResult<Option<SecretBytes>> {
    pamh.get_item::<Conv<'_>>()?.ok_or(PAM_CONV_ERR)?.send(style, text)
}

pub(crate) fn no_conversation(what: &str, code: PamResultCode) -> Denial {
    match code {
        PAM_CONV_AGAIN | PAM_INCOMPLETE => {
            Denial(PAM_INCOMPLETE, Level::Error, format!("the application will come back with the {what}"))
        }
        code => Denial(
            PAM_CONV_ERR,
            Level::Error,
            format!("the application did not ask for the {what}: {code:?}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use manual_pages::tags;

    #[test]
    fn every_return_value_is_in_the_manual_and_no_other() {
        // What libpam says to us, and we say otherwise.
        let heard = [PAM_CONV_AGAIN, PAM_SYSTEM_ERR].map(|code| format!("{code:?}"));
        let codes: BTreeSet<_> = (0..64)
            .filter_map(|code| PamResultCode::try_from(code).ok())
            .map(|code| format!("{code:?}"))
            .collect();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let files =
            [folder.clone(), folder.join("ffi")].into_iter().flat_map(|folder| folder.read_dir().unwrap());
        let mut returned = BTreeSet::new();
        for file in files.map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
            let source = std::fs::read_to_string(file).unwrap();
            let words = source.split(|c: char| !c.is_ascii_uppercase() && c != '_').map(String::from);
            returned.extend(words.filter(|word| codes.contains(word) && !heard.contains(word)));
        }
        let documented = tags(include_str!("../../man/pam_backupcodes.8"), "RETURN VALUES");
        assert_eq!(documented.into_iter().collect::<BTreeSet<_>>(), returned);
    }
}
