//! What sshd prints of its settings, and what it leaves out.

use std::fs::read_dir;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::geteuid;

use crate::doctor::finding::{Finding, Level};
use crate::doctor::read_small;
use crate::doctor::sshd::{KEYBOARD, PASSWORD, Way};

/// Where its files are; the second is the distribution's on some.
const FOLDERS: [&str; 2] = ["etc/ssh", "usr/etc/ssh"];

/// The settings in force, outside of `Match` blocks.
///
/// # Errors
/// sshd does not say them: a finding of its own.
pub(super) fn printed(program: &Path) -> Result<String, Finding> {
    let run = |option| run(program, option).map_err(|error| unknown(program, &error.to_string()));
    run("-T")?.or_else(|_| match run("-t")? {
        Err(why) if !is_circumstance(&why, geteuid().is_root()) => Err(does_not_start(program, &why)),
        Err(why) => Err(unknown(program, &why)),
        Ok(_) => Err(unknown(program, "`sshd -T` fails, and `sshd -t` does not")),
    })
}

/// What sshd prints, or its complaints where it fails.
fn run(program: &Path, option: &str) -> io::Result<Result<String, String>> {
    let output = Command::new(program).arg(option).env_clear().stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(Ok(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let complaints = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = complaints.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Ok(Err(if said.is_empty() { output.status.to_string() } else { said.join(", ") }))
}

/// Whether sshd complains of how it was started here, and not of its settings: it judges these first.
pub(super) fn is_circumstance(why: &str, is_root: bool) -> bool {
    // Its unit makes the directory. Only root can read the keys.
    why.contains("Missing privilege separation directory")
        || !is_root && ["no hostkeys available", "Permission denied"].iter().any(|said| why.contains(said))
}

fn does_not_start(program: &Path, why: &str) -> Finding {
    let message = format!("`sshd -t` fails, so sshd will not start again: {why}");
    let remedy = "fix what it names, until `sshd -t` prints nothing; sshd uses the first value of a setting, in the order of file names: 10-backupcodes.conf wins over 50-cloud-init.conf; to find all: grep -rni SETTING /etc/ssh";
    Finding::new(Level::Error, "sshd-fails", program.display().to_string(), message, remedy)
}

fn unknown(program: &Path, why: &str) -> Finding {
    let message = format!("its settings cannot be checked: {why}");
    let remedy = format!("run `{} -T` as root while ssh runs (it needs /run/sshd)", program.display());
    Finding::new(Level::Warning, "sshd-settings", program.display().to_string(), message, remedy)
}

/// `Match` blocks, which `sshd -T` leaves out.
pub(super) fn with_match(root: &Path) -> Option<Finding> {
    let has_match = |file: &PathBuf| {
        let text = read_small(file).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
        text.lines().any(|line| {
            line.split(|char: char| char.is_whitespace() || char == '=').find(|word| !word.is_empty())
                == Some("match")
        })
    };
    let file = FOLDERS.iter().flat_map(|folder| files(&root.join(folder))).find(has_match)?;
    let shown = file.strip_prefix(root).unwrap_or(&file).display();
    let message = "has `Match` blocks; their settings are not checked";
    let remedy = "to see the settings of one user: sshd -T -C user=USER";
    Some(Finding::new(Level::Note, "sshd-match", format!("/{shown}"), message, remedy))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let drop_ins = read_dir(folder.join("sshd_config.d")).into_iter().flatten().flatten();
    let mut files: Vec<_> = drop_ins.map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.push(folder.join("sshd_config"));
    files.sort_unstable();
    files
}

/// Lines of a keyword in small letters and its value.
pub(super) struct Settings<'a>(pub(super) &'a str);

impl<'a> Settings<'a> {
    pub(super) fn first(&self, keyword: &str) -> Option<&'a str> {
        let value = |line: &'a str| line.strip_prefix(keyword)?.strip_prefix(' ').map(str::trim);
        self.0.lines().find_map(value)
    }

    /// The ways in that are open: sshd leaves out those with a method that is switched off. `any` is one for each method.
    pub(super) fn ways(&self) -> Vec<Way<'a>> {
        let ways = match self.first("authenticationmethods").unwrap_or("any") {
            "any" => "publickey gssapi-with-mic hostbased password keyboard-interactive",
            ways => ways,
        };
        // A method may name its device: `keyboard-interactive:pam`.
        let method = |method: &'a str| method.split(':').next().unwrap_or(method);
        let ways = ways.split_whitespace().map(|way| way.split(',').map(method).collect::<Way<'_>>());
        ways.filter(|way| way.iter().all(|method| self.is_on(method))).collect()
    }

    fn is_on(&self, method: &str) -> bool {
        let settings: &[&str] = match method {
            "publickey" => &["pubkeyauthentication"],
            "gssapi-with-mic" => &["gssapiauthentication"],
            "hostbased" => &["hostbasedauthentication"],
            PASSWORD => &["passwordauthentication"],
            // Before OpenSSH 8.7 the setting had another name.
            KEYBOARD => &["kbdinteractiveauthentication", "challengeresponseauthentication"],
            _ => return true,
        };
        settings.iter().any(|setting| self.first(setting) == Some("yes"))
    }
}
