use std::fs;

use tempfile::TempDir;

use super::*;

/// A root with PAM files.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("etc/pam.d")).unwrap();
        Self(folder)
    }

    /// The stock stacks of the machine that the tests run on.
    fn debian() -> Self {
        let host = Self::new();
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
        Self::new()
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
        check(self.0.path(), &[])
    }

    /// The checks and their subjects.
    fn found(&self) -> Vec<String> {
        let shown = |finding: Finding| format!("{} {}", finding.check, finding.subject);
        self.findings().into_iter().map(shown).collect()
    }
}

/// What is found in a stack that is alone, as check and line. It is a screen locker's, where one factor may be enough.
fn found(stack: &str) -> Vec<String> {
    let found = Host::new().with("xlock", stack).found();
    found.into_iter().map(|shown| shown.replace("/etc/pam.d/xlock:", "")).collect()
}

const NOTHING: [&str; 0] = [];

/// The fenced block behind `<!-- tested: NAME -->`.
pub(crate) fn readme(name: &str) -> String {
    let blocks = blocks();
    blocks.into_iter().find(|(known, _)| known == name).expect("a block of README").1
}

fn blocks() -> Vec<(String, String)> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let block = |part: &str| {
        let (name, behind) = part.split_once(" -->").unwrap();
        Some((name.to_owned(), behind.split("```").nth(1)?.trim_start_matches("sh").trim_start().to_owned()))
    };
    text.split("<!-- tested: ").skip(1).filter_map(block).collect()
}

#[test]
fn stock_stacks_have_nothing_to_be_told() {
    assert_eq!(Host::debian().found(), NOTHING);
    assert_eq!(Host::fedora().found(), NOTHING);
}

#[test]
fn the_stacks_of_readme_are_in_order_wherever_they_stand() {
    let stacks: Vec<_> = blocks().into_iter().filter(|(_, text)| text.starts_with("auth")).collect();
    assert!(stacks.len() >= 9, "{stacks:?}");
    for (name, stack) in stacks {
        for service in ["sshd", "login", "su", "sudo", "chsh"] {
            let host = Host::debian().replacing(service, "@include common-auth", &stack);
            // Where one factor is enough it is for sshd, which asks for a key before, or for a screen locker.
            let is_one_factor = ["ssh-key", "locker", "locker-code"].contains(&&*name);
            if is_one_factor && (service != "sshd" || name == "locker") {
                assert!(
                    host.found().iter().any(|found| found.starts_with("code-alone ")),
                    "{name} in {service}"
                );
            } else {
                assert_eq!(host.found(), NOTHING, "{name} in {service}");
            }
            assert!(has_module(host.0.path(), service), "{name} in {service}");
        }
        let locker = Host::debian().replacing("swaylock", "auth include login", &stack);
        assert_eq!(locker.found(), NOTHING, "{name}");
        assert!(has_module(locker.0.path(), "swaylock") && !has_module(locker.0.path(), "sshd"), "{name}");
    }
}

/// A stack that comes with the package of a family of distributions.
fn packaged(family: &str, name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/pam");
    fs::read_to_string(format!("{folder}/{family}/{name}")).unwrap()
}

#[test]
fn the_stacks_of_the_package_are_in_order_wherever_they_are_included() {
    for name in ["backupcodes-auth", "backupcodes-totp-auth"] {
        let include = format!("@include {name}\n");
        for service in ["sshd", "login", "su", "sudo", "chsh"] {
            let stock = || Host::debian().replacing(service, "@include common-auth\n", &include);
            let host = stock().with(name, &packaged("debian", name));
            assert_eq!(host.found(), NOTHING, "{name} in {service}");
            assert!(has_module(host.0.path(), service), "{name} in {service}");
            // When the package is gone.
            let host = stock().with(name, &packaged("debian", &format!("without/{name}")));
            assert!(host.found().is_empty() && !has_module(host.0.path(), service), "{name} in {service}");
        }
        let include = format!("auth include {name}\nsession include {name}\n");
        for (service, stock) in [
            ("sshd", "auth       substack     password-auth\n"),
            ("login", "auth       substack     system-auth\n"),
            ("su", "auth            substack        system-auth\n"),
            ("sudo", "auth       include      system-auth\n"),
        ] {
            let host = Host::fedora().with(name, &packaged("generic", name));
            assert_eq!(host.replacing(service, stock, &include).found(), NOTHING, "{name} in {service}");
        }
    }
    // Without its last line the latter lets in who has a set and no app, whatever is typed.
    let last = "auth     required                               pam_backupcodes.so nullok use_first_pass\n";
    let stack = packaged("generic", "backupcodes-totp-auth");
    assert!(stack.contains(last));
    let host = Host::new().with("sshd", &stack.replace(last, "auth required pam_permit.so\n"));
    assert_eq!(host.found(), ["refusal-ignored /etc/pam.d/sshd:10"]);
}

#[test]
fn the_module_is_found_by_path_by_include_and_in_other() {
    let host = Host::new()
        .with("a", "auth required /opt/pam_backupcodes.so\n")
        .with("b", "@include a\n")
        .with("c", "auth required pam_backupcodes_not.so\n")
        .with("other", "auth required pam_backupcodes.so\n");
    let has = |service| has_module(host.0.path(), service);
    assert!(has("a") && has("b") && !has("c") && has("gone"));
}

#[test]
fn placements_in_fedoras_stacks_are_told_apart() {
    let ours = "auth required pam_backupcodes.so\n";
    let sshd = "auth       substack     password-auth\n";
    // The substack does not end the stack when the password is wrong.
    let behind = Host::fedora().replacing("sshd", sshd, &format!("{sshd}{ours}"));
    assert_eq!(behind.found(), ["burns-codes /etc/pam.d/sshd:2"]);
    // In the place of the substack, as README says.
    let instead = Host::fedora().replacing("sshd", sshd, &readme("ssh-password"));
    assert_eq!(instead.found(), NOTHING);
    // An include ends with `sufficient pam_unix`, in front of the line.
    let include = "auth       include      system-auth\n";
    let never = Host::fedora().replacing("sudo", include, &format!("{include}{ours}"));
    assert_eq!(never.found(), ["never-asked /etc/pam.d/sudo:2"]);
    assert!(never.findings()[0].message.ends_with("in the stacks of sudo, sudo-i"), "{:?}", never.findings());
    // In front of all, the code is asked for first, and the password after it.
    let first = Host::fedora().replacing("sudo", include, &format!("{ours}{include}"));
    assert_eq!(first.found(), NOTHING);
    let alone = first.replacing("sudo", "required", "sufficient");
    assert_eq!(alone.found(), ["code-alone /etc/pam.d/sudo:1"]);
}

#[test]
fn debians_common_auth_can_stand_in_front() {
    let include = "@include common-auth\n";
    let ours = "auth required pam_backupcodes.so\n";
    let host = Host::debian().replacing("sshd", include, &format!("{include}{ours}"));
    assert_eq!(host.found(), NOTHING);
    // Where it stands in common-auth itself, all who include it are named.
    let alone = "auth sufficient pam_backupcodes.so\nauth\t[success=1";
    let host = Host::debian().replacing("common-auth", "auth\t[success=1", alone);
    let findings = host.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].check, "code-alone");
    assert!(findings[0].subject.starts_with("/etc/pam.d/common-auth:"), "{findings:?}");
    // Whatever else is installed on this machine.
    let named = findings[0].message.split_once(", in the stacks of ").unwrap().1;
    let named: Vec<_> = named.split(", ").collect();
    for service in ["login", "other", "sshd", "su", "su-l", "sudo", "swaylock"] {
        assert!(named.contains(&service), "{service} in {named:?}");
    }
    assert!(!named.contains(&"common-auth") && !named.contains(&"passwd"), "{named:?}");
}

#[test]
fn a_code_alone_in_front_of_the_password() {
    let password = "auth required pam_unix.so\n";
    let sufficient = "auth sufficient pam_backupcodes.so\n";
    assert_eq!(found(&format!("{sufficient}{password}")), ["code-alone 1"]);
    assert_eq!(
        found(
            "auth [success=1 default=ignore] pam_backupcodes.so\nauth requisite pam_krb5.so\nauth required pam_permit.so\n"
        ),
        ["code-alone 1"]
    );
    assert_eq!(found(&format!("auth required pam_backupcodes.so\n{password}")), NOTHING);
    assert_eq!(
        found(&format!("auth requisite pam_unix.so\n{sufficient}auth required pam_oath.so\n")),
        NOTHING
    );
}

#[test]
fn a_stack_that_ends_before_the_module_never_asks() {
    let ours = "auth required pam_backupcodes.so\n";
    assert_eq!(found(&format!("auth sufficient pam_permit.so\n{ours}")), ["never-asked 2"]);
    assert_eq!(found(&format!("auth sufficient pam_rootok.so\n{ours}")), NOTHING);
    assert_eq!(
        found(&format!("auth [success=1] pam_unix.so\n{ours}auth required pam_permit.so\n")),
        ["never-asked 2"]
    );
    assert_eq!(
        found(&format!("auth [success=1 default=ignore] pam_unix.so\n{ours}auth required pam_permit.so\n")),
        NOTHING
    );
}

#[test]
fn a_stack_that_nobody_passes() {
    let ours = "auth required pam_backupcodes.so\n";
    assert_eq!(found(&format!("{ours}auth required pam_deny.so\n")), ["nobody-gets-in 1"]);
    assert_eq!(
        found(&format!("auth sufficient pam_rootok.so\n{ours}auth required pam_deny.so\n")),
        ["nobody-gets-in 2"]
    );
    assert_eq!(
        found("auth [success=1 default=ignore] pam_backupcodes.so\nauth required pam_deny.so\n"),
        ["nobody-gets-in 1"],
        "a jump alone says no yes"
    );
    assert_eq!(found("auth requird pam_backupcodes.so\n"), ["nobody-gets-in 1"]);
    assert_eq!(found("auth sufficient pam_backupcodes.so\nauth required pam_deny.so\n"), NOTHING);
}

#[test]
fn a_refusal_that_counts_for_nothing() {
    let password = "auth requisite pam_unix.so\n";
    for control in ["sufficient", "optional", "[success=ok authinfo_unavail=ignore default=bad]"] {
        let stack = format!("{password}auth {control} pam_backupcodes.so\n");
        assert_eq!(found(&stack), ["refusal-ignored 2"], "{control}");
        let behind = format!("{stack}auth required pam_unknown_factor.so\n");
        assert_eq!(found(&behind), NOTHING, "{control}");
        let silent = format!("{stack}auth required pam_access.so\n");
        assert_eq!(found(&silent), ["refusal-ignored 2"], "{control}");
    }
    assert_eq!(found(&format!("{password}auth required pam_backupcodes.so nullok\n")), NOTHING);
    assert_eq!(
        found("auth required pam_env.so\nauth sufficient pam_backupcodes.so\n"),
        NOTHING,
        "env says no yes"
    );
}

#[test]
fn codes_that_a_wrong_password_burns() {
    let ours = "auth required pam_backupcodes.so\n";
    assert_eq!(found(&format!("auth required pam_unix.so\n{ours}")), ["burns-codes 2"]);
    assert_eq!(found(&format!("auth requisite pam_unix.so\n{ours}")), NOTHING);
    assert_eq!(found(&format!("{ours}auth required pam_unix.so\n")), NOTHING);
    assert_eq!(found(&format!("auth required pam_oath.so\n{ours}")), NOTHING, "no first factor");
    let denied = "auth [success=1 default=ignore] pam_succeed_if.so\nauth required pam_deny.so\n";
    assert_eq!(found(&format!("{denied}{ours}")), NOTHING, "no password was wrong");
    let other = "auth required pam_env.so\nauth required pam_faillock.so preauth\n";
    assert_eq!(
        found(&format!("{other}auth sufficient pam_unix.so\n{ours}")),
        NOTHING,
        "not the password's fault"
    );
    assert_eq!(
        found(&format!("auth sufficient pam_unix.so\nauth required pam_deny.so\n{ours}")),
        ["never-asked 3"]
    );
}

#[test]
fn a_line_that_a_backslash_swallows() {
    let ours = "auth required pam_backupcodes.so";
    let stack = "auth requisite pam_unix.so \\\nauth required pam_env.so\n";
    assert_eq!(found(&format!("{stack}{ours}\n")), ["backslash 1"]);
    let lost = Host::new().with("xlock", &format!("auth requisite pam_unix.so \\\n{ours}\n"));
    assert_eq!(lost.found(), ["backslash /etc/pam.d/xlock:1"], "our own line is gone");
    assert!(
        lost.findings()[0]
            .message
            .contains("line 2 is joined to it and lost (auth required pam_backupcodes.so)")
    );
    assert_eq!(
        found(&format!("auth requisite pam_unix.so\n{ours} \\\n")),
        ["backslash 2"],
        "the file is refused"
    );
    let included = Host::new().with("xlock", &format!("@include y\n{ours}\n")).with("y", stack);
    assert_eq!(included.found(), ["backslash /etc/pam.d/y:1"], "in a file that does not name the module");
    let goes_on = "auth requisite \\\n  pam_unix.so\n";
    assert_eq!(found(&format!("{goes_on}{ours}\n")), NOTHING, "its own words");
    assert_eq!(found(stack), NOTHING, "without the module");
    assert_eq!(found(&format!("# {ours}\n{stack}")), NOTHING, "in a comment");
}

#[test]
fn forward_pass_needs_a_module_behind_it() {
    let ours = |control| format!("auth {control} pam_backupcodes.so forward_pass\n");
    let behind = "auth required pam_oath.so use_first_pass\n";
    assert_eq!(found(&ours("required")), ["forward-pass-alone 1"]);
    assert_eq!(
        found(&format!("{}{behind}", ours("required"))),
        ["forward-pass-alone 1"],
        "it fails all the same"
    );
    assert_eq!(found(&format!("{}{behind}", ours("sufficient"))), NOTHING);
    assert_eq!(found(&format!("{}{behind}", ours("sufficient")).replace("oath", "access")).len(), 2);
    assert_eq!(found("auth required pam_backupcodes.so\n"), NOTHING);
}

#[test]
fn an_option_that_the_module_does_not_know() {
    let ours =
        |options: &str| Host::new().with("xlock", &format!("auth required pam_backupcodes.so {options}\n"));
    let all = "quiet echo debug use_first_pass try_first_pass conf=/a [prompt=Code: ]";
    assert_eq!(ours(all).found(), NOTHING);
    for wrong in ["null_ok", "prompt", "conf=relative", "prompt=Backup code:"] {
        assert_eq!(ours(wrong).found(), ["unknown-option /etc/pam.d/xlock:1"], "{wrong}");
    }
    let finding = ours("quiet null_ok Echo").findings().remove(0);
    assert!(
        finding.message.contains("\"null_ok\", \"Echo\"") && !finding.message.contains("quiet"),
        "{finding}"
    );
    assert!(finding.remedy.starts_with("expected conf=/PATH"), "{finding}");
}

#[test]
fn an_include_that_is_missing() {
    let ours = "auth required pam_backupcodes.so\n";
    for include in ["@include gone", "auth include gone", "auth substack /gone"] {
        assert_eq!(found(&format!("{ours}{include}\n")), ["missing-include 2"], "{include}");
    }
    assert_eq!(found("auth required pam_unix.so\nauth include gone\n"), NOTHING, "without the module");
    let there =
        Host::new().with("xlock", &format!("{ours}@include y\n")).with("y", "account required pam_unix.so\n");
    assert_eq!(there.found(), NOTHING);
}

#[test]
fn accounts_without_a_set_are_named_where_they_cannot_get_in() {
    let names = ["a", "b", "c", "d", "e", "f"].map(String::from);
    let judged = |stack: &str, names: &[String]| check(Host::new().with("xlock", stack).0.path(), names);
    let strict = "auth requisite pam_unix.so\nauth required pam_backupcodes.so\n";
    let findings = judged(strict, &names);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((findings[0].check, &*findings[0].subject), ("no-set-locked-out", "/etc/pam.d/xlock:2"));
    assert!(
        findings[0].message.starts_with("6 accounts have no set")
            && findings[0].message.ends_with("a, b, c, d, e …")
    );
    assert!(judged(strict, &names[..1])[0].message.ends_with("get in here: a"));
    assert_eq!(judged(strict, &[]), []);
    let su = format!("auth sufficient pam_rootok.so\n{strict}");
    assert_eq!(judged(&su, &names).len(), 1, "root's way in is not theirs");
    assert_eq!(judged("auth required pam_backupcodes.so nullok\n", &names).len(), 1, "nobody says yes");
    for block in ["nullok", "locker", "one-prompt"] {
        assert_eq!(judged(&readme(block), &names), [], "{block}");
    }
}

#[test]
fn long_stacks_are_judged_at_once() {
    let mut stack = "auth [success=1 auth_err=2 default=ignore] pam_succeed_if.so\n".repeat(500);
    stack.push_str("auth requisite pam_unix.so\nauth required pam_backupcodes.so\n");
    let begin = std::time::Instant::now();
    found(&stack);
    assert!(begin.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn a_code_or_a_password_that_gets_in_alone_is_told_of_whatever_the_order() {
    let found_in_x = |stack: &str| Host::new().with("x", stack).found();
    let ours = "auth required pam_backupcodes.so\n";
    let either = [
        format!("auth sufficient pam_unix.so nullok\n{ours}"),
        "auth sufficient pam_unix.so\nauth sufficient pam_backupcodes.so\nauth required pam_deny.so\n".into(),
        "auth sufficient pam_unix.so\nauth optional pam_env.so\nauth required pam_backupcodes.so\n".into(),
    ];
    for stack in either {
        let found = found_in_x(&stack).join(" ");
        assert!(found.contains("code-alone") && found.contains("password-alone"), "{stack}: {found}");
    }
    for alone in [
        format!("auth optional pam_unix.so\n{ours}"),
        "auth sufficient pam_backupcodes.so\nauth required pam_google_authenticator.so\n".into(),
        ours.into(),
    ] {
        let found = found_in_x(&alone).join(" ");
        assert!(found.contains("code-alone") && !found.contains("password-alone"), "{alone}: {found}");
        // Who locked the screen has logged in before.
        assert_eq!(Host::new().with("swaylock", &alone).found(), NOTHING, "{alone}");
    }
    assert!(
        found_in_x(&format!("auth sufficient pam_faillock.so authsucc\n{ours}"))
            .join(" ")
            .contains("never-asked")
    );
    // Exceptions that an administrator has made, and another factor in our place.
    for meant in [
        "[success=1 default=ignore] pam_succeed_if.so user notingroup codes",
        "[default=1 success=ignore] pam_succeed_if.so user ingroup codes",
        "sufficient pam_succeed_if.so user in nagios",
    ] {
        assert_eq!(
            found_in_x(&format!("auth requisite pam_unix.so\nauth {meant}\n{ours}")),
            NOTHING,
            "{meant}"
        );
    }
    let other = "auth requisite pam_unix.so\nauth sufficient pam_google_authenticator.so\n";
    assert_eq!(found_in_x(&format!("{other}{ours}")), NOTHING);
    // A key may come before what sshd asks for.
    assert_eq!(Host::new().with("sshd", ours).found(), NOTHING);
    assert!(asks_sshd_for_a_code_alone(Host::new().with("sshd", ours).0.path()));
    let both = format!("auth requisite pam_unix.so\n{ours}");
    assert!(!asks_sshd_for_a_code_alone(Host::new().with("sshd", &both).0.path()));
}

#[test]
fn what_is_no_file_is_passed_over() {
    let host = Host::new().with("login", "auth required pam_backupcodes.so\nauth required pam_unix.so\n");
    nix::unistd::mkfifo(&host.path("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    std::os::unix::fs::symlink("/dev/zero", host.path("zero")).unwrap();
    assert_eq!(host.found(), NOTHING);
}

#[test]
fn the_lines_of_docs_fedora_are_in_order() {
    let page = include_str!("../../../../docs/fedora.md");
    let lines = page.split("<!-- tested: ").skip(1).filter_map(|part| part.split("```").nth(1));
    let lines: Vec<_> = lines.map(str::trim_start).filter(|lines| lines.starts_with("auth")).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (service, substack) in [
        ("sshd", "auth       substack     password-auth\n"),
        ("login", "auth       substack     system-auth\n"),
    ] {
        for lines in &lines {
            let host = Host::fedora()
                .replacing(service, substack, lines)
                .with("backupcodes-auth", include_str!("../../../../packaging/pam/generic/backupcodes-auth"));
            assert_eq!(host.found(), NOTHING, "{lines} in {service}");
            assert!(has_module(host.0.path(), service), "{lines} in {service}");
        }
    }
}
