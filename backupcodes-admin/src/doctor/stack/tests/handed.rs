//! What one module leaves for another.

use super::*;

const UNIX: &str = "auth requisite pam_unix.so\n";

#[test]
fn forward_pass_needs_a_module_behind_it() {
    let ours = |control| format!("{UNIX}auth {control} pam_backupcodes.so forward_pass\n");
    let behind = "auth required pam_oath.so use_first_pass\n";
    assert_eq!(found(&ours("required")), ["forward-pass-alone 2"]);
    assert_eq!(
        found(&format!("{}{behind}", ours("required"))),
        ["forward-pass-alone 2"],
        "it fails all the same"
    );
    assert_eq!(found(&format!("{}{behind}", ours("sufficient"))), NOTHING);
    assert_eq!(found(&format!("{}{behind}", ours("sufficient")).replace("oath", "access")).len(), 2);
    assert_eq!(found(&format!("{UNIX}auth required pam_backupcodes.so\n")), NOTHING);
}

#[test]
fn a_forwarded_response_needs_a_module_that_takes_it() {
    let ours = format!("{UNIX}auth sufficient pam_backupcodes.so forward_pass\n");
    for again in ["pam_google_authenticator.so", "pam_oath.so usersfile=/etc/users.oath", "pam_sss.so"] {
        let host = Host::new().with("login", &format!("{ours}auth required {again}\n"));
        assert_eq!(host.found(), ["forward-pass-asks-again /etc/pam.d/login:2"], "{again}");
        assert_eq!(host.findings()[0].level, Level::Warning);
        for takes in ["use_first_pass", "try_first_pass"] {
            assert_eq!(found(&format!("{ours}auth required {again} {takes}\n")), NOTHING, "{again}");
        }
    }
}

#[test]
fn use_first_pass_needs_a_module_before_it_that_asks() {
    let ours = "auth required pam_backupcodes.so use_first_pass\n";
    let nothing = [
        String::new(),
        "auth required pam_env.so\nauth required pam_faillock.so preauth\n".into(),
        "auth sufficient pam_fprintd.so\n".into(),
        "auth sufficient pam_google_authenticator.so\n".into(),
        "auth sufficient pam_unix.so use_first_pass\n".into(),
        "auth sufficient pam_exec.so /bin/false\n".into(),
        "auth sufficient pam_backupcodes.so\n".into(),
    ];
    for before in nothing {
        let found = found_in("xlock", &format!("{before}{ours}"));
        assert!(found.iter().any(|found| found.starts_with("nothing-to-take ")), "{before}: {found:?}");
    }
    for before in [
        "sufficient pam_unix.so",
        "sufficient pam_sss.so forward_pass",
        "sufficient pam_unknown_factor.so",
        "optional pam_exec.so expose_authtok /bin/false",
        "optional pam_mount.so",
        "sufficient pam_backupcodes.so forward_pass",
    ] {
        let found = found_in("xlock", &format!("auth {before}\n{ours}auth required pam_unix.so\n"));
        assert!(!found.iter().any(|found| found.starts_with("nothing-to-take ")), "{before}: {found:?}");
    }
    let behind = format!("{}{UNIX}", ours);
    assert!(found(&behind).contains(&"nothing-to-take 1".into()));
    let asks = behind.replace("use_first_pass", "try_first_pass");
    assert_eq!(found(&asks), ["code-first 1"], "it asks");
}
