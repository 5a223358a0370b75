//! Screen lockers.

use super::*;

#[test]
fn a_locker_with_one_response_cannot_give_password_and_code() {
    let both = "auth requisite pam_unix.so\nauth required pam_backupcodes.so\n";
    for locker in ["swaylock", "i3lock", "gtklock", "waylock"] {
        assert_eq!(found_in(locker, both), ["one-response 2"], "{locker}");
        assert_eq!(found_in(locker, &both.replace("codes.so", "codes.so nullok")), ["one-response 2"]);
        for one in ["locker", "locker-code"] {
            assert_eq!(found_in(locker, &readme(one)), NOTHING, "{locker}: {one}");
        }
    }
    let host = Host::new().with("login", both).with("swaylock", "auth include login\n");
    let findings = host.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].message.ends_with(", in the stack of swaylock"), "{findings:?}");
    assert!(findings[0].remedy.contains("auth sufficient pam_unix.so"), "{findings:?}");
    let [first, second] = ["auth sufficient pam_unix.so", "auth required pam_backupcodes.so use_first_pass"];
    assert_eq!(found_in("swaylock", &format!("{first}\n{second}\n")), NOTHING, "as it says");
    for other in [
        both.replace("requisite pam_unix", "sufficient pam_fprintd") + "auth required pam_unix.so\n",
        format!("auth sufficient pam_fprintd.so\n{both}"),
    ] {
        assert!(!found_in("swaylock", &other).contains(&"one-response 2".into()), "{other}");
    }
    // These ask one question after the other.
    for locker in ["xlock", "kde", "xsecurelock", "hyprlock", "login"] {
        assert_eq!(found_in(locker, both), NOTHING, "{locker}");
    }
}

#[test]
fn a_server_with_one_response_can_use_neither_password_and_code_nor_a_code_alone() {
    let both = "auth requisite pam_unix.so\nauth required pam_backupcodes.so\n";
    for program in [
        "vsftpd",
        "dovecot",
        "xrdp-sesman",
        "openvpn",
        "sddm",
        "rstudio",
        "jupyterhub",
        "proxmox-ve-auth",
        "imap",
        "slim",
        "wdm",
        "lemurs",
        "emptty",
        "xmpp",
        "prosody",
        "mosquitto",
        "sogo",
        "turbovnc",
        "kasmvnc",
        "vncserver",
    ] {
        for stack in [both, &both.replace("codes.so", "codes.so nullok"), &readme("one-prompt")] {
            assert_eq!(found_in(program, stack), ["one-password 2"], "{program}: {stack}");
        }
        for alone in ["auth required pam_backupcodes.so\n", &readme("locker")] {
            let found = found_in(program, alone).join(" ");
            assert!(found.contains("code-alone") && !found.contains("one-"), "{program}: {found}");
            // A password in front of it would be the other error.
            for finding in Host::new().with(program, alone).findings() {
                assert!(
                    finding.remedy.starts_with("give the program lines of its own"),
                    "{program}: {finding}"
                );
            }
        }
    }
    // Both take the lines of login, and each is told of in its own words.
    let host = Host::new().with("login", both).with("swaylock", "auth include login\n");
    let host = host.with("sddm", "auth include login\n");
    assert_eq!(host.found(), ["one-password /etc/pam.d/login:2", "one-response /etc/pam.d/login:2"]);
    for asking in ["cockpit", "gdm-password", "lightdm", "greetd", "ocserv"] {
        assert_eq!(found_in(asking, both), NOTHING, "{asking}");
    }
}

#[test]
fn pam_rootok_in_a_renewal() {
    let stack =
        "auth requisite pam_unix.so\nauth required pam_backupcodes.so nullok\naccount required pam_unix.so\n";
    assert_eq!(found_in("backupcodes", stack), NOTHING);
    for control in ["sufficient", "required", "[success=done default=ignore]"] {
        let host = Host::new().with("backupcodes", &format!("@include su\n{stack}"));
        let host = host.with("su", &format!("auth {control} pam_rootok.so\n"));
        assert!(
            host.found().contains(&"root-renews /etc/pam.d/su:1".into()),
            "{control}: {:?}",
            host.found()
        );
    }
    // Whether or not our module stands there.
    assert_eq!(
        found_in("backupcodes", "auth sufficient pam_rootok.so\nauth required pam_unix.so\n"),
        ["root-renews 1"]
    );
    assert_eq!(
        found_in("backupcodes", &format!("{stack}account sufficient pam_rootok.so\n")),
        ["root-renews 4"]
    );
    assert_eq!(found_in("su", &format!("auth sufficient pam_rootok.so\n{stack}")), NOTHING);
    let finding = Host::new().with("backupcodes", "auth sufficient pam_rootok.so\n").findings().remove(0);
    assert_eq!(finding.level, Level::Warning);
}

#[test]
fn a_locker_has_the_whole_name_of_one() {
    let alone = "auth required pam_backupcodes.so\n";
    for locker in ["swaylock", "xlock", "kde", "kde-fingerprint", "xscreensaver", "physlock", "light-locker"]
    {
        assert_eq!(found_in(locker, alone), NOTHING, "{locker}");
    }
    for other in ["blocked", "unlock", "screensaverd", "kdesu", "kdm", "datasaver", "sudo"] {
        assert_eq!(found_in(other, alone), ["code-alone 1"], "{other}");
    }
}

#[test]
fn programs_of_users_and_configurations_of_lines_are_listed() {
    let host = Host::new()
        .with("swaylock", "auth required pam_backupcodes.so conf=/a\nsession include kde\n")
        .with("hyprlock", "auth include swaylock\n@include kde\n")
        .with("blocked", "auth include hyprlock\n")
        .with("kde", "auth required pam_unix.so\n")
        .with("vlock", "auth required pam_backupcodes.so\n")
        .with("login", "auth required pam_backupcodes.so conf=/b conf=relative\nsession optional pam_backupcodes.so conf=/c\n")
        .with("sshd", "session optional pam_backupcodes.so conf=/c\n");
    let a = Some(PathBuf::from("/a"));
    assert_eq!(of_users(host.0.path()), [("hyprlock".into(), a.clone()), ("swaylock".into(), a)]);
    let named: Vec<_> = configurations(host.0.path())
        .into_iter()
        .map(|(path, place)| format!("{} {place}", path.display()))
        .collect();
    assert_eq!(named, ["/a /etc/pam.d/swaylock:1", "/b /etc/pam.d/login:1", "/c /etc/pam.d/login:2"]);
}
