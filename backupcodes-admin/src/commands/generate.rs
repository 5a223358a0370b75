//! `generate`: new sets, each shown once.
//!
//! Sets are made on all processors, and put in place one after the other, in the order in which they were asked for. What
//! was put in place when the run ends early stays; `--missing` goes on from there.

mod users;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;

use backupcodes_core::account::Account;
use backupcodes_core::config::Config;
use backupcodes_core::hash::{CreateError, HeapMemory};
use backupcodes_core::mail::notice::{self, Writer};
use backupcodes_core::new_set::{ExistingSet, NewSet, host_for_sheet};
use backupcodes_core::set::Label;
use backupcodes_core::store::{Expected, ReplaceError, Sets, Store, StoreError};
use rand::rngs::SysError;

use self::users::asked_for;
use super::account;
use crate::cli::Generate;
use crate::commands::unlock::forget;
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::output;
use crate::progress::Progress;
use crate::sheet::Sheets;
use crate::storage::{self, Storage};
use crate::terminal;
use crate::workers::{Next, in_order};

pub(crate) fn run(config: &Config, arguments: &Generate) -> Result<Outcome, Failure> {
    let destination = arguments.destination();
    let users = asked_for(arguments)?;
    let (total, asked) = (users.len(), users.clone());
    let count = arguments.count.unwrap_or(config.codes.count);
    let sheets = Sheets::open(destination, count)?;
    let run = Run {
        config,
        arguments,
        store: if arguments.host { Sets::of_host(config) } else { Sets::new(config) },
        interrupt: Interrupt::watch()?,
        progress: Progress::over(total),
        ended: RefCell::default(),
    };
    run.store.prove_may_replace()?;
    run.warn_of_storage();
    let mut plan = Plan { run: &run, users: users.into_iter(), seen: BTreeSet::new(), unasked: None };
    let mut put = Put { run: &run, sheets };
    let make = |memory: &mut HeapMemory, planned| make(config, &arguments.email, count, planned, memory);
    in_order(|| plan.next(), make, |made| put.take(made));
    run.progress.end();
    let finished = put.sheets.finish();
    let Ended { failed, outcome, over, last, is_cut_off } = run.ended.take();
    if (run.interrupt.came() || is_cut_off) && over < total {
        failed.iter().for_each(|failure| output::complain(failure));
        let go_on = run.go_on(&asked, last.as_deref());
        return Err(Failure::Interrupted { over, total, last, go_on });
    }
    output::report(failed, total)?;
    finished.map(|()| outcome)
}

/// What all parts of a run have in common.
struct Run<'a> {
    config: &'a Config,
    arguments: &'a Generate,
    store: Sets,
    interrupt: Interrupt,
    progress: Progress,
    ended: RefCell<Ended>,
}

/// The results so far.
struct Ended {
    failed: Vec<Failure>,
    outcome: Outcome,
    /// Users that are done, with a set or without.
    over: usize,
    /// Who got a set last.
    last: Option<String>,
    /// Nobody reads what is shown: further sets would be lost.
    is_cut_off: bool,
}

impl Default for Ended {
    fn default() -> Self {
        Self { failed: Vec::new(), outcome: Outcome::Done, over: 0, last: None, is_cut_off: false }
    }
}

/// A user who is to get a set.
struct Planned {
    account: Account,
    old: ExistingSet,
}

/// A set that is not in place yet.
struct Made {
    planned: Planned,
    new: Result<NewSet, CreateError<SysError>>,
}

impl Run<'_> {
    fn warn_of_storage(&self) {
        let directory = &self.config.directory;
        if let Some(storage @ Storage::Forgets(_)) = storage::judge(directory) {
            let remedy = storage::REMEDY;
            output::complain(&format_args!("{}: {storage}; {remedy}", directory.display()));
        }
    }

    /// That an old set of the same uid exists, under a name without an account, and what to do.
    fn superseded(&self, account: &Account) -> Option<String> {
        let Err(StoreError::OtherName { user, .. }) = self.store.files().prove_no_other_name(account) else {
            return None;
        };
        let lives = Account::by_name(&user).is_ok_and(|other| other.is_some_and(|other| other.name == user));
        let new = &account.name;
        (!lives).then(|| {
            format!(
                "{new} has a new set, and {user} has a set of the same uid; if the account was renamed, remove the old set: \
                 backupcodes-admin revoke {user}; to keep the old set instead: backupcodes-admin revoke {new}, then: \
                 backupcodes-admin rename {user} {new}"
            )
        })
    }

    fn is_over(&self) -> bool {
        self.interrupt.came() || self.ended.borrow().is_cut_off
    }

    /// A user is done.
    fn end(&self, how: Result<Outcome, Failure>) {
        let mut ended = self.ended.borrow_mut();
        match how {
            Ok(outcome) => ended.outcome = ended.outcome.and(outcome),
            Err(failure) => ended.failed.push(failure),
        }
        ended.over = ended.over.saturating_add(1);
        self.progress.one_more();
    }
}

fn make(config: &Config, email: &[String], count: u8, planned: Planned, memory: &mut HeapMemory) -> Made {
    let Planned { account, old } = &planned;
    let email = if email.is_empty() { old.email(account) } else { email.to_vec() };
    let new = NewSet::make(config, count, account, email, memory);
    Made { planned, new }
}

/// Which user comes next.
struct Plan<'a, 'b> {
    run: &'a Run<'b>,
    users: std::vec::IntoIter<String>,
    /// Accounts that came before: a second sheet would end the first.
    seen: BTreeSet<String>,
    /// Somebody has to be asked whether this one's codes may be replaced.
    unasked: Option<Planned>,
}

impl Plan<'_, '_> {
    fn next(&mut self) -> Next<Planned> {
        loop {
            if self.run.is_over() {
                return Next::End;
            }
            if let Some(planned) = self.unasked.take() {
                match self.run.may_replace(&planned) {
                    Ok(true) => return Next::Job(planned),
                    Ok(false) => self.run.end(Ok(Outcome::No)),
                    // The user is not done, but the run is.
                    Err(Failure::Input(error)) if error.kind() == io::ErrorKind::Interrupted => {
                        return Next::End;
                    }
                    Err(failure) => self.run.end(Err(failure)),
                }
            }
            let Some(user) = self.users.next() else { return Next::End };
            match self.plan(&user) {
                // What was made before is shown first.
                Ok(Some(planned)) if self.run.must_ask(&planned) => {
                    self.unasked = Some(planned);
                    return Next::Pause;
                }
                Ok(Some(planned)) => return Next::Job(planned),
                Ok(None) => self.run.end(Ok(Outcome::Done)),
                Err(failure) => self.run.end(Err(failure)),
            }
        }
    }

    /// `None` where there is nothing to do.
    fn plan(&mut self, user: &str) -> Result<Option<Planned>, Failure> {
        let account = account(user)?;
        if !self.seen.insert(account.name.clone()) {
            return Ok(None);
        }
        let old = ExistingSet::find(&self.run.store, &account)?;
        let (is_missing, only_missing) = (old.own(&account).is_none(), self.run.arguments.missing);
        if only_missing && old.expected() == Expected::Unusable {
            // Other hosts may accept what this one does not.
            if let Err(error @ StoreError::Fleet(_)) = self.run.store.read(&account.name) {
                return Err(error.into());
            }
        }
        Ok((is_missing || !only_missing).then_some(Planned { account, old }))
    }
}

impl Run<'_> {
    /// What to do after `last`.
    fn go_on(&self, asked: &[String], last: Option<&str>) -> String {
        let next = last.map_or(Some(0), |last| asked.iter().position(|user| user == last)?.checked_add(1));
        match next.and_then(|next| asked.get(next)) {
            // Those who had no set have none yet.
            _ if self.arguments.missing => "to continue, run the same command again".into(),
            Some(next) => format!(
                "to continue, name the users from {next} on (--missing skips users with a set, old or new)"
            ),
            None => "to continue, name the others".into(),
        }
    }

    fn must_ask(&self, planned: &Planned) -> bool {
        !self.arguments.yes
            && planned.old.set_that_would_end(&planned.account).is_some_and(|set| set.left() > 0)
    }

    fn may_replace(&self, planned: &Planned) -> Result<bool, Failure> {
        let Some(set) = planned.old.set_that_would_end(&planned.account) else { return Ok(true) };
        let (left, Label { user, set, .. }) = (set.left(), &set.label);
        if !terminal::is_there() {
            return Err(Failure::WouldReplace { user: user.clone(), set: set.clone(), left });
        }
        let question =
            format!("{user} has {left} unspent codes (set {set}). A new set ends them. Replace them?");
        self.progress.beside(|| terminal::agrees(&question, &self.interrupt)).map_err(Failure::Input)
    }
}

/// Puts sets in place.
struct Put<'a, 'b> {
    run: &'a Run<'b>,
    sheets: Sheets,
}

impl Put<'_, '_> {
    fn take(&mut self, made: Made) -> ControlFlow<()> {
        let Made { planned: Planned { account, old }, new } = made;
        let put = new.map_err(Failure::from).and_then(|new| self.put(&account, &old, &new));
        if let Err(Failure::NotShown { .. }) = &put {
            // The next one would fare no better.
            self.run.ended.borrow_mut().is_cut_off |= self.sheets.is_stream();
        }
        let is_put = put.is_ok();
        self.run.end(put.map(|()| Outcome::Done));
        if is_put {
            self.run.ended.borrow_mut().last = Some(account.name);
        }
        if self.run.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn put(&mut self, account: &Account, old: &ExistingSet, new: &NewSet) -> Result<(), Failure> {
        let run = self.run;
        let writer = Writer::of_this_host(run.config, &notice::host_name());
        let user = || account.name.clone();
        let prepared = new.prepare(&run.store, account, old.expected())?;
        let host = host_for_sheet(&run.store, &account.name)?;
        let shown = run.progress.beside(|| self.sheets.show(new, &host));
        shown.map_err(|error| Failure::NotShown { user: user(), error })?;
        match prepared.put_in_place(&writer) {
            Ok(()) => {
                // The set is good all the same.
                let complaints = [forget(run.config, &account.name), run.superseded(account)];
                complaints.into_iter().flatten().for_each(|complaint| {
                    run.progress.beside(|| output::complain(&complaint));
                });
                Ok(())
            }
            Err(error @ (ReplaceError::Unflushed(_) | ReplaceError::Unknown(_))) => Err(error.into()),
            Err(error) => Err(match self.sheets.withdraw(new) {
                Some(sheet) => Failure::SheetIsDead { user: user(), error: error.into(), sheet },
                None => error.into(),
            }),
        }
    }
}
