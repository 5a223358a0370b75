//! PAM stacks of one module each, with the files that the module works on.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::unistd::geteuid;

use super::fresh::{Sample, Work, measure_as};
use super::{google, write_private};
use crate::{Attempt, broker, feed, me, pam, set_mode, sheet};

/// The configuration of the hash that costs least.
pub const SMALLEST_HASH: &str = "[hash]\nmemory_kib = 8\npasses = 1\n";

/// Holds all stacks. It lies beside the build and not in /tmp, since flushing a real disk is part of a login.
pub struct Folder {
    folder: tempfile::TempDir,
    release: PathBuf,
    user: String,
}

impl Folder {
    pub fn new(release: &Path) -> Self {
        let folder = tempfile::tempdir_in(release).unwrap();
        fs::create_dir(folder.path().join("pam.d")).unwrap();
        // libpam reads it after every service.
        fs::write(folder.path().join("pam.d/other"), "").unwrap();
        Self { folder, release: release.into(), user: me() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where libpam finds the services.
    pub fn services(&self) -> PathBuf {
        self.path().join("pam.d")
    }

    /// A service with our module alone, and a configuration, a store and a runtime directory of its own.
    pub fn backupcodes(&self, service: &str, settings: &str) -> Configured {
        let configured = self.configured(service);
        let Configured { conf, directory, runtime } = &configured;
        make_private(directory);
        make_private(runtime);
        write_private(
            conf,
            &format!("directory = {directory:?}\nruntime_directory = {runtime:?}\n{settings}"),
        );
        let module = self.release.join("libpam_backupcodes.so");
        self.service(service, &format!("{} conf={}", module.display(), conf.display()));
        configured
    }

    /// What a service has that was made.
    pub fn configured(&self, service: &str) -> Configured {
        let sandbox = PathBuf::from(std::env::var_os("BACKUPCODES_SANDBOX").unwrap());
        Configured {
            conf: self.path().join(format!("{service}.conf")),
            directory: self.path().join(service),
            // On a tmpfs, as /run is: the sandbox's folder is one.
            runtime: sandbox.join(service),
        }
    }

    fn service(&self, service: &str, module: &str) {
        fs::write(self.services().join(service), format!("auth required {module}\n")).unwrap();
    }
}

/// What our module in a service works with.
pub struct Configured {
    pub conf: PathBuf,
    pub directory: PathBuf,
    pub runtime: PathBuf,
}

/// A service whose stack is one module.
pub struct Stack<'a> {
    folder: &'a Folder,
    service: String,
    /// The last code.
    code: String,
    /// Those of a set in a fleet that were not used.
    next: Vec<String>,
    /// What a login changes, and what is in it before.
    spent: Option<(PathBuf, Vec<u8>)>,
    user: String,
    /// Whose the process is that logs in.
    uid: u32,
}

impl<'a> Stack<'a> {
    pub fn of_backupcodes(folder: &'a Folder, service: &str, settings: &str, count: u8) -> Self {
        let Configured { conf, directory, .. } = folder.backupcodes(service, settings);
        let mut stack = Self::of(folder, service);
        stack.code = generate(&folder.release, &folder.user, &conf, count);
        stack.keep(directory.join(format!("{}.toml", folder.user)));
        stack
    }

    /// One with a set in the fleet that these settings name. Each login needs another code.
    pub fn of_fleet(folder: &'a Folder, service: &str, settings: &str) -> Self {
        folder.backupcodes(service, settings);
        Self::of(folder, service)
    }

    /// Goes on to the next code of the set in the fleet, or to that of a new set.
    pub fn take_next_code(&mut self) {
        if self.next.is_empty() {
            let Configured { conf, .. } = self.folder.configured(&self.service);
            self.next = generate_all(&self.folder.release, &self.folder.user, &conf, 31);
        }
        self.code = self.next.pop().expect("a code");
    }

    /// One with a set of an ordinary user's, in which that user logs in as well as root does; the broker serves the former.
    pub fn of_ordinary_user(folder: &'a Folder, service: &str) -> (Self, Self, Broker) {
        let user = "nobody";
        let socket = Path::new(&std::env::var_os("BACKUPCODES_SANDBOX").unwrap()).join("broker");
        let settings = format!("broker = {socket:?}\n");
        let Configured { conf, directory, runtime } = folder.backupcodes(service, &settings);
        // Who is not root reads them too.
        set_mode(folder.path(), 0o755);
        set_mode(&runtime, 0o755);
        set_mode(&conf, 0o644);
        let code = generate(&folder.release, user, &conf, 10);
        let file = directory.join(format!("{user}.toml"));
        let of = |uid| {
            let mut stack = Self { code: code.clone(), user: user.into(), uid, ..Self::of(folder, service) };
            stack.keep(file.clone());
            stack
        };
        (of(65534), of(0), Broker(broker::start(&socket, &["--config".as_ref(), conf.as_ref()])))
    }

    pub fn of_google_authenticator(folder: &'a Folder, service: &str) -> Self {
        let directory = folder.path().join(service);
        make_private(&directory);
        let secret = directory.join(&folder.user);
        folder.service(service, &google::module(&directory, &folder.user));
        let mut stack = Self::of(folder, service);
        stack.code = google::write_secret(&secret);
        stack.keep(secret);
        stack
    }

    pub fn of_permit(folder: &'a Folder, service: &str) -> Self {
        folder.service(service, "pam_permit.so");
        Self::of(folder, service)
    }

    fn of(folder: &'a Folder, service: &str) -> Self {
        let (user, uid) = (folder.user.clone(), geteuid().as_raw());
        Self {
            folder,
            service: service.into(),
            code: String::new(),
            next: Vec::new(),
            spent: None,
            user,
            uid,
        }
    }

    fn keep(&mut self, file: PathBuf) {
        let content = fs::read(&file).unwrap();
        self.spent = Some((file, content));
    }

    pub fn code(&self) -> &str {
        &self.code
    }

    /// A login with the last code, which is made good again before.
    pub fn accepted(&self) -> Sample {
        self.make_good();
        self.login(&self.code, pam::SUCCESS)
    }

    /// Makes its codes unspent again.
    pub fn make_good(&self) {
        if let Some((file, content)) = &self.spent {
            let mut file = File::create(file).unwrap();
            file.write_all(content).unwrap();
            file.sync_all().unwrap();
        }
    }

    /// A login with the last code, to be made by `race`.
    pub fn attempt(&self) -> Attempt {
        let attempt = Attempt::new(&self.folder.services(), &self.service, &self.user, None);
        Attempt { answers: vec![self.code().into()], has_other_modules: true, ..attempt }
    }

    pub fn refused(&self, answer: &str) -> Sample {
        self.login(answer, pam::AUTH_ERR)
    }

    fn login(&self, answer: &str, expected: i32) -> Sample {
        let work = Work::Login {
            folder: self.folder.services(),
            service: self.service.clone(),
            user: self.user.clone(),
            answer: answer.into(),
            expected,
        };
        measure_as(self.uid, &work)
    }
}

/// A broker in the foreground.
pub struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn make_private(directory: &Path) {
    DirBuilder::new().mode(0o700).create(directory).unwrap();
}

/// Makes a set, and returns its last code.
fn generate(release: &Path, user: &str, conf: &Path, count: u8) -> String {
    generate_all(release, user, conf, count).pop().unwrap()
}

fn generate_all(release: &Path, user: &str, conf: &Path, count: u8) -> Vec<String> {
    let mut admin = Command::new(release.join("backupcodes-admin"));
    admin.args(["generate", "--yes", user, "--format", "json", "--count", &count.to_string(), "--config"]);
    sheet(feed(admin.arg(conf), "")).codes
}
