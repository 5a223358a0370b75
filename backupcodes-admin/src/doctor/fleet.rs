//! Whether the sets that this host shares can be reached, and are what they should be.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use backupcodes_core::config::{Config, Fleet};
use backupcodes_core::protocol::fleet::{Node, StatusReply};
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
    findings.extend(fleet.status().map(|status| of_status(&status)).unwrap_or_default());
    (findings, users.ok().map(|users| users.into_iter().collect()))
}

fn of_status(StatusReply { authenticates, nodes, .. }: &StatusReply) -> Vec<Finding> {
    let node = |Node { url, error, .. }: &Node| {
        let message = format!("the node does not reply ({})", error.as_ref()?);
        let remedy = "start etcd there; without a majority of its nodes nobody logs in with a shared set";
        Some(Finding::new(Level::Warning, "fleet-node", url, message, remedy))
    };
    let mut findings: Vec<_> = nodes.iter().filter_map(node).collect();
    if !authenticates && nodes.iter().any(|node| node.error.is_none()) {
        let message = "etcd does not tell its users apart: each host may make spent codes good again";
        let remedy = "backupcodes-admin fleet init; see backupcodes-admin(8)";
        findings.push(Finding::new(Level::Error, "fleet-authentication", "etcd", message, remedy));
    }
    findings
}

/// Whoever reads the key of this host spends codes in its name.
fn key(Fleet { key, .. }: &Fleet) -> Option<Finding> {
    let mode = std::fs::metadata(key).ok()?.mode() & 0o7777;
    (mode & 0o077 != 0).then(|| {
        let path = key.display();
        let message =
            format!("mode {mode:04o}, so that others read the key of this host; expected mode 0400");
        let remedy = format!("chown backupcodes-fleet {path} && chmod 0400 {path}");
        Finding::new(Level::Error, "fleet-key", path.to_string(), message, remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn status(authenticates: bool, error: Option<&str>) -> StatusReply {
        let node = Node {
            url: "https://10.0.0.1:2379".into(),
            error: error.map(Into::into),
            version: String::new(),
            leads: false,
            size: 0,
        };
        StatusReply { cluster: "7".into(), revision: 1, may_replace: false, authenticates, nodes: vec![node] }
    }

    #[test]
    fn a_node_that_is_down_and_a_store_without_users_are_reported() {
        let checks = |status| of_status(&status).into_iter().map(|found| found.check).collect::<Vec<_>>();
        assert!(checks(status(true, None)).is_empty());
        assert_eq!(checks(status(true, Some("refused"))), ["fleet-node"]);
        assert_eq!(checks(status(false, None)), ["fleet-authentication"]);
        assert_eq!(checks(status(false, Some("refused"))), ["fleet-node"], "nobody has said so");
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
            assert_eq!(key(&fleet).is_some(), is_found, "{mode:o}");
        }
    }
}
