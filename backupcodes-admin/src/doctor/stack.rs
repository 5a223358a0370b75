//! Whether the PAM stacks with the module ask for codes as intended.
//!
//! Each stack is walked as libpam walks it, with every result that its modules can return. Only stacks with the module are judged.

mod line_findings;
mod lockers;
mod logins;
mod ours;
mod report;
mod rules;
mod servers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pam_stack::{Action, Entry, Fault, Files, Kind, Location, Stack, modules};

use crate::doctor::finding::{Finding, Level};
use crate::doctor::module::security_directories;
use crate::doctor::stack::logins::Logins;
use crate::doctor::stack::ours::{OURS, Role, role};
use crate::doctor::stack::report::{LineFinding, Report};

/// The PAM service of sshd.
const SSHD: &str = "sshd";

/// The PAM service that the broker uses for renewals.
const RENEWAL: &str = "backupcodes";

/// Pairs of services that give the same rights: administrators who add the module to the first may forget the second.
const SIBLINGS: [(&str, &str); 2] = [("sudo", "sudo-i"), ("su", "su-l")];

/// Accounts that log in and have no set, by the configuration file that names the directory of the sets; `None` is the system's.
pub(crate) type WithoutSet = BTreeMap<Option<PathBuf>, Vec<String>>;

/// What a stack asks users with a set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A code, and nothing else.
    Code,
    /// Both, with one prompt each.
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
        // If lines are missing, libpam fails, and the rest does not matter.
        if !stack.is_refused && stack.missing.is_empty() {
            judge.logins();
            judge.without_set(without_set);
        }
    }
    for (service, sibling) in SIBLINGS {
        let asks = |service| files.stack(service).map(|stack| has(&stack, Role::Ours));
        if asks(service) == Some(true) && asks(sibling) == Some(false) {
            let location = Location { file: format!("/etc/pam.d/{sibling}"), line: 1 };
            report.add(Some(sibling), location, line_findings::not_asked_here(service));
        }
    }
    for (files, is_auth) in [(&files, true), (&Files::of_accounts(root), false)] {
        let renewal = files.stack(RENEWAL).unwrap_or_default();
        for entry in renewal.entries.iter().filter(|entry| modules::name(entry) == "pam_rootok") {
            report.add(Some(RENEWAL), entry.location.clone(), line_findings::root_renews(is_auth));
        }
    }
    for (service, stack) in stacks(&Files::of_sessions(root)) {
        let mut judge = Judge { root, service: &service, stack: &stack, report: &mut report };
        judge.options(Level::Warning, "the module logs an error at each session and ignores it");
    }
    for (location, fault) in files.faults_around(OURS) {
        report.add(None, location.clone(), line_findings::seeming(&location, &fault));
    }
    report.findings()
}

/// Whether the module is in the stack that libpam uses for a service.
pub(crate) fn has_module(root: &Path, service: &str) -> bool {
    has(&Files::below(root).effective(service), Role::Ours)
}

/// What sshd's stack asks for. If that is a code alone, sshd has to ask for a key first.
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
pub(crate) fn configurations(root: &Path) -> BTreeMap<PathBuf, Location> {
    let files = [Files::below(root), Files::of_sessions(root)];
    let stacks: Vec<_> = files.iter().flat_map(stacks).collect();
    let named = stacks.iter().flat_map(|(_, stack)| ours(stack));
    let named = named.filter_map(|(_, entry)| Some((ours::options(entry).conf?, entry.location.clone())));
    // The first line of a file wins.
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

/// The module's lines, with their positions.
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
        for (location, fault) in &self.stack.faults {
            self.add(location, line_findings::seeming(location, fault));
        }
        // An invisible character in a name is the reason that no such file exists.
        let has_invisible = self.has_invisible();
        for (location, name) in self.stack.missing.iter().filter(|_| !has_invisible) {
            self.add(location, line_findings::missing_include(name));
        }
    }

    /// Whether words have invisible characters: then libpam's stack is not the intended one.
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
            // A missing pam_backupcodes.so has a finding of its own.
            if !is_there && !directories.is_empty() && !is_passed_over && role(entry) != Role::Ours {
                self.add(&entry.location, line_findings::missing_module(path));
            }
        }
    }

    fn options(&mut self, level: Level, consequence: &str) {
        for (_, entry) in ours(self.stack) {
            let unknown = ours::unknown_options(entry);
            if !unknown.is_empty() {
                self.add(&entry.location, line_findings::unknown_options(level, &unknown, consequence));
            }
        }
    }

    /// What can happen in a login.
    fn logins(&mut self) {
        for (at, entry) in ours(self.stack) {
            let logins = Logins::new(self.root, self.service, &self.stack.entries, at);
            if !logins.can_succeed(&ours::results) {
                self.add(&entry.location, line_findings::nobody_logs_in());
                continue;
            }
            let can_ordinary_users =
                |logins: &Logins<'_>| logins.can_succeed(&|entry| rules::to_ordinary_users(logins, entry));
            if let Some(line) = logins.led_by(|logins| !can_ordinary_users(logins)) {
                self.add(&entry.location, line_findings::led_past(line_findings::Led::NobodyLogsIn, line));
                continue;
            }
            if !logins.ends(&ours::results).into_iter().any(|end| end.is_success && end.facts.ours.is_some())
            {
                self.add(&entry.location, line_findings::never_asked(self.jump_over(at)));
                continue;
            }
            // `alone` tells of a password that is enough.
            let or_password = self.alone(at, &logins) || lockers::is_locker(self.service);
            let ignored = rules::ignored(&logins, or_password);
            if !ignored.is_empty() {
                self.add(&entry.location, line_findings::refusal_ignored(&ignored));
            }
            if rules::wastes_codes(&logins) {
                self.add(&entry.location, line_findings::wastes_codes());
            }
            let asking = self.around(at).1.iter().find(|entry| modules::asks(entry));
            if let Some(asking) = asking.filter(|_| rules::asks_first(&logins)) {
                self.add(&entry.location, line_findings::code_first(&entry.location, asking));
            }
            let is_locker = lockers::responds_once(self.service);
            if (is_locker || servers::responds_once(self.service)) && rules::needs_password_and_code(&logins)
            {
                self.add(
                    &entry.location,
                    if is_locker { line_findings::one_response() } else { line_findings::one_password() },
                );
            }
            self.forwarded(at, &logins);
        }
    }

    /// Checks that two factors are needed. Whether a code is enough.
    fn alone(&mut self, at: usize, logins: &Logins<'_>) -> bool {
        let (before, after) = self.around(at);
        let location = logins.entries.get(at).map(|entry| &entry.location);
        let Some(location) = location else { return false };
        let first = after.iter().find(|entry| role(entry) == Role::FirstFactor);
        let first = first.filter(|_| rules::accepts_without_password(logins));
        let is_code_alone = first.is_some() || rules::accepts_code_alone(logins);
        if first.is_some() || is_code_alone && !self.may_ask_for_one() {
            let led_by = logins.led_by(rules::accepts_without_password);
            let led = led_by.map(|line| line_findings::led_past(line_findings::Led::CodeAlone, line));
            let asked_after = || first.map(line_findings::code_alone);
            self.add_alone(
                location,
                led.or_else(asked_after).unwrap_or_else(line_findings::nothing_but_a_code),
            );
        }
        if rules::accepts_password_alone(logins) && !lockers::is_locker(self.service) {
            let led_by = logins.led_by(rules::accepts_password_alone);
            let finding = led_by.map(|line| line_findings::led_past(line_findings::Led::PasswordAlone, line));
            self.add_alone(location, finding.unwrap_or_else(line_findings::password_alone));
        }
        for entry in before {
            let is_always_true = logins.same_for_all(entry) == Some("success");
            if (is_always_true || modules::is_no_exception(entry)) && logins.accepts_unasked(entry) {
                self.add(&entry.location, line_findings::accepts_unasked(entry, is_always_true));
            }
        }
        is_code_alone
    }

    /// What one module forwards to another.
    fn forwarded(&mut self, at: usize, logins: &Logins<'_>) {
        let (before, after) = self.around(at);
        let Some(entry) = logins.entries.get(at) else { return };
        let options = ours::options(entry);
        if options.use_first_pass && !before.iter().any(ours::may_leave_authtok) {
            self.add(&entry.location, line_findings::nothing_to_take());
        }
        if options.forward_pass && !rules::accepts_forwarded(logins) {
            self.add(&entry.location, line_findings::forward_pass_alone());
        } else if options.forward_pass && !after.iter().any(modules::takes_authtok) {
            self.add(&entry.location, line_findings::asks_again());
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
            self.add(&entry.location, line_findings::locked_out(accounts));
        }
    }

    /// Whether one factor may be enough: sshd may have checked a key before, and the user of a locked screen has logged in before.
    fn may_ask_for_one(&self) -> bool {
        lockers::is_locker(self.service) || (self.service == SSHD && !has(self.stack, Role::FirstFactor))
    }

    /// The lines before one, and those after it.
    fn around(&self, at: usize) -> (&'a [Entry], &'a [Entry]) {
        let (before, rest) = self.stack.entries.split_at_checked(at).unwrap_or_default();
        (before, rest.get(1..).unwrap_or_default())
    }

    /// A line that may jump over this one.
    fn jump_over(&self, at: usize) -> Option<&'a Location> {
        let before = self.around(at).0.iter().enumerate().rev();
        let mut jumps = before.filter(|(from, entry)| {
            entry.control.jump().is_some_and(|lines| from.saturating_add(lines) >= at)
        });
        jumps.next().map(|(_, entry)| &entry.location)
    }

    /// Adds a finding about one factor where two are intended.
    fn add_alone(&mut self, location: &Location, finding: LineFinding) {
        let is_server = servers::responds_once(self.service);
        self.add(location, if is_server { line_findings::in_server(finding) } else { finding });
    }

    fn add(&mut self, location: &Location, finding: LineFinding) {
        self.report.add(Some(self.service), location.clone(), finding);
    }
}

#[cfg(test)]
pub(crate) mod tests;
