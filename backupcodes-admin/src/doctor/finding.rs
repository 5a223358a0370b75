//! What `doctor` has found.

use std::fmt;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Somebody is locked out or let in who must not be, or will be.
    Error,
    /// Something does not work as it should, or will not in an emergency.
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
    /// How to mend it.
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
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, message, remedy, .. } = self;
        let line = format!("{subject}: {message}; {remedy}");
        // Names of files and what they hold are not ours.
        f.write_str(&line.replace(char::is_control, "?"))
    }
}
