use super::*;

/// Judges a file's settings over sshd's defaults, as `sshd -T` prints both.
fn found(config: &str, asked: Asked) -> Vec<Finding> {
    let defaults = "usepam no\npubkeyauthentication yes\npasswordauthentication yes\n\
                    kbdinteractiveauthentication yes\ngssapiauthentication no\nhostbasedauthentication no\n\
                    authenticationmethods any\n";
    let set = |line: &str| line.split_once(' ').map(|(word, value)| (word.to_lowercase(), value.to_owned()));
    let settings: Vec<_> = config.lines().chain(defaults.lines()).filter_map(set).collect();
    let text: String = settings.iter().map(|(word, value)| format!("{word} {value}\n")).collect();
    judge(&text, asked)
}

/// The checks, with an `!` behind an error, where `UsePAM yes` is set and what else is said.
fn checks(rest: &str, asked: Asked) -> Vec<String> {
    let shown =
        |finding: &Finding| finding.check.to_owned() + if finding.level == Level::Error { "!" } else { "" };
    found(&format!("UsePAM yes\n{rest}"), asked).iter().map(shown).collect()
}

const NO_KEY: &str = "PubkeyAuthentication no\n";
const NO_PASSWORD: &str = "PasswordAuthentication no\n";
const NO_KEYBOARD: &str = "KbdInteractiveAuthentication no\n";
const KEY_AND_CODE: &str = "AuthenticationMethods publickey,keyboard-interactive\n";
const NOTHING: [&str; 0] = [];

#[test]
fn the_settings_of_readme_are_in_order() {
    for (name, asked) in [("sshd-key", Asked::Code), ("sshd-password", Asked::PasswordAndCode)] {
        assert_eq!(found(&crate::doctor::stack::tests::readme(name), asked), [], "{name}");
    }
}

#[test]
fn without_pam_nobody_is_asked() {
    let found = found(&format!("UsePAM no\n{KEY_AND_CODE}"), Asked::Code);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].check, found[0].level), ("sshd-use-pam", Level::Error));
    assert!(
        found[0].remedy.contains("10-backupcodes.conf, or in the file that sets it first (grep -rni UsePAM /etc/ssh): UsePAM yes; then: sshd -t &&")
    );
    assert_eq!(checks(KEY_AND_CODE, Asked::Code), NOTHING);
}

#[test]
fn an_sshd_that_never_asks_is_an_error() {
    for settings in [
        format!("{NO_KEYBOARD}{NO_PASSWORD}"),
        format!("{NO_KEYBOARD}{KEY_AND_CODE}"),
        "AuthenticationMethods publickey\n".into(),
        format!(
            "{NO_PASSWORD}AuthenticationMethods publickey,password hostbased\nHostbasedAuthentication yes\n"
        ),
    ] {
        for asked in [Asked::Code, Asked::PasswordAndCode, Asked::Other] {
            assert_eq!(checks(&settings, asked), ["sshd-never-asks!"], "{settings}");
        }
    }
    assert_eq!(
        judge("usepam yes\nchallengeresponseauthentication yes\npubkeyauthentication no\n", Asked::Other),
        []
    );
}

#[test]
fn a_stack_that_asks_for_a_code_alone_wants_a_key_before_it() {
    for settings in [
        format!("{NO_KEY}AuthenticationMethods password\n"),
        format!("{NO_KEY}{NO_KEYBOARD}"),
        format!("{NO_KEY}{NO_PASSWORD}"),
        "AuthenticationMethods publickey,keyboard-interactive password,keyboard-interactive:pam\n".into(),
        "AuthenticationMethods keyboard-interactive:pam\n".into(),
    ] {
        assert_eq!(checks(&settings, Asked::Code), ["code-alone!"], "{settings}");
        assert!(!checks(&settings, Asked::PasswordAndCode).contains(&"code-alone!".into()), "{settings}");
    }
    let found = found("UsePAM yes\n", Asked::Code);
    assert!(found[0].message.contains("by password or keyboard-interactive: "), "{found:?}");
    // It may be typed where sshd asks for a password.
    assert_eq!(checks("AuthenticationMethods publickey,password\n", Asked::Code), NOTHING);
    assert_eq!(checks(KEY_AND_CODE, Asked::Code), NOTHING);
}

#[test]
fn one_response_for_password_and_code_locks_out_users_with_a_set() {
    for settings in [format!("{NO_KEY}{NO_KEYBOARD}"), "AuthenticationMethods publickey,password\n".into()] {
        assert_eq!(checks(&settings, Asked::PasswordAndCode), ["sshd-kbd-interactive!"], "{settings}");
        assert_eq!(checks(&settings, Asked::Other), ["sshd-password"], "{settings}");
    }
    let found = found(&format!("UsePAM yes\n{NO_KEY}{NO_KEYBOARD}"), Asked::PasswordAndCode);
    assert!(
        found[0]
            .message
            .ends_with("users with a set are locked out, because keyboard-interactive is not enabled")
    );
    assert_eq!(checks(NO_KEY, Asked::PasswordAndCode), ["sshd-password"], "there is another way");
    assert_eq!(checks(&format!("{NO_KEY}{NO_PASSWORD}"), Asked::PasswordAndCode), NOTHING);
    let keyboard = format!("{NO_KEY}AuthenticationMethods keyboard-interactive\n");
    assert_eq!(checks(&keyboard, Asked::PasswordAndCode), NOTHING);
}

#[test]
fn each_way_without_a_code_is_reported() {
    let of = |settings: &str| checks(&format!("{NO_PASSWORD}{settings}"), Asked::PasswordAndCode);
    assert_eq!(of(""), ["sshd-key-alone"]);
    let twice = "AuthenticationMethods publickey,keyboard-interactive publickey,publickey\n";
    assert_eq!(of(twice), ["sshd-key-alone"]);
    assert_eq!(of(NO_KEY), NOTHING);
    assert_eq!(of("AuthenticationMethods publickey,keyboard-interactive:pam\n"), NOTHING);
    let ticket = format!("{NO_KEY}GSSAPIAuthentication yes\n");
    assert_eq!(of(&ticket), ["sshd-not-asked"]);
    let host = format!("{NO_KEY}HostbasedAuthentication yes\n");
    assert_eq!(of(&host), ["sshd-not-asked"]);
    assert_eq!(of("GSSAPIAuthentication yes\nHostbasedAuthentication yes\n").len(), 3);
    assert_eq!(of(&format!("{ticket}{KEY_AND_CODE}").replace(NO_KEY, "")), NOTHING, "no way that is named");
}

#[test]
fn what_the_real_sshd_prints_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name).display().to_string();
    let [key, config] = ["key", "config"].map(path);
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &key]);
    if !Path::new(PROGRAM).exists() {
        return;
    }
    assert!(keygen.status().unwrap().success());
    // The system's own files may say anything, and where no sshd runs there is no /run/sshd.
    let ways = "publickey,keyboard-interactive:pam gssapi-with-mic publickey,password";
    let settings =
        format!("UsePAM yes\nGSSAPIAuthentication yes\n{NO_PASSWORD}AuthenticationMethods {ways}\n");
    std::fs::write(&config, settings).unwrap();
    let program = folder.path().join("sshd");
    let user = if nix::unistd::geteuid().is_root() { "" } else { "--map-root-user" };
    let inside =
        format!("mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec {PROGRAM} -f {config} -h {key} -T");
    script(&program, &format!("exec unshare {user} --mount --propagation private sh -c '{inside}'"));
    let text = settings::printed(&program).unwrap();
    let settings = Settings(&text);
    assert_eq!(settings.first("usepam"), Some("yes"));
    assert_eq!(settings.ways(), [vec!["publickey", KEYBOARD], vec!["gssapi-with-mic"]]);
}

#[test]
fn settings_that_sshd_does_not_tell_are_a_warning_and_an_sshd_that_does_not_start_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("sshd");
    let judged = |text: &str| {
        script(&program, text);
        let finding = settings::printed(&program).unwrap_err();
        (finding.check, finding.level, finding.message)
    };
    script(&program, "echo \"$@ ${HOME-none}\"");
    assert_eq!(settings::printed(&program), Ok("-T none\n".into()));
    let (check, level, message) =
        judged("echo usepam yes; printf 'line 3: Bad option\n\n terminating\n' >&2; exit 255");
    assert_eq!((check, level), ("sshd-fails", Level::Error));
    assert!(message.ends_with(": line 3: Bad option, terminating"), "{message}");
    // Where sshd starts all the same, or nobody knows.
    for told in [
        "[ \"$1\" = -t ] || { echo 'no connection' >&2; exit 1; }",
        "echo 'Missing privilege separation directory: /run/sshd' >&2; exit 255",
    ] {
        let (check, level, _) = judged(told);
        assert_eq!((check, level), ("sshd-settings", Level::Warning), "{told}");
    }
    for said in
        ["sshd: no hostkeys available -- exiting.", "/etc/ssh/sshd_config.d/x.conf: Permission denied"]
    {
        assert!(settings::is_circumstance(said, false) && !settings::is_circumstance(said, true), "{said}");
    }
    std::fs::remove_file(&program).unwrap();
    let missing = settings::printed(&program).unwrap_err();
    assert_eq!((missing.check, missing.level), ("sshd-settings", Level::Warning));
}

fn script(program: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(program, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn match_blocks_are_reported() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("etc/ssh/sshd_config.d");
    std::fs::create_dir_all(&folder).unwrap();
    let main = root.path().join("etc/ssh/sshd_config");
    std::fs::write(&main, "# Match user root\nMatchless yes\n").unwrap();
    std::fs::write(folder.join("left.bak"), "Match user root\n").unwrap();
    assert_eq!(settings::with_match(root.path()), None);
    std::fs::write(folder.join("one.conf"), "UsePAM yes\n\tmatch User root\n").unwrap();
    let found = settings::with_match(root.path()).unwrap();
    assert_eq!((found.check, found.level), ("sshd-match", Level::Note));
    assert_eq!(found.subject, "/etc/ssh/sshd_config.d/one.conf");
}
