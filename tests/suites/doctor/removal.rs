//! What packages ask before they remove the module, `packaging/pam/stacks check`, and what Arch's package does at an upgrade.

use std::fs;
use std::path::Path;
use std::process::Command;

use backupcodes_tests::{feed, sandbox_of_root, text};

/// What `stacks check` complains of where /etc/pam.d holds these files beside those of the package; nothing where it agrees.
fn complaint(files: &[(&str, &str)]) -> String {
    complaint_by(None, files)
}

/// The same with the programs of a folder alone.
fn complaint_by(programs: Option<&Path>, files: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/pam");
    fs::copy(packaging.join("backupcodes"), folder.path().join("backupcodes")).unwrap();
    for stack in ["backupcodes-auth", "backupcodes-totp-auth"] {
        fs::copy(packaging.join("debian").join(stack), folder.path().join(stack)).unwrap();
    }
    fs::write(folder.path().join("common-auth"), "auth required pam_unix.so\n").unwrap();
    fs::create_dir(folder.path().join("a-directory")).unwrap();
    for (name, lines) in files {
        fs::write(folder.path().join(name), lines).unwrap();
    }
    let path = programs.map(|programs| format!("PATH='{}'; ", programs.display())).unwrap_or_default();
    let script = format!("mount --bind '{}' /etc/pam.d && {path}exec \"$@\"", folder.path().display());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh", "/bin/sh"]);
    let output = feed(command.arg(packaging.join("stacks")).arg("check"), "");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert_eq!(output.status.success(), output.stderr.is_empty(), "{output:?}");
    text(&output.stderr).trim_end().to_owned()
}

#[test]
fn packages_stay_while_somebody_includes_the_service_of_renewals() {
    if sandbox_of_root().is_none() {
        return;
    }
    for lines in [
        "auth required pam_backupcodes.so\n",
        "@include backupcodes\n",
        "@include\tbackupcodes # renewals\n",
        "@INCLUDE backupcodes\r\n",
        "auth include backupcodes\n",
        "-auth substack backupcodes\n",
        "AUTH Include backupcodes\n",
        "auth [include] [backupcodes]\n",
        "auth \\\n  include \\\n\n# no\n backupcodes\n",
        "auth include backupcodes",
        "account include /etc/pam.d/backupcodes\n",
        "auth include /etc//pam.d/./backupcodes\n",
        "@include other-part\n",
        "auth sufficient \\\nsession optional pam_backupcodes.so\n",
    ] {
        let found = complaint(&[("shop", lines), ("other-part", "@include backupcodes\n")]);
        assert!(found.ends_with(": /etc/pam.d/other-part /etc/pam.d/shop"), "{lines:?}: {found}");
    }
    // One of ours that the administrator has made, and that stays as it is.
    let own =
        complaint(&[("backupcodes-auth", "@include backupcodes\n"), ("sshd", "@include backupcodes-auth\n")]);
    assert!(own.ends_with(": /etc/pam.d/backupcodes-auth /etc/pam.d/sshd"), "{own}");
    let circle = [("a", "@include b\n@include b\n"), ("b", "@include a\nauth include backupcodes\n")];
    assert!(complaint(&circle).ends_with(": /etc/pam.d/a /etc/pam.d/b"));
    for lines in [
        "@include backupcodes-auth\nsession include backupcodes-auth\n",
        "auth include /etc/pam.d/backupcodes-totp-auth\n",
        "# @include backupcodes\nauth required pam_unix.so # pam_backupcodes.so\n",
        "session optional pam_backupcodes.so\n-SESSION\tOptional pam_backupcodes.so quiet\n",
        "session \\\n optional pam_backupcodes.so\n",
        "@include gone\n@include\nauth include\nauth required [pam_exec.so include backupcodes]\n",
    ] {
        assert_eq!(complaint(&[("shop", lines), ("shop.saved", "@include backupcodes\n")]), "", "{lines:?}");
    }
}

/// mawk fails at the first directory that a file includes, which gawk and busybox skip.
#[test]
fn packages_stay_where_awk_fails_or_is_missing() {
    if sandbox_of_root().is_none() {
        return;
    }
    let programs = |awk: Option<&str>| {
        let folder = tempfile::tempdir().unwrap();
        for (name, path) in
            [("readlink", Some("/usr/bin/readlink")), ("sort", Some("/usr/bin/sort")), ("awk", awk)]
        {
            if let Some(path) = path {
                std::os::unix::fs::symlink(path, folder.path().join(name)).unwrap();
            }
        }
        folder
    };
    let in_use = ("shop", "auth required pam_backupcodes.so\n");
    let free = ("shop", "auth required pam_unix.so\n");
    let astray = ("astray", "@include a-directory\n");
    for awk in
        ["/usr/bin/mawk", "/usr/bin/gawk", "/usr/bin/busybox"].iter().filter(|awk| Path::new(awk).exists())
    {
        let by = programs(Some(awk));
        assert_eq!(complaint_by(Some(by.path()), &[free]), "", "{awk}");
        assert!(complaint_by(Some(by.path()), &[in_use]).ends_with(" these lines: /etc/pam.d/shop"), "{awk}");
        let found = complaint_by(Some(by.path()), &[in_use, astray]);
        assert!(found.contains("pam_backupcodes stays installed: "), "{awk}: {found}");
    }
    let without = programs(None);
    let found = complaint_by(Some(without.path()), &[free]);
    assert!(found.contains("pam_backupcodes stays installed: awk failed, "), "{found}");
}

#[test]
fn the_refusal_is_also_true_for_a_file_that_only_includes_another() {
    if sandbox_of_root().is_none() {
        return;
    }
    let found = complaint(&[("shop", "@include backupcodes\n")]);
    assert!(found.contains("which name pam_backupcodes.so or include a file that does; first remove these lines: /etc/pam.d/shop"), "{found}");
}

/// The package's configuration leaves the delivery to them, which an older package did not.
#[test]
fn arch_starts_the_delivery_at_an_upgrade_as_at_an_installation() {
    if sandbox_of_root().is_none() {
        return;
    }
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/arch/pam_backupcodes.install");
    for (function, is_booted) in
        [("post_install", true), ("post_upgrade", true), ("post_install", false), ("post_upgrade", false)]
    {
        let run = if is_booted { "/run/systemd/system" } else { "/run/other" };
        let script = format!(
            "mount -t tmpfs tmpfs /run && mkdir -p {run} && . '{}' && /usr/lib/backupcodes/stacks() {{ :; }} && \
             systemd-tmpfiles() {{ :; }} && systemctl() {{ echo \"systemctl $*\"; }} && {function}",
            install.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "bash", "-c", &script]);
        let output = feed(&mut command, "");
        assert!(output.status.success(), "{function}: {output:?}");
        let starts = text(&output.stdout)
            .contains("systemctl start backupcodes-notify.path backupcodes-notify.timer\n");
        assert_eq!(starts, is_booted, "{function}: {output:?}");
    }
}
