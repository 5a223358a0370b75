//! The files of the configuration, and how they are read.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::open;
use nix::sys::stat::{Mode, SFlag, makedev};
use toml::de::DeTable;

use super::{Config, ConfigError};
use crate::files::trust::{self, OPEN_FLAGS, Requirement};
use crate::toml_value::one_line;

/// The distribution's file, then the administrator's.
const SYSTEM: [&str; 2] = ["usr/lib/backupcodes/backupcodes.conf", "etc/security/backupcodes.conf"];

/// An entry among the drop-ins that has a drop-in's name but is not a regular file, and so is not read.
#[derive(Debug, PartialEq, Eq)]
pub struct IgnoredDropIn {
    /// Its path.
    pub path: PathBuf,
    /// What it is, such as "a directory".
    pub found: &'static str,
}

impl Config {
    /// The configuration in the named file, or of this system.
    ///
    /// # Errors
    /// [`ConfigError`]: the caller must stop, since it would ignore the administrator's settings.
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        named.map_or_else(|| Self::of_system(Path::new("/")), Self::of_file)
    }

    /// The entries that [`Config::load`] ignores silently.
    #[must_use]
    pub fn ignored_drop_ins(named: Option<&Path>) -> Vec<IgnoredDropIn> {
        let system = || SYSTEM.iter().map(|file| Path::new("/").join(file)).collect();
        let files: Vec<PathBuf> = named.map_or_else(system, |named| vec![named.into()]);
        let drop_ins = files.iter().flat_map(|file| drop_ins(file).unwrap_or_default());
        let others = drop_ins.filter_map(|path| Some((not_a_file(&path)?, path)));
        let others = others.filter(|(metadata, _)| !is_null_device(metadata));
        let kind = |metadata: &Metadata| SFlag::from_bits_truncate(metadata.mode() & SFlag::S_IFMT.bits());
        others
            .map(|(metadata, path)| IgnoredDropIn { path, found: trust::kind_name(kind(&metadata)) })
            .collect()
    }

    /// The configuration of the system whose root directory is `root`.
    fn of_system(root: &Path) -> Result<Self, ConfigError> {
        let [vendor, admin] = SYSTEM.map(|file| root.join(file));
        let mut layers = Layers::default();
        if !is_null(&admin) {
            layers.add_if_exists(&vendor)?;
        }
        let masks = drop_in_directory(&admin);
        for drop_in in drop_ins(&vendor)? {
            if !drop_in.file_name().is_some_and(|name| is_null(&masks.join(name))) {
                layers.add_drop_in(&drop_in)?;
            }
        }
        layers.add_if_exists(&admin)?;
        layers.add_drop_ins(&admin)?;
        layers.finish()
    }

    /// The configuration in the file `path`, which must exist, and in its drop-ins.
    fn of_file(path: &Path) -> Result<Self, ConfigError> {
        let mut layers = Layers::default();
        layers.add(path)?;
        layers.add_drop_ins(path)?;
        layers.finish()
    }
}

/// The files read so far; each overrides those before it.
#[derive(Default)]
struct Layers {
    config: Config,
    /// A violated limit and the file that violated it. A later file may still correct it.
    wrong: Option<ConfigError>,
}

impl Layers {
    fn add_if_exists(&mut self, path: &Path) -> Result<(), ConfigError> {
        // The name itself: the administrator wants the target of a dangling link read.
        match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            _ => self.add(path),
        }
    }

    fn add(&mut self, path: &Path) -> Result<(), ConfigError> {
        if is_null(path) {
            return Ok(());
        }
        let unreadable = |errno| unreadable(path, errno);
        let bad = |reason| ConfigError::Bad { path: path.into(), reason };
        let fd = open(path, OPEN_FLAGS, Mode::empty()).map_err(unreadable)?;
        Requirement::PublicFile.judge(path, &fd)?;
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
        drop_ins(file)?.iter().try_for_each(|drop_in| self.add_drop_in(drop_in))
    }

    fn add_drop_in(&mut self, path: &Path) -> Result<(), ConfigError> {
        // This comes before the open: opening a device may have effects.
        if not_a_file(path).is_some() { Ok(()) } else { self.add_if_exists(path) }
    }

    fn finish(self) -> Result<Config, ConfigError> {
        self.wrong.map_or(Ok(self.config), Err)
    }
}

fn unreadable(path: &Path, errno: Errno) -> ConfigError {
    let is_dangling = matches!(errno, Errno::ENOENT | Errno::ELOOP) && path.is_symlink();
    let path = path.into();
    if is_dangling {
        ConfigError::DanglingLink { path, errno }
    } else {
        ConfigError::Unreadable { path, errno }
    }
}

/// All entries with the name of a drop-in of `file`, sorted. Files of editors and tools begin with a dot.
fn drop_ins(file: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let directory = drop_in_directory(file);
    let unreadable = |error: std::io::Error| unreadable(&directory, trust::errno(&error));
    let mut files = Vec::new();
    let is_missing = directory.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if is_missing || is_null(&directory) {
        return Ok(files);
    }
    for entry in std::fs::read_dir(&directory).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if name.as_bytes().ends_with(b".conf") && !name.as_bytes().starts_with(b".") {
            let file = directory.join(name);
            // A sort would add 5 KiB to the module.
            files.insert(files.partition_point(|other| *other < file), file);
        }
    }
    Ok(files)
}

fn drop_in_directory(file: &Path) -> PathBuf {
    let mut directory = OsString::from(file);
    directory.push(".d");
    directory.into()
}

/// The metadata of the target, if it exists and is not a regular file.
fn not_a_file(path: &Path) -> Option<Metadata> {
    path.metadata().ok().filter(|metadata| !metadata.is_file())
}

/// Whether the name is a link to /dev/null: administrators mask files with it.
fn is_null(path: &Path) -> bool {
    // The text of the link counts as well: some sandboxes have no /dev.
    path.read_link().is_ok_and(|target| target == Path::new("/dev/null"))
        || not_a_file(path).is_some_and(|metadata| is_null_device(&metadata))
}

fn is_null_device(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == makedev(1, 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ThrottleRules;
    use crate::hash::Cost;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

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
    fn the_defaults_need_no_file() {
        let config = Root::new().load().unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.hash.cost, Cost::DEFAULT);
        assert_eq!((config.codes.count, config.codes.length, config.codes.low), (10, 13, 3));
    }

    #[test]
    fn later_files_override_single_keys() {
        let config = Root::new()
            .with(VENDOR, "[codes]\ncount = 11\nlow = 1\nlength = 14\n[notify]\ncontact = \"a\"\n")
            .with(VENDOR_DROP_IN, "[codes]\ncount = 12\nlow = 2\n")
            .with(ADMIN, "[codes]\ncount = 13\n")
            .with(ADMIN_DROP_IN, "[codes]\nlength = 15\n")
            .with("etc/security/backupcodes.conf.d/60.conf", "[codes]\nlength = 16\n")
            .with("etc/security/backupcodes.conf.d/70.conf.rpmnew", "not read")
            .load()
            .unwrap();
        assert_eq!((config.codes.count, config.codes.length, config.codes.low), (13, 16, 2));
        assert_eq!(config.notify.contact, "a");
    }

    #[test]
    fn a_named_file_replaces_all_others_and_has_its_own_drop_ins() {
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
        "#;
        let config = Root::new().with(ADMIN, all).load().unwrap();
        assert_eq!(config.directory, Path::new("/a"));
        assert_eq!(
            config.throttle,
            ThrottleRules {
                free: 0,
                first_delay: Duration::from_secs(2),
                longest_delay: Duration::from_secs(2),
                most: 100
            }
        );
    }

    #[test]
    fn an_error_names_the_file_and_the_reason() {
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
            ("codes = 1", "codes is not a section"),
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
    fn a_later_file_may_correct_an_earlier_one() {
        let root = Root::new().with(VENDOR, "[throttle]\nfirst_delay = 90\n");
        assert!(root.load().unwrap_err().to_string().contains(VENDOR));
        let root = root.with(ADMIN_DROP_IN, "[throttle]\nlongest_delay = 600\n");
        assert_eq!(root.load().unwrap().throttle.first_delay, Duration::from_secs(90));
    }

    #[test]
    fn a_dangling_link_is_an_error() {
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
            assert!(
                error.ends_with("a dangling link; remove it, or point it at the file to read"),
                "{error}"
            );
            fs::remove_file(&path).unwrap();
            symlink(&path, &path).unwrap();
            let error = root.load().unwrap_err().to_string();
            assert!(error.contains("(ELOOP") && error.contains("a dangling link"), "{error}");
        }
        let gone = Config::of_file(Path::new("/no/such/file")).unwrap_err().to_string();
        assert!(gone.ends_with("name another, or none"), "{gone}");
    }

    /// Puts something of the kind `found` at `name`, or a link to `found`.
    fn put(root: &Root, name: &str, found: &str) {
        let path = root.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match found {
            "a directory" => fs::create_dir(&path).unwrap(),
            "a FIFO" => nix::unistd::mkfifo(&path, Mode::S_IRUSR).unwrap(),
            "a socket" => drop(UnixListener::bind(&path).unwrap()),
            target => symlink(target, &path).unwrap(),
        }
    }

    #[test]
    fn files_of_editors_and_tools_among_the_drop_ins_are_ignored() {
        const FOLDER: &str = "etc/security/backupcodes.conf.d";
        let root = Root::new()
            .with(ADMIN, "")
            .with(ADMIN_DROP_IN, "[codes]\ncount = 4\n")
            .with(&format!("{FOLDER}/._50-site.conf"), "\0\u{5}\u{16}\u{7}")
            .with(&format!("{FOLDER}/.ansible_tmpx1y2z350-site.conf"), "[codes")
            .with(&format!("{FOLDER}/.conf"), "[codes");
        let file = root.0.path().join(ADMIN);
        // The lock of Emacs is a dangling link.
        put(&root, &format!("{FOLDER}/.#50-site.conf"), "root@host.4711:1764");
        put(&root, &format!("{FOLDER}/masked.conf"), "/dev/null");
        assert_eq!(Config::ignored_drop_ins(Some(&file)), []);
        let others = [
            ("a.conf", "a directory", "a directory"),
            ("b.conf", "a FIFO", "a FIFO"),
            ("c.conf", "a socket", "a socket"),
            ("d.conf", "/dev/zero", "a device"),
            ("e.conf", "/", "a directory"),
        ];
        for (name, kind, _) in others {
            put(&root, &format!("{FOLDER}/{name}"), kind);
            assert_eq!(root.load().unwrap().codes.count, 4, "{name}");
            assert_eq!(Config::of_file(&file).unwrap().codes.count, 4, "{name}");
        }
        let path = |name| root.0.path().join(FOLDER).join(name);
        let others = others.map(|(name, _, found)| IgnoredDropIn { path: path(name), found });
        assert_eq!(Config::ignored_drop_ins(Some(&file)), others);
    }

    #[test]
    fn a_link_to_dev_null_masks_the_distributions_file() {
        let root = || {
            Root::new()
                .with(VENDOR, "[codes]\ncount = 11\n")
                .with(VENDOR_DROP_IN, "[codes]\nlow = 9\n")
                .with("usr/lib/backupcodes/backupcodes.conf.d/60.conf", "[codes]\nlength = 20\n")
        };
        let read = |root: &Root| {
            root.load().map(|config| (config.codes.count, config.codes.low, config.codes.length))
        };
        assert_eq!(read(&root()).unwrap(), (11, 9, 20));
        for null in ["/dev/null", "/dev/../dev/null"] {
            let root = root();
            put(&root, ADMIN_DROP_IN, null);
            assert_eq!(read(&root).unwrap(), (11, 3, 20));
            put(&root, ADMIN, null);
            assert_eq!(read(&root).unwrap(), (10, 3, 20));
            assert_eq!(Config::of_file(&root.0.path().join(ADMIN)).unwrap(), Config::default());
        }
        // Other links and other drop-ins mask nothing.
        let root = root().with(ADMIN_DROP_IN, "");
        assert_eq!(read(&root).unwrap(), (11, 9, 20));
        put(&root, "etc/security/backupcodes.conf.d/60.conf", "/dev/zero");
        assert_eq!(read(&root).unwrap(), (11, 9, 20));
        // A whole directory.
        let root = Root::new().with(ADMIN, "[codes]\ncount = 5\n");
        put(&root, "etc/security/backupcodes.conf.d", "/dev/null");
        assert_eq!(root.load().unwrap().codes.count, 5);
    }

    #[test]
    fn a_file_that_another_user_may_have_written_is_refused() {
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
        assert!(root.load().is_ok(), "the descriptor is judged, not the path");
    }
}
