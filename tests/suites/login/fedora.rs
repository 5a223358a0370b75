//! The lines of docs/guide/fedora.md in stacks as Fedora has them, and the lines that a removed package leaves, with the real libpam.

use std::fs;
use std::path::Path;

use backupcodes_tests::machine::{Account, Machine};
use backupcodes_tests::readme::{FEDORA, block_in, names_in};
use backupcodes_tests::{Attempt, Sheet, pam};

const PASSWORD: &str = "Password: ";
const CODE: &str = "Backup code: ";

/// As authselect writes it.
const PASSWORD_AUTH: &str = "\
auth        required                                     pam_env.so
auth        required                                     pam_faildelay.so delay=2000
auth        [default=1 ignore=ignore success=ok]         pam_usertype.so isregular
auth        [default=1 ignore=ignore success=ok]         pam_localuser.so
auth        sufficient                                   pam_unix.so nullok
auth        [default=1 ignore=ignore success=ok]         pam_usertype.so isregular
auth        sufficient                                   pam_sss.so forward_pass
auth        required                                     pam_deny.so
account     required                                     pam_unix.so
session     required                                     pam_unix.so
";
const SUBSTACK: &str = "auth       substack     password-auth\n";
const BEHIND: &str = "account    include      password-auth\nsession    include      password-auth\n";

/// What a service includes lies here, wherever its own file does.
const PAM: &str = "/etc/pam.d";
const SERVICE: &str = "fedora-sshd";
const INCLUDED: [&str; 2] = ["password-auth", "backupcodes-auth"];

/// A host whose sshd has Fedora's stack, with these lines instead of the substack.
struct Fedora {
    account: Account,
    sheet: Sheet,
}

impl Fedora {
    fn new(machine: &Machine, lines: &str) -> Self {
        let (account, sheet) = machine.user();
        let host = Self { account, sheet };
        host.write("password-auth", PASSWORD_AUTH);
        host.write("backupcodes-auth", &shipped("backupcodes-auth"));
        let reminder = block_in(FEDORA, "fedora-reminder");
        host.write(SERVICE, &format!("{lines}{BEHIND}{reminder}"));
        host
    }

    /// Without the pause that `pam_unix.so` makes after each failure, and with an sssd that knows nobody.
    fn write(&self, name: &str, text: &str) {
        let text = text.replace("pam_unix.so", "pam_unix.so nodelay").replace("pam_sss.so", "pam_deny.so");
        fs::write(Path::new(PAM).join(name), text).unwrap();
    }

    /// Whether that is accepted, and what was asked for.
    fn login(&self, user: &Account, answers: &[&str]) -> (bool, Vec<String>) {
        let outcome = Attempt::of_machine(SERVICE, &user.name, answers).run();
        let is_prompt = |style| [pam::PROMPT_ECHO_OFF, pam::PROMPT_ECHO_ON].contains(&style);
        let said = outcome.said.into_iter().filter(|said| is_prompt(said.style)).map(|said| said.text);
        (outcome.codes == [pam::SUCCESS], said.collect())
    }

    /// The answers of the user with a set.
    fn own_login(&self, answers: &[&str]) -> (bool, Vec<String>) {
        self.login(&self.account, answers)
    }

    fn left(&self, machine: &Machine) -> u64 {
        machine.status(&self.account)["left"].as_u64().unwrap()
    }
}

/// Other tests know nothing of Fedora.
impl Drop for Fedora {
    fn drop(&mut self) {
        for name in [SERVICE].into_iter().chain(INCLUDED) {
            let _ = fs::remove_file(Path::new(PAM).join(name));
        }
    }
}

fn shipped(stack: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/pam/generic/");
    fs::read_to_string(format!("{folder}{stack}")).unwrap()
}

fn prompts(prompts: &[&str]) -> Vec<String> {
    prompts.iter().map(|&prompt| prompt.into()).collect()
}

#[test]
fn after_fedoras_substack_a_mistyped_password_spends_a_code() {
    let Some(machine) = Machine::new() else { return };
    let host = Fedora::new(&machine, &format!("{SUBSTACK}auth required pam_backupcodes.so\n"));
    let refused = host.own_login(&["mistyped", &host.sheet.codes[0]]);
    assert_eq!(refused, (false, prompts(&[PASSWORD, CODE])));
    assert_eq!(
        host.left(&machine),
        9,
        "which is why docs/guide/fedora.md puts its lines instead of the substack"
    );
}

#[test]
fn the_lines_of_docs_fedora_spend_no_code_for_a_mistyped_password_and_accept_each_code_once() {
    let Some(machine) = Machine::new() else { return };
    for name in names_in(FEDORA).filter(|name| *name != "fedora-reminder") {
        let host = Fedora::new(&machine, &block_in(FEDORA, name));
        let password = &host.account.password;
        let [first, second] = [&host.sheet.codes[0], &host.sheet.codes[1]];
        assert_eq!(host.own_login(&["mistyped", first]), (false, prompts(&[PASSWORD])), "{name}");
        assert_eq!(host.left(&machine), 10, "{name}");
        let both = prompts(&[PASSWORD, CODE]);
        assert_eq!(host.own_login(&[password, first]), (true, both.clone()), "{name}");
        assert_eq!(host.own_login(&[password, first]), (false, both.clone()), "{name}");
        assert_eq!(host.own_login(&[password, ""]), (false, both.clone()), "{name}");
        assert_eq!(host.own_login(&[password, second]), (true, both), "{name}");
        assert_eq!(host.left(&machine), 8, "{name}");
    }
}

#[test]
fn users_locked_out_for_wrong_passwords_spend_no_code() {
    let Some(machine) = Machine::new() else { return };
    let host = Fedora::new(&machine, &block_in(FEDORA, "fedora-faillock"));
    let mistypes = || assert_eq!(host.own_login(&["mistyped"]), (false, prompts(&[PASSWORD])));
    // Three in a row are too many.
    for code in &host.sheet.codes[..2] {
        mistypes();
        mistypes();
        assert!(host.own_login(&[&host.account.password, code]).0);
    }
    (0..3).for_each(|_| mistypes());
    let right = [host.account.password.as_str(), &host.sheet.codes[2]];
    assert_eq!(host.own_login(&right), (false, prompts(&[])));
    assert_eq!(host.left(&machine), 8);
}

#[test]
fn users_without_a_set_log_in_with_the_password_and_with_nothing_else() {
    let Some(machine) = Machine::new() else { return };
    let nullok = |name| block_in(FEDORA, name).replace("pam_backupcodes.so", "pam_backupcodes.so nullok");
    for lines in [
        block_in(FEDORA, "fedora"),
        "auth required pam_permit.so\n".to_owned() + &nullok("fedora-sssd"),
        nullok("fedora-faillock"),
    ] {
        let host = Fedora::new(&machine, &lines);
        let other = machine.account();
        assert_eq!(host.login(&other, &[&other.password]), (true, prompts(&[PASSWORD])), "{lines}");
        assert_eq!(host.login(&other, &["mistyped"]), (false, prompts(&[PASSWORD])), "{lines}");
    }
}

#[test]
fn the_stacks_that_remain_after_a_removal_ask_only_for_the_password() {
    let Some(machine) = Machine::new() else { return };
    let host = Fedora::new(&machine, &block_in(FEDORA, "fedora"));
    host.write("backupcodes-auth", &shipped("without/backupcodes-auth"));
    assert_eq!(host.own_login(&[&host.account.password]), (true, prompts(&[PASSWORD])));
    assert_eq!(host.own_login(&["mistyped"]), (false, prompts(&[PASSWORD])));
}
