//! Hosts of a fleet: each has a `backupcodes-fleet` in front of the [`Cluster`], with a certificate, a configuration, a socket and a
//! memory of its own.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;

use backupcodes_core::account::Account;
use backupcodes_core::clock;
use backupcodes_core::config::{Config, Fleet};
use backupcodes_core::hash::CodeHash;
use backupcodes_core::mail::outbox::Outbox;
use backupcodes_core::set::{CodeSet, Label};
use backupcodes_core::store::{Expected, FileStore, FleetStore, Prepared, Store};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;
use rand::TryRng;
use rand::rngs::SysRng;

use crate::background::Background;
use crate::chance::Chance;
use crate::etcd::{Certificate, Cluster};
use crate::patience::wait_until;
use crate::{built, feed, set_mode, strace, text};

/// The user of etcd whose certificate may replace sets.
pub const ADMIN: &str = "backupcodes-admin";

/// That of the system.
const CONFIG: &str = "/etc/security/backupcodes.conf";

/// Makes the users, roles and permissions of a fleet with these hosts by the program itself. From now on all need a certificate.
pub fn set_up(cluster: &Cluster, hosts: &[&str]) {
    let root = Host::prepare(cluster, "root", "");
    // Where the command finds it: /usr/sbin is the sandbox's own.
    fs::copy(built("backupcodes-fleet"), "/usr/sbin/backupcodes-fleet").unwrap();
    root.admin(&["init"]);
    for host in hosts {
        root.admin(&["host", "add", host]);
    }
}

/// Gives users new sets of so many codes, by the host of an administrator. The hashes are random, and no hash of a code.
pub fn give_sets(admin: &Host, users: &[String], codes: u8) -> Vec<CodeSet> {
    give_sets_to(&admin.store(), users, codes)
}

/// The same, by what an administrator's programs use.
pub fn give_sets_to(store: &FleetStore, users: &[String], codes: u8) -> Vec<CodeSet> {
    let account = |user: &String| Account { name: user.clone(), uid: 1000 };
    give_sets_of(store, users.iter().map(account), codes)
}

/// The same for accounts.
pub fn give_sets_of(store: &FleetStore, accounts: impl Iterator<Item = Account>, codes: u8) -> Vec<CodeSet> {
    let give = |account: Account| {
        let (user, set) = (&account.name, random_set(&account, codes));
        store.prepare(user, Expected::Nothing, Some(&set)).unwrap().commit(|_| Vec::new()).unwrap();
        store.read(user).unwrap().expect("the new set")
    };
    accounts.map(give).collect()
}

/// Replaces a user's set with one of this text.
pub fn replace(admin: &Host, user: &str, set: &str, text: &str) {
    let store = admin.store();
    store.prepare(user, Expected::Set(set), Some(text)).unwrap().commit(|_| Vec::new()).unwrap();
}

/// The text of a set that costs no hash.
pub fn random_set(account: &Account, codes: u8) -> String {
    let mut chance = Chance(SysRng.try_next_u64().unwrap() | 1);
    let label = Label::new(account, clock::now(), Vec::new(), &mut SysRng).unwrap();
    let mut base64 = |length| {
        // The last of the bits that a text of this length has are none of a byte's.
        let letters = (1..length).map(|_| char::from(b'a' + u8::try_from(chance.below(26)).unwrap()));
        letters.chain(['A']).collect::<String>()
    };
    let hash = |_| format!("$argon2id$v=19$m=65536,t=3,p=1${}${}", base64(22), base64(43));
    let hashes: Vec<_> = (0..codes).map(hash).map(|hash| CodeHash::parse(&hash).unwrap()).collect();
    CodeSet::render(&label, &hashes)
}

/// A host whose service runs until this value ends, or until it is killed.
pub struct Host {
    name: String,
    certificate: Certificate,
    endpoints: String,
    folder: tempfile::TempDir,
    service: Mutex<Option<Background>>,
}

impl Host {
    /// One whose hostname, and whose name in its certificate, is this.
    pub fn new(cluster: &Cluster, name: &str) -> Self {
        Self::with(cluster, name, "")
    }

    /// The same with more lines in the section `[fleet]`.
    pub fn with(cluster: &Cluster, name: &str, lines: &str) -> Self {
        let host = Self::prepare(cluster, name, lines);
        host.start();
        host
    }

    /// One that reaches the cluster at this address alone.
    pub fn behind(cluster: &Cluster, name: &str, endpoint: &str) -> Self {
        let host = Self::prepare_with(cluster, name, "", &[endpoint]);
        host.start();
        host
    }

    /// One whose service does not run.
    pub fn prepare(cluster: &Cluster, name: &str, lines: &str) -> Self {
        let endpoints = cluster.endpoints();
        Self::prepare_with(cluster, name, lines, &endpoints.each_ref().map(String::as_str))
    }

    fn prepare_with(cluster: &Cluster, name: &str, lines: &str, endpoints: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("backupcodes-host.").tempdir().unwrap();
        for (directory, mode) in [("sets", 0o700), ("run", 0o755), ("state", 0o700)] {
            fs::create_dir(folder.path().join(directory)).unwrap();
            set_mode(&folder.path().join(directory), mode);
        }
        let host = Self {
            name: name.into(),
            certificate: cluster.certificate(name),
            endpoints: format!("{endpoints:?}"),
            folder,
            service: Mutex::new(None),
        };
        let directories =
            format!("directory = {:?}\nruntime_directory = {:?}\n", host.path("sets"), host.path("run"));
        fs::write(host.config_path(), directories + &host.settings() + lines).unwrap();
        set_mode(&host.config_path(), 0o644);
        host
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `f` in a thread for which this host is the whole machine: its hostname and the system's configuration. What `f` starts
    /// stays there.
    pub fn as_machine<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            unshare(CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWNS).unwrap();
            nix::unistd::sethostname(&self.name).unwrap();
            let bind = MsFlags::MS_BIND;
            File::options().create(true).append(true).open(CONFIG).unwrap();
            mount(Some(&self.config_path()), CONFIG, None::<&str>, bind, None::<&str>).unwrap();
            f()
        };
        thread::scope(|scope| scope.spawn(enter).join().unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// The section `[fleet]`, for the configuration of a [`World`](crate::World) on this host. More lines of it may follow.
    pub fn settings(&self) -> String {
        let Certificate { ca, certificate, key } = &self.certificate;
        let (endpoints, socket) = (&self.endpoints, self.socket());
        format!(
            "[fleet]\nendpoints = {endpoints}\nca = {ca:?}\ncertificate = {certificate:?}\nkey = {key:?}\nsocket = {socket:?}\n"
        )
    }

    pub fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    /// The configuration of this host alone.
    pub fn config_path(&self) -> PathBuf {
        self.path("conf")
    }

    pub fn config(&self) -> Config {
        Config::load(Some(&self.config_path())).unwrap()
    }

    pub fn fleet(&self) -> Fleet {
        self.config().fleet
    }

    /// What the programs of this host use.
    pub fn store(&self) -> FleetStore {
        FleetStore::new(self.fleet(), self.outbox())
    }

    pub fn outbox(&self) -> Outbox {
        FileStore::new(self.path("sets")).outbox()
    }

    /// What the service remembers of the store.
    pub fn seen(&self) -> PathBuf {
        self.path("state/seen")
    }

    /// What the service has written to standard error. Its log is the sandbox's.
    pub fn errors(&self) -> String {
        text(&fs::read(self.path("errors")).unwrap_or_default())
    }

    /// A path in the folder of this host.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes the clock of the service wrong by so many seconds. One that runs has to be started after the first time.
    pub fn set_clock(&self, wrong: i64) {
        // Whole at any moment.
        fs::write(self.path("clock.new"), wrong.to_string()).unwrap();
        fs::rename(self.path("clock.new"), self.path("clock")).unwrap();
    }

    /// Starts the service, and waits until it listens.
    pub fn start(&self) {
        let listens = self.start_as(&Command::new(built("backupcodes-fleet")));
        assert!(listens, "{}: {}", self.name, self.errors());
    }

    /// Starts the service with its system calls tampered with as `inject` says. `false`: it has ended before it listened.
    pub fn start_tampered(&self, inject: &str) -> bool {
        let mut strace = strace::tampering(inject);
        // It does not outlive strace.
        strace.args(["-f", "setpriv", "--pdeathsig", "KILL"]).arg(built("backupcodes-fleet"));
        self.start_as(&strace)
    }

    fn start_as(&self, program: &Command) -> bool {
        let mut service = self.service.lock().unwrap();
        let name = self.name.clone();
        let with_hostname = move || {
            unshare(CloneFlags::CLONE_NEWUTS).unwrap();
            nix::unistd::sethostname(name).unwrap();
        };
        // It does not outlive the tests, whatever ends them.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program.get_program()).args(program.get_args());
        command.arg("--config").arg(self.config_path()).arg("--socket").arg(self.socket());
        command.arg("--state").arg(self.path("state"));
        if self.path("clock").exists() {
            let preload = built("examples/libbroken_clock.so");
            command.env("LD_PRELOAD", preload).env("CLOCK_IS_WRONG_BY", self.path("clock"));
        }
        let errors = File::options().create(true).append(true).open(self.path("errors")).unwrap();
        command.stdin(Stdio::null()).stderr(errors);
        let started = service.insert(Background::start_in(command, with_hostname));
        let mut listens = false;
        wait_until("a service", || {
            listens = UnixStream::connect(self.socket()).is_ok();
            listens || started.has_ended()
        });
        listens
    }

    /// Kills the service at once. Its socket remains, and nobody listens.
    pub fn kill(&self) {
        *self.service.lock().unwrap() = None;
    }

    /// Kills it, and starts it with the memory that it has left.
    pub fn restart(&self) {
        self.kill();
        self.start();
    }

    pub fn runs(&self) -> bool {
        self.service.lock().unwrap().as_ref().is_some_and(|service| !service.has_ended())
    }

    /// What an administrator does with the certificate of this host: `backupcodes-admin fleet` with these arguments. What it prints.
    pub fn admin(&self, arguments: &[&str]) -> String {
        let output = self.try_admin(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    pub fn try_admin(&self, arguments: &[&str]) -> Output {
        let Certificate { certificate, key, .. } = &self.certificate;
        let mut program = Command::new(built("backupcodes-admin"));
        program.arg("--config").arg(self.config_path()).arg("fleet").args(arguments);
        feed(program.arg("--certificate").arg(certificate).arg("--key").arg(key), "")
    }

    /// The process of a service that runs.
    pub fn id(&self) -> Pid {
        self.service.lock().unwrap().as_ref().expect("a service that runs").id()
    }
}
