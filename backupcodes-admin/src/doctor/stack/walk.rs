//! The ways through a stack, as libpam's dispatcher goes them.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use pam_stack::{Action, Entry, Kind};

use crate::doctor::stack::alike::{Host, said_of_all};
use crate::doctor::stack::modules::{self, Role, role};
use crate::doctor::stack::rules;

/// What libpam thinks so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Mood {
    #[default]
    Undecided,
    Yes,
    /// It goes on as with a yes, but the result of a module that has failed is the one that counts.
    Tainted,
    No,
}

/// What has happened on the way. All that rules ask for, and no more: ways with the same facts are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Facts {
    /// What the line in question did.
    pub(crate) ours: Option<Answer>,
    /// Another factor said yes after it.
    pub(crate) yes_behind: bool,
    /// The same, and it was no password in the place of the code.
    pub(crate) code_behind: bool,
    /// A first factor said yes, wherever it stands.
    pub(crate) first_yes: bool,
    /// A first factor said no.
    pub(crate) first_no: bool,
    /// A module after it, which had not taken a right answer before, said no to its own after the line's yes.
    pub(crate) no_behind: bool,
    /// A password was right before it.
    pub(crate) password_yes: bool,
    /// Another line of ours passed the user over: there is no set, so that nothing it was refused for was a code.
    pub(crate) has_no_set: bool,
}

/// Whether a result ends the stack with a yes, or jumps.
pub(crate) fn leads_past(entry: &Entry, result: &str) -> bool {
    matches!(entry.control.action(result), Action::Done | Action::Jump(_))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Yes,
    No,
    Nothing,
}

impl Answer {
    pub(crate) fn of(result: &str) -> Self {
        match result {
            "success" => Self::Yes,
            "ignore" => Self::Nothing,
            _ => Self::No,
        }
    }
}

/// A place on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Step {
    at: usize,
    mood: Mood,
    /// The level of the line before.
    level: usize,
    /// What libpam thought when it came into the substacks around, by their level.
    entered: Vec<Mood>,
    pub(crate) facts: Facts,
}

/// How a way ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct End {
    pub(crate) is_success: bool,
    pub(crate) facts: Facts,
}

/// A stack, and the line in it that is asked about.
#[derive(Clone)]
pub(crate) struct Walk<'a> {
    pub(crate) entries: &'a [Entry],
    pub(crate) ours: usize,
    /// Lines that lead all ordinary users of the host the same way, past others, with the result by which they do.
    alike: HashMap<*const Entry, &'static str>,
    /// Lines that let in unasked.
    unasked: HashSet<*const Entry>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(root: &Path, service: &str, entries: &'a [Entry], ours: usize) -> Self {
        let host = Host::of(root, service);
        let leading = |entry: &'a Entry| {
            let said = said_of_all(root, &host, entry)?;
            leads_past(entry, said).then_some((std::ptr::from_ref(entry), said))
        };
        let alike = entries.iter().filter_map(leading).collect();
        let mut walk = Self { entries, ours, alike, unasked: HashSet::new() };
        let unasked = entries.iter().filter(|entry| rules::lets_in_unasked(&walk, entry));
        walk.unasked = unasked.map(std::ptr::from_ref).collect();
        walk
    }

    /// Whether a line lets in whomever it is true for, before anybody is asked for anything.
    pub(crate) fn lets_in_unasked(&self, entry: &Entry) -> bool {
        self.unasked.contains(&std::ptr::from_ref(entry))
    }

    /// What a line says of all ordinary users, if that leads them past others.
    pub(crate) fn alike(&self, entry: &Entry) -> Option<&'static str> {
        self.alike.get(&std::ptr::from_ref(entry)).copied()
    }

    /// Where something is so because lines lead all ordinary users past others: such a line.
    pub(crate) fn led_by(&self, is_so: impl Fn(&Self) -> bool) -> Option<&'a Entry> {
        // A stack with more of them than this is a puzzle: the first one is as good as any.
        const TRIED: usize = 8;
        let mut leading = self.entries.iter().filter(|entry| self.alike(entry).is_some());
        let without = |is_kept: &dyn Fn(*const Entry) -> bool| {
            let mut other = self.clone();
            other.alike.retain(|entry, _| is_kept(*entry));
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
    pub(crate) fn ends(&self, results: &dyn Fn(&Entry) -> Vec<&'static str>) -> HashSet<End> {
        self.go(Step::default(), results).0
    }

    /// Whether a success is possible from here.
    pub(crate) fn can_succeed(&self, from: Step, results: &dyn Fn(&Entry) -> Vec<&'static str>) -> bool {
        self.go(from, results).0.iter().any(|end| end.is_success)
    }

    /// All states in which libpam comes to the line in question.
    pub(crate) fn arrivals(&self, results: &dyn Fn(&Entry) -> Vec<&'static str>) -> Vec<Step> {
        self.go(Step::default(), results).1.into_iter().filter(|step| step.at == self.ours).collect()
    }

    fn go(&self, from: Step, results: &dyn Fn(&Entry) -> Vec<&'static str>) -> (HashSet<End>, HashSet<Step>) {
        let mut ends = HashSet::new();
        let mut seen = HashSet::new();
        let mut open = vec![from];
        while let Some(step) = open.pop() {
            let Some(entry) = self.entries.get(step.at) else {
                ends.insert(End { is_success: step.mood == Mood::Yes, facts: step.facts });
                continue;
            };
            if seen.insert(step.clone()) {
                open.extend(self.nexts(step, entry, results));
            }
        }
        (ends, seen)
    }

    fn nexts(
        &self,
        mut step: Step,
        entry: &Entry,
        results: &dyn Fn(&Entry) -> Vec<&'static str>,
    ) -> Vec<Step> {
        if step.level < entry.level {
            step.entered.resize(entry.level, Mood::Undecided);
            step.entered.push(step.mood);
        }
        step.level = entry.level;
        let results = match entry.kind {
            Kind::Module { .. } => results(entry),
            Kind::MustFail => vec!["perm_denied"],
            Kind::Substack => {
                step.at = step.at.saturating_add(1);
                return vec![step];
            }
        };
        results.into_iter().map(|result| self.next(step.clone(), entry, result)).collect()
    }

    fn next(&self, mut step: Step, entry: &Entry, result: &str) -> Step {
        step.facts = self.facts_after(step.facts, step.at, entry, Answer::of(result));
        let action = entry.control.action(result);
        let mut is_over = false;
        match action {
            Action::Ignore => {}
            Action::Ok | Action::Done => {
                if matches!(step.mood, Mood::Undecided | Mood::Yes) {
                    step.mood = if result == "success" { Mood::Yes } else { Mood::Tainted };
                }
                is_over = action == Action::Done && step.mood != Mood::No;
            }
            Action::Bad | Action::Die => {
                step.mood = Mood::No;
                is_over = action == Action::Die;
            }
            Action::Reset => step.mood = step.entered.get(entry.level).copied().unwrap_or_default(),
            Action::Jump(lines) => {
                let (at, is_short) = self.jump(step.at, entry.level, lines);
                step.at = at;
                if is_short {
                    step.mood = Mood::No;
                }
            }
        }
        if is_over {
            // The stack, or the substack that the line stands in.
            while self.level_behind(step.at).is_some_and(|level| level >= entry.level) {
                step.at = step.at.saturating_add(1);
            }
        }
        step.at = step.at.saturating_add(1);
        step
    }

    fn facts_after(&self, facts: Facts, at: usize, entry: &Entry, answer: Answer) -> Facts {
        let role = role(entry);
        let is_first = role == Role::FirstFactor;
        let is_ours = at == self.ours;
        let is_yes = answer == Answer::Yes;
        let is_yes_behind = at > self.ours && is_yes && role != Role::Silent;
        let is_behind = facts.ours == Some(Answer::Yes);
        let has_answer = facts.password_yes && modules::takes_answer(entry);
        Facts {
            ours: if is_ours { Some(answer) } else { facts.ours },
            yes_behind: facts.yes_behind || is_yes_behind,
            // Of two passwords the second is another factor.
            code_behind: facts.code_behind || is_yes_behind && (!is_first || facts.first_yes),
            first_yes: facts.first_yes || is_first && is_yes,
            first_no: facts.first_no || is_first && answer == Answer::No,
            no_behind: facts.no_behind
                || is_behind && answer == Answer::No && modules::asks(entry) && !has_answer,
            password_yes: facts.password_yes
                || facts.ours.is_none() && is_yes && is_first && modules::may_leave_answer(entry),
            has_no_set: facts.has_no_set || role == Role::Ours && !is_ours && answer == Answer::Nothing,
        }
    }

    /// The last line that is jumped over, and whether there were too few. A substack is jumped over as one.
    fn jump(&self, mut at: usize, level: usize, mut lines: usize) -> (usize, bool) {
        while lines > 0 && self.level_behind(at).is_some_and(|behind| behind >= level) {
            loop {
                at = at.saturating_add(1);
                if self.level_behind(at).is_none_or(|behind| behind <= level) {
                    break;
                }
            }
            lines = lines.saturating_sub(1);
        }
        (at, lines > 0)
    }

    fn level_behind(&self, at: usize) -> Option<usize> {
        self.entries.get(at.saturating_add(1)).map(|entry| entry.level)
    }
}
