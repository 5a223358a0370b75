//! `doctor`, and what it finds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::{World, built, feed, readme, text};

/// What doctor finds, by the word of the check: the level and the whole line.
pub struct Findings(pub Vec<Value>, pub Output);

impl Findings {
    fn of(output: Output) -> Self {
        let found: Vec<Value> =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let has_error = found.iter().any(|finding| finding["level"] == "error");
        assert_eq!(output.status.code(), Some(i32::from(has_error)), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        Self(found, output)
    }

    pub fn find(&self, check: &str) -> Option<String> {
        let found = self.0.iter().find(|finding| finding["check"] == check)?;
        let part = |name: &str| found[name].as_str().unwrap().to_owned();
        assert!(
            !part("subject").is_empty() && !part("message").is_empty() && !part("remedy").is_empty(),
            "{found}"
        );
        Some(format!("{} {}: {}; {}", part("level"), part("subject"), part("message"), part("remedy")))
    }

    /// The finding says all of this.
    pub fn has(&self, check: &str, parts: &[&str]) {
        let line = self.find(check).unwrap_or_else(|| panic!("no {check}: {}", text(&self.1.stdout)));
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
    }

    pub fn has_none(&self, checks: &[&str]) {
        for check in checks {
            assert_eq!(self.find(check), None);
        }
    }
}

pub fn doctor(world: &World) -> Findings {
    Findings::of(world.admin(&["doctor", "--format", "json"]))
}

/// The same where files of the host are other ones: `views` are bound over what they stand for.
pub fn doctor_where(world: &World, views: &[(&Path, &str)]) -> Findings {
    let binds = views.iter().map(|(view, place)| format!("mount --bind '{}' {place} && ", view.display()));
    let script = binds.collect::<String>() + "exec \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    unshare
        .arg(built("backupcodes-admin"))
        .arg("--config")
        .arg(world.path("conf"))
        .args(["doctor", "--format", "json"]);
    Findings::of(feed(&mut unshare, ""))
}

/// Doctor on a host with these stacks and these settings of sshd, where all who log in have a set.
pub fn doctor_of_stacks(world: &World, services: &[(&str, String)], sshd: &str) -> Findings {
    let config = world.path("sshd_config");
    fs::write(&config, sshd).unwrap();
    doctor_where(world, &[(&stacks(world, services), "/etc/pam.d"), (&config, "/etc/ssh/sshd_config")])
}

/// Debian's own PAM files, but for these.
fn stacks(world: &World, services: &[(&str, String)]) -> PathBuf {
    let directory = world.path("stacks");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).unwrap();
    for file in fs::read_dir("/etc/pam.d").unwrap().map(|file| file.unwrap().path()) {
        // Other tests have changed some, and kept what Debian had.
        let original = file.with_extension("original");
        let name = file.file_name().unwrap().to_str().unwrap();
        if file.extension().is_none_or(|extension| extension != "original") {
            fs::copy(if original.exists() { &original } else { &file }, directory.join(name)).unwrap();
        }
    }
    for (service, lines) in services {
        let file = directory.join(service);
        let stack = fs::read_to_string(&file).unwrap();
        fs::write(file, readme::with_stack(&stack, lines)).unwrap();
    }
    directory
}
