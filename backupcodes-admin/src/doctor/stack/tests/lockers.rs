//! Screen lockers.

use super::*;

#[test]
fn a_locker_with_one_answer_cannot_be_asked_for_two() {
    let both = "auth requisite pam_unix.so\nauth required pam_backupcodes.so\n";
    for locker in ["swaylock", "i3lock", "gtklock"] {
        assert_eq!(found_in(locker, both), ["one-answer 2"], "{locker}");
        assert_eq!(found_in(locker, &both.replace("codes.so", "codes.so nullok")), ["one-answer 2"]);
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
        assert!(!found_in("swaylock", &other).contains(&"one-answer 2".into()), "{other}");
    }
    // These ask one question after the other.
    for locker in ["xlock", "kde", "xsecurelock", "hyprlock", "login"] {
        assert_eq!(found_in(locker, both), NOTHING, "{locker}");
    }
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
