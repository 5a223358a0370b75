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
fn a_stack_that_refuses_everybody() {
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
fn an_ignored_refusal() {
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
fn an_ignored_error_of_our_module() {
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
fn codes_that_a_wrong_password_wastes() {
    let ours = "auth required pam_backupcodes.so\n";
    assert_eq!(found(&format!("auth required pam_unix.so\n{ours}")), ["wastes-codes 2"]);
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
fn accounts_without_a_set_are_named_if_they_cannot_log_in() {
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
fn a_code_or_a_password_that_is_enough_alone_is_reported_in_any_order() {
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
fn the_stack_of_sshd_determines_what_it_asks_for() {
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
fn another_way_to_the_same_rights_that_asks_for_no_code() {
    let ours = "auth requisite pam_unix.so\nauth required pam_backupcodes.so\n";
    let host = Host::new().with("sudo", ours).with("sudo-i", "auth required pam_unix.so\n").with("su", ours);
    assert_eq!(host.found(), ["not-asked-here /etc/pam.d/sudo-i:1"]);
    let host = host.with("sudo-i", "@include sudo\n").with("su-l", "auth include su\n");
    assert_eq!(host.found(), NOTHING);
}
