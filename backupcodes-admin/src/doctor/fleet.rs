//! Whether the sets that this host shares can be reached, and are what they should be.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use backupcodes_core::account::Account;
use backupcodes_core::clock;
use backupcodes_core::config::{Config, Fleet};
use backupcodes_core::protocol::fleet::{Certificate, Node, StatusReply, UnprovenReply};
use backupcodes_core::store::Sets;

use super::finding::{Finding, Level};

/// What is found, and the users with a set in the fleet. `None`: nobody knows them.
pub(super) fn check(config: &Config) -> (Vec<Finding>, Option<BTreeSet<String>>) {
    let Some(fleet) = Sets::new(config).into_fleet() else { return (Vec::new(), Some(BTreeSet::new())) };
    let mut findings: Vec<_> = key(&config.fleet).into_iter().collect();
    let users = fleet.users().map_err(|error| {
        findings.push(Finding::explained(Level::Error, "fleet-unreachable", error.explanation()));
    });
    // Why it does not know more is said by the above.
    findings
        .extend(fleet.status().map(|status| of_status(&status, clock::now().seconds())).unwrap_or_default());
    // If there are sets that can be read.
    if users.is_ok() {
        match fleet.unproven() {
            Ok(found) => findings.extend(unproven(&found)),
            Err(error) => {
                findings.push(Finding::explained(Level::Error, "fleet-signature", error.explanation()));
            }
        }
    }
    (findings, users.ok().map(|users| users.into_iter().collect()))
}

/// The user whose the service and its key are.
const SERVICE: &str = "backupcodes-fleet";
/// A certificate that ends sooner is reported: time to make another one.
const SOON: u64 = 30 * 24 * 60 * 60;
/// The most seconds between two clocks that go right: a reply takes some.
const APART: u64 = 60;

fn of_status(status: &StatusReply, now: u64) -> Vec<Finding> {
    let StatusReply { refused, authenticates, nodes, certificates, .. } = status;
    let node = |Node { url, error, .. }: &Node| {
        let message = format!("the node does not reply ({})", error.as_ref()?);
        let remedy = "start etcd there; without a majority of its nodes nobody logs in with a shared set";
        Some(Finding::new(Level::Warning, "fleet-node", url, message, remedy))
    };
    let mut findings: Vec<_> = nodes.iter().filter_map(node).collect();
    findings.extend(nodes.iter().filter_map(alarm));
    if !authenticates && nodes.iter().any(|node| node.error.is_none()) {
        let message = "etcd does not tell its users apart: whoever has a certificate may end all sets";
        let remedy = "backupcodes-admin fleet init; see backupcodes-admin(8)";
        findings.push(Finding::new(Level::Error, "fleet-authentication", "etcd", message, remedy));
    }
    if let Some(reason) = refused.as_ref().filter(|_| nodes.iter().any(|node| node.error.is_none())) {
        let remedy = "do what it says; see docs/guide/fleet.md";
        findings.push(Finding::new(Level::Error, "fleet-refused", "etcd", reason.clone(), remedy));
    }
    findings.extend(nodes.iter().filter_map(|node| clock_of(node, now)));
    findings.extend(certificates.iter().filter_map(|certificate| expiry(certificate, now)));
    findings
}

/// Sets that nobody can log in with: `nullok` does not skip their users either. Whoever has written them may have chosen the names.
fn unproven(UnprovenReply { users, others }: &UnprovenReply) -> Vec<Finding> {
    let finding = |found: &[String], message: &str, remedy| {
        let (first, more) = found.split_first()?;
        let more = if more.is_empty() { String::new() } else { format!(", and {} more", more.len()) };
        let message = format!("{message} {first}{more}");
        Some(Finding::new(Level::Error, "fleet-signature", "etcd", message, remedy))
    };
    let users = finding(
        users,
        "no administrator of an authority in fleet.ca has signed the set of",
        "if other hosts accept it, install their fleet.ca here; otherwise, on the admin host: backupcodes-admin generate USER, or revoke USER",
    );
    let others = finding(
        others,
        "among the sets is what no administrator has written:",
        "remove it with the certificate of etcd's root: etcdctl del KEY; see docs/guide/fleet.md, \"Lost hosts\"",
    );
    users.into_iter().chain(others).collect()
}

/// What makes etcd write nothing any more.
fn alarm(Node { url, alarms, .. }: &Node) -> Option<Finding> {
    let message = format!("etcd says: {}", (!alarms.is_empty()).then(|| alarms.join("; "))?);
    let remedy = "see docs/guide/fleet.md, \"The store is full\", and etcd's log there";
    Some(Finding::new(Level::Error, "fleet-alarm", url, message, remedy))
}

/// Whoever has the wrong time tells of uses that another host tells of as well, and refuses certificates.
fn clock_of(Node { url, time, .. }: &Node, now: u64) -> Option<Finding> {
    let apart = time.map(|time| time.abs_diff(now)).filter(|&apart| apart > APART)?;
    let message = format!("its clock and that of this host are {apart} s apart");
    let remedy = "see both with: date -u; run a time service on both, as systemd-timesyncd or chrony";
    Some(Finding::new(Level::Warning, "fleet-clock", url, message, remedy))
}

fn expiry(Certificate { path, expires }: &Certificate, now: u64) -> Option<Finding> {
    let days = expires.abs_diff(now) / (24 * 60 * 60);
    let (level, message) = if *expires <= now {
        (Level::Error, format!("it expired {days} days ago: no node is reached with it"))
    } else if expires.saturating_sub(now) < SOON {
        (Level::Warning, format!("it expires in {days} days; then nobody logs in with a shared set"))
    } else {
        return None;
    };
    let remedy = "put a new one in its place, then: systemctl try-restart backupcodes-fleet";
    Some(Finding::new(level, "fleet-certificate", path, message, remedy))
}

/// Whoever reads the key of this host spends codes in its name.
fn key(Fleet { key, .. }: &Fleet) -> Option<Finding> {
    let file = std::fs::metadata(key).ok()?;
    let (mode, owner) = (file.mode() & 0o7777, file.uid());
    let of_service = Account::by_name(SERVICE).ok().flatten().map(|account| account.uid);
    let is_well_owned = owner == 0 || Some(owner) == of_service;
    (mode & 0o077 != 0 || !is_well_owned).then(|| {
        let path = key.display();
        let message = format!("mode {mode:04o}, owner {owner}: others read the key of this host; expected mode 0400 and {SERVICE}");
        let remedy = format!("chown {SERVICE} {path} && chmod 0400 {path}");
        Finding::new(Level::Error, "fleet-key", path.to_string(), message, remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 24 * 60 * 60;

    /// Of a healthy fleet.
    fn status() -> StatusReply {
        let node = Node {
            url: "https://10.0.0.1:2379".into(),
            error: None,
            version: "3.5.16".into(),
            leads: true,
            size: 0,
            time: Some(NOW + 60),
            alarms: Vec::new(),
        };
        let certificate = Certificate { path: "/c".into(), expires: NOW + 31 * DAY };
        StatusReply {
            cluster: "7".into(),
            revision: 1,
            refused: None,
            may_replace: Some(false),
            may_not_because: None,
            authenticates: true,
            nodes: vec![node],
            certificates: vec![certificate],
        }
    }

    fn checks(change: impl FnOnce(&mut StatusReply)) -> Vec<(Level, &'static str)> {
        let mut status = status();
        change(&mut status);
        of_status(&status, NOW).into_iter().map(|found| (found.level, found.check)).collect()
    }

    #[test]
    fn a_node_that_is_down_and_a_store_without_users_are_reported() {
        let is_down = |status: &mut StatusReply| status.nodes[0].error = Some("refused".into());
        assert!(checks(|_| ()).is_empty());
        assert_eq!(checks(is_down), [(Level::Warning, "fleet-node")]);
        assert_eq!(checks(|status| status.authenticates = false), [(Level::Error, "fleet-authentication")]);
        let full = |status: &mut StatusReply| status.nodes[0].alarms.push("memberID:1 alarm:NOSPACE".into());
        assert_eq!(checks(full), [(Level::Error, "fleet-alarm")]);
        let refused = |status: &mut StatusReply| status.refused = Some("may not do that".into());
        assert_eq!(checks(refused), [(Level::Error, "fleet-refused")]);
        let both = |status: &mut StatusReply| {
            is_down(status);
            status.authenticates = false;
        };
        assert_eq!(checks(both), [(Level::Warning, "fleet-node")], "nobody has said so");
    }

    #[test]
    fn a_clock_that_goes_wrong_and_a_certificate_that_ends_are_reported() {
        for (time, is_found) in [(NOW - 61, true), (NOW - 60, false), (NOW + 61, true)] {
            let found = checks(|status| status.nodes[0].time = Some(time));
            assert_eq!(found == [(Level::Warning, "fleet-clock")], is_found, "{time}");
        }
        for (expires, level) in [
            (NOW - DAY, Some(Level::Error)),
            (NOW, Some(Level::Error)),
            (NOW + 29 * DAY, Some(Level::Warning)),
            (NOW + 31 * DAY, None),
        ] {
            let found = checks(|status| status.certificates[0].expires = expires);
            assert_eq!(
                found,
                level.map(|level| (level, "fleet-certificate")).into_iter().collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let mut fleet = Config::default().fleet;
        fleet.key = folder.path().join("key");
        assert_eq!(key(&fleet), None);
        std::fs::write(&fleet.key, "").unwrap();
        for (mode, is_found) in [(0o400, false), (0o600, false), (0o440, true), (0o604, true)] {
            std::fs::set_permissions(&fleet.key, std::fs::Permissions::from_mode(mode)).unwrap();
            // The tests may run as an ordinary user, whose key it is then.
            let is_root = nix::unistd::geteuid().is_root();
            assert_eq!(key(&fleet).is_some(), is_found || !is_root, "{mode:o}");
        }
        if nix::unistd::geteuid().is_root() {
            std::fs::set_permissions(&fleet.key, std::fs::Permissions::from_mode(0o400)).unwrap();
            std::os::unix::fs::chown(&fleet.key, Some(65_534), None).unwrap();
            assert!(key(&fleet).is_some(), "another user's");
        }
    }
}
