//! Who logs in, by which service and from where, as the log and the mark tell it.

use crate::throttle::{Key, LOCAL};

/// Where an attempt comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The account's name. That of a user who does not exist is left out: people type passwords where a name is asked.
    pub user: Option<String>,
    /// The PAM service.
    pub service: String,
    /// The remote host; `None` is this one.
    pub host: Option<String>,
    /// The terminal.
    pub tty: String,
    /// The service that failures are counted by, where that is another one.
    pub counted_as: Option<String>,
}

impl Place {
    /// The remote host, or `local`, as it is shown. A remote host that calls itself so is shown in another way.
    #[must_use]
    pub fn source(&self) -> &str {
        match self.host.as_deref() {
            None => LOCAL,
            Some(LOCAL) => "?local",
            Some(host) => host,
        }
    }

    /// What failures from here are counted by.
    #[must_use]
    pub fn key(&self) -> Key<'_> {
        let service = self.counted_as.as_ref().unwrap_or(&self.service);
        Key { user: self.user.as_deref(), service, source: self.host.as_deref() }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { user, service, tty, .. } = self;
        let fields = [
            ("user=", user.as_deref()),
            (" service=", Some(service)),
            (" source=", Some(self.source())),
            (" tty=", Some(tty)),
        ];
        fields.into_iter().try_for_each(|(key, value)| match value {
            Some(value) => write!(f, "{key}{}", plain(value)),
            None => write!(f, "{key}(unknown)"),
        })
    }
}

/// A value that comes from outside, so that it can neither end a line of the log nor pass for another field.
fn plain(value: &str) -> String {
    let plain = |c: char| if c.is_control() || c.is_whitespace() { '?' } else { c };
    value.chars().map(plain).collect()
}
