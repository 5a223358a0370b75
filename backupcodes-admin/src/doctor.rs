//! `doctor`: looks for all that can be wrong on this host, and says how to mend it. It changes nothing.

mod disk;
mod finding;
mod locks;
mod mail;
mod module;
mod pam;
mod printing;
mod sets;
mod sshd;
mod stack;

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use backupcodes_core::config::{Config, ConfigError};
use console::style;

use self::finding::{Finding, Level};
use crate::cli::{Doctor, Style};
use crate::failure::{Failure, Outcome};
use crate::{accounts, output};

pub(crate) fn run(config: Result<Config, ConfigError>, arguments: &Doctor) -> Result<Outcome, Failure> {
    let mut findings = Vec::new();
    let mut without_set = Vec::new();
    match config {
        Err(error) => findings.push(Finding::of_error(Level::Error, "configuration", &error)),
        Ok(config) => {
            let held = locks::Held::now(&config);
            let people = accounts::that_log_in().unwrap_or_else(|failure| {
                findings.push(Finding::of_error(Level::Note, "accounts", &failure));
                Vec::new()
            });
            let (found, with_set) = sets::check(&config);
            findings.extend(found);
            // A directory that is not in order proves nothing of anybody.
            if let Some(with_set) = with_set {
                without_set.extend(people.into_iter().filter(|name| !with_set.contains(name)));
                findings.extend(disk::check(&config.directory, &with_set));
            }
            findings.extend(mail::check(&config));
            findings.extend(held.still(&config));
        }
    }
    findings.extend(of_the_host(Path::new("/"), &without_set));
    findings.sort_by_key(|finding| finding.level);
    // What stops several looks is told of once.
    findings.dedup_by(|one, other| one.to_string() == other.to_string());
    match arguments.format.style {
        Style::Json => output::print_json(&findings)?,
        Style::Text => output::print(&text(&findings))?,
    }
    let is_well = findings.iter().all(|finding| finding.level != Level::Error);
    Ok(if is_well { Outcome::Done } else { Outcome::No })
}

/// What does not depend on our own configuration.
fn of_the_host(root: &Path, without_set: &[String]) -> Vec<Finding> {
    let mut findings = module::check(root);
    findings.extend(stack::check(root, without_set));
    findings.extend(printing::check(root));
    let sshd = Path::new(sshd::PROGRAM);
    if sshd.exists() && stack::has_module(root, "sshd") {
        findings.extend(sshd::settings(sshd).map_or_else(
            |finding| vec![finding],
            |settings| sshd::check(&settings, stack::asks_sshd_for_a_code_alone(root)),
        ));
    }
    findings
}

/// A file of the host that somebody wrote by hand. What is no file, or has no end, is none.
///
/// # Errors
/// The system's.
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

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let word = match finding.level {
            Level::Error => style("error:").red().bold(),
            Level::Warning => style("warning:").yellow(),
            Level::Note => style("note:").dim(),
        };
        text.push_str(&format!("{word} {finding}\n"));
    }
    let counts = [(Level::Error, "error"), (Level::Warning, "warning"), (Level::Note, "note")];
    let counts =
        counts.map(|(level, word)| match findings.iter().filter(|finding| finding.level == level).count() {
            1 => format!("1 {word}"),
            count => format!("{count} {word}s"),
        });
    text.push_str(&format!("{}\n", counts.join(", ")));
    text
}
