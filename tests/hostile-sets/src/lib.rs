//! A set file that was torn, or changed by a hostile hand, and the attempts that come after. The property tests and the
//! fuzzer share it: they differ in where a [`Scene`] comes from.

use std::convert::Infallible;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use backupcodes_core::account::Account;
use backupcodes_core::code::{Code, CodeNumber};
use backupcodes_core::config::Config;
use backupcodes_core::hash::{CodeHash, Cost, HeapMemory};
use backupcodes_core::set::{CodeSet, Label, State};
use backupcodes_core::set::{Mail, SpentRecord};
use backupcodes_core::store::{Accepted, FileStore};
use backupcodes_core::throttle::{Counter, Throttle};
use backupcodes_core::verify::{Refusal, Request, judge};

/// Codes of each set.
pub const CODES: usize = 4;

/// Alice and bob, and a store for the file that stands under alice's name.
pub struct World {
    folder: tempfile::TempDir,
    pub alice: Owner,
    pub bob: Owner,
}

/// A user with a new set.
pub struct Owner {
    pub account: Account,
    pub codes: Vec<Code>,
    /// The PHC strings of the codes.
    pub hashes: Vec<String>,
    /// The set file, with no code spent.
    file: String,
}

/// What happens to the file under alice's name, and who then tries what.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Whether the file is bob's before it changes.
    pub of_bob: bool,
    /// Which of its codes are spent before it changes, and what became of their notices.
    pub uses: [Option<Mail>; CODES],
    pub changes: Vec<Change>,
    /// Whether alice's account was created again, with another uid.
    pub is_new_account: bool,
    pub answers: Vec<Answer>,
    /// Failures in alice's counter, and the time of the last one.
    pub counter: Option<(u16, SystemTime)>,
    pub now: SystemTime,
    /// What the network says of where the attempts come from.
    pub source: String,
}

#[derive(Clone, Debug)]
pub enum Answer {
    Alices(usize),
    Bobs(usize),
    Other(Vec<u8>),
}

/// One change of a file. Places beyond its end are counted from its beginning again.
#[derive(Clone, Debug)]
pub enum Change {
    /// It ends here.
    Cut(usize),
    Flip {
        at: usize,
        bit: u8,
    },
    Overwrite {
        at: usize,
        bytes: Vec<u8>,
    },
    Insert {
        at: usize,
        bytes: Vec<u8>,
    },
    Remove {
        at: usize,
        length: usize,
    },
    Swap {
        at: usize,
        with: usize,
        length: usize,
    },
    SwapLines(usize, usize),
    /// A line stands once more, before another.
    RepeatLine {
        line: usize,
        before: usize,
    },
    /// Bytes of the other user's set, with no code spent, over those that are here.
    Splice {
        at: usize,
        from: usize,
        length: usize,
    },
}

impl World {
    /// The same sets each time.
    pub fn new() -> Self {
        let in_memory = tempfile::tempdir_in("/dev/shm");
        let folder = in_memory.or_else(|_| tempfile::tempdir()).unwrap();
        let store = folder.path().join("sets");
        fs::create_dir(&store).unwrap();
        fs::set_permissions(&store, fs::Permissions::from_mode(0o700)).unwrap();
        let mut random = Always(1);
        let alice = Owner::new("alice", 1000, &mut random);
        Self { folder, alice, bob: Owner::new("bob", 1001, &mut random) }
    }

    /// Plays a scene, and says how many answers were accepted. However the file changes:
    ///
    /// - nothing panics;
    /// - a code that was spent before, or in the scene, is refused;
    /// - what is accepted is a code whose very hash stands in a file that names who logs in, by name and uid. So bob's
    ///   code is accepted as alice's only if its hash was put into a file with alice's name and uid, and that takes
    ///   root, who could as well put in one of their own;
    /// - after it the file is as it was but for a record instead of that hash, and the same answer is refused as spent;
    /// - what is refused has changed nothing.
    pub fn play(&self, scene: &Scene) -> usize {
        let (owner, other) = if scene.of_bob { (&self.bob, &self.alice) } else { (&self.alice, &self.bob) };
        let mut file = owner.file(&scene.uses).into_bytes();
        scene.changes.iter().for_each(|change| change.apply(&mut file, other.file.as_bytes()));
        if is_dear(&file) {
            return 0;
        }
        write(&self.path(), &file, None);
        self.set_counter(scene);
        let spent = owner.codes.iter().zip(&scene.uses).filter(|(_, used)| used.is_some());
        let mut spent: Vec<Vec<u8>> = spent.map(|(code, _)| code.hash_input().to_vec()).collect();
        let before_all = spent.len();
        for answer in &scene.answers {
            let answer = self.typed(answer);
            let before = fs::read(self.path()).unwrap();
            let Ok((accepted, record)) = self.attempt(scene, &answer) else {
                assert_eq!(before, fs::read(self.path()).unwrap());
                continue;
            };
            let code = Code::parse(&answer).ok().unwrap();
            assert!(!spent.iter().any(|secret| secret == code.hash_input()), "a spent code was accepted");
            spent.push(code.hash_input().to_vec());
            let account = scene.account(self);
            let names = CodeSet::parse(std::str::from_utf8(&before).unwrap()).ok().unwrap().label;
            assert_eq!((names.user, names.uid), (account.name, account.uid));
            let hash = self.hash_of(&code).expect("a code that nobody was given was accepted");
            let after = fs::read(self.path()).unwrap();
            let named = known_by_name(before, &after, &self.path());
            assert!(
                is_marked(&named, &after, hash, &record.padded_to(hash.len())),
                "more than a hash has changed"
            );
            let set = CodeSet::parse(std::str::from_utf8(&after).unwrap()).ok().unwrap();
            assert!(
                matches!(&set.entry(accepted.number()).unwrap().state, State::Spent(read) if read.time == record.time)
            );
            assert!(
                matches!(self.attempt(scene, &answer), Err(Refusal::Spent(number, _)) if number == accepted.number())
            );
        }
        spent.len() - before_all
    }

    fn attempt(&self, scene: &Scene, answer: &[u8]) -> Result<(Accepted, SpentRecord), Refusal> {
        let store = FileStore::new(self.folder.path().join("sets"));
        let throttle = Throttle::new(&self.config());
        let account = scene.account(self);
        let request = Request { account: Some(&account), response: answer, cost: cost() };
        let count = || {
            let counted = throttle.count(COUNTER, scene.now);
            let counted = counted.map_err(|error| Refusal::Uncounted(error.to_string()))?;
            counted.refused.map_or(Ok(()), |wait| Err(Refusal::Throttled(counted.before, wait)))?;
            Ok(counted)
        };
        let (found, counted) = judge(&store, request, count, &mut HeapMemory::default())?;
        let record = SpentRecord::new(scene.now.into(), counted.before, "sshd", &scene.source);
        let accepted = found.spend(&record).expect("it is spent where it was found");
        counted.clear().unwrap();
        Ok((accepted, record))
    }

    fn typed(&self, answer: &Answer) -> Vec<u8> {
        match answer {
            Answer::Alices(at) => self.alice.codes[at % CODES].for_sheet().as_bytes().into(),
            Answer::Bobs(at) => self.bob.codes[at % CODES].for_sheet().as_bytes().into(),
            Answer::Other(bytes) => bytes.clone(),
        }
    }

    fn hash_of(&self, code: &Code) -> Option<&str> {
        let known =
            [&self.alice, &self.bob].into_iter().flat_map(|owner| owner.codes.iter().zip(&owner.hashes));
        known
            .into_iter()
            .find(|(known, _)| known.hash_input() == code.hash_input())
            .map(|(_, hash)| hash.as_str())
    }

    fn set_counter(&self, scene: &Scene) {
        // Where the file of this key is: docs/design/README.md.
        let folder = self.folder.path().join("run/throttle/alice");
        let file = folder.join("sshd@192.0.2.7");
        let _ = fs::remove_file(&file);
        let Some((failures, last)) = scene.counter else { return };
        if !folder.exists() {
            drop(Throttle::new(&self.config()).count(COUNTER, scene.now).unwrap());
        }
        write(&file, &vec![b'x'; failures.into()], Some(last));
    }

    fn config(&self) -> Config {
        Config { runtime_directory: self.folder.path().join("run"), ..Config::default() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("sets/alice.toml")
    }
}

const COUNTER: Counter<'static> = Counter { user: Some("alice"), service: "sshd", source: Some("192.0.2.7") };

impl Scene {
    fn account(&self, world: &World) -> Account {
        let alice = world.alice.account.clone();
        if self.is_new_account { Account { uid: 2000, ..alice } } else { alice }
    }
}

impl Owner {
    fn new(name: &str, uid: u32, random: &mut Always) -> Self {
        let account = Account { name: name.into(), uid };
        let numbers = (1..).filter_map(CodeNumber::new).take(CODES);
        let codes: Vec<_> = numbers.map(|number| Code::generate(number, 13, random).unwrap()).collect();
        let mut memory = HeapMemory::default();
        let hash = |code| CodeHash::create(code, cost(), random, &mut memory).ok().unwrap();
        let hashes: Vec<_> = codes.iter().map(hash).collect();
        let created = "2026-11-24T02:00:00Z".parse().unwrap();
        let label = Label::new(&account, created, vec![format!("{name}@example.org")], random).unwrap();
        let file = CodeSet::render(&label, &hashes);
        Self { account, codes, hashes: hashes.iter().map(CodeHash::phc).collect(), file }
    }

    /// The set file after these uses.
    pub fn file(&self, uses: &[Option<Mail>; CODES]) -> String {
        let used = self.hashes.iter().zip(uses).filter_map(|(hash, used)| Some((hash, (*used)?)));
        used.fold(self.file.clone(), |file, (hash, mail)| {
            let time = "2026-11-25T07:12:44Z".parse().unwrap();
            let record = SpentRecord { mail, ..SpentRecord::new(time, 0, "sshd", "192.0.2.7") };
            file.replace(hash, &record.padded_to(hash.len()))
        })
    }
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>, other: &[u8]) {
        let length = file.len();
        let place = |at: usize| at.checked_rem(length).unwrap_or_default();
        let end = |at: usize, count: usize| place(at).saturating_add(count).min(length);
        match self {
            Self::Cut(at) => file.truncate(place(*at)),
            Self::Flip { at, bit } => {
                if let Some(byte) = file.get_mut(place(*at)) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Self::Overwrite { at, bytes } => over(file, place(*at), bytes),
            Self::Insert { at, bytes } => drop(file.splice(place(*at)..place(*at), bytes.iter().copied())),
            Self::Remove { at, length } => drop(file.drain(place(*at)..end(*at, *length))),
            Self::Swap { at, with, length } => {
                let [a, b] = [at, with].map(|at| file[place(*at)..end(*at, *length)].to_vec());
                over(file, place(*at), &b);
                over(file, place(*with), &a);
            }
            Self::SwapLines(a, b) => change_lines(file, |lines| {
                let count = lines.len();
                lines.swap(a % count, b % count);
            }),
            Self::RepeatLine { line, before } => change_lines(file, |lines| {
                let count = lines.len();
                lines.insert(before % count, lines[line % count].clone());
            }),
            Self::Splice { at, from, length } => {
                let from = from % other.len();
                let bytes = &other[from..from.saturating_add(*length).min(other.len())];
                over(file, place(*at), bytes);
            }
        }
    }
}

fn over(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..].iter_mut().zip(bytes).for_each(|(old, new)| *old = *new);
}

fn change_lines(file: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut lines: Vec<_> = file.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    if !lines.is_empty() {
        change(&mut lines);
    }
    *file = lines.concat();
}

/// The file as it was, but that it may say of itself by now that it is durable under its name.
pub fn known_by_name(mut before: Vec<u8>, after: &[u8], path: &Path) -> Vec<u8> {
    let known = format!("\"{:020}\"", fs::metadata(path).unwrap().ino());
    let place = after.windows(known.len()).position(|window| window == known.as_bytes());
    if let Some(old) = place.and_then(|at| before.get_mut(at..at + known.len())) {
        assert!(old.starts_with(b"\"") && old.ends_with(b"\""));
        old.copy_from_slice(known.as_bytes());
    }
    before
}

/// Whether one of the places of `hash` holds `record`, and all else is as it was.
fn is_marked(before: &[u8], after: &[u8], hash: &str, record: &str) -> bool {
    let (hash, record) = (hash.as_bytes(), record.as_bytes());
    let places = before.windows(hash.len()).enumerate().filter(|(_, window)| *window == hash);
    places.into_iter().any(|(at, _)| [&before[..at], record, &before[at + hash.len()..]].concat() == after)
}

/// Whether a hash in the file would take long: a change of its costs may make it so, and is no news.
fn is_dear(file: &[u8]) -> bool {
    let set = std::str::from_utf8(file).ok().and_then(|text| CodeSet::parse(text).ok());
    set.is_some_and(|set| {
        set.entries().any(|(_, entry)| match &entry.state {
            State::Unspent(hash) => {
                let phc = hash.phc();
                let mut numbers = phc.split(['=', ',', '$']).filter_map(|number| number.parse::<u64>().ok());
                // Behind the version stand memory and passes.
                numbers.nth(1).unwrap_or_default() * numbers.next().unwrap_or_default() > 1000
            }
            State::Spent(_) | State::Damaged => false,
        })
    })
}

fn write(path: &Path, bytes: &[u8], modified: Option<SystemTime>) {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(bytes).unwrap();
    modified.map_or(Ok(()), |time| file.set_modified(time)).unwrap();
}

fn cost() -> Cost {
    Cost::new(8, 1, 1).unwrap()
}

/// The same numbers each time (splitmix64), so that a scene can be played again.
struct Always(u64);

impl rand::TryRng for Always {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.try_next_u64()? >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Ok(mixed ^ (mixed >> 31))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = (self.try_next_u64()? >> 56) as u8;
        }
        Ok(())
    }
}

impl rand::TryCryptoRng for Always {}
