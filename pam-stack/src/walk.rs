//! The ways through a stack, as libpam's dispatcher goes them.

use std::collections::HashSet;
use std::hash::Hash;

use crate::{Action, Entry, Kind};

/// What libpam thinks so far (its `impression`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Impression {
    #[default]
    Undefined,
    Positive,
    /// It goes on as if positive, but the result of a module that has failed is the one that counts.
    Tainted,
    Negative,
}

/// What the result of a module says of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// `success`
    Success,
    /// Any result but the two others.
    Failure,
    /// `ignore`
    Ignore,
}

impl Verdict {
    /// That of a result, by its name in a control.
    #[must_use]
    pub fn of(result: &str) -> Self {
        match result {
            "success" => Self::Success,
            "ignore" => Self::Ignore,
            _ => Self::Failure,
        }
    }
}

/// A position on a way. `F` is what the caller wants to know of what came before: ways with the same facts are one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Step<F> {
    /// The line that comes next, counted from 0.
    pub at: usize,
    /// What has happened on the way.
    pub facts: F,
    impression: Impression,
    /// The level of the line before.
    level: usize,
    /// The impression with which libpam came into the substacks around, by their level.
    entered: Vec<Impression>,
}

/// How a way ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct End<F> {
    /// Whether the login succeeds.
    pub is_success: bool,
    /// What has happened on the way.
    pub facts: F,
}

/// All that libpam can come to.
pub struct Reached<F> {
    /// Each end.
    pub ends: HashSet<End<F>>,
    /// Each position before an end.
    pub steps: HashSet<Step<F>>,
}

/// Goes all ways from a step on. `results` says what a module may return, and `observe` what the facts are after the line at a
/// number has led to a verdict.
pub fn walk<F: Copy + Eq + Hash>(
    entries: &[Entry],
    from: Step<F>,
    results: &dyn Fn(&Entry) -> Vec<&'static str>,
    observe: &dyn Fn(F, usize, Verdict) -> F,
) -> Reached<F> {
    let mut reached = Reached { ends: HashSet::new(), steps: HashSet::new() };
    let mut open = vec![from];
    while let Some(mut step) = open.pop() {
        let Some(entry) = entries.get(step.at) else {
            let is_success = step.impression == Impression::Positive;
            reached.ends.insert(End { is_success, facts: step.facts });
            continue;
        };
        if !reached.steps.insert(step.clone()) {
            continue;
        }
        step.enter(entry.level);
        let results = match entry.kind {
            Kind::Module { .. } => results(entry),
            Kind::MustFail => vec!["perm_denied"],
            Kind::Substack => {
                open.push(Step { at: step.at.saturating_add(1), ..step });
                continue;
            }
        };
        open.extend(results.into_iter().map(|result| {
            let facts = observe(step.facts, step.at, Verdict::of(result));
            Step { facts, ..step.clone() }.after(entries, entry, result)
        }));
    }
    reached
}

impl<F> Step<F> {
    /// Comes to a line of this level.
    fn enter(&mut self, level: usize) {
        if self.level < level {
            self.entered.resize(level, Impression::Undefined);
            self.entered.push(self.impression);
        }
        self.level = level;
    }

    /// After the result of this line.
    fn after(mut self, entries: &[Entry], entry: &Entry, result: &str) -> Self {
        use Impression::{Negative, Positive, Tainted, Undefined};
        let action = entry.control.action(result);
        let mut is_over = false;
        match action {
            Action::Ignore => {}
            Action::Ok | Action::Done => {
                if matches!(self.impression, Undefined | Positive) {
                    self.impression = if result == "success" { Positive } else { Tainted };
                }
                is_over = action == Action::Done && self.impression != Negative;
            }
            Action::Bad | Action::Die => {
                self.impression = Negative;
                is_over = action == Action::Die;
            }
            Action::Reset => self.impression = self.entered.get(entry.level).copied().unwrap_or_default(),
            Action::Jump(lines) => {
                let (at, is_short) = jump(entries, self.at, entry.level, lines);
                self.at = at;
                if is_short {
                    self.impression = Negative;
                }
            }
        }
        if is_over {
            // The stack, or the substack that the line stands in.
            while level_after(entries, self.at).is_some_and(|level| level >= entry.level) {
                self.at = self.at.saturating_add(1);
            }
        }
        self.at = self.at.saturating_add(1);
        self
    }
}

/// The last line that is jumped over, and whether there were too few. A substack is jumped over as one.
fn jump(entries: &[Entry], mut at: usize, level: usize, mut lines: usize) -> (usize, bool) {
    while lines > 0 && level_after(entries, at).is_some_and(|next| next >= level) {
        loop {
            at = at.saturating_add(1);
            if level_after(entries, at).is_none_or(|next| next <= level) {
                break;
            }
        }
        lines = lines.saturating_sub(1);
    }
    (at, lines > 0)
}

fn level_after(entries: &[Entry], at: usize) -> Option<usize> {
    entries.get(at.saturating_add(1)).map(|entry| entry.level)
}
