//! The accounts of this host, as the user database tells of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use backupcodes_core::account::{Account, AccountError};
use backupcodes_core::store::Store;

/// An account as getent(1) lists it.
pub(crate) struct Entry {
    pub(crate) name: String,
    uid: u32,
    pub(crate) gid: u32,
    home: PathBuf,
    shell: String,
}

/// What getent(1) said.
#[derive(Debug, thiserror::Error)]
#[error("user database does not list its accounts (getent passwd: {0})")]
pub(crate) struct Unlisted(String);

/// From here on uids are people's, where /etc/login.defs says nothing else: login.defs(5).
const UID_MIN: u32 = 1000;
/// The user `nobody`.
const NOBODY: u32 = 65_534;
const LOGIN_DEFS: &str = "/etc/login.defs";
const NSSWITCH: &str = "/etc/nsswitch.conf";

/// The name of a user's set: the name that was typed if a file has it, else the name that the database has for it. Both may have
/// a set, such as `alice` and `alice@example.org` after a change of the directory service. The account may be gone.
pub(crate) fn name_of_set(store: &impl Store, user: &str) -> Result<String, AccountError> {
    if !matches!(store.read(user), Ok(None)) {
        return Ok(user.into());
    }
    Ok(Account::by_name(user)?.map_or_else(|| user.into(), |account| account.name))
}

/// That a user has no set, and what to do about it.
pub(crate) fn without_set(user: &str) -> String {
    match Account::by_name(user) {
        Ok(None) => format!("{user} has no backup codes and no account: check the name"),
        _ => format!("{user} has no backup codes; to make some: backupcodes-admin generate {user}"),
    }
}

/// The accounts of this host, listed once: with thousands of them a look at each takes long.
pub(crate) struct Accounts(BTreeMap<String, Entry>);

impl Accounts {
    pub(crate) fn list() -> Self {
        // `find` asks for accounts that are not listed.
        let mut accounts = BTreeMap::new();
        for entry in entries().unwrap_or_default() {
            // Of two accounts of one name the first logs in.
            accounts.entry(entry.name.clone()).or_insert(entry);
        }
        Self(accounts)
    }

    pub(crate) fn find(&self, name: &str) -> Result<Option<Account>, AccountError> {
        match self.0.get(name) {
            Some(entry) => Ok(Some(Account { name: name.into(), uid: entry.uid })),
            None => Account::by_name(name),
        }
    }

    /// Names that share a uid.
    pub(crate) fn twins(&self) -> Vec<Vec<&str>> {
        let mut by_uid = BTreeMap::<_, Vec<_>>::new();
        for entry in self.0.values() {
            by_uid.entry(entry.uid).or_default().push(entry.name.as_str());
        }
        by_uid.into_values().filter(|names| names.len() > 1).collect()
    }

    /// Homes that are one account's alone, by its name.
    pub(crate) fn homes(&self) -> BTreeMap<&str, &Path> {
        let mut by_home = BTreeMap::<_, Vec<_>>::new();
        for entry in self.0.values() {
            by_home.entry(entry.home.as_path()).or_default().push(entry.name.as_str());
        }
        by_home
            .into_iter()
            .filter_map(|(home, names)| <[_; 1]>::try_from(names).ok().map(|[name]| (name, home)))
            .collect()
    }
}

/// Accounts that people log in with, and root: those with a shell, and a uid that is a person's.
pub(crate) fn that_log_in() -> Result<Vec<String>, Unlisted> {
    let least = least_uid(&std::fs::read_to_string(LOGIN_DEFS).unwrap_or_default());
    Ok(entries()?.into_iter().filter(|entry| entry.logs_in(least)).map(|entry| entry.name).collect())
}

impl Entry {
    fn logs_in(&self, least: u32) -> bool {
        let is_person = self.uid == 0 || (self.uid >= least && self.uid != NOBODY);
        is_person && !["nologin", "false"].iter().any(|none| self.shell.rsplit('/').next() == Some(none))
    }

    /// A line of passwd(5).
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<_> = line.split(':').collect();
        let [name, _, uid, gid, _, home, shell] = fields.as_slice() else { return None };
        Some(Self {
            name: (*name).into(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: home.into(),
            shell: (*shell).into(),
        })
    }
}

/// Whether all accounts are in files of this host. Accounts of a directory service that cannot be reached seem not to exist.
pub(crate) fn are_all_local() -> bool {
    std::fs::read_to_string(NSSWITCH).is_ok_and(|text| is_local(&text))
}

fn is_local(nsswitch: &str) -> bool {
    const LOCAL: [&str; 5] = ["files", "compat", "systemd", "altfiles", "db"];
    let sources = nsswitch.lines().find_map(|line| line.trim_start().strip_prefix("passwd:"));
    let sources = sources.map(|sources| sources.split('#').next().unwrap_or_default());
    sources.is_some_and(|sources| {
        sources.split_whitespace().filter(|word| !word.starts_with('[')).all(|source| LOCAL.contains(&source))
    })
}

fn least_uid(login_defs: &str) -> u32 {
    let number = |line: &str| line.trim_start().strip_prefix("UID_MIN")?.trim().parse().ok();
    login_defs.lines().find_map(number).unwrap_or(UID_MIN)
}

/// All accounts that the database lists. (`getpwent` has no safe form; getent(1) calls it.)
pub(crate) fn entries() -> Result<Vec<Entry>, Unlisted> {
    let output =
        Command::new("getent").arg("passwd").output().map_err(|error| Unlisted(error.to_string()))?;
    if !output.status.success() {
        return Err(Unlisted(output.status.to_string()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(Entry::parse).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_root_log_in_and_services_do_not() {
        let logs_in = |line: &str| Entry::parse(line).unwrap().logs_in(1000);
        for line in [
            "root:x:0:0:root:/root:/bin/bash",
            "alice:x:1000:1000::/home/alice:/bin/sh",
            "bob:*:1200000017:100:Bob:/home/bob:",
        ] {
            assert!(logs_in(line), "{line}");
        }
        for line in [
            "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin",
            "postgres:x:114:121::/var/lib/postgresql:/bin/bash",
            "nobody:x:65534:65534:nobody:/nonexistent:/bin/sh",
            "backup:x:1003:1003::/srv:/bin/false",
        ] {
            assert!(!logs_in(line), "{line}");
        }
        assert!(Entry::parse("half:x:1").is_none());
    }

    #[test]
    fn twins_share_a_uid_and_a_home_is_of_one_account_alone() {
        let lines = "root:x:0:0::/root:/bin/sh
toor:x:0:0::/root:/bin/csh
alice:x:1000:1000::/home/alice:/bin/sh
bob:x:1001:1001::/srv:/bin/sh
carl:x:1002:1002::/srv:/bin/sh";
        let entries = lines.lines().map(|line| Entry::parse(line).unwrap());
        let accounts = Accounts(entries.map(|entry| (entry.name.clone(), entry)).collect());
        assert_eq!(accounts.twins(), [["root", "toor"]]);
        assert_eq!(accounts.homes(), BTreeMap::from([("alice", Path::new("/home/alice"))]));
    }

    #[test]
    fn only_files_of_this_host_are_always_there() {
        for local in [
            "passwd: files\n",
            "# passwd: ldap\npasswd:\tfiles systemd # sss\n",
            "passwd: compat [NOTFOUND=return] db\n",
        ] {
            assert!(is_local(local), "{local}");
        }
        for other in ["", "group: files\n", "passwd: files sss\n", "passwd: files [!NOTFOUND=return] ldap\n"]
        {
            assert!(!is_local(other), "{other}");
        }
    }

    #[test]
    fn the_least_uid_is_what_login_defs_says() {
        assert_eq!(least_uid("# UID_MIN 5\nUID_MIN\t\t\t  500\nUID_MAX 60000\nSYS_UID_MIN 101\n"), 500);
        assert_eq!(least_uid("UID_MIN none\n"), 1000);
    }
}
