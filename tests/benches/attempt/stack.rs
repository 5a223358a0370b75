//! PAM stacks of one module each, with the files that the module works on.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use backupcodes_tests::pam;
use nix::unistd::{User, getuid};
use serde::Deserialize;

use crate::fresh::{Sample, Work, measure};

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
        let user = User::from_uid(getuid()).unwrap().unwrap().name;
        Self { folder, release: release.into(), user }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// A service whose stack is one module.
pub struct Stack<'a> {
    folder: &'a Folder,
    service: String,
    /// The last code.
    code: String,
    /// What a login changes, and what is in it before.
    spent: Option<(PathBuf, Vec<u8>)>,
}

impl<'a> Stack<'a> {
    pub fn of_backupcodes(folder: &'a Folder, service: &str, settings: &str, count: u8) -> Self {
        let directory = private_directory(folder, service);
        let conf = folder.path().join(format!("{service}.conf"));
        let runtime = runtime_directory(service);
        // Without `spawn`, which would send a mail for each sample.
        write_private(
            &conf,
            &format!(
                "directory = {directory:?}\nruntime_directory = {runtime:?}\n{settings}[notify]\nspawn = false\n"
            ),
        );
        let module = folder.release.join("libpam_backupcodes.so");
        let mut stack = Self::new(folder, service, &format!("{} conf={}", module.display(), conf.display()));
        stack.code = generate(folder, &conf, count);
        stack.keep(directory.join(format!("{}.toml", folder.user)));
        stack
    }

    pub fn of_google_authenticator(folder: &'a Folder, service: &str) -> Self {
        let directory = private_directory(folder, service);
        let user = &folder.user;
        let codes: Vec<_> = (10_000_001..=10_000_010).map(|code: u32| code.to_string()).collect();
        let secret = directory.join(user);
        write_private(&secret, &format!("JBSWY3DPEHPK3PXP\n\" TOTP_AUTH\n{}\n", codes.join("\n")));
        let line =
            format!("pam_google_authenticator.so secret={}/${{USER}} user={user}", directory.display());
        let mut stack = Self::new(folder, service, &line);
        stack.code = codes.last().unwrap().clone();
        stack.keep(secret);
        stack
    }

    pub fn of_permit(folder: &'a Folder, service: &str) -> Self {
        Self::new(folder, service, "pam_permit.so")
    }

    fn new(folder: &'a Folder, service: &str, module: &str) -> Self {
        let file = folder.path().join("pam.d").join(service);
        fs::write(file, format!("auth required {module}\n")).unwrap();
        Self { folder, service: service.into(), code: String::new(), spent: None }
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
        if let Some((file, content)) = &self.spent {
            let mut file = File::create(file).unwrap();
            file.write_all(content).unwrap();
            file.sync_all().unwrap();
        }
        self.login(&self.code, pam::SUCCESS)
    }

    pub fn refused(&self, answer: &str) -> Sample {
        self.login(answer, pam::AUTH_ERR)
    }

    fn login(&self, answer: &str, expected: i32) -> Sample {
        measure(&Work::Login {
            folder: self.folder.path().join("pam.d"),
            service: self.service.clone(),
            user: self.folder.user.clone(),
            answer: answer.into(),
            expected,
        })
    }
}

fn private_directory(folder: &Folder, name: &str) -> PathBuf {
    let directory = folder.path().join(name);
    DirBuilder::new().mode(0o700).create(&directory).unwrap();
    directory
}

/// On a tmpfs, as /run is: the sandbox's folder is one.
fn runtime_directory(service: &str) -> PathBuf {
    let directory = Path::new(&std::env::var_os("BACKUPCODES_SANDBOX").unwrap()).join(service);
    DirBuilder::new().mode(0o700).create(&directory).unwrap();
    directory
}

fn write_private(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
}

#[derive(Deserialize)]
struct Generated {
    codes: Vec<String>,
}

/// Makes a set, and returns its last code.
fn generate(folder: &Folder, conf: &Path, count: u8) -> String {
    let output = Command::new(folder.release.join("backupcodes-admin"))
        .args(["generate", &folder.user, "--format", "json", "--count", &count.to_string(), "--config"])
        .arg(conf)
        .output()
        .unwrap();
    assert!(output.status.success(), "generate: {}", String::from_utf8_lossy(&output.stderr));
    let sets: Vec<Generated> = serde_json::from_slice(&output.stdout).unwrap();
    sets[0].codes.last().unwrap().clone()
}
