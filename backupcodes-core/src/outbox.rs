//! Notices that wait for their delivery as finished messages, one file a recipient: all but those of uses, which the
//! set file itself holds.
//!
//! A file is named `<user>@<time>-<random>`, and holds the recipient in its first line and the message behind it; what
//! sendmail refused has `-refused` behind that. One more a user, `<user>@refused`, tells what sendmail refused last. There is no lock, which a delivery that is frozen would keep:
//! no two files get one name.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use rand::TryRng;
use rand::rngs::SysRng;

use crate::clock::{Time, precise};
use crate::directory::{Directory, NewFile};
use crate::name::{escaped, unescaped};
use crate::store::StoreError;
use crate::trust::{self, Kind};

/// The outbox, in the directory of the sets.
const FOLDER: &str = "outbox";
/// What follows the user in the name of a refusal.
const REFUSED: &str = "refused";
/// How the name of a letter ends that was refused.
const REFUSED_LETTER: &str = "-refused";
/// Most bytes of a user in a name: it ends with a time and a number.
const USER: usize = 200;
/// Nobody takes so long over a letter.
const UNFINISHED: Duration = Duration::from_secs(60 * 60);

/// A finished message to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Whose codes it is about.
    pub user: String,
    /// When it happened, which puts letters in order.
    pub time: Time,
    /// The address that it goes to.
    pub to: String,
    /// The message, with its header.
    pub message: String,
    /// Whether sendmail refused it.
    pub is_refused: bool,
}

/// What sendmail refused last of a user's notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When.
    pub time: Time,
    /// The address that the notice was to go to.
    pub to: String,
    /// How sendmail ended, and what it said.
    pub said: String,
}

/// How many letters about a user wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// For the next delivery.
    pub due: usize,
    /// For a day to pass, since sendmail refused them.
    pub refused: usize,
}

/// Letters that wait.
pub struct Outbox {
    sets: PathBuf,
}

/// Letters that were put, and can be taken back.
#[must_use]
pub struct Posted<'a> {
    outbox: &'a Outbox,
    names: Vec<String>,
}

impl Outbox {
    /// That of the sets in this directory.
    pub fn of(sets: impl Into<PathBuf>) -> Self {
        Self { sets: sets.into() }
    }

    /// Puts letters where they wait. On return all of them are on stable storage.
    ///
    /// # Errors
    /// They cannot be written: none of them stays.
    pub fn put(&self, letters: &[Letter]) -> Result<Posted<'_>, StoreError> {
        let mut posted = Posted { outbox: self, names: Vec::new() };
        if letters.is_empty() {
            return Ok(posted);
        }
        let sets = Directory::of_sets(&self.sets)?;
        let directory = sets.inner(FOLDER)?;
        sweep(&directory);
        let mut put = || {
            for letter in letters {
                let name = new_name(&directory, letter)?;
                let text = format!("{}\n{}", letter.to, letter.message);
                NewFile::write(&directory, &unfinished(&name), &text)?.rename(&name)?;
                posted.names.push(name);
            }
            directory.flush()?;
            // The outbox itself may be new.
            sets.flush()
        };
        match put() {
            Ok(()) => Ok(posted),
            Err(error) => {
                posted.withdraw();
                Err(error)
            }
        }
    }

    /// The names of all letters that wait, each user's in the order of their time.
    ///
    /// # Errors
    /// The outbox cannot be read.
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        let Some(directory) = self.find()? else { return Ok(Vec::new()) };
        let mut names = directory.names()?;
        names.retain(|name| user_of(name).is_some_and(|(_, kind)| kind != REFUSED));
        Ok(names)
    }

    /// A letter, or `None` where it is gone.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn read(&self, name: &str) -> Result<Option<Letter>, StoreError> {
        let Some((path, text)) = self.text(name)? else { return Ok(None) };
        let letter = || {
            let (user, kind) = user_of(name)?;
            let seconds = u64::from_str_radix(kind.split_once('-')?.0, 16).ok()?;
            let (to, message) = text.split_once('\n')?;
            Some(Letter {
                user,
                time: Time::of_seconds(seconds),
                to: to.into(),
                message: message.into(),
                is_refused: name.ends_with(REFUSED_LETTER),
            })
        };
        letter().map(Some).ok_or_else(|| {
            Kind::PrivateFile.refuse(&path, "no letter: see what it holds, then remove it").into()
        })
    }

    /// Takes a letter away that has been seen to.
    ///
    /// # Errors
    /// It cannot be removed: it would be sent again.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let Some(directory) = self.find()? else { return Ok(()) };
        directory.remove(name)?;
        directory.flush()
    }

    /// Keeps a letter as one that was refused. Its name comes back.
    ///
    /// # Errors
    /// It cannot be renamed: it stays one that was not.
    pub fn refuse(&self, name: &str) -> Result<String, StoreError> {
        if name.ends_with(REFUSED_LETTER) {
            return Ok(name.into());
        }
        let refused = format!("{name}{REFUSED_LETTER}");
        if let Some(directory) = self.find()? {
            directory.rename(name, &refused)?;
        }
        Ok(refused)
    }

    /// Sends on what was refused for addresses that are not among the user's `addresses` any more, to the `new` ones of
    /// them (the others have been told); and what was refused rests no longer.
    ///
    /// # Errors
    /// The outbox cannot be read or written. What was not sent on is still there.
    pub fn send_on(&self, user: &str, addresses: &[String], new: &[String]) -> Result<(), StoreError> {
        let prefix = prefix(user);
        // Each recipient had a message of its own, which the new ones need not get twice.
        let mut told = HashSet::new();
        for name in self.names()?.iter().filter(|name| name.starts_with(&prefix)) {
            let Some(letter) = self.read(name)?.filter(|letter| letter.is_refused) else { continue };
            if addresses.contains(&letter.to) {
                continue;
            }
            let is_new = told.insert(
                letter.message.lines().find(|line| line.starts_with("Message-ID:")).map(String::from),
            );
            let sent_on = new.iter().filter(|_| is_new).map(|to| Letter {
                to: to.clone(),
                is_refused: false,
                ..letter.clone()
            });
            let _stays = self.put(&sent_on.collect::<Vec<_>>())?;
            self.remove(name)?;
        }
        self.forget_refusal(user)
    }

    /// How many letters wait for each user there are letters about, and how many of them were refused.
    ///
    /// # Errors
    /// The outbox cannot be read.
    pub fn waiting(&self) -> Result<BTreeMap<String, Waiting>, StoreError> {
        let mut users: BTreeMap<_, Waiting> = BTreeMap::new();
        for name in self.names()? {
            let Some((user, kind)) = user_of(&name) else { continue };
            let waiting = users.entry(user).or_default();
            let count = if kind.ends_with(REFUSED_LETTER) { &mut waiting.refused } else { &mut waiting.due };
            *count = count.saturating_add(1);
        }
        Ok(users)
    }

    /// What sendmail refused last of this user's notices.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn refusal(&self, user: &str) -> Result<Option<Refusal>, StoreError> {
        let Some((_, text)) = self.text(&(prefix(user) + REFUSED))? else { return Ok(None) };
        let mut lines = text.splitn(3, '\n');
        let mut line = || lines.next().unwrap_or_default().to_owned();
        let (time, to, said) = (line(), line(), line());
        Ok(Some(Refusal { time: time.parse().unwrap_or_default(), to, said }))
    }

    /// Keeps what sendmail refused, in the place of what it refused before.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn note_refusal(&self, user: &str, refusal: &Refusal) -> Result<(), StoreError> {
        let Refusal { time, to, said } = refusal;
        let directory = Directory::of_sets(&self.sets)?.inner(FOLDER)?;
        let name = prefix(user) + REFUSED;
        NewFile::write(&directory, &unfinished(&name), &format!("{time}\n{to}\n{said}"))?.rename(&name)
    }

    /// Forgets the refusal: the address takes notices, or is not used any more.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget_refusal(&self, user: &str) -> Result<(), StoreError> {
        let Some(directory) = self.find()? else { return Ok(()) };
        directory.remove(&(prefix(user) + REFUSED))
    }

    fn find(&self) -> Result<Option<Directory>, StoreError> {
        Directory::of_sets(&self.sets)?.find_inner(FOLDER)
    }

    fn text(&self, name: &str) -> Result<Option<(PathBuf, String)>, StoreError> {
        let Some(directory) = self.find()? else { return Ok(None) };
        let Some((fd, _)) = directory.find_file(name, OFlag::O_RDONLY, Kind::PrivateFile)? else {
            return Ok(None);
        };
        let path = directory.path_of(name);
        let bytes = trust::read(fd.as_fd()).map_err(StoreError::system(&path, "read"))?;
        Ok(Some((path, String::from_utf8_lossy(&bytes).into_owned())))
    }
}

impl Posted<'_> {
    /// The names of the letters.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.names
    }

    /// Takes them back: what they tell of did not happen.
    pub fn withdraw(&self) {
        for name in &self.names {
            // One that stays tells too much, which is better than too little.
            let _ = self.outbox.remove(name);
        }
    }
}

fn prefix(user: &str) -> String {
    let mut start = user;
    // Between characters, so that the name can be read again.
    while escaped(start, usize::MAX).len() > USER {
        start = start.char_indices().next_back().map_or("", |(at, _)| start.get(..at).unwrap_or_default());
    }
    // No escaped name holds this character.
    escaped(start, USER) + "@"
}

fn user_of(name: &str) -> Option<(String, &str)> {
    let (user, kind) = name.split_once('@')?;
    Some((unescaped(user)?, kind))
}

fn new_name(directory: &Directory, letter: &Letter) -> Result<String, StoreError> {
    let random = SysRng.try_next_u64().map_err(|_| directory.failed("name a file in")(Errno::EIO))?;
    let refused = if letter.is_refused { REFUSED_LETTER } else { "" };
    Ok(format!("{}{:010x}-{random:016x}{refused}", prefix(&letter.user), letter.time.seconds()))
}

/// The name of a file that is being written: no letter's.
fn unfinished(name: &str) -> String {
    format!(".{name}")
}

/// Removes what crashes left unfinished. What cannot be removed is, by another run.
fn sweep(directory: &Directory) {
    let now = precise();
    let is_old = |name: &String| {
        let changed = directory.stat(name).ok().and_then(|stat| u64::try_from(stat.st_mtime).ok());
        let changed = changed.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        changed.is_some_and(|changed| now.duration_since(changed).is_ok_and(|age| age > UNFINISHED))
    };
    let names = directory.names().unwrap_or_default();
    for name in names.iter().filter(|name| name.starts_with('.')).filter(|name| is_old(name)) {
        let _ = directory.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn sets() -> tempfile::TempDir {
        let sets = tempfile::tempdir().unwrap();
        std::fs::set_permissions(sets.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        sets
    }

    fn letter(user: &str, seconds: u64, message: &str) -> Letter {
        Letter {
            user: user.into(),
            time: Time::of_seconds(seconds),
            to: "a@example.org".into(),
            message: message.into(),
            is_refused: false,
        }
    }

    #[test]
    fn letters_wait_in_the_order_of_their_time_until_they_are_taken_away() {
        let sets = sets();
        let outbox = Outbox::of(sets.path());
        assert!(outbox.names().unwrap().is_empty());
        let letters = [
            letter("zo\u{eb}/..", 5, "late\n"),
            letter("zo\u{eb}/..", 3, "early\n\n1\n"),
            letter("bob", 3, "b"),
        ];
        let _stays = outbox.put(&letters).unwrap();
        let _as_well = outbox.put(&letters[..1]).unwrap();
        let names = outbox.names().unwrap();
        let read: Vec<_> = names.iter().map(|name| outbox.read(name).unwrap().unwrap()).collect();
        let [late, early, bob] = letters;
        assert_eq!(read, [bob, early, late.clone(), late]);
        let refused = outbox.refuse(&names[1]).unwrap();
        assert_eq!(outbox.refuse(&refused).unwrap(), refused);
        assert!(outbox.read(&refused).unwrap().unwrap().is_refused);
        let waiting = outbox.waiting().unwrap();
        assert_eq!(waiting["zo\u{eb}/.."], Waiting { due: 2, refused: 1 });
        assert_eq!(waiting["bob"], Waiting { due: 1, refused: 0 });
        outbox.remove(&refused).unwrap();
        names.iter().for_each(|name| outbox.remove(name).unwrap());
        assert!(outbox.names().unwrap().is_empty());
        assert_eq!(outbox.read(&names[0]).unwrap(), None);
    }

    #[test]
    fn what_did_not_happen_is_not_told() {
        let sets = sets();
        let outbox = Outbox::of(sets.path());
        outbox.put(&[letter("alice", 1, "x"), letter("alice", 1, "y")]).unwrap().withdraw();
        assert!(outbox.names().unwrap().is_empty());
        assert!(outbox.put(&[letter("alice", 1, "x"), letter("alice", 1, &"y".repeat(1 << 20))]).is_ok());
    }

    #[test]
    fn what_was_refused_is_sent_on_once_to_each_new_address() {
        let sets = sets();
        let outbox = Outbox::of(sets.path());
        let message = |to: &str, id: u8| format!("To: <{to}>\nMessage-ID: <{id}>\n\nx\n");
        let refused =
            |to: &str, id| Letter { to: to.into(), is_refused: true, ..letter("alice", 1, &message(to, id)) };
        let letters = [refused("bad1", 1), refused("bad2", 1), refused("bad1", 2), refused("good", 3)];
        let _stay = outbox.put(&letters).unwrap();
        outbox.send_on("alice", &["good".into(), "new".into()], &["new".into()]).unwrap();
        let names = outbox.names().unwrap();
        let mut left: Vec<_> = names.iter().map(|name| outbox.read(name).unwrap().unwrap()).collect();
        left.sort_by_key(|letter| (letter.is_refused, letter.to.clone()));
        let to: Vec<_> = left.iter().map(|letter| (letter.to.as_str(), letter.is_refused)).collect();
        assert_eq!(to, [("new", false), ("new", false), ("good", true)]);
    }

    #[test]
    fn a_long_name_is_one_that_can_be_read_again() {
        let sets = sets();
        let outbox = Outbox::of(sets.path());
        let long = format!("abc{}", "\u{e4}".repeat(200));
        let _stays = outbox.put(&[letter(&long, 1, "x")]).unwrap();
        let waiting = outbox.waiting().unwrap();
        assert!(waiting.keys().all(|user| long.starts_with(user)) && waiting.len() == 1, "{waiting:?}");
    }

    #[test]
    fn what_crashes_left_unfinished_is_no_letter_and_goes() {
        let sets = sets();
        let outbox = Outbox::of(sets.path());
        let _stays = outbox.put(&[letter("alice", 1, "x")]).unwrap();
        let [old, new] =
            [".alice@0000000001-00", ".bob@refused"].map(|name| sets.path().join(FOLDER).join(name));
        for (file, age) in [(&old, 3700), (&new, 3500)] {
            let file = std::fs::File::create(file).unwrap();
            file.set_modified(precise() - Duration::from_secs(age)).unwrap();
        }
        assert_eq!(outbox.names().unwrap().len(), 1);
        let _stays = outbox.put(&[letter("alice", 1, "x")]).unwrap();
        assert_eq!(outbox.names().unwrap().len(), 2);
        assert!(!old.exists() && new.exists());
    }

    #[test]
    fn the_last_refusal_is_kept_and_is_no_letter() {
        let sets = sets();
        let outbox = Outbox::of(sets.path());
        assert_eq!(outbox.refusal("alice").unwrap(), None);
        for said in ["first", "exit status 70: no such user\nat all"] {
            let refusal =
                Refusal { time: Time::of_seconds(9), to: "a@example.org".into(), said: said.into() };
            outbox.note_refusal("alice", &refusal).unwrap();
            assert_eq!(outbox.refusal("alice").unwrap(), Some(refusal));
        }
        assert!(outbox.names().unwrap().is_empty());
        outbox.forget_refusal("alice").unwrap();
        assert_eq!(outbox.refusal("alice").unwrap(), None);
    }
}
