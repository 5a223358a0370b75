//! Which files make the configuration, and how they are read.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::fcntl::open;
use nix::sys::stat::Mode;
use toml::de::DeTable;

use super::{Config, ConfigError};
use crate::trust::{self, CAREFUL, Kind};
use crate::value::one_line;

/// The distribution's file, then the administrator's.
const SYSTEM: [&str; 2] = ["usr/lib/backupcodes/backupcodes.conf", "etc/security/backupcodes.conf"];

impl Config {
    /// The configuration in the file that was named, or else that of this system.
    ///
    /// # Errors
    /// [`ConfigError`]: nothing may go on without what the administrator wanted.
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        named.map_or_else(|| Self::of_system(Path::new("/")), Self::of_file)
    }

    /// The configuration of the system whose root directory is `root`.
    fn of_system(root: &Path) -> Result<Self, ConfigError> {
        let mut layers = Layers::default();
        for file in SYSTEM {
            let file = root.join(file);
            layers.add_if_there(&file)?;
            layers.add_drop_ins(&file)?;
        }
        layers.finish()
    }

    /// The configuration in the file `path`, which must be there, and its drop-ins.
    fn of_file(path: &Path) -> Result<Self, ConfigError> {
        let mut layers = Layers::default();
        layers.add(path)?;
        layers.add_drop_ins(path)?;
        layers.finish()
    }
}

/// Files read so far, each over those before it.
#[derive(Default)]
struct Layers {
    config: Config,
    /// What does not hold, and the file since which it does not. A later file may still mend it.
    wrong: Option<ConfigError>,
}

impl Layers {
    fn add_if_there(&mut self, path: &Path) -> Result<(), ConfigError> {
        // The name itself: a link that leads nowhere is something that the administrator wanted read.
        match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            _ => self.add(path),
        }
    }

    fn add(&mut self, path: &Path) -> Result<(), ConfigError> {
        let unreadable = |errno| ConfigError::Unreadable { path: path.into(), errno };
        let bad = |reason| ConfigError::Bad { path: path.into(), reason };
        let fd = open(path, CAREFUL, Mode::empty()).map_err(unreadable)?;
        Kind::PublicFile.judge(path, &fd)?;
        let bytes = trust::read(fd.as_fd()).map_err(unreadable)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| bad(error.to_string()))?;
        let table = DeTable::parse(text).map_err(|error| bad(one_line(text, &error)))?.into_inner();
        for (key, value) in &table {
            self.config.set(key.get_ref(), value.get_ref()).map_err(bad)?;
        }
        self.wrong = self.config.check().err().map(bad);
        Ok(())
    }

    fn add_drop_ins(&mut self, file: &Path) -> Result<(), ConfigError> {
        let mut directory = OsString::from(file);
        directory.push(".d");
        let directory = PathBuf::from(directory);
        let unreadable = |error: std::io::Error| ConfigError::Unreadable {
            path: directory.as_path().into(),
            errno: trust::errno(&error),
        };
        if directory.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return Ok(());
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(unreadable)? {
            files.push(entry.map_err(unreadable)?.path());
        }
        files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
        files.sort_unstable();
        files.iter().try_for_each(|file| self.add(file))
    }

    fn finish(self) -> Result<Config, ConfigError> {
        self.wrong.map_or(Ok(self.config), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rules;
    use crate::hash::Cost;
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
        assert_eq!(config.hash.cost, Cost::DEFAULT);
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
        assert_eq!(config.throttle, Rules { free: 0, first_delay: 2, longest_delay: 2, most: 100 });
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file() {
        for (text, reason) in [
            ("colour = 1", "unknown key colour"),
            ("[codes]\nlenght = 13", "unknown key codes.lenght"),
            ("\"a\\nb\" = 1", "unknown key a\\nb"),
            ("[codes]\ncount = 0", "codes.count is 0; expected 1 to 31"),
            ("[codes]\ncount = 32", "codes.count is 32; expected 1 to 31"),
            ("[codes]\ncount = \"ten\"", "codes.count is \"ten\"; expected a whole number"),
            ("[codes]\nlength = 12", "codes.length is 12; expected 13 to 26"),
            ("[hash]\nmemory_kib = 7", "memory_kib 7"),
            ("[throttle]\nfirst_delay = 61", "first_delay is 61; expected at most longest_delay, 60"),
            ("[throttle]\nmost = 4097", "throttle.most is 4097; expected 0 to 4096"),
            ("[hash]\nconcurrent = 1025", "hash.concurrent is 1025; expected 0 to 1024"),
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
    fn what_one_file_leaves_wrong_another_may_mend() {
        let root = Root::new().with(VENDOR, "[throttle]\nfirst_delay = 90\n");
        assert!(root.load().unwrap_err().to_string().contains(VENDOR));
        let root = root.with(ADMIN_DROP_IN, "[throttle]\nlongest_delay = 600\n");
        assert_eq!(root.load().unwrap().throttle.first_delay, 90);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_not_no_file() {
        for name in [VENDOR, ADMIN, ADMIN_DROP_IN, "etc/security/backupcodes.conf.d"] {
            let root =
                Root::new().with("etc/security/backupcodes.conf.d/x", "").with("usr/lib/backupcodes/x", "");
            let path = root.0.path().join(name);
            if path.exists() {
                fs::remove_dir_all(&path).unwrap();
            }
            symlink("/no/such/file", &path).unwrap();
            let error = root.load().unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("cannot be read (ENOENT"), "{error}");
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
