//! Accounts, PAM stacks and servers, inside the sandbox, which takes them away again.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{Line, Sheet, built, caught, feed, readme, sandbox_of_root, sheet, text};

/// The whole machine for one test at a time: its PAM files have names that cannot be chosen.
pub struct Machine {
    pub sandbox: PathBuf,
    _alone: MutexGuard<'static, ()>,
    folder: tempfile::TempDir,
}

/// An account with a password.
pub struct Account {
    pub name: String,
    pub password: String,
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

impl Machine {
    pub fn new() -> Option<Self> {
        let sandbox = sandbox_of_root()?;
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Self { sandbox, _alone: alone, folder: tempfile::tempdir().unwrap() })
    }

    /// A new account with a home.
    pub fn account(&self) -> Account {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        self.account_named(&format!("user-{}-{count}", std::process::id()))
    }

    pub fn account_named(&self, name: &str) -> Account {
        let name = name.to_string();
        let password = format!("password of {name}");
        run(Command::new("useradd").args(["--create-home", "--shell", "/bin/bash", &name]), "");
        run(&mut Command::new("chpasswd"), &format!("{name}:{password}\n"));
        Account { name, password }
    }

    /// Puts README's block into Debian's file of a service, as README says.
    pub fn stack(&self, service: &str, block: &str) {
        let file = PathBuf::from("/etc/pam.d").join(service);
        let original = file.with_extension("original");
        if !original.exists() {
            fs::copy(&file, &original).unwrap();
        }
        fs::write(&file, readme::with_stack(&fs::read_to_string(original).unwrap(), block)).unwrap();
    }

    /// `backupcodes-admin` with the system's configuration.
    pub fn admin(&self, arguments: &[&str]) -> std::process::Output {
        feed(Command::new(built("backupcodes-admin")).args(arguments), "")
    }

    pub fn generate(&self, account: &Account) -> Sheet {
        sheet(self.admin(&["generate", "--yes", "--format", "json", &account.name]))
    }

    pub fn log(&self) -> Vec<Line> {
        caught(&self.sandbox)
    }

    /// A key of the account, which sshd accepts.
    pub fn key(&self, account: &Account) -> PathBuf {
        let key = self.folder.path().join(&account.name);
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key), "");
        let home = PathBuf::from("/home").join(&account.name);
        let folder = home.join(".ssh");
        fs::create_dir_all(&folder).unwrap();
        fs::copy(key.with_extension("pub"), folder.join("authorized_keys")).unwrap();
        run(Command::new("chown").args(["-R", &account.name]).arg(&folder), "");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        key
    }

    /// A real sshd on loopback with README's settings.
    pub fn sshd(&self, block: &str) -> Sshd {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = self.folder.path();
        let (host_key, config) = (folder.join("host"), folder.join("sshd_config"));
        if !host_key.exists() {
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&host_key), "");
        }
        let fixed = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nPidFile none\nLogLevel DEBUG\nMaxStartups 100\n",
            host_key.display()
        );
        let settings = fixed + &readme::block(block);
        // Newer ones turn away a source that has failed some times.
        fs::write(&config, format!("PerSourcePenalties no\n{settings}")).unwrap();
        let sshd = |mode: &str| {
            let mut command = Command::new("/usr/sbin/sshd");
            command.args([mode, "-e", "-f"]).arg(&config);
            command
        };
        if !feed(&mut sshd("-t"), "").status.success() {
            fs::write(&config, settings).unwrap();
        }
        let log = fs::File::create(folder.join("sshd.log")).unwrap();
        let mut command = sshd("-D");
        command.stdin(Stdio::null()).stderr(log);
        let server = Sshd { child: command.spawn().unwrap(), port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "sshd does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }
}

/// A running sshd; it ends with this value.
pub struct Sshd {
    child: Child,
    port: u16,
}

impl Sshd {
    /// A real ssh client that runs `remote` as the account, with a key or without.
    pub fn client(&self, account: &Account, key: Option<&PathBuf>, remote: &str) -> Command {
        let mut command = match key {
            Some(key) => self.client_with(&["-i", key.to_str().unwrap()]),
            None => self.client_without_key(),
        };
        command.arg(format!("{}@127.0.0.1", account.name)).arg(remote);
        command
    }

    /// One that answers what it is asked at most so many times. The account may be any, or none.
    pub fn client_of(&self, user: &str, prompts: u32) -> Command {
        let mut command = self.client_without_key();
        command.args(["-o", &format!("NumberOfPasswordPrompts={prompts}"), &format!("{user}@127.0.0.1")]);
        command
    }

    fn client_without_key(&self) -> Command {
        self.client_with(&["-o", "PubkeyAuthentication=no"])
    }

    fn client_with(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-tt", "-p", &self.port.to_string()]);
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
        command.args(arguments);
        command
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(command: &mut Command, input: &str) {
    let output = feed(command, input);
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
}
