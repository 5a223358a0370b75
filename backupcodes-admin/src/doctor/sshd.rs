//! Whether sshd asks PAM, and for whom: judged by the settings that it prints itself, since it alone knows its defaults.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::doctor::finding::{Finding, Level};

/// Where it is on all distributions that we know.
pub(super) const PROGRAM: &str = "/usr/sbin/sshd";

/// What is judged. Its settings stand in several files.
const SUBJECT: &str = "sshd";

/// The method that can ask for a password and a code, or for a code alone.
const ASKS: &str = "keyboard-interactive";

/// The settings in force, outside of `Match` blocks.
///
/// # Errors
/// sshd does not say them: a finding of its own.
pub(crate) fn settings(program: &Path) -> Result<String, Finding> {
    let unknown = |why: &str| {
        let message = format!("its settings cannot be judged: {why}");
        let remedy =
            format!("see what `{} -T` says as root, while ssh runs (it wants /run/sshd)", program.display());
        Finding::new(Level::Warning, "sshd-settings", program.display().to_string(), message, remedy)
    };
    let mut command = Command::new(program);
    command.arg("-T").env_clear().stdin(Stdio::null());
    let output = command.output().map_err(|error| unknown(&error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaints = String::from_utf8_lossy(&output.stderr);
    let said = complaints.lines().map(str::trim).find(|line| !line.is_empty());
    Err(unknown(said.unwrap_or(&output.status.to_string())))
}

/// Judges what `sshd -T` prints, where sshd's stack has the module.
/// `code_alone`: that stack asks for a code and nothing else.
pub(crate) fn check(settings: &str, code_alone: bool) -> Vec<Finding> {
    let settings = Settings(settings);
    if settings.first("usepam") != Some("yes") {
        let message = "UsePAM is not yes: no login over SSH is asked for a code";
        return vec![error("sshd-use-pam", message, "set `UsePAM yes`")];
    }
    let mut findings = Vec::new();
    if !settings.asks() {
        let message = "KbdInteractiveAuthentication is no: nobody can be asked for a code";
        findings.push(error("sshd-kbd-interactive", message, "set `KbdInteractiveAuthentication yes`"));
    }
    if code_alone && settings.asks() && settings.any_way(|way| way.iter().all(|method| *method == ASKS)) {
        let message = "a code alone gets in: its stack asks for nothing else, and AuthenticationMethods asks for no key before";
        let remedy = "set `AuthenticationMethods publickey,keyboard-interactive`, or ask for the password in the stack as well";
        findings.push(error("code-alone", message, remedy));
    }
    if settings.is_yes("pubkeyauthentication") && settings.any_way(is_key_alone) {
        let message = "AuthenticationMethods lets a key in without a code";
        let remedy = "set `AuthenticationMethods publickey,keyboard-interactive`, or leave it if that is what you want";
        findings.push(warning("sshd-key-alone", message, remedy));
    }
    if settings.is_yes("passwordauthentication") && settings.any_way(|way| way.contains(&"password")) {
        let message = "PasswordAuthentication is yes: sshd answers all that the stack asks with the password, the code too";
        let remedy = "set `PasswordAuthentication no`: keyboard-interactive asks for the password as well";
        findings.push(warning("sshd-password", message, remedy));
    }
    findings
}

/// A key, and nothing that PAM is asked about.
fn is_key_alone(way: &[&str]) -> bool {
    way.contains(&"publickey") && !way.contains(&ASKS) && !way.contains(&"password")
}

fn error(check: &'static str, message: &str, remedy: &str) -> Finding {
    Finding::new(Level::Error, check, SUBJECT, message, remedy)
}

fn warning(check: &'static str, message: &str, remedy: &str) -> Finding {
    Finding::new(Level::Warning, check, SUBJECT, message, remedy)
}

/// Lines of a keyword in small letters and its value.
struct Settings<'a>(&'a str);

impl<'a> Settings<'a> {
    fn first(&self, keyword: &str) -> Option<&'a str> {
        let value = |line: &'a str| line.strip_prefix(keyword)?.strip_prefix(' ').map(str::trim);
        self.0.lines().find_map(value)
    }

    fn is_yes(&self, keyword: &str) -> bool {
        self.first(keyword) == Some("yes")
    }

    /// Before OpenSSH 8.7 the setting had another name.
    fn asks(&self) -> bool {
        ["kbdinteractiveauthentication", "challengeresponseauthentication"]
            .iter()
            .any(|name| self.is_yes(name))
    }

    /// Whether one of the ways in is so. `any` is one for each method.
    fn any_way(&self, is_so: impl Fn(&[&str]) -> bool) -> bool {
        let ways = match self.first("authenticationmethods").unwrap_or("any") {
            "any" => "publickey password keyboard-interactive",
            ways => ways,
        };
        // A method may name its device: `keyboard-interactive:pam`.
        let method = |method: &'a str| method.split(':').next().unwrap_or(method);
        ways.split_whitespace().any(|way| is_so(&way.split(',').map(method).collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges a file's settings over sshd's defaults, as `sshd -T` prints both.
    fn findings(config: &str) -> Vec<&'static str> {
        let defaults = "usepam no\npubkeyauthentication yes\npasswordauthentication yes\n\
                        kbdinteractiveauthentication yes\nauthenticationmethods any\n";
        let set =
            |line: &str| line.split_once(' ').map(|(word, value)| (word.to_lowercase(), value.to_owned()));
        let settings: Vec<_> = config.lines().chain(defaults.lines()).filter_map(set).collect();
        let text: String = settings.iter().map(|(word, value)| format!("{word} {value}\n")).collect();
        check(&text, false).iter().map(|finding| finding.check).collect()
    }

    /// `UsePAM yes` and what else is set.
    fn with_pam(rest: &str) -> Vec<&'static str> {
        findings(&format!("UsePAM yes\n{rest}"))
    }

    #[test]
    fn what_the_real_sshd_prints_is_read() {
        // It wants /run/sshd and host keys, which are not there on every machine.
        match settings(Path::new("/usr/sbin/sshd")) {
            Ok(text) => {
                let settings = Settings(&text);
                assert!(["yes", "no"].contains(&settings.first("usepam").unwrap()));
                assert!(settings.first("authenticationmethods").is_some());
                assert!(["yes", "no"].contains(&settings.first("pubkeyauthentication").unwrap()));
            }
            Err(finding) => {
                assert_eq!(finding.check, "sshd-settings");
                assert!(!finding.message.contains('\n') && finding.message.len() > 50, "{finding}");
            }
        }
    }

    #[test]
    fn the_settings_of_readme_are_in_order() {
        for name in ["sshd-key", "sshd-password"] {
            assert_eq!(findings(&crate::doctor::stack::tests::readme(name)), [""; 0], "{name}");
        }
    }

    #[test]
    fn without_pam_nobody_is_asked() {
        let rest = "KbdInteractiveAuthentication yes\nAuthenticationMethods publickey,keyboard-interactive\n";
        assert_eq!(findings(&format!("UsePAM no\n{rest}")), ["sshd-use-pam"]);
        assert_eq!(with_pam(rest), [""; 0]);
    }

    #[test]
    fn a_code_needs_a_method_that_can_ask_for_it() {
        let way = "AuthenticationMethods publickey,keyboard-interactive\n";
        assert_eq!(with_pam(&format!("KbdInteractiveAuthentication no\n{way}")), ["sshd-kbd-interactive"]);
        assert_eq!(with_pam(&format!("KbdInteractiveAuthentication yes\n{way}")), [""; 0]);
        let old = "usepam yes\nchallengeresponseauthentication yes\npubkeyauthentication no\n";
        assert_eq!(check(old, false), []);
    }

    #[test]
    fn a_key_alone_is_told() {
        let no = "PasswordAuthentication no\n";
        for ways in [
            "",
            "AuthenticationMethods publickey\n",
            "AuthenticationMethods publickey,keyboard-interactive publickey,publickey\n",
        ] {
            assert_eq!(with_pam(&format!("{no}{ways}")), ["sshd-key-alone"], "{ways}");
        }
        for ways in
            ["PubkeyAuthentication no\n", "AuthenticationMethods publickey,keyboard-interactive:pam\n"]
        {
            assert_eq!(with_pam(&format!("{no}{ways}")), [""; 0], "{ways}");
        }
    }

    #[test]
    fn a_password_in_the_place_of_the_code_is_told() {
        let no = "PubkeyAuthentication no\n";
        assert_eq!(with_pam(no), ["sshd-password"]);
        assert_eq!(with_pam("AuthenticationMethods publickey,password\n"), ["sshd-password"]);
        assert_eq!(with_pam(&format!("{no}PasswordAuthentication no\n")), [""; 0]);
        assert_eq!(with_pam(&format!("{no}AuthenticationMethods keyboard-interactive\n")), [""; 0]);
    }

    #[test]
    fn settings_that_sshd_does_not_tell_are_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("sshd");
        let missing = settings(&program).unwrap_err();
        assert_eq!((missing.check, missing.level), ("sshd-settings", Level::Warning));
        script(&program, "echo \"$@ ${HOME-none}\"");
        assert_eq!(settings(&program), Ok("-T none\n".into()));
        script(&program, "echo usepam yes; echo 'line 3: Bad option' >&2; echo more >&2; exit 255");
        let failed = settings(&program).unwrap_err();
        assert!(failed.message.ends_with(": line 3: Bad option"), "{failed}");
    }

    fn script(program: &Path, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(program, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_stack_that_asks_for_a_code_alone_wants_a_key_before_it() {
        let checks = |methods: &str, code_alone| -> Vec<_> {
            let settings = "usepam yes\nkbdinteractiveauthentication yes\npubkeyauthentication yes\npasswordauthentication no\n";
            let text = format!("{settings}authenticationmethods {methods}\n");
            check(&text, code_alone).iter().map(|finding| finding.check).collect()
        };
        for methods in
            ["any", "keyboard-interactive", "publickey,keyboard-interactive keyboard-interactive:pam"]
        {
            assert!(checks(methods, true).contains(&"code-alone"), "{methods}");
            assert!(!checks(methods, false).contains(&"code-alone"), "{methods}");
        }
        assert!(checks("publickey,keyboard-interactive", true).is_empty());
    }
}
