//! `doctor` on PAM stacks and sshd's settings of a real host: dangerous ones have findings, and good ones have none.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Command;

use backupcodes_tests::doctor::doctor_of_stacks;
use backupcodes_tests::machine::{Account, Sshd};
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{World, readme, text};

const OF_STACKS: [&str; 22] = [
    "password-alone",
    "code-alone",
    "no-set-locked-out",
    "never-asked",
    "nobody-gets-in",
    "refusal-ignored",
    "wastes-codes",
    "code-first",
    "backslash",
    "carriage-return",
    "invisible-character",
    "forward-pass-alone",
    "unknown-option",
    "missing-include",
    "nothing-to-take",
    "forward-pass-asks-again",
    "one-response",
    "one-password",
    "root-renews",
    "let-in-unasked",
    "missing-module",
    "not-asked-here",
];
const OF_SSHD: [&str; 9] = [
    "sshd-fails",
    "sshd-settings",
    "sshd-use-pam",
    "sshd-never-asks",
    "sshd-kbd-interactive",
    "sshd-key-alone",
    "sshd-not-asked",
    "sshd-password",
    "sshd-match",
];

#[test]
fn debians_stacks_and_those_of_readme_give_no_false_alarm() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let output = world.admin(&["generate", "--all", "--count", "5"]);
    assert!(output.status.success(), "{output:?}");
    let quiet = |services: &[(&str, String)], sshd: &str| {
        let found = doctor_of_stacks(&world, services, sshd);
        found.has_none(&OF_STACKS);
        found.has_none(&OF_SSHD);
    };
    quiet(&[], "");
    quiet(&[("sshd", readme::block("ssh-key"))], &readme::block("sshd-key"));
    quiet(&[("sshd", readme::block("ssh-password"))], &readme::block("sshd-password"));
    for stack in ["one-prompt", "one-prompt-oath"] {
        quiet(&[("sshd", readme::block(stack))], &readme::block("sshd-password"));
    }
    for stack in ["console", "nullok", "one-prompt-console"] {
        let [login, su, locker] = [stack, stack, "locker"].map(readme::block);
        quiet(&[("login", login), ("su", su), ("swaylock", locker)], "");
    }
    drop(machine);
}

#[test]
fn stacks_that_accept_or_lock_out_too_much_are_reported_with_file_and_line() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let code = "auth required pam_backupcodes.so\n";
    let unix = "auth requisite pam_unix.so\n";
    let has = |lines: String, check: &str, parts: &[&str]| {
        let parts = [&["/etc/pam.d/login:"], parts].concat();
        doctor_of_stacks(&world, &[("login", lines)], "").has(check, &parts);
    };
    has(format!("{unix}{code}auth required pam_gone.so\n"), "missing-module", &["error", "pam_gone.so"]);
    let sudo = doctor_of_stacks(&world, &[("sudo", format!("{unix}{code}"))], "");
    sudo.has("not-asked-here", &["warning", "/etc/pam.d/sudo-i:1"]);
    has("auth sufficient pam_backupcodes.so\nauth required pam_unix.so\n".into(), "code-alone", &["error"]);
    has(format!("auth sufficient pam_permit.so\n{code}"), "never-asked", &["error"]);
    has(format!("{unix}auth sufficient pam_backupcodes.so\n"), "refusal-ignored", &["error"]);
    has(format!("auth required pam_unix.so\n{code}"), "wastes-codes", &["warning", "requisite"]);
    has(format!("{unix}auth required pam_env.so \\\n{code}"), "backslash", &["error"]);
    has(format!("{unix}auth sufficient pam_backupcodes.so forward_pass\n"), "forward-pass-alone", &["error"]);
    has(
        format!("{unix}auth required pam_backupcodes.so nullOK\n"),
        "unknown-option",
        &["error", "nullOK", "nullok"],
    );

    // Who would be locked out is named, and not those who have a set.
    let [with, without] = machine.accounts(2).try_into().ok().unwrap();
    assert!(world.admin(&["generate", "--all", "--missing", "--count", "5"]).status.success());
    assert!(world.admin(&["revoke", &without.name]).status.success());
    let services = [("login", readme::block("console"))];
    let found = doctor_of_stacks(&world, &services, "");
    found.has("no-set-locked-out", &["warning", &without.name, "generate --all --missing"]);
    assert!(!text(&found.1.stdout).contains(&with.name));
    doctor_of_stacks(&world, &[("login", readme::block("nullok"))], "").has_none(&["no-set-locked-out"]);
    assert!(world.admin(&["generate", "--all", "--missing", "--count", "5"]).status.success());
    doctor_of_stacks(&world, &services, "").has_none(&["no-set-locked-out"]);
}

#[test]
fn a_locker_needs_its_own_lines_and_the_broker() {
    let Some((_machine, world)) = World::on_machine("") else { return };
    world.generate();
    let socket = world.path("broker");
    let place = format!("broker = {socket:?}\n");
    world.configure(&place);
    let console = || ("login", readme::block("console"));
    let found = |services: &[(&str, String)]| doctor_of_stacks(&world, services, "");
    // Debian's swaylock takes the lines of login.
    let both = found(&[console()]);
    both.has("one-response", &["error", "/etc/pam.d/login:", "in the stack of swaylock", "use_first_pass"]);
    both.has("broker-missing", &["error", "swaylock", socket.to_str().unwrap(), "backupcodes-broker.socket"]);
    for block in ["locker", "locker-code"] {
        let own = [console(), ("swaylock", readme::block(block))];
        found(&own).has_none(&["one-response", "code-alone"]);
        found(&own).has("broker-missing", &["error", "swaylock"]);
    }
    let _listener = UnixListener::bind(&socket).unwrap();
    found(&[console()]).has_none(&["broker-missing"]);
}

#[test]
fn an_sshd_that_never_asks_is_reported_if_its_stack_has_the_module() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let services = [("sshd", readme::block("ssh-key"))];
    let of = |settings: &str| doctor_of_stacks(&world, &services, settings);
    of("UsePAM no\n")
        .has("sshd-use-pam", &["error", "/etc/ssh/sshd_config.d/10-backupcodes.conf", ": UsePAM yes; then"]);
    let keys = "UsePAM yes\nKbdInteractiveAuthentication no\nPasswordAuthentication no\n";
    of(keys).has("sshd-never-asks", &["error", "KbdInteractiveAuthentication yes"]);
    of("UsePAM yes\nKbdInteractiveAuthentication yes\n")
        .has("sshd-key-alone", &["warning", "publickey,keyboard-interactive"]);
    of("UsePAM yes\nHostbasedAuthentication yes\n")
        .has("sshd-not-asked", &["warning", "logins with hostbased"]);
    let matching = readme::block("sshd-key") + "Match User alice\nAuthenticationMethods publickey\n";
    of(&matching).has("sshd-match", &["note", "/etc/ssh/sshd_config", "sshd -T -C"]);
    of("NoSuchSetting yes\n").has("sshd-fails", &["error", "Bad configuration option: NoSuchSetting"]);
    // Without the module sshd's settings are none of ours.
    doctor_of_stacks(&world, &[], "UsePAM no\n").has_none(&OF_SSHD);
    drop(machine);
}

/// Some cloud's settings stand beside the guide's, in a file that sorts before and behind.
#[test]
fn readmes_settings_of_sshd_win_over_a_cloud_s_by_the_name_of_their_file() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let (account, sheet) = machine.user();
    let key = machine.key(&account);
    machine.stack("sshd", "ssh-key");
    let folder = world.path("sshd_config.d");
    let settings = |name: &str, cloud: &str| {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(name), readme::block("sshd-key")).unwrap();
        fs::write(folder.join("50-cloud.conf"), cloud).unwrap();
        format!("Include {}/*.conf\n", folder.display())
    };
    let doctor = |settings: &str| doctor_of_stacks(&world, &[("sshd", readme::block("ssh-key"))], settings);
    let clouds = [
        "PasswordAuthentication yes\nKbdInteractiveAuthentication no\n",
        "PasswordAuthentication yes\nAuthenticationMethods publickey\n",
    ];
    for (cloud, code) in clouds.into_iter().zip(&sheet.codes) {
        let found = settings("10-backupcodes.conf", cloud);
        doctor(&found).has_none(&OF_SSHD);
        let sshd = machine.sshd_with(&found);
        let mut terminal = Terminal::start(&mut sshd.client(&account, Some(&key), "echo is in"));
        terminal.expect("Backup code: ");
        terminal.send(code);
        assert!(terminal.find("is in"), "{cloud}: {}", terminal.screen);
        terminal.end();
    }
    // Under the old name the cloud's come first: sshd does not start, or asks for no code.
    let found = doctor(&settings("backupcodes.conf", clouds[0]));
    found.has("sshd-fails", &["error", "AuthenticationMethods cannot be satisfied", "10-backupcodes.conf"]);
    let found = doctor(&settings("backupcodes.conf", clouds[1]));
    found.has("sshd-never-asks", &["error", "/etc/ssh/sshd_config.d/10-backupcodes.conf"]);
    // `any` stands nowhere beside another list, whichever comes first: the file is named.
    let any = "AuthenticationMethods any\n";
    doctor(&settings("10-backupcodes.conf", any)).has("sshd-fails", &["error", "/50-cloud.conf line 1"]);
    machine.original_stack("sshd");
}

/// A real login by the method `password`, which is answered once with `answer`.
fn gets_in_by_password(sshd: &Sshd, account: &Account, answer: &str) -> bool {
    let mut client = sshd.client(account, None, "echo is in");
    client.args(["-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1"]);
    // ssh takes options in front of the host alone.
    let arguments: Vec<_> = client.get_args().map(|argument| argument.to_owned()).collect();
    let (front, options) = arguments.split_at(arguments.len() - 4);
    let mut terminal = Terminal::start(Command::new("ssh").args(options).args(front));
    terminal.expect("password: ");
    terminal.send(answer);
    let is_in = terminal.find("is in");
    assert_eq!(terminal.end() == 0, is_in, "{}", terminal.screen);
    is_in
}

#[test]
fn doctor_reports_what_the_method_password_does_with_codes() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let (account, sheet) = machine.user();
    let ways = [
        // What Debian's own settings come to.
        "UsePAM yes\nPubkeyAuthentication no\nKbdInteractiveAuthentication no\nPasswordAuthentication yes\n",
        "UsePAM yes\nPubkeyAuthentication no\nAuthenticationMethods password\n",
    ];
    for (settings, code) in ways.into_iter().zip(&sheet.codes) {
        machine.stack("sshd", "ssh-key");
        let sshd = machine.sshd_with(settings);
        assert!(gets_in_by_password(&sshd, &account, code), "{settings}");
        doctor_of_stacks(&world, &[("sshd", readme::block("ssh-key"))], settings)
            .has("code-alone", &["error", "by password: ", "asks for no key first"]);

        machine.stack("sshd", "ssh-password");
        for answer in [&account.password, &sheet.codes[5], &format!("{}{}", account.password, sheet.codes[5])]
        {
            assert!(!gets_in_by_password(&sshd, &account, answer), "{settings}");
        }
        let found = doctor_of_stacks(&world, &[("sshd", readme::block("ssh-password"))], settings);
        found.has("sshd-kbd-interactive", &["error", "users with a set are locked out"]);
        found.has_none(&["code-alone", "sshd-never-asks"]);
    }
    machine.original_stack("sshd");
    let both =
        "UsePAM yes\nPubkeyAuthentication no\nKbdInteractiveAuthentication yes\nPasswordAuthentication yes\n";
    doctor_of_stacks(&world, &[("sshd", readme::block("ssh-password"))], both)
        .has("sshd-password", &["warning", "cannot log in with it"]);
}
