//! `purge`: removes sets without an account. A set whose account has another name or uid is kept and named.

use backupcodes_core::account::Account;
use backupcodes_core::config::Config;
use backupcodes_core::mail::notice::{self, Writer};
use backupcodes_core::store::{Expected, FileStore, Prepared, Store};
use backupcodes_core::throttle::Throttle;
use serde::Serialize;

use crate::accounts::{Accounts, are_all_local};
use crate::cli::{Purge, Style};
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::misfiled::Misfiled;
use crate::owner::{Owner, what_became_of};
use crate::{output, terminal};

#[derive(Serialize)]
struct Json<'a> {
    purged: &'a [String],
    kept: &'a [Kept],
}

/// A set that no account can use, and what to do about it.
#[derive(Serialize)]
struct Kept {
    user: String,
    reason: String,
}

/// What to do with a set.
enum Fate {
    /// Its account uses it.
    InUse,
    /// No account can use it, for this reason, and it stays.
    Kept(String),
    /// It is removed: this is its id.
    Purged(String),
}

pub(crate) fn run(config: &Config, arguments: &Purge) -> Result<Outcome, Failure> {
    let store = FileStore::new(&config.directory);
    let users = store.users()?;
    let mut failed = Vec::new();
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    let accounts = Accounts::list();
    for user in &users {
        match fate(config, &store, &accounts, user) {
            Ok(Fate::Purged(set)) => gone.push((user.clone(), set)),
            Ok(Fate::Kept(reason)) => kept.push(Kept { user: user.clone(), reason }),
            Ok(Fate::InUse) => {}
            Err(failure) => failed.push(failure),
        }
    }
    if !gone.is_empty() && !agreed(arguments, &gone, users.len())? {
        return Ok(Outcome::No);
    }
    let writer = Writer::of_this_host(config, &notice::host_name());
    let mut purged = Vec::new();
    for (user, set) in gone {
        // The addresses for notices of uses may still be read.
        let notices = |last: Option<&_>| last.map(|set| writer.of_due_uses(set)).unwrap_or_default();
        match store.prepare(&user, Expected::Set(&set), None).and_then(|prepared| prepared.commit(notices)) {
            Ok(()) => {
                failed.extend(Throttle::new(config).clear(&user).err().map(Failure::from));
                purged.push(user);
            }
            Err(error) => failed.push(error.into()),
        }
    }
    match arguments.format.style {
        Style::Json => output::print_json(&Json { purged: &purged, kept: &kept })?,
        Style::Text if purged.is_empty() => output::print("every set has its account\n")?,
        Style::Text => {
            purged.iter().try_for_each(|user| output::print(&format!("{user}: the set is removed\n")))?;
        }
    }
    if arguments.format.style == Style::Text {
        kept.iter().for_each(|Kept { user, reason }| {
            output::complain(&format_args!("{user}: the set is kept: {reason}"));
        });
    }
    output::report(failed, users.len()).map(|()| Outcome::Done)
}

fn fate(config: &Config, store: &FileStore, accounts: &Accounts, user: &str) -> Result<Fate, Failure> {
    let Some(set) = store.read(user)? else { return Ok(Fate::InUse) };
    let (label, uid) = (&set.label, set.label.uid);
    Ok(match Owner::of(accounts, user, label)? {
        Owner::Lives(_) => Fate::InUse,
        Owner::Gone => Fate::Purged(set.label.set),
        Owner::Misfiled(None) if Account::by_uid(uid)?.is_none() => Fate::Purged(set.label.set),
        Owner::Misfiled(account) => {
            let Misfiled { message, remedy, .. } =
                Misfiled::look(&config.directory, user, account.as_ref(), label);
            Fate::Kept(format!("{message}; {remedy}"))
        }
        Owner::Renamed(account) | Owner::OtherUid(account) => {
            Fate::Kept(what_became_of(store, user, uid, &account))
        }
    })
}

fn agreed(arguments: &Purge, gone: &[(String, String)], total: usize) -> Result<bool, Failure> {
    let names: Vec<_> = gone.iter().map(|(user, _)| user.as_str()).collect();
    let (count, names) = (gone.len(), names.join(", "));
    if arguments.yes {
        // A directory service that cannot be reached looks like one without accounts.
        if !are_all_local() {
            return Err(Failure::NotAllLocal { count, total, names });
        }
        let is_too_much = count > total / 2;
        return if is_too_much { Err(Failure::TooManyGone { count, total, names }) } else { Ok(true) };
    }
    if !terminal::is_there() {
        return Err(Failure::WouldPurge { count, total, names });
    }
    let question = format!("{count} of {total} sets have no account: {names}. Remove them?");
    terminal::agrees(&question, &Interrupt::watch()?).map_err(Failure::Input)
}
