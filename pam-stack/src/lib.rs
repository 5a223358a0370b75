//! The stacks of modules that libpam builds from the files in `/etc/pam.d`, and the paths through them.
//!
//! Files are read as Linux-PAM 1.5 to 1.7 reads them, with all includes and with lines joined by backslashes. Where these versions
//! differ (a blank line after a backslash), the one that loses more lines counts.
//!
//! ```
//! # use std::path::Path;
//! use pam_stack::Files;
//!
//! if let Some(stack) = Files::below(Path::new("/")).stack("login") {
//!     for entry in &stack.entries {
//!         println!("{}: {:?} {:?}", entry.location, entry.module(), entry.arguments());
//!     }
//! }
//! ```
#![forbid(unsafe_code)]

mod control;
pub mod everyone;
mod files;
mod line;
pub mod modules;
pub mod walk;

use std::fmt;

pub use control::{Action, Control, RESULTS};
pub use files::Files;
pub use line::Fault;

/// A line of a file, shown without the root directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Its path.
    pub file: String,
    /// From 1.
    pub line: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The entries of `pam_authenticate`, `pam_acct_mgmt` or `pam_open_session` for a service.
#[derive(Debug, Default)]
pub struct Stack {
    /// In libpam's order.
    pub entries: Vec<Entry>,
    /// Lines with an include that does not exist or is too deep, with its name.
    pub missing: Vec<(Location, String)>,
    /// Lines of its files that libpam reads differently than a person.
    pub faults: Vec<(Location, Fault)>,
    /// libpam cannot read the stack to its end, and rejects it: every login fails.
    pub is_refused: bool,
}

/// One step of libpam.
#[derive(Debug)]
pub struct Entry {
    /// Its line.
    pub location: Location,
    /// The number of substacks around it.
    pub level: usize,
    /// The action for each result.
    pub control: Control,
    /// What libpam does.
    pub kind: Kind,
}

/// What libpam does for a line.
#[derive(Debug)]
pub enum Kind {
    /// Call a module.
    Module {
        /// The path in the line, mostly only a file name.
        path: String,
        /// Its options.
        arguments: Vec<String>,
    },
    /// Fail: libpam does not understand the line, or cannot follow the include.
    MustFail,
    /// The beginning of a substack: a jump counts the whole substack as one.
    Substack,
}

impl Entry {
    /// The file name of the module.
    #[must_use]
    pub fn module(&self) -> Option<&str> {
        match &self.kind {
            Kind::Module { path, .. } => Some(path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name)),
            Kind::MustFail | Kind::Substack => None,
        }
    }

    /// The options of the module.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        if let Kind::Module { arguments, .. } = &self.kind { arguments } else { &[] }
    }
}

#[cfg(test)]
mod tests;
