//! A renewal: a user who passes the PAM service `backupcodes` gets a new set. It replaces the old one only after the sheet has
//! arrived.

use std::path::Path;

use backupcodes_core::account::Account;
use backupcodes_core::clock;
use backupcodes_core::config::Config;
use backupcodes_core::hash::HeapMemory;
use backupcodes_core::log::log;
use backupcodes_core::mail::notice::{self, Writer};
use backupcodes_core::new_set::{ExistingSet, NewSet, host_for_sheet};
use backupcodes_core::protocol::{RenewalStep, Sheet};
use backupcodes_core::store::{Expected, FleetError, ReplaceError, Sets, Store, StoreError};
use backupcodes_core::throttle::permit::WithPermit;
use backupcodes_core::throttle::{Counter, Throttle};
use backupcodes_core::verify::Level;
use nix::errno::Errno;

use crate::caller::Caller;
use crate::conversation::{Conversation, Step};
use crate::error::Error;
use crate::renewal_service::judge_service;

/// The service under which renewals are counted: failed ones may be guesses of passwords, and successful ones send mail.
const COUNTED_AS: &str = "renewal";
/// The longest response of PAM: PAM_MAX_RESP_SIZE of `_pam_types.h`.
const LONGEST_RESPONSE: usize = 512;

/// A renewal that has begun.
pub(crate) struct Renewal {
    account: Account,
    /// What existed at the beginning: a set that replaced it since is not replaced.
    old: ExistingSet,
    stage: Stage,
}

enum Stage {
    /// PAM waits for the responses to this number of prompts.
    Asked { conversation: Conversation, prompts: usize },
    /// The client has the sheet. The old set is still in place.
    Made(NewSet),
}

impl Renewal {
    /// Begins a renewal, until the first prompts or the sheet.
    ///
    /// # Errors
    /// [`Error`]: the renewal has ended.
    pub(crate) fn begin(
        config: &Config,
        conf: Option<&Path>,
        account: Account,
        caller: Caller,
    ) -> Result<(Self, RenewalStep), Error> {
        judge_service(conf).map_err(Error::Unavailable)?;
        has_room(config)?;
        let store = Sets::new(config);
        may_replace(&store, &account)?;
        count(config, &account)?;
        let old = ExistingSet::find(&store, &account).map_err(Error::unavailable)?;
        if old.expected() == Expected::Nothing {
            // A renamed account has a set under its old name, and must not get a second one.
            store.own(Some(&account)).map_err(Error::unavailable)?;
        }
        let conversation = Conversation::begin(&account.name, caller).map_err(Error::Unavailable)?;
        Self::advance(config, account, old, conversation)
    }

    /// Responds to the last prompts.
    ///
    /// # Errors
    /// [`Error`]: the renewal has ended.
    pub(crate) fn respond(
        self,
        config: &Config,
        responses: Vec<String>,
    ) -> Result<(Self, RenewalStep), Error> {
        let Self { account, old, stage } = self;
        let Stage::Asked { conversation, prompts } = stage else { return Err(Error::OutOfTurn) };
        if responses.len() != prompts {
            return Err(Error::OutOfTurn);
        }
        if responses.iter().any(|response| response.len() >= LONGEST_RESPONSE || response.contains('\0')) {
            return Err(Error::Parameters("responses".into()));
        }
        conversation.respond(responses.into_iter().map(Into::into).collect());
        Self::advance(config, account, old, conversation)
    }

    /// Replaces the old set, after the sheet has arrived.
    ///
    /// # Errors
    /// [`Error`]: the old set is unchanged, unless the error says otherwise.
    pub(crate) fn keep(self, config: &Config) -> Result<(), Error> {
        let Self { account, old, stage } = self;
        let Stage::Made(new) = stage else { return Err(Error::OutOfTurn) };
        let store = Sets::new(config);
        let writer = Writer::of_this_host(config, &notice::host_name());
        let put =
            new.prepare(&store, &account, old.expected()).and_then(|prepared| prepared.put_in_place(&writer));
        let user = &account.name;
        match put {
            Ok(()) | Err(ReplaceError::Unflushed(_)) => {
                log(Level::Notice, &format!("renewal of {user}: set {} is in place", new.label.set));
            }
            Err(ReplaceError::Unknown(_)) => {
                log(Level::Critical, &format!("renewal of {user}: set {} may be in place", new.label.set));
            }
            Err(_) => {}
        }
        put.map_err(|error| match error {
            ReplaceError::Changed { .. } => Error::Changed,
            error @ ReplaceError::Unflushed(_) => Error::Unflushed(error.to_string()),
            error @ ReplaceError::Unknown(_) => Error::Unknown(error.to_string()),
            error => Error::unavailable(error),
        })?;
        if let Err(error) = Throttle::new(config).clear_all_but(user, COUNTED_AS) {
            log(Level::Warning, &format!("the failures of {user} are still counted: {error}"));
        }
        Ok(())
    }

    fn advance(
        config: &Config,
        account: Account,
        old: ExistingSet,
        conversation: Conversation,
    ) -> Result<(Self, RenewalStep), Error> {
        let user = &account.name;
        let (messages, result) = match conversation.next() {
            Step::Asked(messages) => {
                let prompts = messages.iter().filter(|message| message.is_prompt()).count();
                let stage = Stage::Asked { conversation, prompts };
                return Ok((Self { account, old, stage }, RenewalStep { messages, sheet: None }));
            }
            Step::Ended(messages, result) => (messages, result),
        };
        if let Err(reason) = result {
            log(Level::Notice, &format!("a renewal of {user} is refused: {reason}"));
            return Err(Error::Denied(messages));
        }
        let mut memory = WithPermit::new(config, Box::<HeapMemory>::default());
        let new = NewSet::make(config, config.codes.count, &account, old.email(&account), &mut memory)
            .map_err(Error::unavailable)?;
        let sheet = Sheet {
            host: host_for_sheet(&Sets::new(config), user).map_err(Error::unavailable)?,
            set: new.label.set.clone(),
            created: new.label.created.to_string(),
            codes: new.codes.iter().map(|code| code.for_sheet().to_string()).collect(),
        };
        let reply = RenewalStep { messages, sheet: Some(sheet) };
        Ok((Self { account, old, stage: Stage::Made(new) }, reply))
    }
}

/// Checks for room on the disk before PAM runs, since PAM may spend the user's last code.
fn has_room(config: &Config) -> Result<(), Error> {
    // A set and its notices need less than a tenth of this.
    const ENOUGH: u64 = 1 << 20;
    const FILES: u64 = 16;
    let (directory, shown) = (&config.directory, config.directory.display());
    let failed = |error: rustix::io::Errno| {
        let errno = Errno::from_raw(error.raw_os_error());
        Error::Unavailable(format!("{shown}: cannot be examined ({errno}); check that it exists"))
    };
    // libc's function fails for large disks if its numbers have 32 bits.
    let disk = rustix::fs::statvfs(directory).map_err(failed)?;
    // Some file systems report 0 because they do not limit the number of files.
    let has_files = disk.f_files == 0 || disk.f_ffree >= FILES;
    if disk.f_bfree.saturating_mul(disk.f_frsize) >= ENOUGH && has_files {
        return Ok(());
    }
    Err(Error::Unavailable(format!(
        "{shown}: less than 1 MiB is free, or 16 files; expected room for a new set and its notices"
    )))
}

/// Most hosts of a fleet may not. Their users hear so before they are asked for anything.
fn may_replace(store: &Sets, account: &Account) -> Result<(), Error> {
    store.prove_may_replace_of(&account.name).map_err(|error| match error {
        StoreError::Fleet(FleetError::NotPermitted(reason)) => Error::NotBegun {
            reason: format!("a renewal of {} is refused: {reason}", account.name),
            text: "This host may not make new codes for all hosts. Ask your administrator on which host to run this.".into(),
        },
        error => Error::unavailable(error),
    })
}

/// Counts a renewal before it begins, so that many simultaneous ones cannot guess passwords. A successful renewal stays counted:
/// each sends notices, and unlimited ones would fill the outbox.
fn count(config: &Config, account: &Account) -> Result<(), Error> {
    let counter = Counter { user: Some(&account.name), service: COUNTED_AS, source: None };
    let counted = Throttle::new(config).count(counter, clock::precise()).map_err(Error::unavailable)?;
    let Some(wait) = counted.refused else { return Ok(()) };
    let (user, before) = (&account.name, counted.before);
    Err(Error::NotBegun {
        reason: format!("a renewal of {user} is refused {wait}, after {before} others"),
        text: format!("Too many renewals: refused {wait}."),
    })
}
