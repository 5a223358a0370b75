//! All logins that a stack makes possible, and what happens in each of them before and after a line of ours.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use pam_stack::everyone::{Host, result_for_all};
use pam_stack::walk::{End, Reached, Step, Verdict, walk};
use pam_stack::{Action, Entry, modules};

use crate::doctor::stack::ours::{Role, may_leave_authtok, results, role};

/// What has happened so far. All that rules ask for, and no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Facts {
    /// What the line of ours returned.
    pub(crate) ours: Option<Verdict>,
    /// Another factor succeeded after it.
    pub(crate) success_after: bool,
    /// The same, but not a password instead of the code.
    pub(crate) code_after: bool,
    /// A first factor succeeded, wherever it stands.
    pub(crate) first_success: bool,
    /// A first factor failed.
    pub(crate) first_failure: bool,
    /// A module after it, which had not taken a right password from another, failed after the line's success.
    pub(crate) failure_after: bool,
    /// A password was right before it.
    pub(crate) password_before: bool,
    /// Another line of ours returned `ignore`: the user has no set, so what this line refused was no code.
    pub(crate) has_no_set: bool,
}

/// A stack, and the line of ours that is asked about.
#[derive(Clone)]
pub(crate) struct Logins<'a> {
    pub(crate) entries: &'a [Entry],
    pub(crate) ours: usize,
    /// Lines that lead all ordinary users of the host the same way, past others, with the result by which they do.
    same_for_all: HashMap<*const Entry, &'static str>,
    /// Lines that accept without a question.
    unasked: HashSet<*const Entry>,
}

/// Whether a result ends the stack with a success, or jumps.
fn leads_past(entry: &Entry, result: &str) -> bool {
    matches!(entry.control.action(result), Action::Done | Action::Jump(_))
}

impl<'a> Logins<'a> {
    pub(crate) fn new(root: &Path, service: &str, entries: &'a [Entry], ours: usize) -> Self {
        let host = Host::of(root, service);
        let leading = |entry: &'a Entry| {
            let result = result_for_all(root, &host, entry)?;
            leads_past(entry, result).then_some((std::ptr::from_ref(entry), result))
        };
        let same_for_all = entries.iter().filter_map(leading).collect();
        let mut logins = Self { entries, ours, same_for_all, unasked: HashSet::new() };
        let unasked = entries.iter().filter(|entry| logins.can_accept_unasked(entry));
        logins.unasked = unasked.map(std::ptr::from_ref).collect();
        logins
    }

    /// Whether a line accepts every user for whom it succeeds, before any prompt.
    pub(crate) fn accepts_unasked(&self, entry: &Entry) -> bool {
        self.unasked.contains(&std::ptr::from_ref(entry))
    }

    /// What a line returns for all ordinary users, if that leads them past others.
    pub(crate) fn same_for_all(&self, entry: &Entry) -> Option<&'static str> {
        self.same_for_all.get(&std::ptr::from_ref(entry)).copied()
    }

    /// If something is so only because lines lead all ordinary users past others: such a line.
    pub(crate) fn led_by(&self, is_so: impl Fn(&Self) -> bool) -> Option<&'a Entry> {
        // In a stack with more of them the first one is named.
        const TRIED: usize = 8;
        let mut leading = self.entries.iter().filter(|entry| self.same_for_all(entry).is_some());
        let without = |is_kept: &dyn Fn(*const Entry) -> bool| {
            let mut other = self.clone();
            other.same_for_all.retain(|entry, _| is_kept(*entry));
            other
        };
        let first = leading.clone().next()?;
        if !is_so(self) || is_so(&without(&|_| false)) {
            return None;
        }
        let is_alone = |entry: &&Entry| !is_so(&without(&|other| other != std::ptr::from_ref(*entry)));
        Some(leading.by_ref().take(TRIED).find(is_alone).unwrap_or(first))
    }

    /// All ends, from the first line, where `results` says what the modules may return.
    pub(crate) fn ends(&self, results: &dyn Fn(&Entry) -> Vec<&'static str>) -> HashSet<End<Facts>> {
        self.walk(Step::default(), results).ends
    }

    /// Whether a success is possible.
    pub(crate) fn can_succeed(&self, results: &dyn Fn(&Entry) -> Vec<&'static str>) -> bool {
        self.can_succeed_from(Step::default(), results)
    }

    /// The same from a step on.
    pub(crate) fn can_succeed_from(
        &self,
        from: Step<Facts>,
        results: &dyn Fn(&Entry) -> Vec<&'static str>,
    ) -> bool {
        self.walk(from, results).ends.iter().any(|end| end.is_success)
    }

    /// All states in which libpam comes to the line of ours.
    pub(crate) fn arrivals(&self, results: &dyn Fn(&Entry) -> Vec<&'static str>) -> Vec<Step<Facts>> {
        self.walk(Step::default(), results).steps.into_iter().filter(|step| step.at == self.ours).collect()
    }

    fn walk(&self, from: Step<Facts>, results: &dyn Fn(&Entry) -> Vec<&'static str>) -> Reached<Facts> {
        walk(self.entries, from, results, &|facts, at, verdict| self.facts_after(facts, at, verdict))
    }

    fn facts_after(&self, facts: Facts, at: usize, verdict: Verdict) -> Facts {
        let Some(entry) = self.entries.get(at) else { return facts };
        let role = role(entry);
        let is_first = role == Role::FirstFactor;
        let is_ours = at == self.ours;
        let (is_success, is_failure) = (verdict == Verdict::Success, verdict == Verdict::Failure);
        let is_success_after = at > self.ours && is_success && role != Role::Silent;
        let is_after = facts.ours == Some(Verdict::Success);
        let has_authtok = facts.password_before && modules::takes_authtok(entry);
        Facts {
            ours: if is_ours { Some(verdict) } else { facts.ours },
            success_after: facts.success_after || is_success_after,
            // Of two passwords the second is another factor.
            code_after: facts.code_after || is_success_after && (!is_first || facts.first_success),
            first_success: facts.first_success || is_first && is_success,
            first_failure: facts.first_failure || is_first && is_failure,
            failure_after: facts.failure_after
                || is_after && is_failure && modules::asks(entry) && !has_authtok,
            password_before: facts.password_before
                || facts.ours.is_none() && is_success && is_first && may_leave_authtok(entry),
            has_no_set: facts.has_no_set || role == Role::Ours && !is_ours && verdict == Verdict::Ignore,
        }
    }

    /// Whether a login succeeds by this line alone, although no other line that can skip the rest succeeds.
    fn can_accept_unasked(&self, line: &Entry) -> bool {
        if role(line) != Role::Silent || !leads_past(line, "success") {
            return false;
        }
        let others_fail = |entry: &Entry| {
            let mut results = results(entry);
            if std::ptr::eq(entry, line) {
                results.retain(|result| Verdict::of(result) == Verdict::Success);
            } else if role(entry) != Role::Silent || leads_past(entry, "success") {
                results.retain(|result| Verdict::of(result) != Verdict::Success);
            }
            results
        };
        let mut ends = self.ends(&others_fail).into_iter().filter(|end| end.is_success);
        ends.any(|end| end.facts.ours.is_none() && !end.facts.first_failure)
    }
}
