//! The stacks of modules that libpam makes of the files in `/etc/pam.d`, and the ways through them.
//!
//! Read as Linux-PAM 1.5 to 1.7 reads them, with all includes followed and lines that a backslash joins taken as one. Where these
//! versions differ (a blank line after a backslash), as the one in which more is lost.
//!
//! ```
//! # use std::path::Path;
//! use pam_stack::Files;
//!
//! if let Some(stack) = Files::below(Path::new("/")).stack("login") {
//!     for entry in &stack.entries {
//!         println!("{}: {:?} {:?}", entry.place, entry.module(), entry.arguments());
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

/// A line of a file. Shown without the root that the file was looked for in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its path.
    pub file: String,
    /// From 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What libpam goes through for `pam_authenticate`, or `pam_open_session`.
#[derive(Debug, Default)]
pub struct Stack {
    /// In libpam's order.
    pub entries: Vec<Entry>,
    /// Lines that include what does not exist, or too deep, with what they name.
    pub missing: Vec<(Place, String)>,
    /// Lines of its files that are not what they look like.
    pub faults: Vec<(Place, Fault)>,
    /// libpam cannot read it to the end, and then takes nothing of it: every login fails.
    pub is_refused: bool,
}

/// What libpam goes through in one step.
#[derive(Debug)]
pub struct Entry {
    /// Where it stands.
    pub place: Place,
    /// How many substacks are around it.
    pub level: usize,
    /// What a result of it leads to.
    pub control: Control,
    /// What it is.
    pub kind: Kind,
}

/// What a line makes libpam do.
#[derive(Debug)]
pub enum Kind {
    /// Call a module.
    Module {
        /// As the line has it: mostly a file name alone.
        path: String,
        /// Its options.
        arguments: Vec<String>,
    },
    /// A line that libpam does not understand, or an include that it cannot follow.
    MustFail,
    /// Stands in front of the lines of a substack: a jump counts it, and them with it, as one.
    Substack,
}

impl Entry {
    /// The file name of its module.
    #[must_use]
    pub fn module(&self) -> Option<&str> {
        match &self.kind {
            Kind::Module { path, .. } => Some(path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name)),
            Kind::MustFail | Kind::Substack => None,
        }
    }

    /// The options of its module.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        if let Kind::Module { arguments, .. } = &self.kind { arguments } else { &[] }
    }
}

#[cfg(test)]
mod tests;
