//! The configuration: `backupcodes.conf` and its drop-ins. It works with no file at all.
//!
//! Files are read in this order, and a later one wins key by key: `/usr/lib/backupcodes/backupcodes.conf`, its
//! `backupcodes.conf.d/*.conf` by name, `/etc/security/backupcodes.conf`, its `backupcodes.conf.d/*.conf` by name. A
//! file that is named stands alone with the drop-ins in the directory `<name>.d` beside it.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::open;
use nix::sys::stat::Mode;
use toml::de::{DeTable, DeValue};

use crate::code::{LONGEST_SECRET, SHORTEST_SECRET, Slot};
use crate::hash::{BadCost, Cost};
use crate::trust::{self, CAREFUL, Kind, PathBufDisplay, Untrusted};
use crate::value::{one_line, read};

/// The distribution's file, then the administrator's.
const SYSTEM: [&str; 2] = ["usr/lib/backupcodes/backupcodes.conf", "etc/security/backupcodes.conf"];

/// All that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where sets are.
    pub directory: PathBuf,
    /// Where counters and sockets are; lost at boot.
    pub runtime_directory: PathBuf,
    /// The broker's socket.
    pub broker: PathBuf,
    /// New codes.
    pub codes: Codes,
    /// Argon2id.
    pub hash: Hash,
    /// What failures cost.
    pub throttle: Throttle,
    /// Mail.
    pub notify: Notify,
}

/// `[codes]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codes {
    /// Codes in a new set, 1 to 31.
    pub count: u8,
    /// Random characters of a code, 13 to 26, of 5 bits each.
    pub length: usize,
    /// With so many codes left or fewer, the user is told to make a new set.
    pub low: usize,
}

/// `[hash]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hash {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    /// Runs at one time on this host; 0: twice the processors, at least 4.
    pub concurrent: u32,
}

/// `[throttle]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// Failures in a row that cost nothing.
    pub free: u32,
    /// Seconds to wait after the next one, doubled by each further one.
    pub first_delay: u32,
    /// Most seconds to wait.
    pub longest_delay: u32,
    /// Failures after which the key is closed; 0: never.
    pub most: u32,
}

/// `[notify]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Program and arguments that take a message on stdin; the recipients follow after `--`.
    pub sendmail: Vec<String>,
    /// Sender.
    pub from: String,
    /// Appended as `@domain` to a user without an address.
    pub domain: String,
    /// Who else gets every notice.
    pub copy_to: Vec<String>,
    /// Whom to turn to, as told in notices.
    pub contact: String,
    /// Whether the module starts the delivery itself.
    pub spawn: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            directory: "/var/lib/backupcodes".into(),
            runtime_directory: "/run/backupcodes".into(),
            broker: "/run/backupcodes/broker".into(),
            codes: Codes::default(),
            hash: Hash::default(),
            throttle: Throttle::default(),
            notify: Notify::default(),
        }
    }
}

impl Default for Codes {
    fn default() -> Self {
        Self { count: 10, length: SHORTEST_SECRET, low: 3 }
    }
}

impl Default for Hash {
    fn default() -> Self {
        // Cost::DEFAULT, which a test holds equal.
        Self { memory_kib: 19_456, passes: 2, lanes: 1, concurrent: 0 }
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self { free: 5, first_delay: 1, longest_delay: 60, most: 0 }
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            sendmail: vec!["/usr/sbin/sendmail".into(), "-i".into()],
            from: "root".into(),
            domain: String::new(),
            copy_to: Vec::new(),
            contact: String::new(),
            spawn: true,
        }
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was named is not there, or cannot be read.
    #[error("{path}: cannot be read ({errno}); expected a configuration file; name another, or none")]
    Unreadable {
        /// The file.
        path: PathBufDisplay,
        /// What the system said.
        errno: Errno,
    },
    /// A file that somebody else may have written.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// Not TOML, or not a key or value of ours.
    #[error("{path}: {reason}; see backupcodes.conf(5)")]
    Bad {
        /// The file.
        path: PathBufDisplay,
        /// What is wrong with it.
        reason: String,
    },
}

impl Config {
    /// The configuration of the system whose root directory is `root`.
    ///
    /// # Errors
    /// [`ConfigError`]: nothing may go on without what the administrator wanted.
    pub fn of_system(root: &Path) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for file in SYSTEM {
            let file = root.join(file);
            config.add_if_there(&file)?;
            config.add_drop_ins(&file)?;
        }
        Ok(config)
    }

    /// The configuration in the file `path`, which must be there, and its drop-ins.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn of_file(path: &Path) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if !config.add_if_there(path)? {
            return Err(ConfigError::Unreadable { path: path.into(), errno: Errno::ENOENT });
        }
        config.add_drop_ins(path)?;
        Ok(config)
    }

    fn add_if_there(&mut self, path: &Path) -> Result<bool, ConfigError> {
        let unreadable = |errno| ConfigError::Unreadable { path: path.into(), errno };
        let bad = |reason| ConfigError::Bad { path: path.into(), reason };
        let fd = match open(path, CAREFUL, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(false),
            Err(errno) => return Err(unreadable(errno)),
        };
        Kind::PublicFile.judge(path, &fd)?;
        let bytes = trust::read(fd.as_fd()).map_err(unreadable)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| bad(error.to_string()))?;
        let table = DeTable::parse(text).map_err(|error| bad(one_line(&error)))?.into_inner();
        for (key, value) in &table {
            self.set(key.get_ref(), value.get_ref()).map_err(bad)?;
        }
        // After each file, so that the message names the one that is wrong.
        self.check().map_err(bad)?;
        Ok(true)
    }

    fn add_drop_ins(&mut self, file: &Path) -> Result<(), ConfigError> {
        let mut directory = OsString::from(file);
        directory.push(".d");
        let directory = PathBuf::from(directory);
        let unreadable = |error: std::io::Error| ConfigError::Unreadable {
            path: directory.as_path().into(),
            errno: error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
        };
        let listing = match std::fs::read_dir(&directory) {
            Ok(listing) => listing,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(error)),
        };
        let mut files = Vec::new();
        for entry in listing {
            files.push(entry.map_err(unreadable)?.path());
        }
        files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
        files.sort_unstable();
        files.iter().try_for_each(|file| self.add_if_there(file).map(|_| ()))
    }

    /// Sets a key of the file, or all keys of a section.
    fn set(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), String> {
        match key {
            "directory" => self.directory = read(key, value)?,
            "runtime_directory" => self.runtime_directory = read(key, value)?,
            "broker" => self.broker = read(key, value)?,
            "codes" | "hash" | "throttle" | "notify" => {
                let table =
                    value.as_table().ok_or_else(|| format!("{key} is no section; expected [{key}]"))?;
                return table.iter().try_for_each(|(inner, value)| {
                    self.set_in_section(&format!("{key}.{}", inner.get_ref()), value.get_ref())
                });
            }
            _ => return Err(format!("unknown key {key}")),
        }
        Ok(())
    }

    fn set_in_section(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), String> {
        let Self { codes, hash, throttle, notify, .. } = self;
        match key {
            "codes.count" => codes.count = read(key, value)?,
            "codes.length" => codes.length = read(key, value)?,
            "codes.low" => codes.low = read(key, value)?,
            "hash.memory_kib" => hash.memory_kib = read(key, value)?,
            "hash.passes" => hash.passes = read(key, value)?,
            "hash.lanes" => hash.lanes = read(key, value)?,
            "hash.concurrent" => hash.concurrent = read(key, value)?,
            "throttle.free" => throttle.free = read(key, value)?,
            "throttle.first_delay" => throttle.first_delay = read(key, value)?,
            "throttle.longest_delay" => throttle.longest_delay = read(key, value)?,
            "throttle.most" => throttle.most = read(key, value)?,
            "notify.sendmail" => notify.sendmail = read(key, value)?,
            "notify.from" => notify.from = read(key, value)?,
            "notify.domain" => notify.domain = read(key, value)?,
            "notify.copy_to" => notify.copy_to = read(key, value)?,
            "notify.contact" => notify.contact = read(key, value)?,
            "notify.spawn" => notify.spawn = read(key, value)?,
            _ => return Err(format!("unknown key {key}")),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let Self { codes, throttle, notify, .. } = self;
        within("codes.count", usize::from(codes.count), 1, usize::from(Slot::MOST))?;
        within("codes.length", codes.length, SHORTEST_SECRET, LONGEST_SECRET)?;
        self.hash.cost().map_err(|error| format!("hash: {error}"))?;
        let Throttle { first_delay, longest_delay, .. } = throttle;
        if first_delay > longest_delay {
            return Err(format!(
                "throttle.first_delay is {first_delay}; expected at most longest_delay, {longest_delay}"
            ));
        }
        if !notify.sendmail.first().is_some_and(|program| Path::new(program).is_absolute()) {
            return Err("notify.sendmail: expected a program by its absolute path, and its arguments".into());
        }
        Ok(())
    }
}

impl Hash {
    /// What a run costs.
    ///
    /// # Errors
    /// [`BadCost`]; not with a configuration that was loaded.
    pub const fn cost(&self) -> Result<Cost, BadCost> {
        Cost::new(self.memory_kib, self.passes, self.lanes)
    }
}

fn within(key: &str, value: usize, least: usize, most: usize) -> Result<(), String> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!("{key} is {value}; expected {least} to {most}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Root(tempfile::TempDir);

    impl Root {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn with(self, file: &str, text: &str) -> Self {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            self
        }

        fn load(&self) -> Result<Config, ConfigError> {
            Config::of_system(self.0.path())
        }
    }

    const VENDOR: &str = "usr/lib/backupcodes/backupcodes.conf";
    const VENDOR_DROP_IN: &str = "usr/lib/backupcodes/backupcodes.conf.d/50-site.conf";
    const ADMIN: &str = "etc/security/backupcodes.conf";
    const ADMIN_DROP_IN: &str = "etc/security/backupcodes.conf.d/50-site.conf";

    #[test]
    fn no_file_at_all_is_a_configuration() {
        let config = Root::new().load().unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.hash.cost(), Ok(Cost::DEFAULT));
        assert_eq!((config.codes.count, config.codes.length, config.codes.low), (10, 13, 3));
    }

    #[test]
    fn later_files_win_key_by_key() {
        let config = Root::new()
            .with(VENDOR, "[codes]\ncount = 11\nlow = 1\nlength = 14\n[notify]\nspawn = false\n")
            .with(VENDOR_DROP_IN, "[codes]\ncount = 12\nlow = 2\n")
            .with(ADMIN, "[codes]\ncount = 13\n")
            .with(ADMIN_DROP_IN, "[codes]\nlength = 15\n")
            .with("etc/security/backupcodes.conf.d/60.conf", "[codes]\nlength = 16\n")
            .with("etc/security/backupcodes.conf.d/70.conf.rpmnew", "not read")
            .load()
            .unwrap();
        assert_eq!((config.codes.count, config.codes.length, config.codes.low), (13, 16, 2));
        assert!(!config.notify.spawn);
    }

    #[test]
    fn a_named_file_stands_alone_with_its_drop_ins() {
        let root = Root::new()
            .with(ADMIN, "[codes]\ncount = 13\n")
            .with("x.conf", "[codes]\nlow = 1\n")
            .with("x.conf.d/1.conf", "[codes]\nlength = 20\n");
        let config = Config::of_file(&root.0.path().join("x.conf")).unwrap();
        assert_eq!((config.codes.count, config.codes.length, config.codes.low), (10, 20, 1));
        let error = Config::of_file(&root.0.path().join("y.conf")).unwrap_err().to_string();
        assert!(error.contains("y.conf: cannot be read (ENOENT"), "{error}");
    }

    #[test]
    fn every_key_of_the_documentation_is_known() {
        let all = r#"
            directory = "/a"
            runtime_directory = "/b"
            broker = "/c"
            [codes]
            count = 31
            length = 26
            low = 0
            [hash]
            memory_kib = 8
            passes = 1
            lanes = 1
            concurrent = 9
            [throttle]
            free = 0
            first_delay = 2
            longest_delay = 2
            most = 100
            [notify]
            sendmail = ["/bin/true"]
            from = "a"
            domain = "b"
            copy_to = ["c"]
            contact = "d"
            spawn = false
        "#;
        let config = Root::new().with(ADMIN, all).load().unwrap();
        assert_eq!(config.directory, Path::new("/a"));
        assert_eq!(config.throttle, Throttle { free: 0, first_delay: 2, longest_delay: 2, most: 100 });
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file() {
        for (text, reason) in [
            ("colour = 1", "unknown key colour"),
            ("[codes]\nlenght = 13", "unknown key codes.lenght"),
            ("[codes]\ncount = 0", "codes.count is 0; expected 1 to 31"),
            ("[codes]\ncount = 32", "codes.count is 32; expected 1 to 31"),
            ("[codes]\ncount = \"ten\"", "codes.count is \"ten\"; expected a whole number"),
            ("[codes]\nlength = 12", "codes.length is 12; expected 13 to 26"),
            ("[hash]\nmemory_kib = 7", "memory_kib 7"),
            ("[throttle]\nfirst_delay = 61", "first_delay is 61; expected at most longest_delay, 60"),
            ("directory = \"var\"", "directory is \"var\"; expected an absolute path"),
            ("[notify]\nsendmail = []", "notify.sendmail: expected a program"),
            ("[notify]\nsendmail = [\"sendmail\"]", "notify.sendmail: expected a program"),
            ("codes = 1", "codes is no section"),
            ("[codes]\ncount = -1", "codes.count is -1; expected"),
            ("[codes", "line 1"),
            ("\u{0}", "line 1"),
        ] {
            for file in [VENDOR, VENDOR_DROP_IN, ADMIN, ADMIN_DROP_IN] {
                let error = Root::new().with(file, text).load().unwrap_err().to_string();
                assert!(error.contains(file) && error.contains(reason) && !error.contains('\n'), "{error}");
            }
        }
    }

    #[test]
    fn what_another_may_have_written_is_refused() {
        for mode in [0o664, 0o646] {
            let root = Root::new().with(ADMIN, "");
            fs::set_permissions(root.0.path().join(ADMIN), fs::Permissions::from_mode(mode)).unwrap();
            let error = root.load().unwrap_err().to_string();
            assert!(error.contains(&format!("mode {mode:04o}")) && error.contains("chmod go-w"), "{error}");
        }
        let root = Root::new().with(ADMIN, &" ".repeat(64 * 1024 + 1));
        assert!(root.load().unwrap_err().to_string().contains("65537 bytes"));
        let root = Root::new().with("etc/security/backupcodes.conf/x", "");
        assert!(root.load().unwrap_err().to_string().contains("a directory"));
        let root = Root::new().with("elsewhere", "").with("etc/security/x", "");
        symlink(root.0.path().join("elsewhere"), root.0.path().join(ADMIN)).unwrap();
        assert!(root.load().is_ok(), "the descriptor is judged, not the way to it");
    }
}
