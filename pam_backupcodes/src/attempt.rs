//! One `pam_authenticate`: from the arguments to the verdict.

use std::ffi::CStr;
use std::fmt::Display;

use backupcodes_core::account::Account;
use backupcodes_core::attempt::{Accepted, Match, Refusal, Request, judge};
use backupcodes_core::clock;
use backupcodes_core::config::Config;
use backupcodes_core::mark::Mark;
use backupcodes_core::slots::InSlot;
use backupcodes_core::store::{FileStore, Store};
use backupcodes_core::throttle::{Counted, Throttle};
use pam::constants::PamResultCode::{
    self, PAM_AUTH_ERR, PAM_AUTHINFO_UNAVAIL, PAM_CONV_AGAIN, PAM_CONV_ERR, PAM_IGNORE, PAM_INCOMPLETE,
    PAM_SERVICE_ERR, PAM_SUCCESS, PAM_SYSTEM_ERR, PAM_USER_UNKNOWN,
};
use pam::constants::{PAM_SILENT, PAM_TEXT_INFO, PamFlag, PamMessageStyle};
use pam::conv::Conv;
use pam::items::User;
use pam::module::{PamHandle, PamResult};
use pam::secret::SecretBytes;

use crate::ffi::{FreshMemory, Level, has_memory, log, undisturbed};
use crate::options::Options;
use crate::place::Place;
use crate::{answer, notify, reminder};

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
pub(crate) struct No(pub(crate) PamResultCode, pub(crate) Level, pub(crate) String);

fn attempt(pamh: &mut PamHandle, arguments: &[&CStr], flags: PamFlag) -> Result<(), No> {
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
    store.judge_reach().map_err(unavailable)?;
    let account = account(pamh)?;
    let place = Place::of(pamh, account.as_ref());
    if options.nullok && has_no_set(&store, account.as_ref()) {
        return Err(No(
            PAM_IGNORE,
            Level::Debug,
            format!("passed over: no set, and nullok is given; {place}"),
        ));
    }
    let answer = early.map_or_else(|| answer::get(pamh, &options), Ok)?;
    if options.debug {
        log(
            pamh,
            Level::Debug,
            &format!("an answer came; looking in {}; {place}", config.directory.display()),
        );
    }
    let answer = answer.as_ref().map_or([].as_slice(), SecretBytes::as_bytes);
    let request = Request { account: account.as_ref(), answer, cost: config.hash.cost };
    let count = || count(&config, &place);
    let mut memory = InSlot::new(&config, FreshMemory::default());
    let judged = judge(&store, request, count, &mut memory);
    // Neither memory nor slot is kept while the set is locked.
    drop(memory);
    let (found, counted) = judged.map_err(|refusal| refused(&refusal, &place))?;
    let accepted = spend(found, &counted, &place)?;
    let Accepted { slot, set, left } = &accepted;
    log(pamh, Level::Notice, &format!("accepted code {slot} of set {set}, {left} left; {place}"));
    if let Err(error) = counted.clear() {
        log(pamh, Level::Warning, &format!("failures are not counted as they should be: {error}; {place}"));
    }
    if config.notify.spawn {
        if let Err(error) = notify::start(options.conf.as_deref()) {
            log(pamh, Level::Warning, &format!("the notice of this use stays due: {error}; {place}"));
        }
    }
    reminder::leave(pamh, &accepted);
    if !options.quiet && flags & PAM_SILENT == 0 {
        // A text that does not arrive takes no one's login away.
        let _ = converse(pamh, PAM_TEXT_INFO, &reminder::after_use(*slot, *left, config.codes.low));
    }
    Ok(())
}

fn unusable(reason: impl Display) -> No {
    No(PAM_SERVICE_ERR, Level::Error, reason.to_string())
}

fn unavailable(error: impl Display) -> No {
    No(PAM_AUTHINFO_UNAVAIL, Level::Error, error.to_string())
}

/// The account that logs in, `None` where there is none. The name is asked anew at every entry: it may change between
/// the calls of a host.
pub(crate) fn account(pamh: &mut PamHandle) -> Result<Option<Account>, No> {
    let name = match pamh.get_user(None) {
        Ok(name) => name,
        // There is a name, but it is not UTF-8, and so no account's here.
        Err(PAM_SYSTEM_ERR) if matches!(pamh.get_item::<User<'_>>(), Ok(Some(_))) => return Ok(None),
        Err(code) => return Err(no_conversation("name", code)),
    };
    Account::by_name(&name).map_err(unavailable)
}

/// Only a proof counts: any error leads on to the prompt, and fails there.
fn has_no_set(store: &dyn Store, account: Option<&Account>) -> bool {
    account.is_some_and(|account| matches!(store.read(&account.name), Ok(None)))
}

/// Counts the attempt where it cannot be disturbed: a file size limit of the caller's is no way around it.
fn count(config: &Config, place: &Place) -> Result<Counted, Refusal> {
    let counted = undisturbed(|| Throttle::new(config).count(place.key(), clock::precise()))
        .map_err(Refusal::Uncounted)?
        .map_err(|error| Refusal::Uncounted(error.to_string()))?;
    match counted.refused {
        Some(wait) => Err(Refusal::Throttled(counted.before, wait)),
        None => Ok(counted),
    }
}

/// Says `text` to the user, or asks.
pub(crate) fn converse(
    pamh: &PamHandle,
    style: PamMessageStyle,
    text: &str,
) -> PamResult<Option<SecretBytes>> {
    pamh.get_item::<Conv<'_>>()?.ok_or(PAM_CONV_ERR)?.send(style, text)
}

pub(crate) fn no_conversation(what: &str, code: PamResultCode) -> No {
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
        Refusal::Throttled(..) => (PAM_AUTH_ERR, Level::Warning),
        Refusal::Uncounted(_) | Refusal::Store(_) | Refusal::Hash(_) => (PAM_AUTHINFO_UNAVAIL, Level::Error),
    };
    No(code, level, format!("refused: {refusal}; {place}"))
}

/// A spend that fails is answered like a wrong code: who can make it fail must not learn that the code was right.
fn spend(found: Match<'_>, counted: &Counted, place: &Place) -> Result<Accepted, No> {
    let slot = found.slot();
    let mark = Mark::new(clock::now(), counted.before, &place.service, place.source());
    let failed = |error: &dyn Display| {
        let reason = format!(
            "refused: code {slot} was right but could not be spent, and may be lost: {error}; {place}"
        );
        No(PAM_AUTH_ERR, Level::Critical, reason)
    };
    undisturbed(|| found.spend(&mark)).map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}
