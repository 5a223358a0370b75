//! Lines that lead every ordinary user the same way.

use super::*;

#[test]
fn a_line_that_succeeds_for_everybody_accepts_without_a_prompt() {
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
