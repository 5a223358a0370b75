//! What `doctor` has found.

use std::fmt;

use backupcodes_core::explanation::Explanation;
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// A fault: users are locked out, or accepted without a factor that they should need, or may be at any time.
    Error,
    /// It may be intended, such as an account without codes, or matters only when something else happens: the disk is full, a password
    /// is mistyped, a code is stolen.
    Warning,
    /// Worth knowing.
    Note,
}

/// One thing that is wrong, or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// Which check found it: the same word for the same fault on every host, for programs.
    pub(crate) check: &'static str,
    /// What it is about: a path, a user or a service.
    pub(crate) subject: String,
    /// What was found, and what was expected.
    pub(crate) message: String,
    /// How to fix it.
    pub(crate) remedy: String,
}

impl Finding {
    pub(crate) fn new(
        level: Level,
        check: &'static str,
        subject: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let [subject, message, remedy] = [subject.into(), message.into(), remedy.into()];
        Self { level, check, subject, message, remedy }
    }

    /// Of an error.
    pub(crate) fn explained(level: Level, check: &'static str, explanation: Explanation) -> Self {
        let Explanation { subject, message, remedy } = explanation;
        Self { level, check, subject, message, remedy }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, message, remedy, .. } = self;
        write!(f, "{subject}: {message}")?;
        if remedy.is_empty() { Ok(()) } else { write!(f, "; {remedy}") }
    }
}

/// The first names, so that the line stays readable.
pub(super) fn some_of(names: &[String]) -> String {
    const MOST: usize = 5;
    let first: Vec<_> = names.iter().take(MOST).map(String::as_str).collect();
    match names.len().saturating_sub(MOST) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
