//! Accounts, PAM stacks and servers in the sandbox, which removes them at its end.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sched::{CloneFlags, unshare};

use crate::patience::wait_until;
use crate::{Line, Sheet, built, caught, feed, readme, sandbox_of_root, sheet, status, text};

/// The whole machine for one test at a time: its PAM files have names that cannot be chosen.
pub struct Machine {
    pub sandbox: PathBuf,
    _alone: MutexGuard<'static, ()>,
    folder: tempfile::TempDir,
}

/// An account with a password; if that is empty, no password is accepted.
pub struct Account {
    pub name: String,
    pub password: String,
}

impl Account {
    pub fn root() -> Self {
        Self { name: "root".into(), password: String::new() }
    }

    /// Its set file.
    pub fn file(&self) -> PathBuf {
        Path::new("/var/lib/backupcodes").join(format!("{}.toml", self.name))
    }

    /// Starts what is added as this user.
    pub fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &self.name, "--regid", &self.name, "--init-groups", "--reset-env"]);
        command
    }
}

/// Runs `f` in a thread that may name the host: the name is that of this thread and of what it starts.
pub fn with_own_hostname<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWUTS).unwrap();
        f()
    });
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// For tests that only look at the machine: no other test changes it meanwhile.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    pub fn new() -> Option<Self> {
        let sandbox = sandbox_of_root()?;
        let alone = alone();
        // What other tests have left: their notices may still be due.
        for left in fs::read_dir("/var/lib/backupcodes").unwrap() {
            let left = left.unwrap().path();
            fs::remove_file(&left).or_else(|_| fs::remove_dir_all(&left)).unwrap();
        }
        Some(Self { sandbox, _alone: alone, folder: tempfile::tempdir().unwrap() })
    }

    /// A new account with a home.
    pub fn account(&self) -> Account {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        self.account_named(&format!("user-{}-{count}", std::process::id()))
    }

    /// A new account with a set.
    pub fn user(&self) -> (Account, Sheet) {
        let account = self.account();
        let sheet = self.generate(&account);
        (account, sheet)
    }

    pub fn account_named(&self, name: &str) -> Account {
        let name = name.to_string();
        let password = format!("password of {name}");
        run(Command::new("useradd").args(["--create-home", "--shell", "/bin/bash", &name]), "");
        run(&mut Command::new("chpasswd"), &format!("{name}:{password}\n"));
        Account { name, password }
    }

    /// Many accounts at once, with homes: `useradd` takes its time over each.
    pub fn accounts(&self, count: usize) -> Vec<Account> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Of several test programs in one sandbox no two share a uid: a set of one is the other's too, by its uid.
        let first = 100_000
            + std::process::id() * 64
            + NEXT.fetch_add(u32::try_from(count).unwrap(), Ordering::Relaxed);
        let accounts = (first..).take(count);
        let names: Vec<_> =
            accounts.clone().map(|uid| format!("user-{}-{uid}", std::process::id())).collect();
        let (mut passwd, mut shadow) = (String::new(), String::new());
        for (uid, name) in accounts.zip(&names) {
            let home = Path::new("/home").join(name);
            fs::create_dir(&home).unwrap();
            std::os::unix::fs::chown(&home, Some(uid), Some(uid)).unwrap();
            passwd += &format!("{name}:x:{uid}:{uid}::{}:/bin/bash\n", home.display());
            shadow += &format!("{name}:*:20000:0:99999:7:::\n");
        }
        append("/etc/passwd", &passwd);
        append("/etc/shadow", &shadow);
        names.into_iter().map(|name| Account { name, password: String::new() }).collect()
    }

    /// Lets the account run everything with sudo.
    pub fn sudoer(&self, account: &Account) {
        let rule = format!("{} ALL=(ALL) ALL\n", account.name);
        fs::write("/etc/sudoers.d/backupcodes-test", rule).unwrap();
    }

    /// Puts the guide's block into Debian's file of a service, as the guide says.
    pub fn stack(&self, service: &str, block: &str) {
        self.stack_of(service, &readme::block(block));
    }

    /// The same with lines that are not the guide's, or not quite.
    pub fn stack_of(&self, service: &str, lines: &str) {
        fs::write(pam_file(service), readme::with_stack(&original(service), lines)).unwrap();
    }

    /// Debian's own file of a service.
    pub fn original_stack(&self, service: &str) {
        fs::write(pam_file(service), original(service)).unwrap();
    }

    /// Puts the guide's block at the end of a service's file.
    pub fn append(&self, service: &str, block: &str) {
        let file = pam_file(service);
        let stack = fs::read_to_string(&file).unwrap();
        fs::write(&file, stack + &readme::block(block)).unwrap();
    }

    /// `backupcodes-admin` with the system's configuration.
    pub fn admin(&self, arguments: &[&str]) -> std::process::Output {
        self.admin_with_input(arguments, "")
    }

    pub fn admin_with_input(&self, arguments: &[&str], input: &str) -> std::process::Output {
        feed(Command::new(built("backupcodes-admin")).args(arguments), input)
    }

    pub fn generate(&self, account: &Account) -> Sheet {
        sheet(self.admin(&["generate", "--yes", "--format", "json", &account.name]))
    }

    /// A set of so many codes.
    pub fn generate_count(&self, account: &Account, count: usize) -> Sheet {
        let count = count.to_string();
        sheet(self.admin(&["generate", "--yes", "--count", &count, "--format", "json", &account.name]))
    }

    /// What `status` says of the account.
    pub fn status(&self, account: &Account) -> serde_json::Value {
        status(&self.admin(&["status", "--format", "json", &account.name]))
    }

    pub fn log(&self) -> Vec<Line> {
        caught(&self.sandbox)
    }

    /// How many wrong codes in a row are counted for the account at sshd, from loopback.
    pub fn failures_at_sshd(&self, account: &Account) -> u64 {
        let counter = Path::new("/run/backupcodes/throttle").join(&account.name).join("sshd@127.0.0.1");
        fs::metadata(counter).map_or(0, |counter| counter.len())
    }

    /// A key that sshd accepts for every account, with the setting that says so.
    pub fn shared_key(&self) -> (PathBuf, String) {
        let key = self.new_key("shared");
        // sshd takes no file below a directory that others may write to, as /tmp is.
        fs::copy(key.with_extension("pub"), "/etc/ssh/shared-key").unwrap();
        (key, "AuthorizedKeysFile /etc/ssh/shared-key\n".into())
    }

    fn new_key(&self, name: &str) -> PathBuf {
        let key = self.folder.path().join(name);
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key), "");
        key
    }

    /// A key of the account, which sshd accepts.
    pub fn key(&self, account: &Account) -> PathBuf {
        let key = self.new_key(&account.name);
        let home = PathBuf::from("/home").join(&account.name);
        let folder = home.join(".ssh");
        fs::create_dir_all(&folder).unwrap();
        fs::copy(key.with_extension("pub"), folder.join("authorized_keys")).unwrap();
        run(Command::new("chown").args(["-R", &account.name]).arg(&folder), "");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        key
    }

    /// A real sshd on loopback with the guide's settings.
    pub fn sshd(&self, block: &str) -> Sshd {
        self.sshd_with(&readme::block(block))
    }

    /// A real sshd on loopback with these settings.
    pub fn sshd_with(&self, settings: &str) -> Sshd {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = self.folder.path();
        let (host_key, config) = (folder.join("host"), folder.join(format!("sshd_config-{port}")));
        if !host_key.exists() {
            self.new_key("host");
        }
        let fixed = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nPidFile none\nLogLevel DEBUG\nMaxStartups 100\n",
            host_key.display()
        );
        fs::write(&config, fixed + settings).unwrap();
        let log = fs::File::create(folder.join("sshd.log")).unwrap();
        let sshd = || {
            let mut command = Command::new("/usr/sbin/sshd");
            command.arg("-f").arg(&config);
            command
        };
        // Since 9.8 sshd turns away whoever failed often, and here all come from one address.
        let no_penalties = ["-o", "PerSourcePenalties=no"];
        let knows_penalties = feed(sshd().arg("-t").args(no_penalties), "").status.success();
        let mut command = sshd();
        command.args(["-D", "-e"]).args(no_penalties.iter().filter(|_| knows_penalties));
        command.stdin(Stdio::null()).stderr(log);
        let server = Sshd { child: command.spawn().unwrap(), port };
        wait_until("sshd", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }
}

fn pam_file(service: &str) -> PathBuf {
    Path::new("/etc/pam.d").join(service)
}

/// Debian's file of a service, which is kept beside the one that is in use.
fn original(service: &str) -> String {
    let file = pam_file(service);
    let original = file.with_extension("original");
    if !original.exists() {
        fs::copy(&file, &original).unwrap();
    }
    fs::read_to_string(original).unwrap()
}

/// A running sshd; it ends with this value.
pub struct Sshd {
    child: Child,
    port: u16,
}

impl Sshd {
    /// A real ssh client that runs `remote` as the account, with a key or without.
    pub fn client(&self, account: &Account, key: Option<&PathBuf>, remote: &str) -> Command {
        let mut command = self.shell(account, key);
        command.arg(remote);
        command
    }

    /// The same, which gives up after one refusal.
    pub fn client_once(&self, account: &Account, key: Option<&PathBuf>, remote: &str) -> Command {
        let mut command = self.shell(account, key);
        command.args(["-o", "NumberOfPasswordPrompts=1"]).arg(remote);
        command
    }

    /// A real ssh client that gets an interactive shell.
    pub fn shell(&self, account: &Account, key: Option<&PathBuf>) -> Command {
        self.ssh("-tt", account, key)
    }

    /// A real ssh client that runs `remote` without a terminal there, and whose standard output is a file.
    pub fn client_into(
        &self,
        output: &Path,
        account: &Account,
        key: Option<&PathBuf>,
        remote: &str,
    ) -> Command {
        let ssh = self.ssh("-T", account, key);
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" >\"$0\""]).arg(output);
        command.arg(ssh.get_program()).args(ssh.get_args()).arg(remote);
        command
    }

    /// One that answers what it is asked at most so many times. The account may be any, or none.
    pub fn client_of(&self, user: &str, prompts: u32) -> Command {
        let mut command = self.ssh_to(user, "-tt", None);
        command.args(["-o", &format!("NumberOfPasswordPrompts={prompts}")]);
        command
    }

    fn ssh(&self, terminal: &str, account: &Account, key: Option<&PathBuf>) -> Command {
        self.ssh_to(&account.name, terminal, key)
    }

    fn ssh_to(&self, user: &str, terminal: &str, key: Option<&PathBuf>) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", terminal, "-p", &self.port.to_string()]);
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
        ] {
            command.args(["-o", option]);
        }
        match key {
            Some(key) => command.arg("-i").arg(key),
            None => command.args(["-o", "PubkeyAuthentication=no"]),
        };
        command.arg(format!("{user}@127.0.0.1"));
        command
    }

    /// Waits until no connection has a process left, whoever its parent is by now.
    pub fn wait_until_idle(&self) {
        wait_until("the end of all connections to sshd", || self.connections().is_empty());
    }

    /// The processes of sshd in this network, which is the sandbox's own, beside the one that listens.
    fn connections(&self) -> Vec<u32> {
        let network = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let here = network("self");
        let is_one = |&process: &u32| {
            let process = process.to_string();
            // sshd, sshd-session and sshd-auth.
            fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.starts_with("sshd"))
                && network(&process) == here
        };
        let processes = fs::read_dir("/proc").unwrap();
        let processes = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        processes.filter(|&process| process != self.child.id()).filter(is_one).collect()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Adds lines to a file in one piece: whoever reads it meanwhile sees all that was there before.
pub fn append(file: impl AsRef<Path>, lines: &str) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
    file.write_all(lines.as_bytes()).unwrap();
}

/// Runs a command that must not fail, and gives back what it printed.
pub fn run(command: &mut Command, input: &str) -> String {
    let output = feed(command, input);
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
