//! Screen lockers and other programs of users check codes through the broker: a real swaylock in a real sway, and an application
//! that cannot gain privileges.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use backupcodes_tests::machine::{Account, Machine, run};
use backupcodes_tests::patience::wait_until;
use backupcodes_tests::renewal;
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{Attempt, built, pam, race_in};

/// What swaylock says of an attempt.
const REFUSED: &str = "pam_authenticate failed: ";
const DENIED: &str = "invalid credentials";
const UNKNOWN: &str = "authentication information unavailable";
const COMMON: &str = "common-auth";
/// Longer than any test takes. Without it a locker that stays locked would be waited for without end.
const WHOLE: &str = "60";

/// The broker of the system's sets.
struct Broker(Child);

impl Broker {
    fn start() -> Self {
        Self(renewal::start(&[]))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A graphical session of a user's, without a screen.
struct Session<'a> {
    account: &'a Account,
    sway: Child,
}

impl<'a> Session<'a> {
    fn start(account: &'a Account) -> Self {
        let runtime = runtime(account);
        run(Command::new("install").args(["-d", "-m", "0700", "-o", &account.name]).arg(&runtime), "");
        let mut sway = program_of(account, "sway");
        sway.args(["-c", "/dev/null"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let session = Self { account, sway: sway.spawn().unwrap() };
        wait_until("a compositor", || UnixStream::connect(runtime.join("wayland-1")).is_ok());
        session
    }

    fn lock(&self) -> Locker<'_> {
        let mut swaylock = program_of(self.account, "timeout");
        swaylock.args(["--foreground", WHOLE, "swaylock", "--debug"]);
        let mut swaylock = Terminal::start(&mut swaylock);
        swaylock.expect("Using ");
        Locker { session: self, swaylock }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let _ = self.sway.kill();
        let _ = self.sway.wait();
    }
}

/// A locked screen.
struct Locker<'a> {
    session: &'a Session<'a>,
    swaylock: Terminal,
}

impl Locker<'_> {
    fn refuses(&mut self, answer: &str, reason: &str) {
        self.type_in(answer);
        self.swaylock.expect(&format!("{REFUSED}{reason}"));
    }

    fn unlocks(mut self, answer: &str) {
        self.type_in(answer);
        assert!(!self.swaylock.find(REFUSED), "{}", self.swaylock.screen);
        assert_eq!(self.swaylock.end(), 0, "{}", self.swaylock.screen);
    }

    fn type_in(&self, answer: &str) {
        // The first key is lost where the new keyboard is not known yet.
        let mut keys = program_of(self.session.account, "wtype");
        run(keys.args(["-s", "500", "-d", "10", answer, "-k", "Return"]), "");
    }
}

/// A program in the user's session.
fn program_of(account: &Account, program: &str) -> Command {
    let mut command = account.command();
    command.arg("env").arg(format!("XDG_RUNTIME_DIR={}", runtime(account).display()));
    command.args(["WAYLAND_DISPLAY=wayland-1", "WLR_BACKENDS=headless", "WLR_LIBINPUT_NO_DEVICES=1"]);
    command.args(["WLR_RENDERER=pixman", program]).current_dir("/");
    command
}

fn runtime(account: &Account) -> PathBuf {
    Path::new("/home").join(&account.name).join("runtime")
}

/// What the broker has logged of the account's attempts at the locker.
fn log(machine: &Machine, account: &Account) -> Vec<String> {
    let place = format!("; user={} service=swaylock ", account.name);
    let lines = machine.log().into_iter().map(|line| line.text);
    lines
        .filter_map(|line| Some(line.split_once("backupcodes-broker: ")?.1.split_once(&place)?.0.into()))
        .collect()
}

fn number_left(machine: &Machine, account: &Account) -> u64 {
    machine.status(account)["left"].as_u64().unwrap()
}

#[test]
fn a_locker_unlocks_by_each_code_once() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("swaylock", "locker-code");
    let (account, old) = machine.user();
    let sheet = machine.generate(&account);
    let (_broker, session) = (Broker::start(), Session::start(&account));
    let mut locker = session.lock();
    locker.refuses(&old.codes[0], DENIED);
    locker.unlocks(&sheet.codes[0]);
    let status = machine.status(&account);
    assert_eq!(
        (&status["left"], &status["codes"][0]["service"]),
        (&9.into(), &"swaylock".into()),
        "{status}"
    );
    let mut locker = session.lock();
    locker.refuses(&sheet.codes[0], DENIED);
    locker.unlocks(&sheet.codes[1]);
    let accepted = |number, left| format!("accepted code {number} of set {}, {left} left", sheet.set);
    let [wrong, first, again, second] = &log(&machine, &account)[..] else { panic!("four attempts") };
    assert_eq!(wrong, "refused: wrong code for number 1");
    assert!(again.starts_with("refused: code 1 was used before"), "{again}");
    assert_eq!([first, second], [&accepted(1, 9), &accepted(2, 8)]);
}

#[test]
fn a_locker_unlocks_by_the_password_or_a_code() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("swaylock", "locker");
    let account = machine.account();
    let (_broker, session) = (Broker::start(), Session::start(&account));
    let mut locker = session.lock();
    locker.refuses("no password", DENIED);
    locker.unlocks(&account.password);
    let sheet = machine.generate(&account);
    session.lock().unlocks(&account.password);
    assert_eq!(number_left(&machine, &account), 10);
    session.lock().unlocks(&sheet.codes[0]);
    assert_eq!(number_left(&machine, &account), 9);
    let mut locker = session.lock();
    locker.refuses(&sheet.codes[0], DENIED);
    locker.unlocks(&account.password);
}

/// Debian's locker takes what the console asks for. It answers both prompts with the same text.
#[test]
fn if_the_console_asks_for_password_and_code_debians_locker_unlocks_only_for_users_without_a_set() {
    let Some(machine) = Machine::new() else { return };
    machine.original_stack("swaylock");
    let _broker = Broker::start();
    for asks in ["login", COMMON] {
        machine.original_stack("login");
        machine.original_stack(COMMON);
        if asks == "login" {
            machine.stack("login", "nullok");
        } else {
            let file = Path::new("/etc/pam.d").join(COMMON);
            let original = fs::read_to_string(&file).unwrap();
            fs::write(file, original + "auth required pam_backupcodes.so nullok\n").unwrap();
        }
        let account = machine.account();
        let session = Session::start(&account);
        let mut locker = session.lock();
        locker.refuses("no password", DENIED);
        locker.unlocks(&account.password);
        let sheet = machine.generate(&account);
        let mut locker = session.lock();
        locker.refuses(&account.password, DENIED);
        locker.refuses(&sheet.codes[0], DENIED);
        // The way out: the locker's own lines, which it reads when it is locked the next time.
        machine.stack("swaylock", "locker");
        drop(locker);
        session.lock().unlocks(&account.password);
        machine.original_stack("swaylock");
    }
    machine.original_stack(COMMON);
}

/// That there is no set cannot be proven then.
#[test]
fn without_a_broker_debians_locker_stays_locked_also_to_those_without_a_set() {
    let Some(machine) = Machine::new() else { return };
    machine.original_stack("swaylock");
    machine.stack("login", "nullok");
    let account = machine.account();
    let session = Session::start(&account);
    let mut locker = session.lock();
    locker.refuses(&account.password, UNKNOWN);
    let _broker = Broker::start();
    locker.unlocks(&account.password);
    machine.original_stack("login");
}

#[test]
fn without_a_broker_a_locker_stays_locked_until_there_is_one() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("swaylock", "locker-code");
    let (account, sheet) = machine.user();
    let session = Session::start(&account);
    let mut locker = session.lock();
    locker.refuses(&sheet.codes[0], UNKNOWN);
    assert_eq!(number_left(&machine, &account), 10);
    let _broker = Broker::start();
    locker.unlocks(&sheet.codes[0]);
}

#[test]
fn an_application_that_cannot_gain_privileges_accepts_a_code_once() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("swaylock", "locker-code");
    let (account, sheet) = machine.user();
    let _broker = Broker::start();
    let try_in = |application: &mut Command, code: &str| {
        let attempt = Attempt::new(Path::new("/etc/pam.d"), "swaylock", &account.name, None);
        let outcome = race_in(application, &[Attempt { answers: vec![code.into()], ..attempt }]).remove(0);
        outcome.expect("the application lives on").codes[0]
    };
    for (mut application, code) in [account.command(), Command::new("setpriv")].into_iter().zip(&sheet.codes)
    {
        application.args(["--no-new-privs", "--"]).arg(built("pam-application"));
        assert_eq!(try_in(&mut application, code), pam::SUCCESS);
        assert_eq!(try_in(&mut application, code), pam::AUTH_ERR);
    }
    // The broker for the user, and root for itself.
    assert_eq!(log(&machine, &account).len(), 2);
    assert_eq!(number_left(&machine, &account), 8);
}
