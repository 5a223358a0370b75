//! The stacks of distributions, of the guide and of the package.

use super::*;

/// Services that ask for the password and, where they stand in stock stacks, the line that asks for it.
const DEBIAN: &str = "@include common-auth";
const OF_DEBIAN: [&str; 8] = ["chsh", "gdm-password", "lightdm", "login", "polkit-1", "sshd", "su", "sudo"];
const OF_FEDORA: [(&str, &str); 6] = [
    ("gdm-password", "auth        substack      password-auth"),
    ("login", "auth       substack     system-auth"),
    ("polkit-1", "auth       include      system-auth"),
    ("sshd", "auth       substack     password-auth"),
    ("su", "auth            substack        system-auth"),
    ("sudo", "auth       include      system-auth"),
];

#[test]
fn stock_stacks_with_the_module_in_the_right_place_have_no_finding() {
    in_order(debian_with_locker, &OF_DEBIAN.map(|service| (service, DEBIAN)));
    in_order(Host::fedora, &OF_FEDORA);
}

/// The module in the place of each line, and of all of them.
fn in_order(stock: fn() -> Host, services: &[(&str, &str)]) {
    assert_eq!(stock().found(), NOTHING);
    for (service, line) in services {
        for block in ["console", "nullok", "one-prompt-console"] {
            let host = stock().replacing(service, line, &readme(block));
            assert!(has_module(host.0.path(), service));
            assert_eq!(host.found(), NOTHING, "{block} in {service}");
        }
        // They are judged.
        let alone = format!("auth sufficient pam_backupcodes.so\n{line}");
        let found = stock().replacing(service, line, &alone).found();
        assert!(found.iter().any(|found| found.starts_with("code-alone ")), "{service}: {found:?}");
    }
    // Everywhere at once.
    let all = services
        .iter()
        .fold(stock(), |host, (service, line)| host.replacing(service, line, &readme("console")));
    assert_eq!(all.found(), NOTHING);
}

/// Debian's stacks, where a locker has lines of its own, as the guide says (else it takes those of `login`), and `sudo -i` those of
/// sudo.
fn debian_with_locker() -> Host {
    let host = Host::debian().replacing("sudo-i", "@include common-auth", "@include sudo");
    host.replacing("swaylock", "auth include login", &readme("locker"))
}

#[test]
fn the_stacks_of_the_guide_are_in_order_wherever_they_stand() {
    let stacks: Vec<_> = blocks().into_iter().filter(|(_, text)| text.starts_with("auth")).collect();
    assert!(stacks.len() >= 9, "{stacks:?}");
    for (name, stack) in stacks {
        // Where one factor is enough it is for sshd, which asks for a key before, or for a screen locker.
        let is_one_factor = ["ssh-key", "locker", "locker-code"].contains(&&*name);
        for service in OF_DEBIAN {
            let host = debian_with_locker().replacing(service, DEBIAN, &stack);
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
        let checks: Vec<_> = locker.findings().iter().map(|found| found.check).collect();
        assert_eq!(checks, if is_one_factor { &[][..] } else { &["one-response"] }, "{name}");
        assert!(has_module(locker.0.path(), "swaylock") && !has_module(locker.0.path(), "sshd"), "{name}");
    }
    // Debian's swaylock takes the lines of login.
    let taken = Host::debian().replacing("login", DEBIAN, &readme("console"));
    let findings = taken.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((findings[0].check, findings[0].level), ("one-response", Level::Error));
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
        for service in OF_DEBIAN {
            let stock = || debian_with_locker().replacing(service, &format!("{DEBIAN}\n"), &include);
            let host = stock().with(name, &packaged("debian", name));
            assert_eq!(host.found(), NOTHING, "{name} in {service}");
            assert!(has_module(host.0.path(), service), "{name} in {service}");
            // When the package is gone.
            let host = stock().with(name, &packaged("debian", &format!("without/{name}")));
            assert!(host.found().is_empty() && !has_module(host.0.path(), service), "{name} in {service}");
        }
        let include = format!("auth include {name}\nsession include {name}\n");
        for (service, stock) in OF_FEDORA {
            let host = Host::fedora().with(name, &packaged("generic", name));
            assert_eq!(host.replacing(service, stock, &include).found(), NOTHING, "{name} in {service}");
        }
    }
    // Without its last line the latter lets in who has a set and no app, whatever is typed.
    let last = "auth     required                               pam_backupcodes.so nullok use_first_pass\n";
    let stack = packaged("generic", "backupcodes-totp-auth");
    assert!(stack.contains(last));
    let host = Host::new().with("sshd", &stack.replace(last, "auth required pam_permit.so\n"));
    assert_eq!(host.found(), ["refusal-ignored /etc/pam.d/sshd:9"]);
}

#[test]
fn placements_in_fedoras_stacks_are_distinguished() {
    let ours = "auth required pam_backupcodes.so\n";
    let sshd = "auth       substack     password-auth\n";
    // The substack does not end the stack when the password is wrong.
    let behind = Host::fedora().replacing("sshd", sshd, &format!("{sshd}{ours}"));
    assert_eq!(behind.found(), ["wastes-codes /etc/pam.d/sshd:2"]);
    // In the place of the substack, as the guide says.
    let instead = Host::fedora().replacing("sshd", sshd, &readme("ssh-password"));
    assert_eq!(instead.found(), NOTHING);
    // An include ends with `sufficient pam_unix`, in front of the line.
    let include = "auth       include      system-auth\n";
    let never = Host::fedora().replacing("sudo", include, &format!("{include}{ours}"));
    assert_eq!(never.found(), ["never-asked /etc/pam.d/sudo:2"]);
    assert!(never.findings()[0].message.ends_with("in the stacks of sudo, sudo-i"), "{:?}", never.findings());
    // In front of all, the code is asked for first, and the password after it.
    let first = Host::fedora().replacing("sudo", include, &format!("{ours}{include}"));
    assert_eq!(first.found(), ["code-first /etc/pam.d/sudo:1"]);
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
fn the_lines_of_docs_fedora_are_in_order() {
    let page = include_str!("../../../../../docs/guide/fedora.md");
    let lines = page.split("<!-- tested: ").skip(1).filter_map(|part| part.split("```").nth(1));
    let lines: Vec<_> = lines.map(str::trim_start).filter(|lines| lines.starts_with("auth")).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (service, substack) in [
        ("sshd", "auth       substack     password-auth\n"),
        ("login", "auth       substack     system-auth\n"),
    ] {
        for lines in &lines {
            let host = Host::fedora().replacing(service, substack, lines).with(
                "backupcodes-auth",
                include_str!("../../../../../packaging/pam/generic/backupcodes-auth"),
            );
            assert_eq!(host.found(), NOTHING, "{lines} in {service}");
            assert!(has_module(host.0.path(), service), "{lines} in {service}");
        }
    }
}
