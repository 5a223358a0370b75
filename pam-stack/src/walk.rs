//! The paths through a stack, as libpam's dispatcher takes them.

use std::collections::HashSet;
use std::hash::Hash;

use crate::{Action, Entry, Kind};

/// The result so far (libpam's `impression`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Impression {
    #[default]
    Undefined,
    Positive,
    /// libpam goes on as if positive, but returns the result of a failed module.
    Tainted,
    Negative,
}

/// The meaning of a module's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// `success`
    Success,
    /// Any other result.
    Failure,
    /// `ignore`
    Ignore,
}

impl Verdict {
    /// The verdict of a result, by its name in a control.
    #[must_use]
    pub fn of(result: &str) -> Self {
        match result {
            "success" => Self::Success,
            "ignore" => Self::Ignore,
            _ => Self::Failure,
        }
    }
}

/// A position on a path. `F` is what the caller records about the path: paths with equal facts are merged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Step<F> {
    /// The index of the next entry.
    pub at: usize,
    /// The caller's facts about the path.
    pub facts: F,
    impression: Impression,
    /// The level of the previous entry.
    level: usize,
    /// The impressions at the start of the enclosing substacks, by level.
    entered: Vec<Impression>,
}

/// The end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct End<F> {
    /// Whether the login succeeds.
    pub is_success: bool,
    /// The caller's facts about the path.
    pub facts: F,
}

/// All reachable positions.
pub struct Reached<F> {
    /// All ends.
    pub ends: HashSet<End<F>>,
    /// All positions before an end.
    pub steps: HashSet<Step<F>>,
}

/// Takes all paths from a step. `results` returns the possible results of a module, and `observe` the facts after the entry at an
/// index has a verdict.
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
    /// Enters an entry of this level.
    fn enter(&mut self, level: usize) {
        if self.level < level {
            self.entered.resize(level, Impression::Undefined);
            self.entered.push(self.impression);
        }
        self.level = level;
    }

    /// The step after this result of an entry.
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
            // The end of the stack, or of the entry's substack.
            while level_after(entries, self.at).is_some_and(|level| level >= entry.level) {
                self.at = self.at.saturating_add(1);
            }
        }
        self.at = self.at.saturating_add(1);
        self
    }
}

/// The last entry that a jump skips, and whether there are too few. A substack counts as one.
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
