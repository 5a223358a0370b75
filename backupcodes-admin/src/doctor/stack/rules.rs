//! What can happen in a stack that must not.

use pam_stack::{Action, Entry};

use crate::doctor::stack::modules::{self, Role, role};
use crate::doctor::stack::walk::{self, Answer, Walk};

/// Whatever a module may return.
pub(super) fn all(entry: &Entry) -> Vec<&'static str> {
    modules::results(entry)
}

/// A right code gets in though no other module that asks for something says yes.
pub(super) fn lets_in_by_code_alone(walk: &Walk<'_>) -> bool {
    gets_in(walk, &[Role::Ours], |facts| facts.ours == Some(Answer::Yes))
}

/// A right code gets in though no password was right, with another factor or without.
pub(super) fn lets_in_without_password(walk: &Walk<'_>) -> bool {
    gets_in(walk, &[Role::Ours, Role::OtherFactor], |facts| facts.ours == Some(Answer::Yes))
}

/// A right password gets in, and nobody asks for a code.
pub(super) fn lets_in_by_password_alone(walk: &Walk<'_>) -> bool {
    gets_in(walk, &[Role::FirstFactor], |facts| facts.ours.is_none() && facts.first_yes)
}

/// With which results of the module, none of them a yes, a login succeeds although no other code is right after it.
/// `or_password`: a password instead of it is in order.
pub(super) fn ignored(walk: &Walk<'_>, or_password: bool) -> Vec<&'static str> {
    let any = [Role::Ours, Role::FirstFactor, Role::OtherFactor];
    let is_other = |facts: walk::Facts| if or_password { facts.yes_behind } else { facts.code_behind };
    let is_so = |facts: walk::Facts| facts.ours == Some(Answer::No) && !is_other(facts) && !facts.has_no_set;
    if !gets_in(walk, &any, is_so) {
        return Vec::new();
    }
    let is_ignored = |result: &&'static str| gets_in_with(walk, Some(*result), &any, is_so);
    modules::failures().filter(is_ignored).collect()
}

/// Whether a login succeeds in which only modules of these roles may say yes, of those that ask for something. Modules that ask
/// for nothing may make exceptions, as for a group: what happens only where they all say yes, or none does, is meant so. One that
/// says the same of everybody is none, and who gets in before all else has no part in this.
fn gets_in(walk: &Walk<'_>, may_say_yes: &[Role], is_so: impl Fn(walk::Facts) -> bool) -> bool {
    gets_in_with(walk, None, may_say_yes, is_so)
}

/// The same where the line in question says but this.
fn gets_in_with(
    walk: &Walk<'_>,
    said: Option<&'static str>,
    may_say_yes: &[Role],
    is_so: impl Fn(walk::Facts) -> bool,
) -> bool {
    let line = walk.entries.get(walk.ours).map(std::ptr::from_ref);
    ["success", "ignore"].iter().all(|silent| {
        let results = |entry: &Entry| {
            let mut results = all(entry);
            let role = role(entry);
            if let Some(said) = said.filter(|_| line == Some(std::ptr::from_ref(entry))) {
                results = vec![said];
            } else if role == Role::Silent && results.len() > 1 {
                results = match walk.alike(entry) {
                    _ if walk.lets_in_unasked(entry) => vec!["ignore"],
                    Some(said) => vec![said],
                    None if results.contains(silent) => vec![silent],
                    None => vec!["ignore"],
                };
            } else if role != Role::Silent && !may_say_yes.contains(&role) {
                results.retain(|result| Answer::of(result) != Answer::Yes);
            }
            results
        };
        walk.ends(&results).into_iter().any(|end| end.is_success && is_so(end.facts))
    })
}

/// Whether a line lets in whomever it is true for, before anybody is asked for anything.
pub(super) fn lets_in_unasked(walk: &Walk<'_>, line: &Entry) -> bool {
    if role(line) != Role::Silent || !walk::leads_past(line, "success") {
        return false;
    }
    let others_say_no = |entry: &Entry| {
        let mut results = all(entry);
        if std::ptr::eq(entry, line) {
            results.retain(|result| Answer::of(result) == Answer::Yes);
        } else if role(entry) != Role::Silent || walk::leads_past(entry, "success") {
            results.retain(|result| Answer::of(result) != Answer::Yes);
        }
        results
    };
    let mut ends = walk.ends(&others_say_no).into_iter().filter(|end| end.is_success);
    ends.any(|end| end.facts.ours.is_none() && !end.facts.first_no)
}

/// Whatever a module may return to an ordinary user.
pub(super) fn to_ordinary_users(walk: &Walk<'_>, entry: &Entry) -> Vec<&'static str> {
    walk.alike(entry).map_or_else(|| all(entry), |said| vec![said])
}

/// Whether who has a set gets in with the password and a code, and not with one answer to all that is asked.
pub(super) fn needs_password_and_code(walk: &Walk<'_>) -> bool {
    let is_code = |entry: &Entry| role(entry) == Role::Ours || modules::is_other_code(entry);
    let is_password = |entry: &Entry| role(entry) == Role::FirstFactor;
    let gets_in = |is_wrong: &dyn Fn(&Entry) -> bool| {
        let results = |entry: &Entry| {
            let mut results = all(entry);
            results.retain(|result| match Answer::of(result) {
                Answer::Yes => !is_wrong(entry),
                // Who has a set is not passed over.
                Answer::Nothing => role(entry) != Role::Ours,
                Answer::No => true,
            });
            results
        };
        walk.can_succeed(walk::Step::default(), &results)
    };
    gets_in(&|_| false) && !gets_in(&is_code) && !gets_in(&is_password)
}

/// Whether the module is asked although the password was wrong, and nothing can make up for it.
pub(super) fn burns(walk: &Walk<'_>) -> bool {
    let is_to_blame = |entry: &Entry| role(entry) == Role::FirstFactor;
    let is_late = |step: &walk::Step| step.facts.first_no;
    let arrivals = walk.arrivals(&|entry| blameless_but(entry, is_to_blame));
    arrivals.into_iter().filter(is_late).any(|step| !walk.can_succeed(step, &all))
}

/// Whether a code is used up before another answer is asked for, with which the login can still fail.
pub(super) fn asks_first(walk: &Walk<'_>) -> bool {
    let (_, behind) = walk.entries.split_at_checked(walk.ours).unwrap_or_default();
    let is_to_blame =
        |entry: &Entry| modules::asks(entry) && behind.iter().any(|other| std::ptr::eq(other, entry));
    let ends = walk.ends(&|entry| match walk.alike(entry) {
        Some(said) => vec![said],
        None => blameless_but(entry, is_to_blame),
    });
    ends.into_iter().any(|end| !end.is_success && end.facts.no_behind)
}

/// What a module may return where no other than some are to blame for a failure: those that can do otherwise spoil nothing.
fn blameless_but(entry: &Entry, is_to_blame: impl Fn(&Entry) -> bool) -> Vec<&'static str> {
    let mut results = all(entry);
    let spoils = |result: &str| {
        Answer::of(result) == Answer::No && matches!(entry.control.action(result), Action::Bad | Action::Die)
    };
    if !is_to_blame(entry) && !results.iter().all(|result| spoils(result)) {
        results.retain(|result| !spoils(result));
    }
    results
}

/// Whether what the module hands on can let somebody in.
pub(super) fn hands_on(walk: &Walk<'_>) -> bool {
    let is_handed_on = |facts: walk::Facts| facts.ours == Some(Answer::No) && facts.yes_behind;
    walk.ends(&all).into_iter().any(|end| end.is_success && is_handed_on(end.facts))
}
