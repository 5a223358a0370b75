//! `generate`: a new set, shown once.

use std::collections::BTreeSet;

use backupcodes_core::account::Account;
use backupcodes_core::code::Code;
use backupcodes_core::config::Config;
use backupcodes_core::hash::HeapMemory;
use backupcodes_core::issue::{NewSet, Old};
use backupcodes_core::notice::{self, Writer};
use backupcodes_core::set::{CodeSet, Label};
use backupcodes_core::store::{FileStore, ReplaceError};
use backupcodes_core::throttle::Throttle;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::cli::{Format, Generate};
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::{sheet, terminal};

pub(crate) fn run(config: &Config, arguments: &Generate, format: Format) -> Result<Outcome, Failure> {
    let mut printer = Printer { format, host: notice::host_name(), printed: 0 };
    let mut memory = HeapMemory::default();
    let mut outcome = Outcome::Done;
    let (mut failed, mut accounts) = (Vec::new(), BTreeSet::new());
    for user in &arguments.users {
        let made = account(user).and_then(|account| {
            // A second sheet would kill the first.
            if !accounts.insert(account.name.clone()) {
                return Ok(Outcome::Done);
            }
            generate(config, arguments, account, &mut memory, &mut printer)
        });
        match made {
            Ok(one) => outcome = outcome.and(one),
            Err(failure) => failed.push(failure),
        }
    }
    let finished = printer.finish();
    Failure::report(failed, arguments.users.len())?;
    finished.map(|()| outcome)
}

/// The name that a user's set has. The account may be gone.
pub(crate) fn name_of_set(user: &str) -> Result<String, Failure> {
    Ok(Account::by_name(user)?.map_or_else(|| user.into(), |account| account.name))
}

/// The account of a user who must exist.
pub(crate) fn account(user: &str) -> Result<Account, Failure> {
    Account::by_name(user)?.ok_or_else(|| Failure::NoUser { user: user.into() })
}

fn generate(
    config: &Config,
    arguments: &Generate,
    account: Account,
    memory: &mut HeapMemory,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    let store = FileStore::new(&config.directory);
    let old = Old::find(&store, &account)?;
    if let Some(set) = old.own(&account) {
        if set.left() > 0 && !arguments.yes && !may_replace(set)? {
            return Ok(Outcome::No);
        }
    }
    let email = if arguments.email.is_empty() { old.email(&account) } else { arguments.email.clone() };
    let count = arguments.count.unwrap_or(config.codes.count);
    let new = NewSet::make(config, count, &account, email, memory)?;
    let mut shown = false;
    let writer = Writer::of_this_host(config, &printer.host);
    let mut announce = || {
        printer.print(&new)?;
        shown = true;
        Ok(())
    };
    match new.put(&store, &account, old.expected(), &writer, &mut announce) {
        Ok(()) => {
            // The set is good all the same.
            if let Err(error) = Throttle::new(config).clear(&account.name) {
                output::complain(&format_args!(
                    "the failures of {} are still counted: {error}; then: backupcodes-admin unlock {0}",
                    account.name
                ));
            }
            Ok(Outcome::Done)
        }
        Err(ReplaceError::Store(error)) if shown => Err(Failure::SheetIsDead { user: account.name, error }),
        Err(error) => Err(error.into()),
    }
}

fn may_replace(set: &CodeSet) -> Result<bool, Failure> {
    let (left, Label { user, set, .. }) = (set.left(), &set.label);
    if !terminal::is_there() {
        return Err(Failure::WouldReplace { user: user.clone(), set: set.clone(), left });
    }
    let question =
        format!("{user} has {left} unspent codes (set {set}). A new set makes them worthless. Replace them?");
    terminal::agrees(&question).map_err(Failure::Input)
}

/// Prints one set after the other, as sheets or as one JSON list.
struct Printer {
    format: Format,
    host: String,
    printed: usize,
}

#[derive(Serialize)]
struct Json<'a> {
    user: &'a str,
    set: &'a str,
    created: String,
    codes: Vec<&'a str>,
}

impl Printer {
    fn print(&mut self, new: &NewSet) -> std::io::Result<()> {
        let first = self.printed == 0;
        output::write(|out| match self.format {
            Format::Text => {
                let gap = if first { "" } else { "\n\n" };
                out.write_all(gap.as_bytes())?;
                let Label { set, user, created, .. } = &new.label;
                out.write_all(sheet::text(&self.host, user, set, *created, &new.codes).as_bytes())
            }
            Format::Json => {
                let codes: Vec<Zeroizing<String>> = new.codes.iter().map(Code::for_sheet).collect();
                let Label { user, set, created, .. } = &new.label;
                let codes = codes.iter().map(|code| code.as_str()).collect();
                write!(out, "{}", if first { "[\n" } else { ",\n" })?;
                serde_json::to_writer(out, &Json { user, set, created: created.to_string(), codes })?;
                Ok(())
            }
        })?;
        self.printed = self.printed.saturating_add(1);
        Ok(())
    }

    fn finish(&self) -> Result<(), Failure> {
        match (self.format, self.printed) {
            (Format::Text, _) => Ok(()),
            (Format::Json, 0) => output::print("[]\n"),
            (Format::Json, _) => output::print("\n]\n"),
        }
    }
}
