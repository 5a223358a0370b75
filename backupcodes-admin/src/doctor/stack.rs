//! Whether the PAM stacks that have the module ask for codes as their administrator means it.
//!
//! Each stack is walked as libpam walks it, in every way that its modules can answer. Only stacks with the module are judged.

mod drafts;
mod lockers;
mod logins;
mod ours;
mod report;
mod rules;
mod servers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pam_stack::{Action, Entry, Fault, Files, Kind, Place, Stack, modules};

use crate::doctor::finding::{Finding, Level};
use crate::doctor::module::security_directories;
use crate::doctor::stack::logins::Logins;
use crate::doctor::stack::ours::{OURS, Role, role};
use crate::doctor::stack::report::{Draft, Report};

/// The PAM service of sshd.
const SSHD: &str = "sshd";

/// The PAM service of renewals, which the broker asks for.
const RENEWAL: &str = "backupcodes";

/// Services that root's rights are got by in another way: who puts the module into the first may forget the second.
const SIBLINGS: [(&str, &str); 2] = [("sudo", "sudo-i"), ("su", "su-l")];

/// Accounts that log in and have no set, by the configuration file that says where sets are: the system's is `None`.
pub(crate) type WithoutSet = BTreeMap<Option<PathBuf>, Vec<String>>;

/// What a stack asks of those who have a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A code, and nothing else.
    Code,
    /// Both, by a question each.
    PasswordAndCode,
    /// It depends.
    Other,
}

/// Judges all services below a root.
pub(crate) fn check(root: &Path, without_set: &WithoutSet) -> Vec<Finding> {
    let files = Files::below(root);
    let mut report = Report::default();
    let directories = security_directories(root);
    // A service without lines of its own is judged as `other`.
    for (service, stack) in stacks(&files) {
        let mut judge = Judge { root, service: &service, stack: &stack, report: &mut report };
        judge.files();
        if judge.has_invisible() {
            continue;
        }
        judge.modules(&directories);
        judge.options(Level::Error, "the module refuses every login");
        // Where lines are missing libpam fails, and what is left says nothing.
        if !stack.is_refused && stack.missing.is_empty() {
            judge.ways();
            judge.without_set(without_set);
        }
    }
    for (service, sibling) in SIBLINGS {
        let asks = |service| files.stack(service).map(|stack| has(&stack, Role::Ours));
        if asks(service) == Some(true) && asks(sibling) == Some(false) {
            let place = Place { file: format!("/etc/pam.d/{sibling}"), line: 1 };
            report.add(Some(sibling), place, drafts::not_asked_here(service));
        }
    }
    for (files, is_auth) in [(&files, true), (&Files::of_accounts(root), false)] {
        let renewal = files.stack(RENEWAL).unwrap_or_default();
        for entry in renewal.entries.iter().filter(|entry| modules::name(entry) == "pam_rootok") {
            report.add(Some(RENEWAL), entry.place.clone(), drafts::root_renews(is_auth));
        }
    }
    for (service, stack) in stacks(&Files::of_sessions(root)) {
        let mut judge = Judge { root, service: &service, stack: &stack, report: &mut report };
        judge.options(Level::Warning, "the module logs an error at each session and ignores it");
    }
    for (place, fault) in files.faults_around(OURS) {
        report.add(None, place.clone(), drafts::seeming(&place, &fault));
    }
    report.findings()
}

/// Whether the module is in the stack that libpam takes for a service.
pub(crate) fn has_module(root: &Path, service: &str) -> bool {
    has(&Files::below(root).effective(service), Role::Ours)
}

/// What sshd's stack asks. Where it asks for a code alone, a key has to come before it.
pub(crate) fn asked_by_sshd(root: &Path) -> Asked {
    let stack = Files::below(root).effective(SSHD);
    let lines = || ours(&stack).map(|(at, _)| Logins::new(root, SSHD, &stack.entries, at));
    if !has(&stack, Role::FirstFactor) && lines().any(|logins| rules::accepts_code_alone(&logins)) {
        Asked::Code
    } else if lines().any(|logins| rules::needs_password_and_code(&logins)) {
        Asked::PasswordAndCode
    } else {
        Asked::Other
    }
}

/// The configuration files that lines of ours name, and one line of each.
pub(crate) fn configurations(root: &Path) -> BTreeMap<PathBuf, Place> {
    let files = [Files::below(root), Files::of_sessions(root)];
    let stacks: Vec<_> = files.iter().flat_map(stacks).collect();
    let named = stacks.iter().flat_map(|(_, stack)| ours(stack));
    let named = named.filter_map(|(_, entry)| Some((ours::options(entry).conf?, entry.place.clone())));
    // The first one stays.
    named.collect::<Vec<_>>().into_iter().rev().collect()
}

/// Services of programs that run as their users, with the configuration file that their line of ours names.
pub(crate) fn of_users(root: &Path) -> Vec<(String, Option<PathBuf>)> {
    let mut found = Vec::new();
    for (service, stack) in stacks(&Files::below(root)) {
        if lockers::runs_as_user(&service) {
            found.extend(ours(&stack).next().map(|(_, entry)| (service.clone(), ours::options(entry).conf)));
        }
    }
    found
}

/// All services with the module, and their stacks.
fn stacks(files: &Files<'_>) -> Vec<(String, Stack)> {
    let stacks = files.services().into_iter().filter_map(|service| Some((files.stack(&service)?, service)));
    stacks.filter(|(stack, _)| has(stack, Role::Ours)).map(|(stack, service)| (service, stack)).collect()
}

fn has(stack: &Stack, wanted: Role) -> bool {
    stack.entries.iter().any(|entry| role(entry) == wanted)
}

/// The module's lines, with where they stand among all.
fn ours(stack: &Stack) -> impl Iterator<Item = (usize, &Entry)> {
    stack.entries.iter().enumerate().filter(|(_, entry)| role(entry) == Role::Ours)
}

/// A stack that is judged.
struct Judge<'a> {
    root: &'a Path,
    service: &'a str,
    stack: &'a Stack,
    report: &'a mut Report,
}

impl<'a> Judge<'a> {
    /// What libpam makes of the files.
    fn files(&mut self) {
        for (place, fault) in &self.stack.faults {
            self.add(place, drafts::seeming(place, fault));
        }
        // That no file has such a name is the fault of what stands in the name.
        let has_invisible = self.has_invisible();
        for (place, name) in self.stack.missing.iter().filter(|_| !has_invisible) {
            self.add(place, drafts::missing_include(name));
        }
    }

    /// Words that are not what they look like: what libpam makes of them says nothing.
    fn has_invisible(&self) -> bool {
        self.stack.faults.iter().any(|(_, fault)| !matches!(fault, Fault::Joins(_)))
    }

    /// Modules that are not installed.
    fn modules(&mut self, directories: &[PathBuf]) {
        for entry in &self.stack.entries {
            let Kind::Module { path, .. } = &entry.kind else { continue };
            let is_there = match path.strip_prefix('/') {
                Some(path) => self.root.join(path).exists(),
                None => directories.iter().any(|directory| directory.join(path).exists()),
            };
            let is_passed_over = entry.control.action("module_unknown") == Action::Ignore;
            // That ours is missing is said once.
            if !is_there && !directories.is_empty() && !is_passed_over && role(entry) != Role::Ours {
                self.add(&entry.place, drafts::missing_module(path));
            }
        }
    }

    fn options(&mut self, level: Level, consequence: &str) {
        for (_, entry) in ours(self.stack) {
            let unknown = ours::unknown_options(entry);
            if !unknown.is_empty() {
                self.add(&entry.place, drafts::unknown_options(level, &unknown, consequence));
            }
        }
    }

    /// What can happen in a login.
    fn ways(&mut self) {
        for (at, entry) in ours(self.stack) {
            let logins = Logins::new(self.root, self.service, &self.stack.entries, at);
            if !logins.can_succeed(&ours::results) {
                self.add(&entry.place, drafts::nobody_gets_in());
                continue;
            }
            let can_ordinary_users =
                |logins: &Logins<'_>| logins.can_succeed(&|entry| rules::to_ordinary_users(logins, entry));
            if let Some(line) = logins.led_by(|logins| !can_ordinary_users(logins)) {
                self.add(&entry.place, drafts::led_past(drafts::Led::NobodyGetsIn, line));
                continue;
            }
            if !logins.ends(&ours::results).into_iter().any(|end| end.is_success && end.facts.ours.is_some())
            {
                self.add(&entry.place, drafts::never_asked(self.jump_over(at)));
                continue;
            }
            // That a password is enough without a code is said with it.
            let or_password = self.alone(at, &logins) || lockers::is_locker(self.service);
            let ignored = rules::ignored(&logins, or_password);
            if !ignored.is_empty() {
                self.add(&entry.place, drafts::refusal_ignored(&ignored));
            }
            if rules::wastes_codes(&logins) {
                self.add(&entry.place, drafts::burns_codes());
            }
            let asking = self.around(at).1.iter().find(|entry| modules::asks(entry));
            if let Some(asking) = asking.filter(|_| rules::asks_first(&logins)) {
                self.add(&entry.place, drafts::code_first(&entry.place, asking));
            }
            let is_locker = lockers::answers_once(self.service);
            if (is_locker || servers::answers_once(self.service)) && rules::needs_password_and_code(&logins) {
                self.add(&entry.place, if is_locker { drafts::one_answer() } else { drafts::one_password() });
            }
            self.handed(at, &logins);
        }
    }

    /// One answer where two are meant, or none. Whether a code is enough.
    fn alone(&mut self, at: usize, logins: &Logins<'_>) -> bool {
        let (before, behind) = self.around(at);
        let place = logins.entries.get(at).map(|entry| &entry.place);
        let Some(place) = place else { return false };
        let first = behind.iter().find(|entry| role(entry) == Role::FirstFactor);
        let first = first.filter(|_| rules::accepts_without_password(logins));
        let is_code_alone = first.is_some() || rules::accepts_code_alone(logins);
        if first.is_some() || is_code_alone && !self.may_ask_for_one() {
            let led_by = logins.led_by(rules::accepts_without_password);
            let led = led_by.map(|line| drafts::led_past(drafts::Led::CodeAlone, line));
            let behind = || first.map(drafts::code_alone);
            self.add_alone(place, led.or_else(behind).unwrap_or_else(drafts::nothing_but_a_code));
        }
        if rules::accepts_password_alone(logins) && !lockers::is_locker(self.service) {
            let led_by = logins.led_by(rules::accepts_password_alone);
            let draft = led_by.map(|line| drafts::led_past(drafts::Led::PasswordAlone, line));
            self.add_alone(place, draft.unwrap_or_else(drafts::password_alone));
        }
        for entry in before {
            let is_always_true = logins.same_for_all(entry) == Some("success");
            if (is_always_true || modules::is_no_exception(entry)) && logins.accepts_unasked(entry) {
                self.add(&entry.place, drafts::lets_in_unasked(entry, is_always_true));
            }
        }
        is_code_alone
    }

    /// What goes from one module to another.
    fn handed(&mut self, at: usize, logins: &Logins<'_>) {
        let (before, behind) = self.around(at);
        let Some(entry) = logins.entries.get(at) else { return };
        let options = ours::options(entry);
        if options.use_first_pass && !before.iter().any(ours::may_leave_authtok) {
            self.add(&entry.place, drafts::nothing_to_take());
        }
        if options.forward_pass && !rules::accepts_forwarded(logins) {
            self.add(&entry.place, drafts::forward_pass_alone());
        } else if options.forward_pass && !behind.iter().any(modules::takes_authtok) {
            self.add(&entry.place, drafts::asks_again());
        }
    }

    fn without_set(&mut self, without_set: &WithoutSet) {
        let Some((at, entry)) = ours(self.stack).next() else { return };
        let Some(accounts) = without_set.get(&ours::options(entry).conf).filter(|all| !all.is_empty()) else {
            return;
        };
        let logins = Logins::new(self.root, self.service, &self.stack.entries, at);
        let results = |entry: &Entry| match role(entry) {
            Role::Ours => ours::results_without_set(entry).to_vec(),
            _ => ours::results(entry),
        };
        if logins.can_succeed(&ours::results) && !logins.can_succeed(&results) {
            self.add(&entry.place, drafts::locked_out(accounts));
        }
    }

    /// Where one factor is enough: a key may have come before sshd asks, and who locked a screen has logged in before.
    fn may_ask_for_one(&self) -> bool {
        lockers::is_locker(self.service) || (self.service == SSHD && !has(self.stack, Role::FirstFactor))
    }

    /// The lines before one, and those behind it.
    fn around(&self, at: usize) -> (&'a [Entry], &'a [Entry]) {
        let (before, rest) = self.stack.entries.split_at_checked(at).unwrap_or_default();
        (before, rest.get(1..).unwrap_or_default())
    }

    /// A line that may jump over this one.
    fn jump_over(&self, at: usize) -> Option<&'a Place> {
        let before = self.around(at).0.iter().enumerate().rev();
        let mut jumps = before.filter(|(from, entry)| {
            entry.control.jump().is_some_and(|lines| from.saturating_add(lines) >= at)
        });
        jumps.next().map(|(_, entry)| &entry.place)
    }

    /// One answer where two are meant.
    fn add_alone(&mut self, place: &Place, draft: Draft) {
        let is_server = servers::answers_once(self.service);
        self.add(place, if is_server { drafts::in_server(draft) } else { draft });
    }

    fn add(&mut self, place: &Place, draft: Draft) {
        self.report.add(Some(self.service), place.clone(), draft);
    }
}

#[cfg(test)]
pub(crate) mod tests;
