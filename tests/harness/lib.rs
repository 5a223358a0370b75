//! What the suites share. A [`World`] is a store, a configuration and a PAM stack of its own; [`Attempt`]s in it go through the real
//! libpam and the module as it is shipped.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::condition::{Condition, Memory};
use crate::machine::Machine;
use crate::patience::PATIENCE;
use crate::process_state::ProcessState;
use crate::usage::Usage;

pub mod authenticator;
pub mod background;
pub mod bench;
pub mod broker;
pub mod chance;
pub mod condition;
pub mod disk;
pub mod doctor;
pub mod etcd;
pub mod fleet;
pub mod libpam;
pub mod logged_disk;
pub mod machine;
pub mod mail;
pub mod mounted;
pub mod patience;
pub mod pdf;
pub mod postbox;
pub mod power_cut;
pub mod process_state;
pub mod processes;
pub mod readme;
pub mod refusals;
pub mod renewal;
pub mod scene;
pub mod stopped;
pub mod strace;
pub mod terminal;
pub mod traced;
pub mod usage;

/// Linux-PAM's numbers (`_pam_types.h`).
pub mod pam {
    pub const SUCCESS: i32 = 0;
    pub const SERVICE_ERR: i32 = 3;
    pub const SYSTEM_ERR: i32 = 4;
    pub const PERM_DENIED: i32 = 6;
    pub const AUTH_ERR: i32 = 7;
    pub const AUTHINFO_UNAVAIL: i32 = 9;
    pub const USER_UNKNOWN: i32 = 10;
    pub const CONV_ERR: i32 = 19;
    pub const ABORT: i32 = 26;
    pub const INCOMPLETE: i32 = 31;
    pub const SILENT: i32 = 0x8000;
    pub const PROMPT_ECHO_OFF: i32 = 1;
    pub const PROMPT_ECHO_ON: i32 = 2;
    pub const TEXT_INFO: i32 = 4;
}

/// Weights of the log, as syslog(3) numbers them.
pub mod level {
    pub const CRITICAL: u32 = 2;
    pub const ERROR: u32 = 3;
    pub const WARNING: u32 = 4;
    pub const NOTICE: u32 = 5;
    pub const DEBUG: u32 = 7;
}

/// What the application does with one `pam_start` to `pam_end`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Attempt {
    pub folder: String,
    pub service: Vec<u8>,
    /// Empty: the module must ask.
    pub user: Vec<u8>,
    pub rhost: Option<Vec<u8>>,
    pub tty: Option<Vec<u8>>,
    pub flags: i32,
    pub answers: Vec<Answer>,
    pub calls: Vec<String>,
    /// What the application does to itself between pam_start and the first call.
    pub conditions: Vec<Condition>,
    /// All the memory that is to be had during the calls.
    pub memory_left: Option<Memory>,
    /// How many threads do all this at once; each begins with the next answer.
    pub threads: usize,
    /// How often all this is done, one time after the other; each begins with the next answer.
    pub times: usize,
    pub seconds_to_answer: Option<u64>,
    /// Whether the application refuses to show texts.
    pub texts_fail: bool,
    /// Whether modules that are not ours stand in the stack, which keep or change what the application lends them.
    pub has_other_modules: bool,
}

/// What the application answers to a prompt.
#[derive(Clone, Serialize, Deserialize)]
pub enum Answer {
    Text(String),
    Bytes(Vec<u8>),
    /// Bytes that stand nowhere in the application's memory but in its response: see [`scrambled`].
    Scrambled(Vec<u8>),
    Null,
    Fail,
    Again,
}

/// Each byte as another one, no text's as 0, which ends an answer. Twice, and they are as they were.
pub fn scrambled(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ 0xff).collect()
}

impl From<&str> for Answer {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<&String> for Answer {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

/// What came of an attempt.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// One for each call.
    pub codes: Vec<i32>,
    /// What the module said.
    pub said: Vec<Said>,
    /// The state of the application's process, before and after. [`race_in`] checks that both are equal.
    pub state: [ProcessState; 2],
    /// How many signals came that the application handled, or children that a thread of it found.
    pub handled: u32,
    /// Of an application that does it many times: what it uses after the first ones and at the end.
    pub usage: Vec<Usage>,
}

/// One message of the conversation.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub style: i32,
    pub text: String,
}

/// A set as `generate --format json` shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sheet {
    pub user: String,
    pub set: String,
    pub created: String,
    pub codes: Vec<String>,
}

/// One caught line of the log.
#[derive(Clone, Debug)]
pub struct Line {
    /// One of [`level`].
    pub level: u32,
    pub text: String,
}

/// The folder of the sandbox that tests run in, or `None` with a printed reason. In CI that is a failure.
pub fn sandbox() -> Option<PathBuf> {
    let folder = std::env::var_os("BACKUPCODES_SANDBOX").map(PathBuf::from);
    folder.or_else(|| skip("this test runs in a sandbox: start it with tests/run"))
}

/// The same for tests that need accounts, PAM stacks and servers of their own.
pub fn sandbox_of_root() -> Option<PathBuf> {
    let folder = sandbox()?;
    if folder.join("root").exists() { Some(folder) } else { skip("this test needs root") }
}

fn skip<T>(reason: &str) -> Option<T> {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason}, and in CI nothing is skipped");
    // Written directly: what is printed by a test that passes is not shown.
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
    None
}

/// A release build's file.
pub fn built(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("BACKUPCODES_BUILD").expect("set by tests/run")).join(name)
}

/// The user who runs the tests, who exists on every host.
pub fn me() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().expect("an account for this uid").name
}

/// Hashes that cost little, and failures that cost nothing.
pub const CHEAP: &str = "[hash]\nmemory_kib = 64\npasses = 1\n[throttle]\nfree = 1000000\n";

/// A store, a configuration and a PAM service of their own.
pub struct World {
    pub folder: tempfile::TempDir,
    pub service: String,
    sandbox: PathBuf,
}

impl World {
    /// A world with cheap hashes, whose stack is `auth required pam_backupcodes.so` with `options`.
    pub fn new(options: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let sandbox = sandbox()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::Builder::new().prefix("backupcodes-world.").tempdir().unwrap();
        let world = Self { folder, service: format!("world-{}-{count}", std::process::id()), sandbox };
        fs::create_dir(world.store()).unwrap();
        set_mode(&world.store(), 0o700);
        fs::create_dir(world.path("conf.d")).unwrap();
        world.configure(CHEAP);
        world.stack(options);
        Some(world)
    }

    /// The same where tests are root.
    pub fn of_root(options: &str) -> Option<Self> {
        sandbox_of_root()?;
        Self::new(options)
    }

    /// The same with the whole machine.
    pub fn on_machine(options: &str) -> Option<(Machine, Self)> {
        Some((Machine::new()?, Self::new(options)?))
    }

    /// Writes the module's line, with more options.
    pub fn stack(&self, options: &str) {
        self.stack_behind("", options);
    }

    /// The same behind other lines.
    pub fn stack_behind(&self, front: &str, options: &str) {
        let module = built("libpam_backupcodes.so");
        let line = format!("required {} conf={} {options}\n", module.display(), self.path("conf").display());
        let lines = ["auth", "account", "password", "session"].map(|kind| format!("{kind} {line}"));
        fs::create_dir_all(self.path("pam.d")).unwrap();
        fs::write(self.path("pam.d").join(&self.service), front.to_owned() + &lines.concat()).unwrap();
    }

    /// Writes the configuration, below the lines that name the directories.
    pub fn configure(&self, text: &str) {
        self.configure_with(&self.store(), text);
    }

    /// Writes it as it is at first, but for the directory of the sets.
    pub fn configure_store(&self, store: &Path) {
        self.configure_with(store, CHEAP);
    }

    fn configure_with(&self, store: &Path, text: &str) {
        let directories = format!("directory = {store:?}\nruntime_directory = {:?}\n", self.path("run"));
        fs::write(self.path("conf"), directories + text).unwrap();
        set_mode(&self.path("conf"), 0o644);
    }

    /// Writes the section on mail, in a drop-in of the configuration.
    pub fn notify(&self, text: &str) {
        fs::write(self.path("conf.d/notify.conf"), format!("[notify]\n{text}\n")).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// The set file of the user who runs the tests.
    pub fn file(&self) -> PathBuf {
        self.store().join(format!("{}.toml", me()))
    }

    /// All files of the store but the set of the user who runs the tests and the links to names of uids: queued notices, and leftovers.
    pub fn other_files(&self) -> Vec<String> {
        let list =
            |folder: PathBuf| fs::read_dir(folder).map_or_else(|_| Vec::new(), |files| files.collect());
        let mut files = list(self.store());
        files.extend(list(self.store().join("outbox")));
        let names = files.into_iter().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names
            .filter(|name| {
                *name != "outbox" && !name.starts_with("uid-") && *name != format!("{}.toml", me())
            })
            .collect();
        names.sort_unstable();
        names
    }

    /// `backupcodes-admin` with this world's configuration.
    pub fn admin(&self, arguments: &[&str]) -> Output {
        self.admin_with_input(arguments, "")
    }

    pub fn admin_with_input(&self, arguments: &[&str], input: &str) -> Output {
        feed(self.admin_command().args(arguments), input)
    }

    pub fn admin_command(&self) -> Command {
        let mut command = Command::new(built("backupcodes-admin"));
        command.arg("--config").arg(self.path("conf"));
        command
    }

    /// Hands over what is due.
    pub fn deliver(&self) {
        let output = self.admin(&["notify"]);
        assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    }

    /// A new set for the user who runs the tests.
    pub fn generate(&self) -> Sheet {
        sheet(self.admin(&["generate", "--yes", "--format", "json", &me()]))
    }

    /// What `status` says of the user who runs the tests.
    pub fn status(&self) -> serde_json::Value {
        status(&self.admin(&["status", "--format", "json", &me()]))
    }

    /// A setuid application, as su is: root's, whoever starts it. `None` where the tests do not run as root.
    pub fn setuid_application(&self) -> Option<PathBuf> {
        let application = sandbox_of_root()?.join(format!("setuid-{}", self.service));
        fs::copy(built("pam-application"), &application).unwrap();
        set_mode(&application, 0o4755);
        Some(application)
    }

    /// An attempt of the user who runs the tests, from 192.0.2.7, with these answers.
    pub fn attempt(&self, answers: &[Answer]) -> Attempt {
        let attempt = Attempt::new(&self.path("pam.d"), &self.service, &me(), Some("192.0.2.7"));
        Attempt { answers: answers.to_vec(), ..attempt }
    }

    /// What libpam returns for one answer of the user who runs the tests.
    pub fn try_answer(&self, answer: impl Into<Answer>) -> i32 {
        self.attempt(&[answer.into()]).run().codes[0]
    }

    /// The lines that the module has written about this world so far.
    pub fn log(&self) -> Vec<Line> {
        let module = format!("pam_backupcodes({}:", self.service);
        caught(&self.sandbox).into_iter().filter(|line| line.text.contains(&module)).collect()
    }

    /// The last of them.
    pub fn last_line(&self) -> Line {
        self.log().pop().expect("a line in the log")
    }
}

impl Attempt {
    /// An authentication without answers, by a service of this folder.
    pub fn new(folder: &Path, service: &str, user: &str, rhost: Option<&str>) -> Self {
        Self {
            folder: folder.to_str().unwrap().into(),
            service: service.into(),
            user: user.into(),
            rhost: rhost.map(Into::into),
            tty: Some("ssh".into()),
            flags: 0,
            answers: Vec::new(),
            calls: vec!["authenticate".into()],
            conditions: Vec::new(),
            memory_left: None,
            threads: 1,
            times: 1,
            seconds_to_answer: None,
            texts_fail: false,
            has_other_modules: false,
        }
    }

    /// One from 192.0.2.7 by a service of this machine, in whose stack other modules stand as well.
    pub fn of_machine(service: &str, user: &str, answers: &[&str]) -> Self {
        let attempt = Self::new(Path::new("/etc/pam.d"), service, user, Some("192.0.2.7"));
        let answers = answers.iter().map(|&answer| answer.into()).collect();
        Self { answers, has_other_modules: true, ..attempt }
    }

    /// Makes the attempt.
    pub fn run(&self) -> Outcome {
        race(std::slice::from_ref(self)).pop().flatten().expect("the application lives on")
    }
}

/// A row of the table: what comes back, nothing said beside the prompt, and one line in the log.
pub fn refuses(world: &World, answer: impl Into<Answer>, code: i32, level: u32, reason: &str) {
    let before = world.log().len();
    let outcome = world.attempt(&[answer.into()]).run();
    assert_eq!(outcome.codes, [code], "{reason}");
    assert!(outcome.said.len() <= 1, "{:?}", outcome.said);
    let log = world.log();
    assert_eq!(log.len(), before + 1, "{log:#?}");
    let line = log.last().unwrap();
    assert!(line.text.contains(reason) && line.level == level, "{reason}, level {level}: {line:?}");
}

/// Makes attempts at the same time, each in its own process, all held at their prompt until the last is there. `None`
/// is an application that died.
pub fn race(attempts: &[Attempt]) -> Vec<Option<Outcome>> {
    race_in(&mut Command::new(built("pam-application")), attempts)
}

/// The same in an application that loads `library` before all others.
pub fn race_with_preload(attempts: &[Attempt], library: &Path) -> Vec<Option<Outcome>> {
    race_in(Command::new(built("pam-application")).env("LD_PRELOAD", library), attempts)
}

/// The same in the application that this command starts.
pub fn race_in(application: &mut Command, attempts: &[Attempt]) -> Vec<Option<Outcome>> {
    let output = feed(application, &serde_json::to_string(attempts).unwrap());
    assert!(
        output.stderr.is_empty(),
        "on the application's stderr: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let outcomes: Vec<Option<Outcome>> = serde_json::from_slice(&output.stdout).expect("outcomes as JSON");
    for (attempt, outcome) in attempts.iter().zip(&outcomes) {
        let Some(Outcome { state: [before, after], .. }) = outcome else { continue };
        let differences = if attempt.has_other_modules { Vec::new() } else { before.differences(after) };
        assert!(differences.is_empty(), "the process state is not restored: {differences:#?}");
    }
    outcomes
}

/// The start of a command of an ordinary user's, who exists on every host.
pub fn as_nobody() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command
}

/// Runs a command with `input` on its standard input.
pub fn feed(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who does not read may close the pipe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// The one set that `generate --format json` printed.
pub fn sheet(output: Output) -> Sheet {
    let mut sheets = sheets(output);
    assert_eq!(sheets.len(), 1);
    sheets.remove(0)
}

/// The sets that it printed.
pub fn sheets(output: Output) -> Vec<Sheet> {
    assert!(output.status.success(), "generate: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a JSON list of sets")
}

/// A code with another last character, which is the check character.
pub fn mistyped(code: &str) -> String {
    let last = if code.ends_with('0') { "1" } else { "0" };
    code[..code.len() - 1].to_owned() + last
}

/// The one set that `status --format json` printed.
pub fn status(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "status: {}", text(&output.stderr));
    serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")[0].clone()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// All that was logged until now: a mark of our own is sent behind it and waited for.
pub fn caught(sandbox: &Path) -> Vec<Line> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mark = format!("mark {}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    UnixDatagram::unbound().unwrap().send_to(format!("<15>{mark}").as_bytes(), "/dev/log").unwrap();
    let start = Instant::now();
    loop {
        let log = text(&fs::read(sandbox.join("log")).unwrap());
        if log.lines().any(|line| line.ends_with(&mark)) {
            return log.lines().filter_map(Line::parse).collect();
        }
        assert!(start.elapsed() < PATIENCE, "the log is not caught");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let (priority, text) = line.strip_prefix('<')?.split_once('>')?;
        Some(Self { level: priority.parse::<u32>().ok()? & 7, text: text.into() })
    }
}
