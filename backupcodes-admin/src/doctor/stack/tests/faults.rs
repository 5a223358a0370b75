//! A stack for each fault, and one beside it that has none.

use super::*;

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
    assert_eq!(
        found(&format!("auth requisite pam_unix.so\n{sufficient}auth required pam_oath.so\n")),
        NOTHING
    );
}

#[test]
fn a_stack_that_ends_before_the_module_never_asks() {
    let ours = "auth required pam_backupcodes.so\n";
    assert_eq!(found(&format!("auth sufficient pam_permit.so\n{ours}")), ["never-asked 2"]);
    let root = format!("auth sufficient pam_rootok.so\nauth requisite pam_unix.so\n{ours}");
    assert_eq!(found(&root), NOTHING);
    let jump = |line: &str| format!("auth [{line}] pam_unix.so\n{ours}auth required pam_permit.so\n");
    assert_eq!(found(&jump("success=1")), ["never-asked 2"]);
    assert_eq!(found(&jump("success=1 default=ignore")), ["code-alone 2", "password-alone 2"]);
    assert_eq!(found(&jump("success=ok default=die")), NOTHING, "as it says");
    let remedy = |stack: &str| Host::new().with("login", stack).findings()[0].remedy.clone();
    let jump = remedy(&format!("auth required pam_env.so\n{}", jump("success=1")));
    assert!(jump.starts_with("lower the number of the jump in /etc/pam.d/login:2"), "{jump}");
    let end = remedy(&format!(
        "auth [default=1] pam_env.so\nauth required pam_env.so\nauth sufficient pam_permit.so\n{ours}"
    ));
    assert!(end.starts_with("replace what ends the stack"), "{end}");
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
    assert_eq!(
        found("auth requisite pam_unix.so\nauth sufficient pam_backupcodes.so\nauth required pam_deny.so\n"),
        NOTHING
    );
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
        found_in("xlock", "auth required pam_env.so\nauth sufficient pam_backupcodes.so\n"),
        NOTHING,
        "env says no yes"
    );
}

#[test]
fn an_error_of_ours_that_counts_for_nothing() {
    let unix = "auth requisite pam_unix.so\n";
    let line = |control: &str| format!("auth [{control}] pam_backupcodes.so\n");
    let results: Vec<_> = ours::failures().collect();
    assert!(results.len() == 29 && results.contains(&"module_unknown"), "{results:?}");
    for result in &results {
        let control = format!("success=ok ignore=ignore {result}=ignore default=bad");
        let host = Host::new().with("login", &format!("{unix}{}", line(&control)));
        assert_eq!(host.found(), ["refusal-ignored /etc/pam.d/login:2"], "{control}");
        let finding = &host.findings()[0];
        assert_eq!(finding.level, Level::Error, "{control}");
        assert!(
            *result == "auth_err" || finding.message.ends_with(&format!("ignores {result}")),
            "{finding}"
        );
    }
    for (control, behind) in [
        ("success=ok auth_err=die default=ignore", ""),
        ("success=ok auth_err=bad default=reset", "auth required pam_permit.so\n"),
        ("success=ok conv_err=1 default=die", "auth required pam_deny.so\nauth optional pam_permit.so\n"),
    ] {
        let stack = format!("{unix}{}{behind}", line(control));
        assert_eq!(found(&stack), ["refusal-ignored 2"], "{control}");
    }
    // The password that is asked for after it is no second factor, but where one factor is enough.
    let first = line("success=ok module_unknown=ignore default=bad") + unix;
    assert_eq!(found(&first), ["code-first 1", "refusal-ignored 1"]);
    assert_eq!(found_in("xlock", &first), ["code-first 1"]);
    let app = "auth required pam_oath.so\n";
    for (stack, why) in [
        (
            format!("{unix}{}", line("success=ok new_authtok_reqd=ok ignore=ignore default=bad")),
            "that is `required`",
        ),
        (format!("{unix}{}", line("success=ok incomplete=ignore default=bad")), "libpam asks once more"),
        (format!("{unix}{}", line("success=ok module_unknown=ok default=bad")), "libpam returns it"),
        (format!("{unix}{}{app}", line("success=1 default=ignore")), "another code"),
    ] {
        let found = found(&stack);
        assert!(!found.iter().any(|found| found.starts_with("refusal-ignored")), "{why}: {found:?}");
    }
}

#[test]
fn codes_that_a_wrong_password_burns() {
    let ours = "auth required pam_backupcodes.so\n";
    assert_eq!(found(&format!("auth required pam_unix.so\n{ours}")), ["burns-codes 2"]);
    assert_eq!(found(&format!("auth requisite pam_unix.so\n{ours}")), NOTHING);
    let denied = "auth [success=1 default=ignore] pam_succeed_if.so\nauth required pam_deny.so\n";
    // In a locker one factor is enough.
    for (stack, why) in [
        (format!("auth required pam_oath.so\n{ours}"), "no first factor"),
        (format!("{denied}{ours}"), "no password was wrong"),
        (
            format!(
                "auth required pam_env.so\nauth required pam_faillock.so preauth\nauth sufficient pam_unix.so\n{ours}"
            ),
            "not the password's fault",
        ),
    ] {
        assert_eq!(found_in("xlock", &stack), NOTHING, "{why}");
    }
    assert_eq!(
        found(&format!("auth sufficient pam_unix.so\nauth required pam_deny.so\n{ours}")),
        ["never-asked 3"]
    );
}

#[test]
fn a_code_that_is_asked_for_before_the_password() {
    let ours = "auth required pam_backupcodes.so\n";
    let unix = "auth required pam_unix.so\n";
    for behind in [
        unix.into(),
        unix.replace("required", "requisite"),
        unix.replace("required", "[success=1 default=ignore]")
            + "auth requisite pam_deny.so\nauth required pam_permit.so\n",
        "auth sufficient pam_unix.so\nauth sufficient pam_sss.so use_first_pass\nauth required pam_deny.so\n"
            .into(),
        format!("auth required pam_env.so\nauth optional pam_unknown.so\n{unix}"),
        "auth required pam_google_authenticator.so\n".to_owned() + unix,
    ] {
        for ours in [ours, &ours.replace("required", "requisite"), &ours.replace(".so", ".so nullok")] {
            let found = found(&format!("{ours}{behind}"));
            assert_eq!(found, ["code-first 1"], "{ours}{behind}");
        }
    }
    let host = Host::new().with("login", &format!("{ours}auth substack y\n")).with("y", unix);
    assert_eq!(host.found(), ["code-first /etc/pam.d/login:1"]);
    assert!(
        host.findings()[0].message.contains("pam_unix.so (/etc/pam.d/y:1) asks"),
        "{:?}",
        host.findings()
    );
    // As it says, with Debian's own common-auth.
    let debian = || {
        Host::debian().replacing("polkit-1", "@include common-auth", &format!("{ours}@include common-auth"))
    };
    let findings = debian().findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    let remedy = &findings[0].remedy;
    assert!(
        remedy.starts_with("move the line to the end of the auth lines, after the line that includes /etc/pam.d/common-auth; "),
        "{remedy}"
    );
    let moved = Host::debian().replacing(
        "polkit-1",
        "@include common-auth",
        &format!("@include common-auth\n{ours}"),
    );
    assert_eq!(moved.found(), NOTHING);
    let common = fs::read_to_string(moved.path("common-auth")).unwrap();
    let first = Host::new().with("common-auth", &format!("{ours}{common}"));
    assert!(
        first.findings()[0].remedy.starts_with("move the line to the end of the auth lines; "),
        "{:?}",
        first.findings()
    );
    assert_eq!(first.with("common-auth", &format!("{common}{ours}")).found(), NOTHING);
    // A finger, and then the code, and then the password.
    let finger = format!("auth required pam_fprintd.so\n{ours}{unix}");
    assert!(found(&finger).contains(&"code-first 2".into()));
    let requisite = unix.replace("required", "requisite");
    for (stack, why) in [
        (format!("{requisite}{ours}auth optional pam_unix.so\n"), "nothing fails by it"),
        (
            format!("{requisite}{ours}auth required pam_krb5.so use_first_pass\n"),
            "it has the password, which was right",
        ),
        (format!("{requisite}{ours}auth required pam_unknown.so\n"), "it may ask for nothing"),
        (
            format!("{requisite}auth sufficient pam_backupcodes.so\nauth required pam_oath.so\n"),
            "a yes ends the stack",
        ),
    ] {
        assert_eq!(found(&stack), NOTHING, "{why}");
    }
}

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
    assert_eq!(found(&format!("{}{stack}", "# a comment\r\n")), NOTHING, "libpam passes over it");
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
fn accounts_without_a_set_are_named_where_they_cannot_get_in() {
    let names = ["a", "b", "c", "d", "e", "f"].map(String::from);
    let judged = |stack: &str, names: &[String]| {
        check(Host::new().with("login", stack).0.path(), &[(None, names.to_vec())].into())
    };
    let strict = "auth requisite pam_unix.so\nauth required pam_backupcodes.so\n";
    let findings = judged(strict, &names);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((findings[0].check, &*findings[0].subject), ("no-set-locked-out", "/etc/pam.d/login:2"));
    assert!(
        findings[0].message.starts_with("6 accounts have no set")
            && findings[0].message.ends_with("a, b, c, d, e …")
    );
    assert!(judged(strict, &names[..1])[0].message.ends_with("log in here: a"));
    assert_eq!(judged(strict, &[]), []);
    let su = format!("auth sufficient pam_rootok.so\n{strict}");
    assert_eq!(judged(&su, &names).len(), 1, "root's way in is not theirs");
    let alone = judged("auth required pam_backupcodes.so nullok\n", &names);
    assert!(alone.iter().any(|found| found.check == "no-set-locked-out"), "nobody says yes: {alone:?}");
    // Another configuration may have the sets elsewhere.
    assert_eq!(judged("auth requisite pam_unix.so\nauth required pam_backupcodes.so conf=/x\n", &names), []);
    for block in ["nullok", "locker", "one-prompt"] {
        let judged = judged(&readme(block), &names);
        assert!(judged.iter().all(|found| found.check != "no-set-locked-out"), "{block}");
    }
}

#[test]
fn long_stacks_are_judged_at_once() {
    let mut stack = "auth [success=1 auth_err=2 default=ignore] pam_succeed_if.so\n".repeat(500);
    stack.push_str("auth requisite pam_unix.so\nauth required pam_backupcodes.so\n");
    // Nanoseconds that this thread has computed, however busy the machine is.
    let computed = || {
        let spent = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        spent.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let begin = computed();
    found(&stack);
    assert!(computed() - begin < 10_000_000_000);
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
}

#[test]
fn what_is_no_file_is_passed_over() {
    let host = Host::new().with("login", "auth requisite pam_unix.so\nauth required pam_backupcodes.so\n");
    nix::unistd::mkfifo(&host.path("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    std::os::unix::fs::symlink("/dev/zero", host.path("zero")).unwrap();
    assert_eq!(host.found(), NOTHING);
}

#[test]
fn what_sshd_asks_for_is_told_by_its_stack() {
    let asked = |stack: &str| asked_by_sshd(Host::new().with("sshd", stack).0.path());
    let unix = "auth requisite pam_unix.so\n";
    let ours = "auth required pam_backupcodes.so\n";
    let app = "auth required pam_google_authenticator.so use_first_pass\n";
    assert_eq!(asked(ours), Asked::Code);
    for both in [
        format!("{unix}{ours}"),
        format!("{unix}auth required pam_backupcodes.so nullok\n"),
        format!("{unix}auth sufficient pam_backupcodes.so forward_pass\n{app}"),
        format!("{ours}{unix}"),
    ] {
        assert_eq!(asked(&both), Asked::PasswordAndCode, "{both}");
    }
    for other in [
        format!("auth sufficient pam_unix.so\n{ours}"),
        format!("{unix}auth sufficient pam_succeed_if.so user notingroup codes\n{ours}"),
        format!("{unix}auth sufficient pam_unknown_factor.so\n{ours}"),
        unix.into(),
    ] {
        assert_eq!(asked(&other), Asked::Other, "{other}");
    }
}

#[test]
fn a_line_that_is_true_for_everybody_lets_in_unasked() {
    let stack = "auth requisite pam_unix.so\nauth required pam_backupcodes.so\n";
    for (line, level) in [
        ("sufficient pam_localuser.so", Level::Error),
        ("sufficient pam_shells.so", Level::Error),
        ("[success=done default=ignore] pam_usertype.so isregular", Level::Error),
        ("sufficient pam_usertype.so issystem", Level::Warning),
        ("sufficient pam_exec.so /bin/true", Level::Warning),
    ] {
        let host = Host::new().with("login", &format!("auth required pam_env.so\nauth {line}\n{stack}"));
        let found: Vec<_> =
            host.findings().iter().map(|found| (found.check, found.level, found.subject.clone())).collect();
        assert_eq!(found, [("let-in-unasked", level, "/etc/pam.d/login:2".into())], "{line}");
    }
    for line in [
        "required pam_localuser.so",
        "[success=ok default=1] pam_localuser.so",
        "sufficient pam_succeed_if.so user ingroup nagios",
        "sufficient pam_rootok.so",
    ] {
        assert_eq!(found(&format!("auth {line}\n{stack}")), NOTHING, "{line}");
    }
    // It ends its substack alone.
    let sub = Host::new().with("sub", "auth sufficient pam_localuser.so\nauth required pam_env.so\n");
    assert_eq!(sub.with("login", &format!("auth substack sub\n{stack}")).found(), NOTHING);
    // Between the two it lets in by the password, and behind both nobody.
    let between = stack.replace("auth required", "auth sufficient pam_localuser.so\nauth required");
    assert_eq!(found(&between), ["password-alone 3"]);
    let behind =
        "auth required pam_backupcodes.so\nauth sufficient pam_shells.so\nauth requisite pam_unix.so\n";
    assert_eq!(found(behind), ["code-alone 1"]);
}

#[test]
fn a_jump_over_the_module_that_holds_for_everybody_is_no_exception() {
    let host = |line: &str| {
        let stack = format!("auth requisite pam_unix.so\nauth {line}\nauth required pam_backupcodes.so\n");
        let host = Host::new().with("login", &stack);
        fs::create_dir_all(host.0.path().join("etc/security")).unwrap();
        for (file, text) in [
            ("login.defs", "UID_MIN 1000\nGID_MIN 1000\n"),
            (
                "passwd",
                "root:x:0:0::/root:/bin/sh\npostgres:x:114:120::/var/lib/postgresql:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n",
            ),
            ("empty", "\n"),
            ("list", "alice\n"),
            ("security/access.conf", "# -:ALL:ALL\n+:ALL:ALL\n"),
            ("security/rules", "- : ALL EXCEPT wheel : ALL\n"),
        ] {
            fs::write(host.0.path().join("etc").join(file), text).unwrap();
        }
        host
    };
    let yes = |line: &str| host(&format!("[success=1 default=ignore] {line}"));
    let no = |line: &str| host(&format!("[success=ignore default=1] {line}"));
    for line in [
        "pam_usertype.so isregular",
        "pam_localuser.so",
        "pam_shells.so",
        "pam_securetty.so",
        "pam_nologin.so successok",
        "pam_access.so",
        "pam_access.so accessfile=/etc/gone",
        "pam_listfile.so item=user sense=deny file=/etc/empty onerr=fail",
        "pam_listfile.so item=user sense=allow file=/etc/gone onerr=succeed",
        "pam_succeed_if.so",
        "pam_succeed_if.so uid >= 1000",
        "pam_succeed_if.so quiet uid ge 1000 quiet_success",
        "pam_succeed_if.so uid > 0 audit",
        "pam_succeed_if.so UID NE 0",
        "pam_succeed_if.so uid != 0 user != root",
        "pam_succeed_if.so uid < 65534",
        "pam_succeed_if.so user notin root",
        "pam_succeed_if.so user =~ *",
        "pam_succeed_if.so user !~ root shell notin /bin/false:/usr/sbin/nologin",
        "pam_succeed_if.so gid ne 0",
        "pam_succeed_if.so gid >= 1000",
        "pam_succeed_if.so user notin root:toor",
        "pam_succeed_if.so user notin root:postgres",
        "pam_succeed_if.so service = login",
        "pam_succeed_if.so service in cron:login",
        "pam_succeed_if.so service != cron",
        "pam_succeed_if.so service notin cron:atd",
        "pam_succeed_if.so service =~ log*",
        "pam_succeed_if.so service !~ s*",
        "pam_faillock.so preauth silent",
    ] {
        let found = yes(line).found();
        assert_eq!(found, ["password-alone /etc/pam.d/login:3"], "{line}");
        assert!(
            yes(line).findings()[0].remedy.starts_with("remove the line at /etc/pam.d/login:2, "),
            "{line}"
        );
        assert_eq!(no(line).found(), NOTHING, "{line}");
    }
    for line in [
        "pam_usertype.so issystem",
        "pam_listfile.so item=user sense=allow file=/etc/empty",
        "pam_listfile.so item=user sense=deny file=/etc/gone",
        "pam_succeed_if.so uid < 1000",
        "pam_succeed_if.so uid le 999 quiet",
        "pam_succeed_if.so uid = 0",
        "pam_succeed_if.so user = root user ingroup wheel",
        "pam_succeed_if.so user in root",
        "pam_succeed_if.so colour = red",
        "pam_succeed_if.so user lt 5",
        "pam_succeed_if.so user ingroup codes shell",
        "pam_succeed_if.so service = cron",
        "pam_succeed_if.so service in cron:atd",
        "pam_succeed_if.so service notin login:atd",
        "pam_succeed_if.so service =~ ?ogout",
        "pam_succeed_if.so gid < 1000",
    ] {
        assert_eq!(no(line).found(), ["password-alone /etc/pam.d/login:3"], "{line}");
        assert_eq!(yes(line).found(), NOTHING, "{line}");
    }
    for line in [
        "pam_succeed_if.so user ingroup codes",
        "pam_succeed_if.so user notingroup codes uid >= 1000",
        "pam_succeed_if.so uid >= 1001",
        "pam_succeed_if.so uid >= 100000",
        "pam_succeed_if.so user in alice:root",
        "pam_succeed_if.so service =~ l[a-z]gin",
        "pam_succeed_if.so gid >= 1001",
        "pam_succeed_if.so uid = 0 use_uid",
        "pam_succeed_if.so user =~ admin*",
        "pam_access.so accessfile=/etc/security/rules",
        "pam_listfile.so item=user sense=allow file=/etc/list",
        "pam_wheel.so",
    ] {
        assert_eq!(yes(line).found(), NOTHING, "{line}");
        assert_eq!(no(line).found(), NOTHING, "{line}");
    }
    // A group that people have, as the one of all of them on some distributions.
    let users = host("[success=1 default=ignore] pam_succeed_if.so gid >= 1000");
    let passwd = users.0.path().join("etc/passwd");
    fs::write(passwd, "alice:x:1000:100::/home/alice:/bin/sh\nnobody:x:65534:99::/:/bin/sh\n").unwrap();
    assert_eq!(users.found(), NOTHING);
    // `other` is the stack of any service.
    let stack = "auth requisite pam_unix.so\nauth [success=1 default=ignore] pam_succeed_if.so service != cron\n\
                 auth required pam_backupcodes.so\n";
    assert_eq!(found_in("other", stack), NOTHING);
    assert_eq!(found_in("cron", stack), NOTHING);
    assert_eq!(found_in("atd", stack), ["password-alone 3"]);
    // By the end of the stack, over the password, over all that says yes, and where nobody is asked for anything.
    let ours = "auth required pam_backupcodes.so\n";
    let regular = "pam_usertype.so isregular\n";
    assert_eq!(
        host(&format!("sufficient {}", regular.trim_end())).found(),
        ["password-alone /etc/pam.d/login:3"]
    );
    let over_password =
        format!("auth [success=1 default=ignore] {regular}auth requisite pam_unix.so\n{ours}");
    assert_eq!(found(&over_password), ["code-alone 3"]);
    let over_all = format!("auth [success=1 default=ignore] {regular}{ours}");
    assert_eq!(found_in("sshd", &over_all), ["nobody-gets-in 2"]);
    let permit = format!("{over_all}auth required pam_permit.so\n");
    assert_eq!(found_in("sshd", &permit), ["let-in-unasked 1"]);
    assert_eq!(found_in("swaylock", &permit), ["let-in-unasked 1"]);
    let first = Host::new().with(
        "login",
        &format!("auth sufficient pam_succeed_if.so uid >= 1000 quiet\nauth requisite pam_unix.so\n{ours}"),
    );
    assert_eq!(
        (first.found(), first.findings()[0].level),
        (vec!["let-in-unasked /etc/pam.d/login:1".into()], Level::Error)
    );
    assert_eq!(
        found(&format!("auth requisite pam_succeed_if.so uid >= 1000\nauth requisite pam_unix.so\n{ours}")),
        NOTHING
    );
}

#[test]
fn an_exception_behind_the_module_is_meant_as_well_as_one_before_it() {
    let other = "auth requisite pam_unix.so\nauth sufficient pam_backupcodes.so\n";
    let meant = "auth sufficient pam_succeed_if.so user ingroup nocodes\nauth required pam_oath.so\n";
    assert_eq!(found(&format!("{other}{meant}")), NOTHING);
    for line in ["sufficient pam_succeed_if.so user ingroup nopasswdlogin", "sufficient pam_wheel.so trust"] {
        let stack = format!("auth required pam_backupcodes.so\nauth {line}\nauth required pam_unix.so\n");
        assert_eq!(found(&stack), ["code-first 1"], "{line}");
        assert_eq!(found(&stack.replacen("required", "sufficient", 1)), ["code-alone 1"], "{line}");
    }
    let app = "auth required pam_oath.so\nauth sufficient pam_backupcodes.so\nauth required pam_unix.so\n";
    assert_eq!(found(app), ["code-alone 2"], "two codes are no password");
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

#[test]
fn another_way_to_the_same_rights_that_asks_for_no_code() {
    let ours = "auth requisite pam_unix.so\nauth required pam_backupcodes.so\n";
    let host = Host::new().with("sudo", ours).with("sudo-i", "auth required pam_unix.so\n").with("su", ours);
    assert_eq!(host.found(), ["not-asked-here /etc/pam.d/sudo-i:1"]);
    let host = host.with("sudo-i", "@include sudo\n").with("su-l", "auth include su\n");
    assert_eq!(host.found(), NOTHING);
}
