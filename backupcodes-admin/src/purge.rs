//! `purge`: removes sets whose account is gone, or was made anew: no code of them can ever be used.

use backupcodes_core::account::Account;
use backupcodes_core::config::Config;
use backupcodes_core::notice::{self, Writer};
use backupcodes_core::store::{Expected, FileStore, Store};
use backupcodes_core::throttle::Throttle;
use serde::Serialize;

use crate::accounts::{Accounts, are_all_local};
use crate::cli::{Purge, Style};
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::{output, terminal};

#[derive(Serialize)]
struct Json<'a> {
    purged: &'a [String],
}

pub(crate) fn run(config: &Config, arguments: &Purge) -> Result<Outcome, Failure> {
    let store = FileStore::new(&config.directory);
    let users = store.users()?;
    let mut failed = Vec::new();
    let mut gone = Vec::new();
    let accounts = Accounts::list();
    for user in &users {
        match orphan(&store, &accounts, user) {
            Ok(Some(set)) => gone.push((user.clone(), set)),
            Ok(None) => {}
            Err(failure) => failed.push(failure),
        }
    }
    if !gone.is_empty() && !agreed(arguments, &gone, users.len())? {
        return Ok(Outcome::No);
    }
    let host = notice::host_name();
    let writer = Writer::of_this_host(config, &host);
    let mut purged = Vec::new();
    for (user, set) in gone {
        // Whoever the letters of uses are for may still have the address.
        let mut letters = |last: Option<&_>| last.map(|set| writer.of_due_uses(set)).unwrap_or_default();
        match store.replace(&user, Expected::Set(&set), None, &mut || Ok(()), &mut letters) {
            Ok(()) => {
                failed.extend(Throttle::new(config).clear(&user).err().map(Failure::from));
                purged.push(user);
            }
            Err(error) => failed.push(error.into()),
        }
    }
    match arguments.format.style {
        Style::Json => output::print_json(&Json { purged: &purged })?,
        Style::Text if purged.is_empty() => output::print("no set is without its account\n")?,
        Style::Text => {
            purged.iter().try_for_each(|user| output::print(&format!("{user}: the set is removed\n")))?;
        }
    }
    Failure::report(failed, users.len()).map(|()| Outcome::Done)
}

/// The id of a user's set that no account can use: none has its name, or another than the one it was made for.
fn orphan(store: &FileStore, accounts: &Accounts, user: &str) -> Result<Option<String>, Failure> {
    let Some(set) = store.read(user)? else { return Ok(None) };
    let is_listed = accounts.find(user)?.is_some_and(|account| set.label.judge_owner(&account).is_ok());
    // What logs in is what the database says of this one name.
    let account = if is_listed { return Ok(None) } else { Account::by_name(user)? };
    let is_own = account.is_some_and(|account| set.label.judge_owner(&account).is_ok());
    Ok((!is_own).then_some(set.label.set))
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
    let question = format!("{count} of {total} sets have no account any more: {names}. Remove them?");
    terminal::agrees(&question, &Interrupt::watch()?).map_err(Failure::Input)
}
