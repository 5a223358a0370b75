//! Lines that libpam reads in another way than they look, or that name what does not exist.

use super::*;

#[test]
fn a_line_that_a_backslash_swallows() {
    let ours = "auth required pam_backupcodes.so";
    let stack = "auth requisite pam_unix.so \\\nauth required pam_env.so\n";
    assert_eq!(found(&format!("{stack}{ours}\n")), ["backslash 1"]);
    let lost = Host::new().with("login", &format!("auth requisite pam_unix.so \\\n{ours}\n"));
    assert_eq!(lost.found(), ["backslash /etc/pam.d/login:1"], "our own line is gone");
    assert!(
        lost.findings()[0]
            .message
            .contains("libpam joins line 2 to it and loses that (auth required pam_backupcodes.so)")
    );
    assert_eq!(
        found(&format!("auth requisite pam_unix.so\n{ours} \\\n")),
        ["backslash 2"],
        "the file is refused"
    );
    let included = Host::new().with("login", &format!("@include y\n{ours}\n")).with("y", stack);
    assert_eq!(included.found(), ["backslash /etc/pam.d/y:1"], "in a file that does not name the module");
    let goes_on = "auth requisite \\\n  pam_unix.so\n";
    assert_eq!(found(&format!("{goes_on}{ours}\n")), NOTHING, "its own words");
    assert_eq!(found(stack), NOTHING, "without the module");
    assert_eq!(found(&format!("# {ours}\n{stack}")), NOTHING, "in a comment");
}

#[test]
fn a_line_with_a_character_that_cannot_be_seen() {
    let stack = "auth requisite pam_unix.so\nauth required pam_backupcodes.so\n";
    let windows = stack.replace('\n', "\r\n");
    assert_eq!(found(&windows), ["carriage-return 1", "carriage-return 2"]);
    let finding = Host::new().with("login", &windows).findings().remove(0);
    assert_eq!(finding.level, Level::Error);
    // authselect's files are links, which `sed -i` would put files in the place of.
    assert_eq!(finding.remedy, "sed -i 's/\\r$//' \"$(readlink -f /etc/pam.d/login)\"");
    for (line, at) in [
        ("auth required pam_env.so\r\n", 1),
        ("\r\n", 1),
        ("@include y\r\n", 1),
        ("auth substack y\r\n", 1),
        ("session optional pam_env.so quiet\r\n", 1),
        ("# from the web\nauth required pam_env.so \r \n", 2),
    ] {
        let host = Host::new().with("login", &format!("{line}{stack}")).with("y", "");
        assert_eq!(host.found(), [format!("carriage-return /etc/pam.d/login:{at}")], "{line}");
    }
    let last = format!("{stack}auth required pam_env.so\r");
    assert_eq!(found(&last), ["carriage-return 3"]);
    assert_eq!(found(&format!("{}{stack}", "# a comment\r\n")), NOTHING, "libpam skips it");
    assert_eq!(found(&windows.replace("pam_backupcodes", "pam_oath")), NOTHING, "without the module");
    // Who cannot see the module by it, or the file that has it.
    let included = Host::new().with("backupcodes-auth", stack).with("sshd", "@include backupcodes-auth\r\n");
    assert_eq!(included.found(), ["carriage-return /etc/pam.d/sshd:1"]);
    let lost = included.with("sshd", "auth required pam_env.so \\\n@include backupcodes-auth\n");
    assert_eq!(lost.found(), ["backslash /etc/pam.d/sshd:1"]);
    // An old Macintosh's: all is one comment.
    let lone = Host::new().with("login", &format!("# login\n{stack}").replace('\n', "\r"));
    assert_eq!(lone.found(), ["carriage-return /etc/pam.d/login:1"]);
    assert!(lone.findings()[0].remedy.contains("s/\\r/\\n/g"), "{:?}", lone.findings());
    for pasted in [format!("\u{feff}{stack}"), stack.replacen(' ', "\u{a0}", 1)] {
        assert_eq!(found(&pasted), ["invisible-character 1"]);
    }
    assert_eq!(
        found(&stack.replace("codes.so", "codes.so [prompt=Code\u{a0}: ]")),
        NOTHING,
        "as it is written"
    );
}

#[test]
fn an_option_that_the_module_does_not_know() {
    let unix = "auth requisite pam_unix.so\n";
    let ours = |options: &str| {
        Host::new().with("login", &format!("{unix}auth required pam_backupcodes.so {options}\n"))
    };
    let all = "quiet echo debug use_first_pass try_first_pass conf=/a [prompt=Code: ]";
    assert_eq!(ours(all).found(), NOTHING);
    for wrong in ["null_ok", "prompt", "conf=relative", "prompt=Backup code:"] {
        assert_eq!(ours(wrong).found(), ["unknown-option /etc/pam.d/login:2"], "{wrong}");
    }
    let finding = ours("quiet null_ok Echo").findings().remove(0);
    assert!(
        finding.message.contains("\"null_ok\", \"Echo\"") && !finding.message.contains("quiet"),
        "{finding}"
    );
    assert!(finding.remedy.starts_with("expected conf=/PATH"), "{finding}");
    // At the start of a session it stops nobody.
    let session = |stack: &str| Host::new().with("login", stack).findings();
    assert_eq!(session("session optional pam_backupcodes.so quiet conf=/a\nsession bogus\n"), []);
    let wrong = "account required pam_backupcodes.so wrong\nsession optional pam_backupcodes.so quite\n";
    let findings = session(wrong);
    assert_eq!(findings.len(), 1, "{findings:?}");
    let Finding { level, check, subject, message, .. } = &findings[0];
    assert_eq!((*level, *check, subject.as_str()), (Level::Warning, "unknown-option", "/etc/pam.d/login:2"));
    assert!(message.contains("\"quite\": the module logs an error at each session"), "{message}");
}

#[test]
fn an_include_that_is_missing() {
    let ours = "auth required pam_backupcodes.so\n";
    for include in ["@include gone", "auth include gone", "auth substack /gone"] {
        assert_eq!(found(&format!("{ours}{include}\n")), ["missing-include 2"], "{include}");
    }
    assert_eq!(found("auth required pam_unix.so\nauth include gone\n"), NOTHING, "without the module");
    let there = Host::new()
        .with("login", &format!("auth requisite pam_unix.so\n{ours}@include y\n"))
        .with("y", "account required pam_unix.so\n");
    assert_eq!(there.found(), NOTHING);
}

#[test]
fn entries_that_are_no_files_are_skipped() {
    let host = Host::new().with("login", "auth requisite pam_unix.so\nauth required pam_backupcodes.so\n");
    nix::unistd::mkfifo(&host.path("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    std::os::unix::fs::symlink("/dev/zero", host.path("zero")).unwrap();
    assert_eq!(host.found(), NOTHING);
}

#[test]
fn modules_that_are_not_installed() {
    let stack = "auth requisite pam_unix.so\nauth required pam_backupcodes.so\nauth required pam_gone.so\n\
                 auth optional pam_gone_too.so\nauth required /opt/pam_elsewhere.so\n";
    let host = Host::new().with("login", stack);
    assert_eq!(host.found(), NOTHING, "where nothing is known of modules");
    let security = host.0.path().join("usr/lib/security");
    fs::create_dir_all(&security).unwrap();
    fs::write(security.join("pam_unix.so"), "").unwrap();
    assert_eq!(host.found(), ["missing-module /etc/pam.d/login:3", "missing-module /etc/pam.d/login:5"]);
    fs::write(security.join("pam_gone.so"), "").unwrap();
    fs::create_dir(host.0.path().join("opt")).unwrap();
    fs::write(host.0.path().join("opt/pam_elsewhere.so"), "").unwrap();
    assert_eq!(host.found(), NOTHING);
}
