//! What can happen in a stack that must not.

use pam_stack::walk::{Step, Verdict};
use pam_stack::{Action, Entry, modules};

use crate::doctor::stack::logins::{Facts, Logins};
use crate::doctor::stack::ours::{Role, failures, results, role};

/// A right code is enough: no other module that asks for something succeeds.
pub(super) fn accepts_code_alone(logins: &Logins<'_>) -> bool {
    accepts(logins, &[Role::Ours], |facts| facts.ours == Some(Verdict::Success))
}

/// A right code is enough without a password, with another factor or without.
pub(super) fn accepts_without_password(logins: &Logins<'_>) -> bool {
    accepts(logins, &[Role::Ours, Role::OtherFactor], |facts| facts.ours == Some(Verdict::Success))
}

/// A right password is enough, and nobody asks for a code.
pub(super) fn accepts_password_alone(logins: &Logins<'_>) -> bool {
    accepts(logins, &[Role::FirstFactor], |facts| facts.ours.is_none() && facts.first_success)
}

/// With which results of the module, none of them a success, a login succeeds although no other code is right after it.
/// `or_password`: a password instead of it is in order.
pub(super) fn ignored(logins: &Logins<'_>, or_password: bool) -> Vec<&'static str> {
    let any = [Role::Ours, Role::FirstFactor, Role::OtherFactor];
    let is_other = |facts: Facts| if or_password { facts.success_after } else { facts.code_after };
    let is_so = |facts: Facts| facts.ours == Some(Verdict::Failure) && !is_other(facts) && !facts.has_no_set;
    if !accepts(logins, &any, is_so) {
        return Vec::new();
    }
    let is_ignored = |result: &&'static str| accepts_with(logins, Some(*result), &any, is_so);
    failures().filter(is_ignored).collect()
}

/// Whether a login succeeds in which only modules of these roles may succeed, of those that ask for something. Modules that ask
/// for nothing may make exceptions, as for a group: what happens only where all of them succeed, or none does, is intended. One that
/// returns the same for everybody is none, and who is accepted before all else has no part in this.
fn accepts(logins: &Logins<'_>, may_succeed: &[Role], is_so: impl Fn(Facts) -> bool) -> bool {
    accepts_with(logins, None, may_succeed, is_so)
}

/// The same where the line in question returns but this.
fn accepts_with(
    logins: &Logins<'_>,
    returned: Option<&'static str>,
    may_succeed: &[Role],
    is_so: impl Fn(Facts) -> bool,
) -> bool {
    let line = logins.entries.get(logins.ours).map(std::ptr::from_ref);
    ["success", "ignore"].iter().all(|silent| {
        let of_entry = |entry: &Entry| {
            let mut results = results(entry);
            let role = role(entry);
            if let Some(returned) = returned.filter(|_| line == Some(std::ptr::from_ref(entry))) {
                results = vec![returned];
            } else if role == Role::Silent && results.len() > 1 {
                results = match logins.same_for_all(entry) {
                    _ if logins.accepts_unasked(entry) => vec!["ignore"],
                    Some(same) => vec![same],
                    None if results.contains(silent) => vec![silent],
                    None => vec!["ignore"],
                };
            } else if role != Role::Silent && !may_succeed.contains(&role) {
                results.retain(|result| Verdict::of(result) != Verdict::Success);
            }
            results
        };
        logins.ends(&of_entry).into_iter().any(|end| end.is_success && is_so(end.facts))
    })
}

/// Whatever a module may return to an ordinary user.
pub(super) fn to_ordinary_users(logins: &Logins<'_>, entry: &Entry) -> Vec<&'static str> {
    logins.same_for_all(entry).map_or_else(|| results(entry), |same| vec![same])
}

/// Whether users with a set log in with the password and a code, and not with one response to all prompts.
pub(super) fn needs_password_and_code(logins: &Logins<'_>) -> bool {
    let is_code = |entry: &Entry| role(entry) == Role::Ours || modules::is_code(entry);
    let is_password = |entry: &Entry| role(entry) == Role::FirstFactor;
    let accepts = |is_wrong: &dyn Fn(&Entry) -> bool| {
        logins.can_succeed(&|entry| {
            let mut results = results(entry);
            results.retain(|result| match Verdict::of(result) {
                Verdict::Success => !is_wrong(entry),
                // Users with a set are not skipped.
                Verdict::Ignore => role(entry) != Role::Ours,
                Verdict::Failure => true,
            });
            results
        })
    };
    accepts(&|_| false) && !accepts(&is_code) && !accepts(&is_password)
}

/// Whether the module asks although the password was wrong, and nothing can make up for it.
pub(super) fn wastes_codes(logins: &Logins<'_>) -> bool {
    let is_to_blame = |entry: &Entry| role(entry) == Role::FirstFactor;
    let is_late = |step: &Step<Facts>| step.facts.first_failure;
    let arrivals = logins.arrivals(&|entry| blameless_but(entry, is_to_blame));
    arrivals.into_iter().filter(is_late).any(|step| !logins.can_succeed_from(step, &results))
}

/// Whether a code is used up before another prompt, after which the login can still fail.
pub(super) fn asks_first(logins: &Logins<'_>) -> bool {
    let (_, after) = logins.entries.split_at_checked(logins.ours).unwrap_or_default();
    let is_to_blame =
        |entry: &Entry| modules::asks(entry) && after.iter().any(|other| std::ptr::eq(other, entry));
    let ends = logins.ends(&|entry| match logins.same_for_all(entry) {
        Some(same) => vec![same],
        None => blameless_but(entry, is_to_blame),
    });
    ends.into_iter().any(|end| !end.is_success && end.facts.failure_after)
}

/// What a module may return where no other than some are to blame for a failure: those that can do otherwise spoil nothing.
fn blameless_but(entry: &Entry, is_to_blame: impl Fn(&Entry) -> bool) -> Vec<&'static str> {
    let mut results = results(entry);
    let spoils = |result: &str| {
        Verdict::of(result) == Verdict::Failure
            && matches!(entry.control.action(result), Action::Bad | Action::Die)
    };
    if !is_to_blame(entry) && !results.iter().all(|result| spoils(result)) {
        results.retain(|result| !spoils(result));
    }
    results
}

/// Whether what the module forwards can be accepted.
pub(super) fn accepts_forwarded(logins: &Logins<'_>) -> bool {
    let is_forwarded = |facts: Facts| facts.ours == Some(Verdict::Failure) && facts.success_after;
    logins.ends(&results).into_iter().any(|end| end.is_success && is_forwarded(end.facts))
}
