//! One `pam_authenticate`: from the arguments to the verdict.

use std::ffi::CStr;
use std::fmt::Display;

use backupcodes_core::account::Account;
use backupcodes_core::attempt::{Accepted, Match, Refusal, Request, judge};
use backupcodes_core::clock;
use backupcodes_core::config::Config;
use backupcodes_core::mark::Mark;
use backupcodes_core::store::{FileStore, Store};
use pam::constants::PamResultCode::{
    self, PAM_AUTH_ERR, PAM_AUTHINFO_UNAVAIL, PAM_CONV_AGAIN, PAM_CONV_ERR, PAM_IGNORE, PAM_INCOMPLETE,
    PAM_SERVICE_ERR, PAM_SUCCESS, PAM_SYSTEM_ERR, PAM_USER_UNKNOWN,
};
use pam::constants::{
    PAM_PROMPT_ECHO_OFF, PAM_PROMPT_ECHO_ON, PAM_SILENT, PAM_TEXT_INFO, PamFlag, PamMessageStyle,
};
use pam::conv::Conv;
use pam::items::User;
use pam::module::{PamHandle, PamResult};
use pam::secret::SecretBytes;

use crate::ffi::{FreshMemory, Level, log, undisturbed};
use crate::options::Options;
use crate::place::Place;

/// Asks for a code, and says yes only once it is spent on stable storage.
pub(crate) fn authenticate(pamh: &mut PamHandle, arguments: &[&CStr], flags: PamFlag) -> PamResultCode {
    match attempt(pamh, arguments, flags) {
        Ok(()) => PAM_SUCCESS,
        Err(No(code, level, reason)) => {
            log(pamh, level, &reason);
            code
        }
    }
}

/// Anything but a yes: what libpam is told, and what the log is told.
struct No(PamResultCode, Level, String);

fn attempt(pamh: &mut PamHandle, arguments: &[&CStr], flags: PamFlag) -> Result<(), No> {
    let options = Options::parse(arguments).map_err(unusable)?;
    let config = Config::load(options.conf.as_deref()).map_err(unusable)?;
    let store = FileStore::new(&config.directory);
    let account = account(pamh)?;
    let place = Place::of(pamh, account.as_ref());
    if options.nullok && has_no_set(&store, account.as_ref()) {
        return Err(No(
            PAM_IGNORE,
            Level::Debug,
            format!("passed over: no set, and nullok is given; {place}"),
        ));
    }
    let answer = ask(pamh, &options)?;
    if options.debug {
        log(
            pamh,
            Level::Debug,
            &format!("an answer came; looking in {}; {place}", config.directory.display()),
        );
    }
    let answer = answer.as_ref().map_or([].as_slice(), SecretBytes::as_bytes);
    let request = Request { account: account.as_ref(), answer, cost: config.hash.cost };
    let found =
        judge(&store, request, &mut FreshMemory::default()).map_err(|refusal| refused(&refusal, &place))?;
    let accepted = spend(found, &place)?;
    let Accepted { slot, set, left } = &accepted;
    log(pamh, Level::Notice, &format!("accepted code {slot} of set {set}, {left} left; {place}"));
    if !options.quiet && flags & PAM_SILENT == 0 {
        // A text that does not arrive takes no one's login away.
        let _ = converse(pamh, PAM_TEXT_INFO, &farewell(&accepted, config.codes.low));
    }
    Ok(())
}

fn unusable(reason: impl Display) -> No {
    No(PAM_SERVICE_ERR, Level::Error, reason.to_string())
}

/// The account that logs in, `None` where there is none. The name is asked anew at every entry: it may change between
/// the calls of a host.
fn account(pamh: &mut PamHandle) -> Result<Option<Account>, No> {
    let name = match pamh.get_user(None) {
        Ok(name) => name,
        // There is a name, but it is not UTF-8, and so no account's here.
        Err(PAM_SYSTEM_ERR) if matches!(pamh.get_item::<User<'_>>(), Ok(Some(_))) => return Ok(None),
        Err(code) => return Err(no_conversation("name", code)),
    };
    Account::by_name(&name).map_err(|error| No(PAM_AUTHINFO_UNAVAIL, Level::Error, error.to_string()))
}

/// Only a proof counts: any error leads on to the prompt, and fails there.
fn has_no_set(store: &dyn Store, account: Option<&Account>) -> bool {
    account.is_some_and(|account| matches!(store.read(&account.name), Ok(None)))
}

/// The answer. `None` is one that is missing, and counts as empty.
fn ask(pamh: &PamHandle, options: &Options) -> Result<Option<SecretBytes>, No> {
    let style = if options.echo { PAM_PROMPT_ECHO_ON } else { PAM_PROMPT_ECHO_OFF };
    converse(pamh, style, &options.prompt).map_err(|code| no_conversation("code", code))
}

fn converse(pamh: &PamHandle, style: PamMessageStyle, text: &str) -> PamResult<Option<SecretBytes>> {
    pamh.get_item::<Conv<'_>>()?.ok_or(PAM_CONV_ERR)?.send(style, text)
}

fn no_conversation(what: &str, code: PamResultCode) -> No {
    match code {
        PAM_CONV_AGAIN | PAM_INCOMPLETE => {
            No(PAM_INCOMPLETE, Level::Error, format!("the application will come back with the {what}"))
        }
        code => {
            No(PAM_CONV_ERR, Level::Error, format!("the application did not ask for the {what}: {code:?}"))
        }
    }
}

fn refused(refusal: &Refusal, place: &Place) -> No {
    let (code, level) = match refusal {
        Refusal::Malformed
        | Refusal::NoSlot(_)
        | Refusal::Spent(..)
        | Refusal::Damaged(_)
        | Refusal::Wrong(_) => (PAM_AUTH_ERR, Level::Notice),
        Refusal::NoSet => (PAM_AUTH_ERR, Level::Debug),
        Refusal::NoUser => (PAM_USER_UNKNOWN, Level::Notice),
        Refusal::Store(_) | Refusal::Hash(_) => (PAM_AUTHINFO_UNAVAIL, Level::Error),
    };
    No(code, level, format!("refused: {refusal}; {place}"))
}

/// A spend that fails is answered like a wrong code: who can make it fail must not learn that the code was right.
fn spend(found: Match<'_>, place: &Place) -> Result<Accepted, No> {
    let slot = found.slot();
    let mark = Mark::new(clock::now(), &place.service, &place.source);
    let failed = |error: &dyn Display| {
        let reason = format!(
            "refused: code {slot} was right but could not be spent, and may be lost: {error}; {place}"
        );
        No(PAM_AUTH_ERR, Level::Critical, reason)
    };
    undisturbed(|| found.spend(&mark)).map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

fn farewell(accepted: &Accepted, low: usize) -> String {
    let Accepted { slot, left, .. } = accepted;
    let codes = if *left == 1 { "code" } else { "codes" };
    let advice = if *left <= low { " Get a new set soon: ask your administrator." } else { "" };
    format!("Backup code {slot} accepted; {left} {codes} left.{advice}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupcodes_core::code::Slot;

    #[test]
    fn the_user_reads_how_many_are_left() {
        let accepted = |left| Accepted { slot: Slot::new(3).unwrap(), set: "9f3c21aa".into(), left };
        assert_eq!(farewell(&accepted(7), 3), "Backup code 3 accepted; 7 codes left.");
        assert!(farewell(&accepted(1), 3).starts_with("Backup code 3 accepted; 1 code left. Get a new set"));
    }
}
