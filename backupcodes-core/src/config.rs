//! The configuration: `backupcodes.conf` and its drop-ins. All files are optional.
//!
//! Files are read in this order, and later ones override single keys: `/usr/lib/backupcodes/backupcodes.conf`, its
//! `backupcodes.conf.d/*.conf` by name, `/etc/security/backupcodes.conf`, its `backupcodes.conf.d/*.conf` by name. A file
//! named by an option replaces all of these, with its own drop-ins in the directory `<name>.d`.

mod files;
pub mod module_options;

pub use self::files::IgnoredDropIn;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use toml::de::DeValue;

use crate::code::{CodeNumber, LONGEST_SECRET, SHORTEST_SECRET};
use crate::explanation::Explanation;
use crate::files::trust::{ShownPath, Untrusted};
use crate::hash::Cost;
use crate::mail::address;
use crate::toml_value::read;

/// The most failures that are counted: a counter never exceeds one page of a tmpfs.
pub const MOST_COUNTED: u32 = 4096;
/// The most hash permits, each of which is a file.
pub const MOST_PERMITS: u32 = 1024;

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The directory of the sets.
    pub directory: PathBuf,
    /// The directory of counters and sockets; lost at boot.
    pub runtime_directory: PathBuf,
    /// The broker's socket.
    pub broker: PathBuf,
    /// New sets.
    pub codes: Codes,
    /// Argon2id.
    pub hash: Hash,
    /// Delays after failures.
    pub throttle: ThrottleRules,
    /// Mail.
    pub notify: Notify,
    /// Sets that hosts share.
    pub fleet: Fleet,
}

/// `[codes]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codes {
    /// Codes of a new set, 1 to 31.
    pub count: u8,
    /// Random characters of a code, 13 to 26, of 5 bits each.
    pub length: usize,
    /// The user is told to make a new set when this many codes or fewer are left.
    pub low: usize,
}

/// `[hash]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hash {
    /// `memory_kib`, `passes` and `lanes`: the cost of a run.
    pub cost: Cost,
    /// Simultaneous runs on this machine, at most 1024; 0: twice the processors, at least 4.
    pub concurrent: u32,
}

/// `[throttle]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThrottleRules {
    /// Failures in a row without a delay.
    pub free: u32,
    /// The delay after the next failure; each further one doubles it. Whole seconds.
    pub first_delay: Duration,
    /// The longest delay. Whole seconds.
    pub longest_delay: Duration,
    /// Failures after which the counter closes, at most 4096; 0: never.
    pub most: u32,
}

/// `[notify]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Program and arguments; it reads a message from stdin, and the recipients follow after `--`.
    pub sendmail: Vec<String>,
    /// The sender.
    pub from: String,
    /// Appended as `@domain` to the name of a user without an address.
    pub domain: String,
    /// Addresses that get a copy of every notice.
    pub copy_to: Vec<String>,
    /// The contact that notices name.
    pub contact: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            directory: "/var/lib/backupcodes".into(),
            runtime_directory: "/run/backupcodes".into(),
            broker: "/run/backupcodes/broker".into(),
            codes: Codes { count: 10, length: SHORTEST_SECRET, low: 3 },
            hash: Hash { cost: Cost::DEFAULT, concurrent: 0 },
            throttle: ThrottleRules {
                free: 5,
                first_delay: Duration::from_secs(1),
                longest_delay: Duration::from_secs(60),
                most: 0,
            },
            notify: Notify {
                sendmail: vec!["/usr/sbin/sendmail".into(), "-i".into()],
                from: "root".into(),
                domain: String::new(),
                copy_to: Vec::new(),
                contact: String::new(),
            },
            fleet: Fleet {
                endpoints: Vec::new(),
                ca: "/etc/backupcodes/fleet/ca.crt".into(),
                certificate: "/etc/backupcodes/fleet/host.crt".into(),
                key: "/etc/backupcodes/fleet/host.key".into(),
                prefix: "/backupcodes/".into(),
                timeout: Duration::from_secs(5),
                uid: "same".into(),
                socket: "/run/backupcodes/fleet".into(),
            },
        }
    }
}

/// `[fleet]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// The URLs of the nodes of etcd; none: this host shares no sets.
    pub endpoints: Vec<String>,
    /// The certificate of the authority that signs the certificates of the nodes.
    pub ca: PathBuf,
    /// The certificate of this host.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// What all keys in the store begin with.
    pub prefix: String,
    /// The longest wait for the store. Whole seconds.
    pub timeout: Duration,
    /// Whose set it is: `same`, the account with its name and uid; `any`, the account with its name.
    pub uid: String,
    /// The socket of `backupcodes-fleet`.
    pub socket: PathBuf,
}

impl Fleet {
    /// Whether this host shares sets with others.
    #[must_use]
    pub fn is_used(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// Whether a user may have another uid on another host.
    #[must_use]
    pub fn is_any_uid(&self) -> bool {
        self.uid == "any"
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub enum ConfigError {
    /// A named file does not exist, or a file cannot be read.
    Unreadable {
        /// The file.
        path: ShownPath,
        /// The error of the system call.
        errno: Errno,
    },
    /// A dangling link, whose target somebody wants read.
    DanglingLink {
        /// The link.
        path: ShownPath,
        /// The error of the system call.
        errno: Errno,
    },
    /// A file that another user may have written.
    Untrusted(#[from] Untrusted),
    /// Not TOML, an unknown key, or a bad value.
    Bad {
        /// The file.
        path: ShownPath,
        /// What is wrong with it.
        reason: String,
    },
}

impl ConfigError {
    /// The error in three parts.
    #[must_use]
    pub fn explanation(&self) -> Explanation {
        match self {
            Self::Unreadable { path, errno } => Explanation::new(
                path,
                format!("cannot be read ({errno}); expected a configuration file"),
                "name another, or none",
            ),
            Self::DanglingLink { path, errno } => Explanation::new(
                path,
                format!("cannot be read ({errno}), a dangling link"),
                "remove it, or point it at the file to read",
            ),
            Self::Untrusted(untrusted) => untrusted.explanation(),
            Self::Bad { path, reason } => Explanation::new(path, reason, "see backupcodes.conf(5)"),
        }
    }
}

impl Config {
    /// Sets one key, or all keys of a section.
    fn set(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), String> {
        match key {
            "directory" => self.directory = read(key, value)?,
            "runtime_directory" => self.runtime_directory = read(key, value)?,
            "broker" => self.broker = read(key, value)?,
            "codes" | "hash" | "throttle" | "notify" | "fleet" => {
                let table =
                    value.as_table().ok_or_else(|| format!("{key} is not a section; expected [{key}]"))?;
                return table.iter().try_for_each(|(inner, value)| {
                    self.set_in_section(&format!("{key}.{}", inner.get_ref()), value.get_ref())
                });
            }
            _ => return Err(format!("unknown key {}", key.escape_debug())),
        }
        Ok(())
    }

    fn set_in_section(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), String> {
        let Self { codes, hash, throttle, notify, fleet, .. } = self;
        match key {
            "codes.count" => codes.count = read(key, value)?,
            "codes.length" => codes.length = read(key, value)?,
            "codes.low" => codes.low = read(key, value)?,
            "hash.memory_kib" => hash.cost.memory_kib = read(key, value)?,
            "hash.passes" => hash.cost.passes = read(key, value)?,
            "hash.lanes" => hash.cost.lanes = read(key, value)?,
            "hash.concurrent" => hash.concurrent = read(key, value)?,
            "throttle.free" => throttle.free = read(key, value)?,
            "throttle.first_delay" => throttle.first_delay = read(key, value)?,
            "throttle.longest_delay" => throttle.longest_delay = read(key, value)?,
            "throttle.most" => throttle.most = read(key, value)?,
            "notify.sendmail" => notify.sendmail = read(key, value)?,
            "notify.from" => notify.from = read(key, value)?,
            "notify.domain" => notify.domain = read(key, value)?,
            "notify.copy_to" => notify.copy_to = read(key, value)?,
            "notify.contact" => notify.contact = read(key, value)?,
            "fleet.endpoints" => fleet.endpoints = read(key, value)?,
            "fleet.ca" => fleet.ca = read(key, value)?,
            "fleet.certificate" => fleet.certificate = read(key, value)?,
            "fleet.key" => fleet.key = read(key, value)?,
            "fleet.prefix" => fleet.prefix = read(key, value)?,
            "fleet.timeout" => fleet.timeout = read(key, value)?,
            "fleet.uid" => fleet.uid = read(key, value)?,
            "fleet.socket" => fleet.socket = read(key, value)?,
            _ => return Err(format!("unknown key {}", key.escape_debug())),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let Self { codes, hash, throttle, notify, fleet, .. } = self;
        within("codes.count", usize::from(codes.count), 1, usize::from(CodeNumber::MOST))?;
        within("codes.length", codes.length, SHORTEST_SECRET, LONGEST_SECRET)?;
        hash.cost.check().map_err(|error| format!("hash: {error}"))?;
        within("hash.concurrent", hash.concurrent, 0, MOST_PERMITS)?;
        let ThrottleRules { first_delay, longest_delay, most, .. } = throttle;
        if first_delay > longest_delay {
            return Err(format!(
                "throttle.first_delay is {}; expected at most longest_delay, {}",
                first_delay.as_secs(),
                longest_delay.as_secs()
            ));
        }
        within("throttle.most", *most, 0, MOST_COUNTED)?;
        if !notify.sendmail.first().is_some_and(|program| Path::new(program).is_absolute()) {
            return Err("notify.sendmail: expected a program by its absolute path, and its arguments".into());
        }
        for (key, address) in notify.copy_to.iter().map(|to| ("copy_to", to)).chain([("from", &notify.from)])
        {
            address::check(address).map_err(|expected| format!("notify.{key}: {expected}"))?;
        }
        if !notify.domain.is_empty() && address::check(&notify.domain).is_err() {
            return Err("notify.domain: expected a mail domain, or nothing".into());
        }
        if let Some(url) = fleet.endpoints.iter().find(|url| !url.starts_with("https://")) {
            return Err(format!("fleet.endpoints: {url:?}; expected URLs that begin with https://"));
        }
        if !fleet.prefix.ends_with('/') {
            return Err(format!("fleet.prefix is {:?}; expected a text that ends with /", fleet.prefix));
        }
        within("fleet.timeout", fleet.timeout.as_secs(), 1, 6)?;
        if !["same", "any"].contains(&fleet.uid.as_str()) {
            return Err(format!("fleet.uid is {:?}; expected \"same\" or \"any\"", fleet.uid));
        }
        Ok(())
    }
}

fn within<N: Copy + PartialOrd + Display>(key: &str, value: N, least: N, most: N) -> Result<(), String> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!("{key} is {value}; expected {least} to {most}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use toml::de::DeTable;

    use super::*;
    use manual_pages::{entries, examples};

    const PAGE: &str = include_str!("../../man/backupcodes.conf.5");

    fn set(config: &mut Config, text: &str) -> Result<(), String> {
        let table = DeTable::parse(text).map_err(|error| error.to_string())?.into_inner();
        table.iter().try_for_each(|(key, value)| config.set(key.get_ref(), value.get_ref()))?;
        config.check()
    }

    /// The keys of the match arms above.
    fn keys() -> BTreeSet<String> {
        let (code, _) = include_str!("config.rs").split_once("#[cfg(test)]").unwrap();
        let arms = code.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" => "));
        // The arm of the sections has several.
        arms.map(|(key, _)| key.to_owned()).filter(|key| !key.contains('"')).collect()
    }

    #[test]
    fn the_manual_documents_exactly_the_keys_with_their_defaults() {
        let mut documented = BTreeSet::new();
        for entry in entries(PAGE).iter().filter(|entry| entry.section == "KEYS") {
            let Some(tag) = &entry.tag else { continue };
            let (key, _) = tag.split_once(" = ").expect("a key and its default");
            let section = entry.subsection.trim_matches(['[', ']']);
            let (key, text) = match section {
                "Top level" => (key.to_owned(), tag.clone()),
                section => (format!("{section}.{key}"), format!("[{section}]\n{tag}")),
            };
            let mut config = Config::default();
            assert_eq!(set(&mut config, &text), Ok(()), "{text}");
            assert_eq!(config, Config::default(), "{text}");
            assert!(documented.insert(key), "{text} occurs twice");
        }
        assert_eq!(documented, keys());
        assert!(documented.len() >= 19, "{documented:?}");
    }

    #[test]
    fn every_example_of_the_manual_is_a_configuration() {
        let examples = examples(PAGE);
        assert!(examples.len() >= 2);
        for (_, example) in examples {
            let mut config = Config::default();
            assert_eq!(set(&mut config, &example), Ok(()), "{example}");
            assert_ne!(config, Config::default(), "{example}");
        }
    }
}
