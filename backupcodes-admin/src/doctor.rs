//! What `doctor` checks on this host. It changes nothing.

mod broker;
mod disk;
mod finding;
mod fleet;
mod homes;
mod mail;
mod module;
mod printing;
mod sets;
mod sshd;
mod stack;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use backupcodes_core::config::{Config, ConfigError, IgnoredDropIn};

pub(crate) use self::finding::{Finding, Level};
use self::stack::WithoutSet;
use crate::accounts;

/// All that is found, the worst first. `named` is the configuration file that was asked for, and `config` what it holds.
pub(crate) fn findings(named: Option<&Path>, config: Result<Config, ConfigError>) -> Vec<Finding> {
    let root = Path::new("/");
    let mut findings = Vec::new();
    let mut without_set = WithoutSet::new();
    let people = accounts::that_log_in().unwrap_or_else(|unlisted| {
        let message = format!("the {unlisted}: whether users without a set are locked out is not known");
        findings.push(Finding::new(
            Level::Note,
            "accounts",
            "user database",
            message,
            "see nsswitch.conf(5)",
        ));
        Vec::new()
    });
    let configs = configurations(root, config, &mut findings);
    findings.extend(drop_ins(root, named));
    let mut looked_at = BTreeMap::new();
    for (named, config) in &configs {
        let missing = looked_at.entry(&config.directory).or_insert_with(|| {
            let (found, missing) = of_sets(config, &people);
            findings.extend(found);
            missing
        });
        without_set.insert(named.clone(), missing.clone());
    }
    for (service, named) in stack::of_users(root) {
        findings.extend(configs.get(&named).and_then(|config| broker::check(&service, &config.broker)));
    }
    findings.extend(configs.get(&None).map(mail::check).unwrap_or_default());
    findings.extend(of_the_host(root, &without_set));
    findings.sort_by_key(|finding| finding.level);
    // A fault that several checks find is told once.
    findings.dedup_by(|one, other| one.to_string() == other.to_string());
    findings
}

/// The configurations in use: ours, and those that lines of PAM stacks name.
fn configurations(
    root: &Path,
    ours: Result<Config, ConfigError>,
    findings: &mut Vec<Finding>,
) -> BTreeMap<Option<PathBuf>, Config> {
    let mut configs = BTreeMap::new();
    let mut add = |named: Option<PathBuf>, config: Result<Config, ConfigError>, place: &str| match config {
        Ok(config) => drop(configs.insert(named, config)),
        Err(error) => {
            let mut finding = Finding::explained(Level::Error, "configuration", error.explanation());
            finding.message.push_str(place);
            findings.push(finding);
        }
    };
    add(None, ours, "");
    for (named, place) in stack::configurations(root) {
        let config = Config::load(Some(&named));
        add(Some(named), config, &format!(" (the module reads it for conf= in {place})"));
    }
    configs
}

/// Files among the drop-ins of those configurations that are not read.
fn drop_ins(root: &Path, named: Option<&Path>) -> Vec<Finding> {
    let of_stacks = stack::configurations(root).into_keys().map(Some);
    let named: BTreeSet<_> = of_stacks.chain([named.map(Path::to_path_buf)]).collect();
    let ignored_drop_ins = named.iter().flat_map(|named| Config::ignored_drop_ins(named.as_deref()));
    let finding = |IgnoredDropIn { path, found }| {
        Finding::new(
            Level::Warning,
            "drop-in-passed-over",
            path.display().to_string(),
            format!("{found}, which is not read; expected a regular file"),
            "move it away, or rename it so that it does not end in .conf",
        )
    };
    ignored_drop_ins.map(finding).collect()
}

/// What is found in a directory of sets, and who of `people` has none there.
fn of_sets(config: &Config, people: &[String]) -> (Vec<Finding>, Vec<String>) {
    let (mut findings, with_set) = sets::check(config);
    // A directory that cannot be used proves nothing about any user.
    let Some(with_set) = with_set else { return (findings, Vec::new()) };
    findings.extend(disk::check(&config.directory, &with_set));
    let (found, shared) = fleet::check(config);
    findings.extend(found);
    let Some(shared) = shared else { return (findings, Vec::new()) };
    let has_none = |name: &&String| !with_set.contains(*name) && !shared.contains(*name);
    (findings, people.iter().filter(has_none).cloned().collect())
}

/// What does not depend on our own configuration.
fn of_the_host(root: &Path, without_set: &WithoutSet) -> Vec<Finding> {
    let mut findings: Vec<_> = module::check(root).into_iter().collect();
    findings.extend(stack::check(root, without_set));
    findings.extend(printing::check(root));
    if Path::new(sshd::PROGRAM).exists() && stack::has_module(root, "sshd") {
        findings.extend(sshd::check(root, stack::asked_by_sshd(root)));
    }
    findings
}

/// A file of the host that somebody wrote by hand. Other kinds of files are errors, and a long one is cut.
fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    const MOST: u64 = 1 << 20;
    // A pipe without a writer must not be waited for.
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}
