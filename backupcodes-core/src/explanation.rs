//! The three parts of an error about a file or a user.

use std::fmt;

/// An error in three parts, shown as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// A path, a user, or the user database.
    pub subject: String,
    /// What was found, and what was expected.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Explanation {
    pub(crate) fn new(
        subject: &impl ToString,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { subject: subject.to_string(), message: message.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, message, remedy } = self;
        write!(f, "{subject}: {message}; {remedy}")
    }
}
