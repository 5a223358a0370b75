//! Whether sshd asks PAM, and for whom, by the settings that sshd itself prints: only sshd knows its defaults.

mod settings;

use std::path::Path;

use crate::doctor::finding::{Finding, Level};
use crate::doctor::sshd::settings::Settings;
use crate::doctor::stack::Asked;

/// Where it is on all distributions that we know.
pub(super) const PROGRAM: &str = "/usr/sbin/sshd";

/// What is judged. Its settings stand in several files.
const SUBJECT: &str = "sshd";

/// The method that passes on each question of PAM's.
const KEYBOARD: &str = "keyboard-interactive";
/// The method that asks once, and gives this response to every prompt of PAM.
const PASSWORD: &str = "password";

/// Judges sshd, where its stack has the module.
pub(super) fn check(root: &Path, asked: Asked) -> Vec<Finding> {
    let mut findings = match settings::printed(Path::new(PROGRAM)) {
        Ok(settings) => judge(&settings, asked),
        Err(finding) => vec![finding],
    };
    findings.extend(settings::with_match(root));
    findings
}

/// Judges what `sshd -T` prints.
fn judge(settings: &str, asked: Asked) -> Vec<Finding> {
    let settings = Settings(settings);
    if settings.first("usepam") != Some("yes") {
        let message = "UsePAM is not yes: no login over SSH needs a code";
        return vec![finding(Level::Error, "sshd-use-pam", message, "UsePAM yes")];
    }
    let ways = settings.ways();
    let ways_that = |is_so: fn(&Way<'_>) -> bool| ways.iter().filter(move |way| is_so(way));
    if ways_that(asks).next().is_none() {
        let message =
            "sshd never asks for a code: no method that is enabled is keyboard-interactive or password";
        let remedy = "KbdInteractiveAuthentication yes, AuthenticationMethods publickey,keyboard-interactive";
        return vec![finding(Level::Error, "sshd-never-asks", message, remedy)];
    }
    let mut findings = Vec::new();
    let alone = shown(ways_that(is_asked_alone));
    if asked == Asked::Code && !alone.is_empty() {
        let message = format!(
            "a code alone is accepted, by {alone}: the stack asks for nothing else, and AuthenticationMethods asks for no key first"
        );
        let remedy =
            "AuthenticationMethods publickey,keyboard-interactive, or ask for the password in the stack too";
        findings.push(finding(Level::Error, "code-alone", &message, remedy));
    }
    if asked != Asked::Code && ways_that(is_answered_by_password).next().is_some() {
        let is_only_way = ways_that(|way| way.contains(&KEYBOARD)).next().is_none();
        let (level, check, other) = match asked {
            Asked::PasswordAndCode if is_only_way => (
                Level::Error,
                "sshd-kbd-interactive",
                "are locked out, because keyboard-interactive is not enabled",
            ),
            Asked::PasswordAndCode => (Level::Warning, "sshd-password", "cannot log in with it"),
            _ => (Level::Warning, "sshd-password", "may not be able to log in with it"),
        };
        let message = format!(
            "the method password asks once, and sshd gives PAM that response for both the password and the code: users with a set {other}"
        );
        let remedy = "PasswordAuthentication no, KbdInteractiveAuthentication yes: keyboard-interactive asks for the password too";
        findings.push(finding(level, check, &message, remedy));
    }
    for way in ways_that(|way| !asks(way)) {
        let check = if way.contains(&"publickey") { "sshd-key-alone" } else { "sshd-not-asked" };
        let message = format!("logins with {} need no code", way.join(","));
        let remedy = "AuthenticationMethods publickey,keyboard-interactive, or ignore this if you want it so";
        findings.push(finding(Level::Warning, check, &message, remedy));
    }
    findings
}

/// Methods that all have to succeed.
type Way<'a> = Vec<&'a str>;

fn asks(way: &Way<'_>) -> bool {
    way.iter().any(is_asking)
}

fn is_asked_alone(way: &Way<'_>) -> bool {
    way.iter().all(is_asking)
}

fn is_answered_by_password(way: &Way<'_>) -> bool {
    way.contains(&PASSWORD) && !way.contains(&KEYBOARD)
}

/// Whether PAM is asked in the course of a method.
fn is_asking(method: &&str) -> bool {
    [KEYBOARD, PASSWORD].contains(method)
}

fn shown<'a>(ways: impl Iterator<Item = &'a Way<'a>>) -> String {
    ways.map(|way| way.join(",")).collect::<Vec<_>>().join(" or ")
}

/// `settings` fix it.
fn finding(level: Level, check: &'static str, message: &str, settings: &str) -> Finding {
    let keyword = settings.split(' ').next().unwrap_or_default();
    let remedy = format!(
        "in /etc/ssh/sshd_config.d/10-backupcodes.conf, or in the file that sets it first (grep -rni {keyword} /etc/ssh): {settings}; then: sshd -t && systemctl reload ssh"
    );
    Finding::new(level, check, SUBJECT, message, remedy)
}

#[cfg(test)]
mod tests;
