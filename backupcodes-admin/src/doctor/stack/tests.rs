use std::fs;

use tempfile::TempDir;

use super::*;

mod everybody;
mod faults;
mod handed;
mod lines;
mod lockers;
mod stock;

/// A root with PAM files.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("etc/pam.d")).unwrap();
        Self(folder)
    }

    /// The stock stacks of the machine that the tests run on, and those of a desktop.
    fn debian() -> Self {
        let keyring = "auth\toptional\tpam_gnome_keyring.so\n";
        let gdm = format!(
            "auth\trequisite\tpam_nologin.so\nauth\trequired\tpam_succeed_if.so user != root quiet_success\n\
             @include common-auth\n{keyring}@include common-account\n"
        );
        let lightdm = format!(
            "auth\trequisite\tpam_nologin.so\nauth\tsufficient\tpam_succeed_if.so user ingroup nopasswdlogin\n\
             @include common-auth\n{keyring}-auth\toptional\tpam_kwallet5.so\n@include common-account\n"
        );
        let polkit = "@include common-auth\n@include common-account\n@include common-password\n";
        let host = Self::new().with("gdm-password", &gdm).with("lightdm", &lightdm).with("polkit-1", polkit);
        for entry in fs::read_dir("/etc/pam.d").unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), host.path(entry.file_name().to_str().unwrap())).unwrap();
        }
        host
    }

    /// Stock stacks as Fedora has them.
    fn fedora() -> Self {
        const AUTH: &str = "\
auth        required                                     pam_env.so
auth        required                                     pam_faildelay.so delay=2000000
auth        required                                     pam_faillock.so preauth silent
auth        [default=1 ignore=ignore success=ok]         pam_usertype.so isregular
auth        [default=1 ignore=ignore success=ok]         pam_localuser.so
auth        sufficient                                   pam_unix.so nullok
auth        [default=1 ignore=ignore success=ok]         pam_usertype.so isregular
auth        sufficient                                   pam_sss.so forward_pass
auth        required                                     pam_faillock.so authfail
auth        required                                     pam_deny.so
account     required                                     pam_unix.so
";
        let postlogin = "session     optional                   pam_umask.so silent\n";
        let login = "auth       substack     system-auth\nauth       include      postlogin\n\
                     account    required     pam_nologin.so\naccount    include      system-auth\n";
        let su = "auth            sufficient      pam_rootok.so\nauth            substack        system-auth\n\
                  auth            include         postlogin\naccount         include         system-auth\n";
        let sudo = "auth       include      system-auth\naccount    include      system-auth\n";
        let sshd = "auth       substack     password-auth\nauth       include      postlogin\n\
                    account    include      password-auth\n";
        let gdm = "auth     [success=done ignore=ignore default=bad] pam_selinux_permit.so\n\
                   auth        substack      password-auth\nauth        optional      pam_gnome_keyring.so\n\
                   auth        include       postlogin\naccount     include       password-auth\n";
        Self::new()
            .with("gdm-password", gdm)
            .with("polkit-1", sudo)
            .with("system-auth", AUTH)
            .with("password-auth", AUTH)
            .with("postlogin", postlogin)
            .with("login", login)
            .with("su", su)
            .with("sudo", sudo)
            .with("sudo-i", "auth include sudo\naccount include sudo\n")
            .with("sshd", sshd)
    }

    fn with(self, service: &str, text: &str) -> Self {
        fs::write(self.path(service), text).unwrap();
        self
    }

    /// Puts something else in the place of a part of a file.
    fn replacing(self, service: &str, part: &str, by: &str) -> Self {
        let text = fs::read_to_string(self.path(service)).unwrap();
        assert!(text.contains(part), "{text}");
        self.with(service, &text.replacen(part, by, 1))
    }

    fn path(&self, service: &str) -> std::path::PathBuf {
        self.0.path().join("etc/pam.d").join(service)
    }

    fn findings(&self) -> Vec<Finding> {
        check(self.0.path(), &WithoutSet::new())
    }

    /// The checks and their subjects.
    fn found(&self) -> Vec<String> {
        let shown = |finding: Finding| format!("{} {}", finding.check, finding.subject);
        self.findings().into_iter().map(shown).collect()
    }
}

/// What is found in a stack that is alone, as check and line.
fn found(stack: &str) -> Vec<String> {
    found_in("login", stack)
}

/// The same in the stack of another service.
fn found_in(service: &str, stack: &str) -> Vec<String> {
    let found = Host::new().with(service, stack).found();
    found.into_iter().map(|shown| shown.replace(&format!("/etc/pam.d/{service}:"), "")).collect()
}

const NOTHING: [&str; 0] = [];

/// The fenced block after `<!-- tested: NAME -->` in README or the guide.
pub(crate) fn readme(name: &str) -> String {
    blocks().remove(name).expect("a block of the guide")
}

/// Fedora's have stacks of their own.
fn blocks() -> BTreeMap<String, String> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let pages = fs::read_dir(root.join("docs/guide")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|page| !page.ends_with("fedora.md")).chain([root.join("README.md")]);
    let text: String = pages.map(|page| fs::read_to_string(page).unwrap()).collect();
    let block = |part: &str| {
        let (name, rest) = part.split_once(" -->").unwrap();
        Some((name.to_owned(), rest.split("```").nth(1)?.trim_start_matches("sh").trim_start().to_owned()))
    };
    text.split("<!-- tested: ").skip(1).filter_map(block).collect()
}
