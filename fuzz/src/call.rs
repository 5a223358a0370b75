use std::fs;
use std::os::unix::fs::PermissionsExt;

use backupcodes_broker::{Caller, Connection};
use backupcodes_core::account::Account;
use backupcodes_core::code::Code;
use backupcodes_core::config::Config;
use backupcodes_core::hash::{Cost, HeapMemory};
use backupcodes_core::mail::notice::Writer;
use backupcodes_core::new_set::{ExistingSet, NewSet};
use backupcodes_core::protocol::LARGEST;
use backupcodes_core::store::FileStore;
use nix::syslog::{LogMask, Severity, setlogmask};
use nix::unistd::{User, geteuid};

/// Placeholders for values that no fuzzer can guess: name and code of the caller and of the other user, and the directory.
const PLACEHOLDERS: [&str; 5] = ["@user", "@code", "@other", "@theirs", "@directory"];
/// The most calls of one connection, since a hash takes time.
const MOST: usize = 8;

/// A store with a set of the caller and a set of another user.
struct World {
    folder: tempfile::TempDir,
    config: Config,
    caller: Caller,
    own: Owner,
    other: Owner,
}

struct Owner {
    name: String,
    uid: u32,
    code: String,
    file: Vec<u8>,
}

thread_local! {
    static WORLD: World = World::new();
}

/// Messages of an ordinary user on a connection, each with its NUL. There is no panic, each call has at most one reply, a code is
/// accepted once, and the sets of other users are neither changed nor revealed.
pub fn call(bytes: &[u8]) -> bool {
    WORLD.with(|world| world.play(bytes))
}

impl World {
    fn new() -> Self {
        // Keeps the messages out of the log of the machine.
        setlogmask(Some(LogMask::up_to(Severity::LOG_EMERG)));
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let mut config = Config {
            directory: folder.path().join("sets"),
            runtime_directory: folder.path().join("run"),
            ..Config::default()
        };
        config.hash.cost = Cost::new(8, 1, 1).unwrap();
        config.throttle.free = u32::MAX;
        fs::create_dir(&config.directory).unwrap();
        fs::set_permissions(&config.directory, fs::Permissions::from_mode(0o700)).unwrap();
        let me = geteuid();
        let name = if me.is_root() { "nobody".into() } else { User::from_uid(me).unwrap().unwrap().name };
        let (own, other) = (Owner::new(&config, &name), Owner::new(&config, "root"));
        Self { folder, caller: Caller::with_uid(own.uid), config, own, other }
    }

    fn play(&self, bytes: &[u8]) -> bool {
        for owner in [&self.own, &self.other] {
            fs::write(self.file(owner), &owner.file).unwrap();
        }
        let connection = Connection::new(self.config.clone(), None, self.caller);
        let mut accepted = 0;
        for message in bytes.split_inclusive(|&byte| byte == 0).take(MOST) {
            let message = self.filled_in(message);
            // The broker does not read a longer or unfinished message.
            if message.len() > LARGEST || !message.ends_with(&[0]) {
                break;
            }
            let mut reply = Vec::new();
            if connection.reply(&message, &mut reply).is_err() {
                break;
            }
            assert!(reply.len() <= LARGEST);
            let told = String::from_utf8(reply).unwrap();
            // A one-way call has no reply.
            assert!(told.is_empty() || told.ends_with('\0') && told.matches('\0').count() == 1, "{told:?}");
            assert!(!told.contains("$argon2") && !told.contains(&self.other.set()), "{told}");
            accepted += told.matches("\"verdict\":\"accepted\"").count();
        }
        assert!(accepted <= 1, "a code was accepted twice");
        assert_eq!(fs::read(self.file(&self.other)).unwrap(), self.other.file);
        let own = fs::read(self.file(&self.own)).unwrap();
        let is_spent = own != self.own.file;
        assert!(is_spent || accepted == 0);
        is_spent
    }

    fn file(&self, owner: &Owner) -> std::path::PathBuf {
        self.folder.path().join("sets").join(format!("{}.toml", owner.name))
    }

    fn filled_in(&self, message: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(message) else { return message.into() };
        let directory = self.config.directory.to_string_lossy();
        let values = [&self.own.name, &self.own.code, &self.other.name, &self.other.code, &*directory];
        let filled = PLACEHOLDERS
            .iter()
            .zip(values)
            .fold(text.to_owned(), |text, (key, value)| text.replace(key, value));
        filled.into()
    }
}

impl Owner {
    fn new(config: &Config, name: &str) -> Self {
        let account = Account::by_name(name).unwrap().unwrap();
        let store = FileStore::new(&config.directory);
        let new = NewSet::make(config, 1, &account, Vec::new(), &mut HeapMemory::default()).ok().unwrap();
        let old = ExistingSet::find(&store, &account).unwrap();
        let writer = Writer::of_this_host(config, "host");
        new.prepare(&store, &account, old.expected()).unwrap().put_in_place(&writer).unwrap();
        let file = fs::read(config.directory.join(format!("{name}.toml"))).unwrap();
        Self {
            name: name.into(),
            uid: account.uid,
            code: new.codes.first().map(Code::for_sheet).unwrap().to_string(),
            file,
        }
    }

    fn set(&self) -> String {
        let file = String::from_utf8_lossy(&self.file);
        file.split_once("set = \"").unwrap().1.split_once('"').unwrap().0.into()
    }
}
