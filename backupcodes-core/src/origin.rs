//! The origin of a login: user, service and source, as the log and the spent record show them.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::throttle::{Counter, LOCAL};
use crate::visible::is_hidden;

/// The origin of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The account's name, or `None` for an unknown user: people type passwords at the name prompt.
    pub user: Option<String>,
    /// The PAM service.
    pub service: String,
    /// The remote host, from [`normalized_host`]; `None` is this machine.
    pub host: Option<String>,
    /// The terminal.
    pub tty: String,
    /// The service under which failures are counted, if it differs.
    pub counted_as: Option<String>,
}

/// The service under which failures of an unknown user are counted. Most names get separate counters, as users do, so a
/// delay for one name reveals nothing about another. The name itself may be a password, and is not kept.
#[must_use]
pub fn counter_of_unknown_user(service: &str, typed: &str) -> String {
    let bucket = typed.bytes().fold(0_u16, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("{service}~{bucket:04x}")
}

impl Origin {
    /// The remote host, or `local`. A remote host that calls itself `local` is shown as `?local`.
    #[must_use]
    pub fn source(&self) -> &str {
        match self.host.as_deref() {
            None => LOCAL,
            Some(LOCAL) => "?local",
            Some(host) => host,
        }
    }

    /// The counter for failures from this origin.
    #[must_use]
    pub fn counter(&self) -> Counter<'_> {
        let service = self.counted_as.as_ref().unwrap_or(&self.service);
        Counter { user: self.user.as_deref(), service, source: self.host.as_deref() }
    }
}

impl std::fmt::Display for Origin {
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

/// A remote host with one spelling for each address: `::ffff:192.0.2.7`, from a dual-stack socket, becomes `192.0.2.7`, and
/// `2001:DB8::1` becomes `2001:db8::1`.
#[must_use]
pub fn normalized_host(host: String) -> String {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    let address = bare.split_once('%').map_or(bare, |(address, _)| address);
    match address.parse::<Ipv6Addr>().map(|address| address.to_ipv4_mapped().as_ref().map(Ipv4Addr::octets)) {
        // The Display of addresses is large code, and every sshd loads this module.
        Ok(Some([a, b, c, d])) => format!("{a}.{b}.{c}.{d}"),
        Ok(None) => bare.to_ascii_lowercase(),
        Err(_) => host,
    }
}

/// An untrusted value, which can then neither end a log line nor imitate another field.
fn plain(value: &str) -> String {
    let plain = |c: char| if is_hidden(c) || c.is_whitespace() { '?' } else { c };
    value.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_users_have_separate_counters_and_their_names_are_not_kept() {
        let names = ["alice", "bob", "alicf", "hunter2"];
        let keys = names.map(|name| counter_of_unknown_user("sshd", name));
        assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
        assert!(names.iter().zip(&keys).all(|(name, key)| key.starts_with("sshd~") && !key.contains(name)));
        assert_eq!(counter_of_unknown_user("sshd", "alice"), keys[0]);
    }

    #[test]
    fn an_address_has_one_spelling() {
        for (said, shown) in [
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("::FFFF:c000:207", "192.0.2.7"),
            ("0:0:0:0:0:ffff:192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7%eth0", "192.0.2.7"),
            ("[::ffff:192.0.2.7]", "192.0.2.7"),
            ("2001:DB8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("FE80::1%eth0", "fe80::1%eth0"),
        ] {
            assert_eq!(normalized_host(said.into()), shown);
        }
        // Everything else stays unchanged.
        for host in
            ["192.0.2.7", "host.example.org", "::ffff:192.0.2.700", "[host]", "%", "", "local", "::1", "a%b"]
        {
            assert_eq!(normalized_host(host.into()), host);
        }
    }
}
