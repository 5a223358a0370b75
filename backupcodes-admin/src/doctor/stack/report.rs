//! Findings about the same line of several stacks are one.

use std::collections::{BTreeMap, BTreeSet};

use pam_stack::Location;

use crate::doctor::finding::{Finding, Level};

/// A finding about a line, whatever stacks it is in.
pub(crate) struct LineFinding {
    pub(crate) level: Level,
    pub(crate) check: &'static str,
    pub(crate) message: String,
    pub(crate) remedy: String,
}

/// What was found so far.
#[derive(Default)]
pub(crate) struct Report(BTreeMap<(Location, &'static str), (LineFinding, BTreeSet<String>)>);

impl Report {
    /// Adds what is found in the stack of a service, or in a file, regardless of the services that include it.
    pub(crate) fn add(&mut self, service: Option<&str>, location: Location, finding: LineFinding) {
        let key = (location, finding.check);
        let (_, services) = self.0.entry(key).or_insert_with(|| (finding, BTreeSet::new()));
        services.extend(service.map(String::from));
    }

    pub(crate) fn findings(self) -> Vec<Finding> {
        self.0
            .into_iter()
            .map(|((location, _), (finding, services))| with_services(&location, finding, &services))
            .collect()
    }
}

fn with_services(location: &Location, finding: LineFinding, services: &BTreeSet<String>) -> Finding {
    let LineFinding { level, check, message, remedy } = finding;
    let names: Vec<&str> = services.iter().map(String::as_str).collect();
    let stacks = match names.as_slice() {
        [] => String::new(),
        [one] if location.file.rsplit('/').next() == Some(*one) => String::new(),
        [one] => format!(", in the stack of {one}"),
        several => format!(", in the stacks of {}", several.join(", ")),
    };
    Finding::new(level, check, location.to_string(), message + &stacks, remedy)
}
