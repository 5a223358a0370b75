//! Whether the PAM stacks that have the module ask for codes as their administrator means it.
//!
//! Each stack is walked as libpam walks it, in every way that its modules can answer. Only stacks with the module are judged.

mod modules;
mod report;
mod walk;

use std::path::Path;

use crate::doctor::finding::{Finding, Level};
use crate::doctor::pam::{Action, Entry, Files, Place, Stack, Swallow};
use crate::doctor::stack::modules::{OURS, Role, role};
use crate::doctor::stack::report::{Draft, Report};
use crate::doctor::stack::walk::{Answer, Walk};

/// The PAM service of sshd.
const SSHD: &str = "sshd";
/// So many accounts are named.
const NAMED: usize = 5;

/// Judges all services below a root. Those of `without_set` can log in and have no set.
pub(crate) fn check(root: &Path, without_set: &[String]) -> Vec<Finding> {
    let files = Files::below(root);
    let mut report = Report::default();
    for service in files.services() {
        // A service without lines of its own is judged as `other`.
        let Some(stack) = files.stack(&service).filter(has_ours) else { continue };
        let mut judge = Judge { service: &service, stack: &stack, report: &mut report };
        judge.files();
        judge.arguments();
        // Where lines are missing libpam fails, and what is left says nothing.
        if !stack.is_refused && stack.missing.is_empty() {
            judge.ways(without_set);
        }
    }
    for (place, swallow) in files.swallows_with(OURS) {
        report.add(None, place, lost(&swallow));
    }
    report.findings()
}

/// Whether the module is in the stack that libpam takes for a service.
pub(crate) fn has_module(root: &Path, service: &str) -> bool {
    has_ours(&Files::below(root).effective(service))
}

/// Whether sshd's stack asks for a code and for nothing else: then a key has to come before it.
pub(crate) fn asks_sshd_for_a_code_alone(root: &Path) -> bool {
    let stack = Files::below(root).effective(SSHD);
    let walks = stack.entries.iter().enumerate().filter(|(_, entry)| role(entry) == Role::Ours);
    let mut walks = walks.map(|(ours, _)| Walk { entries: &stack.entries, ours });
    !has(&stack, Role::FirstFactor) && walks.any(|walk| lets_in_by_code_alone(&walk))
}

fn has_ours(stack: &Stack) -> bool {
    has(stack, Role::Ours)
}

fn has(stack: &Stack, wanted: Role) -> bool {
    stack.entries.iter().any(|entry| role(entry) == wanted)
}

/// A stack that is judged.
struct Judge<'a> {
    service: &'a str,
    stack: &'a Stack,
    report: &'a mut Report,
}

impl<'a> Judge<'a> {
    /// What libpam makes of the files.
    fn files(&mut self) {
        for (place, swallow) in &self.stack.swallows {
            self.add(place, lost(swallow));
        }
        for (place, name) in &self.stack.missing {
            let message =
                format!("includes {name:?}, which is not there, cannot be read, or includes itself");
            let remedy = "no login succeeds until the file is there or the line is gone".into();
            self.add(place, Draft { level: Level::Error, check: "missing-include", message, remedy });
        }
    }

    fn arguments(&mut self) {
        for (_, entry) in self.ours() {
            let unknown = modules::unknown_options(entry);
            let Some((_, complaint)) = unknown.first() else { continue };
            let named: Vec<String> = unknown.iter().map(|(argument, _)| format!("{argument:?}")).collect();
            let message = format!("unknown option {}: the module refuses every login", named.join(", "));
            let remedy = complaint.split_once("; ").map_or(complaint.as_str(), |(_, remedy)| remedy).into();
            self.add(&entry.place, Draft { level: Level::Error, check: "unknown-option", message, remedy });
        }
    }

    /// What can happen in a login.
    fn ways(&mut self, without_set: &[String]) {
        for (at, entry) in self.ours() {
            let walk = Walk { entries: &self.stack.entries, ours: at };
            if !walk.can_succeed(walk::Step::default(), &all) {
                self.add(&entry.place, nobody_gets_in());
                continue;
            }
            let ends = walk.ends(&all);
            let mut successes = ends.iter().filter(|end| end.is_success).map(|end| end.facts);
            if !successes.clone().any(|facts| facts.ours.is_some()) {
                self.add(&entry.place, never_asked());
                continue;
            }
            let alone = successes.clone().any(|facts| facts.ours == Some(Answer::Yes) && !facts.first_yes);
            if let Some(first) = self.first_factor_behind(at).filter(|_| alone) {
                self.add(&entry.place, code_alone(first));
            } else if lets_in_by_code_alone(&walk) && !self.may_ask_for_one() {
                self.add(&entry.place, nothing_but_a_code());
            }
            if lets_in_by_password_alone(&walk) && !is_locker(self.service) {
                self.add(&entry.place, password_alone());
            }
            let is_ignored =
                |facts: walk::Facts| facts.ours == Some(Answer::No) && !facts.yes_behind && !facts.has_no_set;
            if successes.any(is_ignored) {
                self.add(&entry.place, refusal_ignored());
            }
            if burns(&walk) {
                self.add(&entry.place, burns_codes());
            }
            if modules::options(entry).forward_pass && !hands_on(&walk) {
                self.add(&entry.place, forward_pass_alone());
            }
        }
        self.without_set(without_set);
    }

    fn without_set(&mut self, accounts: &[String]) {
        let Some((at, entry)) = self.ours().next().filter(|_| !accounts.is_empty()) else { return };
        let walk = Walk { entries: &self.stack.entries, ours: at };
        let results = |entry: &Entry| match role(entry) {
            Role::Ours => modules::results_without_set(entry).to_vec(),
            _ => all(entry),
        };
        let start = walk::Step::default;
        if walk.can_succeed(start(), &all) && !walk.can_succeed(start(), &results) {
            self.add(&entry.place, locked_out(accounts));
        }
    }

    /// The module's lines, with where they stand among all.
    fn ours(&self) -> impl Iterator<Item = (usize, &'a Entry)> + use<'a> {
        let is_ours = |(_, entry): &(usize, &Entry)| role(entry) == Role::Ours;
        self.stack.entries.iter().enumerate().filter(is_ours)
    }

    /// Where one factor is enough: a key may have come before sshd asks, and who locked a screen has logged in before.
    fn may_ask_for_one(&self) -> bool {
        is_locker(self.service) || (self.service == SSHD && !has(self.stack, Role::FirstFactor))
    }

    fn first_factor_behind(&self, at: usize) -> Option<&'a Entry> {
        self.stack.entries.iter().skip(at.saturating_add(1)).find(|entry| role(entry) == Role::FirstFactor)
    }

    fn add(&mut self, place: &Place, draft: Draft) {
        self.report.add(Some(self.service), place.clone(), draft);
    }
}

/// Whatever a module may return.
fn all(entry: &Entry) -> Vec<&'static str> {
    modules::results(entry).to_vec()
}

/// Screen lockers by their names: README has stacks for them in which one factor is enough.
fn is_locker(service: &str) -> bool {
    ["lock", "saver", "kde"].iter().any(|part| service.contains(part))
}

/// A right code gets in though no other module that asks for something says yes.
fn lets_in_by_code_alone(walk: &Walk<'_>) -> bool {
    gets_in(walk, &[Role::Ours], |facts| facts.ours == Some(Answer::Yes))
}

/// A right password gets in, and nobody asks for a code.
fn lets_in_by_password_alone(walk: &Walk<'_>) -> bool {
    gets_in(walk, &[Role::FirstFactor], |facts| facts.ours.is_none() && facts.first_yes)
}

/// Whether a login succeeds in which only modules of these roles may say yes, of those that ask for something. Modules that ask
/// for nothing may make exceptions, as for a group: what happens only where they all say yes, or none does, is meant so.
fn gets_in(walk: &Walk<'_>, may_say_yes: &[Role], is_so: impl Fn(walk::Facts) -> bool) -> bool {
    ["success", "ignore"].iter().all(|silent| {
        let results = |entry: &Entry| {
            let mut results = all(entry);
            let role = role(entry);
            if role == Role::Silent && results.len() > 1 {
                let said = if results.contains(silent) { *silent } else { "ignore" };
                results.retain(|result| *result == said);
            } else if role != Role::Silent && !may_say_yes.contains(&role) {
                results.retain(|result| Answer::of(result) != Answer::Yes);
            }
            results
        };
        walk.ends(&results).into_iter().any(|end| end.is_success && is_so(end.facts))
    })
}

/// Whether the module is asked although the password was wrong, and nothing can make up for it.
fn burns(walk: &Walk<'_>) -> bool {
    // No other module is to blame: those that can do otherwise spoil nothing.
    let blameless = |entry: &Entry| {
        let mut results = all(entry);
        let spoils = |result: &str| {
            Answer::of(result) == Answer::No
                && matches!(entry.control.action(result), Action::Bad | Action::Die)
        };
        if role(entry) != Role::FirstFactor && !results.iter().all(|result| spoils(result)) {
            results.retain(|result| !spoils(result));
        }
        results
    };
    let is_late = |step: &walk::Step| step.facts.first_no;
    walk.arrivals(&blameless).into_iter().filter(is_late).any(|step| !walk.can_succeed(step, &all))
}

/// Whether what the module hands on can let somebody in.
fn hands_on(walk: &Walk<'_>) -> bool {
    let is_handed_on = |facts: walk::Facts| facts.ours == Some(Answer::No) && facts.yes_behind;
    walk.ends(&all).into_iter().any(|end| end.is_success && is_handed_on(end.facts))
}

fn lost(swallow: &Swallow) -> Draft {
    let message = match &swallow.lost {
        Some((number, text)) => {
            format!("ends in a backslash: line {number} is joined to it and lost ({text})")
        }
        None => "ends in a backslash, behind which the file ends: libpam takes nothing of the file".into(),
    };
    Draft { level: Level::Error, check: "backslash", message, remedy: "take the backslash away".into() }
}

fn nobody_gets_in() -> Draft {
    let message = "no login succeeds, whatever is answered".into();
    let remedy = "mend the controls of the stack: pam_backupcodes(8) has some that work".into();
    Draft { level: Level::Error, check: "nobody-gets-in", message, remedy }
}

fn never_asked() -> Draft {
    let message =
        "no login that succeeds is asked for a code: the stack ends before this line, or jumps over it"
            .into();
    let remedy = "put the line, and the one with the password, in the place of what ends the stack".into();
    Draft { level: Level::Error, check: "never-asked", message, remedy }
}

fn code_alone(first: &Entry) -> Draft {
    let (module, place) = (first.module().unwrap_or_default(), &first.place);
    let message = format!("a code alone gets in: {module} ({place}) is not asked, or not heard, after it");
    let remedy = format!("put the line behind the one with {module}");
    Draft { level: Level::Error, check: "code-alone", message, remedy }
}

fn nothing_but_a_code() -> Draft {
    let message = "a code alone gets in: no module for the password has to say yes".into();
    let remedy = "put `auth requisite pam_unix.so` in front of the line".into();
    Draft { level: Level::Error, check: "code-alone", message, remedy }
}

fn password_alone() -> Draft {
    let message = "a password alone gets in, and nobody is asked for a code then".into();
    let remedy = "make the module for the password `requisite`, in this stack itself".into();
    Draft { level: Level::Error, check: "password-alone", message, remedy }
}

fn refusal_ignored() -> Draft {
    let message = "a login succeeds although the module has refused it, without another code".into();
    let remedy = "make the line `required`, or put a `required` module for another code behind it".into();
    Draft { level: Level::Error, check: "refusal-ignored", message, remedy }
}

fn burns_codes() -> Draft {
    let message = "a code is asked for, and used up, although the password was wrong".into();
    let remedy =
        "make the module for the password `requisite`, and in this stack itself: a substack does not end it"
            .into();
    Draft { level: Level::Warning, check: "burns-codes", message, remedy }
}

fn forward_pass_alone() -> Draft {
    let message = "forward_pass, but no module behind it lets anybody in with what is handed on".into();
    let remedy = "put a `required` module with use_first_pass behind it, or take forward_pass away".into();
    Draft { level: Level::Error, check: "forward-pass-alone", message, remedy }
}

fn locked_out(accounts: &[String]) -> Draft {
    let count = accounts.len();
    let named: Vec<&str> = accounts.iter().take(NAMED).map(String::as_str).collect();
    let more = if count > NAMED { " …" } else { "" };
    let (who, have) = if count == 1 { ("account", "has") } else { ("accounts", "have") };
    let named = named.join(", ");
    let message = format!("{count} {who} {have} no set, and cannot get in here: {named}{more}");
    let remedy =
        "`backupcodes-admin generate --all --missing`, or `nullok` beside another `required` module".into();
    Draft { level: Level::Warning, check: "no-set-locked-out", message, remedy }
}

#[cfg(test)]
pub(crate) mod tests;
