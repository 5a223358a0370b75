//! Findings about the same line of several stacks are one.

use std::collections::{BTreeMap, BTreeSet};

use pam_stack::Place;

use crate::doctor::finding::{Finding, Level};

/// A finding about a line, whatever stacks it is in.
pub(crate) struct Draft {
    pub(crate) level: Level,
    pub(crate) check: &'static str,
    pub(crate) message: String,
    pub(crate) remedy: String,
}

/// What was found so far.
#[derive(Default)]
pub(crate) struct Report(BTreeMap<(Place, &'static str), (Draft, BTreeSet<String>)>);

impl Report {
    /// Adds what is found in the stack of a service, or in a file whoever includes it.
    pub(crate) fn add(&mut self, service: Option<&str>, place: Place, draft: Draft) {
        let key = (place, draft.check);
        let (_, services) = self.0.entry(key).or_insert_with(|| (draft, BTreeSet::new()));
        services.extend(service.map(String::from));
    }

    pub(crate) fn findings(self) -> Vec<Finding> {
        self.0.into_iter().map(|((place, _), (draft, services))| finding(&place, draft, &services)).collect()
    }
}

fn finding(place: &Place, draft: Draft, services: &BTreeSet<String>) -> Finding {
    let Draft { level, check, message, remedy } = draft;
    let names: Vec<&str> = services.iter().map(String::as_str).collect();
    let stacks = match names.as_slice() {
        [] => String::new(),
        [one] if place.file.rsplit('/').next() == Some(*one) => String::new(),
        [one] => format!(", in the stack of {one}"),
        several => format!(", in the stacks of {}", several.join(", ")),
    };
    Finding::new(level, check, place.to_string(), message + &stacks, remedy)
}
