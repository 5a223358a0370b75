//! Whether a history of one code is possible where each code is spent at most once: by the checker of Wing and Gong, with the
//! improvements of Lowe, Horn and Kroenig.

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The code was unspent, and is spent by this call.
    Accepted,
    /// The code was not unspent.
    Refused,
    /// The call may spend the code, also later than its reply.
    Unknown,
    /// The call changed nothing, and tells nothing.
    Nothing,
    /// A reader saw the code in this state.
    Seen { spent: bool },
}

/// A call with its place among the beginnings and the ends of all calls.
#[derive(Clone, Debug)]
pub struct Call {
    pub begin: u64,
    pub end: u64,
    pub outcome: Outcome,
}

/// Whether there is an order of the calls, in which each has its effect between its beginning and its end, where a code is spent once
/// and all replies are right.
pub fn is_possible(calls: &[Call]) -> bool {
    let mut events = Vec::new();
    // Each call as a process of its own: one without a reply goes on while its client makes the next.
    for (process, Call { begin, end, outcome }) in calls.iter().enumerate() {
        let end = match outcome {
            Outcome::Nothing => continue,
            // It may take effect at any time. If it never does, that is as if it did behind all others.
            Outcome::Unknown => u64::MAX,
            _ => *end,
        };
        events.push((*begin, process, Action::Call(*outcome)));
        events.push((end, process, Action::Response(*outcome)));
    }
    events.sort_by_key(|&(time, ..)| time);
    let events: Vec<_> = events.into_iter().map(|(_, process, action)| (process, action)).collect();
    events.is_empty() || WGLChecker::<Code>::is_linearizable(History::from_actions(events))
}

/// A code, whose state is whether it is spent.
struct Code;

impl Specification for Code {
    type State = bool;
    type Operation = Outcome;

    fn init() -> bool {
        false
    }

    fn apply(outcome: &Outcome, &is_spent: &bool) -> (bool, bool) {
        match *outcome {
            Outcome::Accepted => (!is_spent, true),
            Outcome::Refused => (is_spent, is_spent),
            Outcome::Unknown => (true, true),
            Outcome::Nothing => (true, is_spent),
            Outcome::Seen { spent } => (spent == is_spent, is_spent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{Accepted, Nothing, Refused, Seen, Unknown};
    use super::*;

    const UNSPENT: Outcome = Seen { spent: false };
    const SPENT: Outcome = Seen { spent: true };

    /// One call after the other.
    fn in_turn(outcomes: &[Outcome]) -> bool {
        let call =
            |(place, &outcome): (u64, &Outcome)| Call { begin: 2 * place, end: 2 * place + 1, outcome };
        is_possible(&(0..).zip(outcomes).map(call).collect::<Vec<_>>())
    }

    /// All at the same time.
    fn at_once(outcomes: &[Outcome]) -> bool {
        let call = |(place, &outcome): (u64, &Outcome)| Call { begin: place, end: 100 + place, outcome };
        is_possible(&(0..).zip(outcomes).map(call).collect::<Vec<_>>())
    }

    #[test]
    fn possible_histories_are_possible() {
        for history in [
            &[][..],
            &[UNSPENT, Accepted, Refused, Refused, SPENT],
            &[Nothing, UNSPENT, Nothing, Accepted],
            // One that is unknown may have happened, may happen later, or never.
            &[Unknown, Refused, SPENT],
            &[Unknown, UNSPENT, Refused, SPENT],
            &[Unknown, Unknown, Accepted, Refused],
            &[Unknown, UNSPENT],
        ] {
            assert!(in_turn(history), "{history:?}");
        }
        assert!(at_once(&[Refused, Refused, Accepted, SPENT, UNSPENT]));
    }

    #[test]
    fn planted_violations_are_found() {
        for history in [
            &[Accepted, Accepted][..],
            &[Accepted, Unknown, Accepted],
            &[Unknown, Refused, Accepted],
            // A code that was refused as spent is spent.
            &[Refused, Accepted],
            &[Refused, UNSPENT],
            &[Accepted, UNSPENT],
            &[Accepted, Refused, UNSPENT],
            &[UNSPENT, SPENT],
            // What was said to change nothing has spent the code.
            &[Nothing, Refused],
            &[Nothing, SPENT],
        ] {
            assert!(!in_turn(history), "{history:?}");
        }
        for history in
            [&[Accepted, Accepted][..], &[Refused, Refused], &[Accepted, Refused, Unknown, Accepted]]
        {
            assert!(!at_once(history), "{history:?}");
        }
    }
}
