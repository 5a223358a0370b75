//! Notices that wait for their delivery as finished messages, one file a recipient: all but those of uses, which the
//! set file itself holds.
//!
//! A file is named `<user>@<time>-<random>`, and holds the recipient in its first line and the message after it. One more
//! a user, `<user>@refused`, tells what sendmail refused last. No lock is
//! needed: no two files get the same name.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use rand::TryRng;
use rand::rngs::SysRng;

use crate::clock::Time;
use crate::file_name::{escaped, unescaped};
use crate::files::FileError;
use crate::files::directory::{Directory, NewFile};
use crate::files::stat::age;
use crate::files::trust::{self, Requirement};

/// The outbox, in the directory of the sets.
const FOLDER: &str = "outbox";
/// How the name of the refusal's file ends.
const REFUSED: &str = "refused";
/// Most bytes of a user in a name: it ends with a time and a number.
const USER: usize = 200;
/// No process writes one notice for so long.
const UNFINISHED: Duration = Duration::from_secs(60 * 60);

/// A finished message to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedNotice {
    /// Whose codes it is about.
    pub user: String,
    /// When it happened, which puts notices in order.
    pub time: Time,
    /// The address that it goes to.
    pub to: String,
    /// The message, with its header.
    pub message: String,
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

/// How many notices about a user wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// In the outbox.
    pub due: usize,
    /// Whether [`Outbox::refusal`] has one.
    pub has_refusal: bool,
}

/// Notices that wait for delivery.
pub struct Outbox {
    sets: PathBuf,
}

/// Notices that were queued, and can be withdrawn.
#[must_use]
pub struct Queued<'a> {
    outbox: &'a Outbox,
    names: Vec<String>,
}

impl Outbox {
    /// The outbox of the sets in this directory.
    pub fn of(sets: impl Into<PathBuf>) -> Self {
        Self { sets: sets.into() }
    }

    /// Queues notices. On return all of them are on stable storage.
    ///
    /// # Errors
    /// They cannot be written: none of them stays queued.
    pub fn put(&self, notices: &[QueuedNotice]) -> Result<Queued<'_>, FileError> {
        let mut queued = Queued { outbox: self, names: Vec::new() };
        if notices.is_empty() {
            return Ok(queued);
        }
        let sets = Directory::of_sets(&self.sets)?;
        let directory = sets.inner(FOLDER)?;
        remove_unfinished(&directory);
        let mut put = || {
            for notice in notices {
                let name = new_name(&directory, notice)?;
                let text = format!("{}\n{}", notice.to, notice.message);
                NewFile::write(&directory, &unfinished(&name), &text)?.rename(&name)?;
                queued.names.push(name);
            }
            directory.flush()?;
            // The outbox itself may be new.
            sets.flush()
        };
        match put() {
            Ok(()) => Ok(queued),
            Err(error) => {
                queued.withdraw();
                Err(error)
            }
        }
    }

    /// Removes unfinished files of crashes. A later run removes those that cannot be removed now.
    pub fn sweep(&self) {
        if let Ok(Some(directory)) = self.find() {
            remove_unfinished(&directory);
        }
    }

    /// The names of all queued notices, those of each user in the order of their time.
    ///
    /// # Errors
    /// The outbox cannot be read.
    pub fn names(&self) -> Result<Vec<String>, FileError> {
        let Some(directory) = self.find()? else { return Ok(Vec::new()) };
        let mut names = directory.names()?;
        names.retain(|name| user_of(name).is_some_and(|(_, kind)| kind != REFUSED));
        Ok(names)
    }

    /// A notice, or `None` if it no longer exists.
    ///
    /// # Errors
    /// It cannot be read, or is not a notice.
    pub fn read(&self, name: &str) -> Result<Option<QueuedNotice>, FileError> {
        let Some((path, text)) = self.text(name)? else { return Ok(None) };
        let notice = || {
            let (user, kind) = user_of(name)?;
            let seconds = u64::from_str_radix(kind.split_once('-')?.0, 16).ok()?;
            let (to, message) = text.split_once('\n')?;
            Some(QueuedNotice {
                user,
                time: Time::of_seconds(seconds),
                to: to.into(),
                message: message.into(),
            })
        };
        notice().map(Some).ok_or_else(|| Requirement::QueuedNotice.refuse(&path, "no notice").into())
    }

    /// Removes a notice that was delivered.
    ///
    /// # Errors
    /// It cannot be removed, and will be sent again.
    pub fn remove(&self, name: &str) -> Result<(), FileError> {
        let Some(directory) = self.find()? else { return Ok(()) };
        directory.remove(name)?;
        directory.flush()
    }

    /// The names of the user's queued notices to this address.
    ///
    /// # Errors
    /// The outbox cannot be read.
    pub fn names_to(&self, user: &str, to: &str) -> Result<Vec<String>, FileError> {
        let prefix = prefix(user);
        let mut names_to = Vec::new();
        for name in self.names()?.into_iter().filter(|name| name.starts_with(&prefix)) {
            if self.read(&name)?.is_some_and(|notice| notice.to == to) {
                names_to.push(name);
            }
        }
        Ok(names_to)
    }

    /// Queues notices for other addresses instead, or removes them if there are none.
    ///
    /// # Errors
    /// The outbox cannot be read or written. The remaining notices stay as they were.
    pub fn send_on(&self, names: &[String], addresses: &[String]) -> Result<(), FileError> {
        for name in names {
            let Some(notice) = self.read(name)? else { continue };
            let sent_on = addresses.iter().map(|to| QueuedNotice { to: to.clone(), ..notice.clone() });
            let _stays = self.put(&sent_on.collect::<Vec<_>>())?;
            self.remove(name)?;
        }
        Ok(())
    }

    /// How many notices are queued about each user.
    ///
    /// # Errors
    /// The outbox cannot be read.
    pub fn waiting(&self) -> Result<BTreeMap<String, Waiting>, FileError> {
        let mut users: BTreeMap<_, Waiting> = BTreeMap::new();
        for name in self.find()?.map_or_else(|| Ok(Vec::new()), |directory| directory.names())? {
            let Some((user, kind)) = user_of(&name) else { continue };
            let waiting = users.entry(user).or_default();
            match kind {
                REFUSED => waiting.has_refusal = true,
                _ => waiting.due = waiting.due.saturating_add(1),
            }
        }
        Ok(users)
    }

    /// The last refusal of a notice about this user.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn refusal(&self, user: &str) -> Result<Option<Refusal>, FileError> {
        let Some((_, text)) = self.text(&(prefix(user) + REFUSED))? else { return Ok(None) };
        let mut lines = text.splitn(3, '\n');
        let mut line = || lines.next().unwrap_or_default().to_owned();
        let (time, to, said) = (line(), line(), line());
        Ok(Some(Refusal { time: time.parse().unwrap_or_default(), to, said }))
    }

    /// Stores a refusal instead of an earlier one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn note_refusal(&self, user: &str, refusal: &Refusal) -> Result<(), FileError> {
        let Refusal { time, to, said } = refusal;
        let directory = Directory::of_sets(&self.sets)?.inner(FOLDER)?;
        let name = prefix(user) + REFUSED;
        NewFile::write(&directory, &unfinished(&name), &format!("{time}\n{to}\n{said}"))?.rename(&name)
    }

    /// Forgets the refusal.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget_refusal(&self, user: &str) -> Result<(), FileError> {
        let Some(directory) = self.find()? else { return Ok(()) };
        directory.remove(&(prefix(user) + REFUSED))
    }

    fn find(&self) -> Result<Option<Directory>, FileError> {
        Directory::of_sets(&self.sets)?.find_inner(FOLDER)
    }

    fn text(&self, name: &str) -> Result<Option<(PathBuf, String)>, FileError> {
        let Some(directory) = self.find()? else { return Ok(None) };
        let Some((fd, _)) = directory.find_file(name, OFlag::O_RDONLY, Requirement::QueuedNotice)? else {
            return Ok(None);
        };
        let path = directory.path_of(name);
        let bytes = trust::read(fd.as_fd()).map_err(FileError::system(&path, "read"))?;
        Ok(Some((path, String::from_utf8_lossy(&bytes).into_owned())))
    }
}

impl Queued<'_> {
    /// The names of the notices.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.names
    }

    /// Removes them: the event that they tell of did not happen.
    pub fn withdraw(&self) {
        for name in &self.names {
            // If one stays, the user reads of a change that was not made, which is better than not reading of one that was.
            let _ = self.outbox.remove(name);
        }
    }
}

fn prefix(user: &str) -> String {
    let mut start = user;
    // Cut between characters, so that the name can be decoded.
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

fn new_name(directory: &Directory, notice: &QueuedNotice) -> Result<String, FileError> {
    let random = SysRng.try_next_u64().map_err(|_| directory.failed("name a file in")(Errno::EIO))?;
    Ok(format!("{}{:010x}-{random:016x}", prefix(&notice.user), notice.time.seconds()))
}

/// The name of a file that is being written: not the name of a notice.
fn unfinished(name: &str) -> String {
    format!(".{name}")
}

/// Removes unfinished files of crashes, but not those that another process may be writing.
fn remove_unfinished(directory: &Directory) {
    let is_old = |name: &String| directory.stat(name).is_ok_and(|stat| age(&stat) > UNFINISHED);
    let names = directory.names().unwrap_or_default();
    for name in names.iter().filter(|name| name.starts_with('.')).filter(|name| is_old(name)) {
        let _ = directory.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::precise;
    use std::os::unix::fs::PermissionsExt;
    use std::time::UNIX_EPOCH;

    fn sets() -> tempfile::TempDir {
        let sets = tempfile::tempdir().unwrap();
        std::fs::set_permissions(sets.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        sets
    }

    fn notice(user: &str, seconds: u64, message: &str) -> QueuedNotice {
        QueuedNotice {
            user: user.into(),
            time: Time::of_seconds(seconds),
            to: "a@example.org".into(),
            message: message.into(),
        }
    }

    #[test]
    fn letters_wait_in_the_order_of_their_time_until_they_are_taken_away() {
        let sets = sets();
        let outbox = Outbox::of(sets.path());
        assert!(outbox.names().unwrap().is_empty());
        let notices = [
            notice("zo\u{eb}/..", 5, "late\n"),
            notice("zo\u{eb}/..", 3, "early\n\n1\n"),
            notice("bob", 3, "b"),
        ];
        let _stays = outbox.put(&notices).unwrap();
        let _as_well = outbox.put(&notices[..1]).unwrap();
        let names = outbox.names().unwrap();
        let read: Vec<_> = names.iter().map(|name| outbox.read(name).unwrap().unwrap()).collect();
        let [late, early, bob] = notices;
        assert_eq!(read, [bob, early, late.clone(), late]);
        let waiting = outbox.waiting().unwrap();
        assert_eq!(waiting["zo\u{eb}/.."], Waiting { due: 3, has_refusal: false });
        assert_eq!(waiting["bob"], Waiting { due: 1, has_refusal: false });
        names.iter().for_each(|name| outbox.remove(name).unwrap());
        assert!(outbox.names().unwrap().is_empty());
        assert_eq!(outbox.read(&names[0]).unwrap(), None);
    }

    #[test]
    fn no_notice_reports_what_did_not_happen() {
        let sets = sets();
        let outbox = Outbox::of(sets.path());
        outbox.put(&[notice("alice", 1, "x"), notice("alice", 1, "y")]).unwrap().withdraw();
        assert!(outbox.names().unwrap().is_empty());
        assert!(outbox.put(&[notice("alice", 1, "x"), notice("alice", 1, &"y".repeat(1 << 20))]).is_ok());
    }

    #[test]
    fn notices_that_wait_for_one_address_reach_the_others() {
        let sets = sets();
        let outbox = Outbox::of(sets.path());
        let to = |user: &str, to: &str| QueuedNotice { to: to.into(), ..notice(user, 1, "x") };
        let notices = [to("alice", "bad"), to("alice", "bad"), to("alice", "good"), to("bob", "bad")];
        let _stay = outbox.put(&notices).unwrap();
        let bad = outbox.names_to("alice", "bad").unwrap();
        outbox.send_on(&bad, &["new".into()]).unwrap();
        let count = |user: &str, to: &str| outbox.names_to(user, to).unwrap().len();
        assert_eq!((count("alice", "bad"), count("alice", "new"), count("alice", "good")), (0, 2, 1));
        assert_eq!(count("bob", "bad"), 1, "another user's");
    }

    #[test]
    fn a_long_name_is_one_that_can_be_read_again() {
        let sets = sets();
        let outbox = Outbox::of(sets.path());
        let long = format!("abc{}", "\u{e4}".repeat(200));
        let _stays = outbox.put(&[notice(&long, 1, "x")]).unwrap();
        let waiting = outbox.waiting().unwrap();
        assert!(waiting.keys().all(|user| long.starts_with(user)) && waiting.len() == 1, "{waiting:?}");
    }

    #[test]
    fn files_that_crashes_left_unfinished_are_no_notices_and_are_removed() {
        let sets = sets();
        let outbox = Outbox::of(sets.path());
        let file = |name: &str, changed| {
            let path = sets.path().join(FOLDER).join(name);
            std::fs::File::create(&path).unwrap().set_modified(changed).unwrap();
            path
        };
        let sweeps: [fn(&Outbox); 2] =
            [Outbox::sweep, |outbox| drop(outbox.put(&[notice("alice", 1, "x")]).unwrap().names())];
        outbox.sweep();
        assert!(!sets.path().join(FOLDER).exists(), "where nothing waits, nothing is made");
        sweeps[1](&outbox);
        for (sweep, notices) in sweeps.iter().zip([1, 2]) {
            let seconds = |age| precise() - Duration::from_secs(age);
            let old = [
                (".alice@0000000001-00", seconds(3700)),
                (".dora@refused", UNIX_EPOCH),
                (".emil@refused", UNIX_EPOCH + Duration::from_secs(u64::from(u32::MAX))),
            ];
            let old = old.map(|(name, changed)| file(name, changed));
            let new = file(".bob@refused", seconds(3500));
            sweep(&outbox);
            assert_eq!(outbox.names().unwrap().len(), notices);
            assert!(old.iter().all(|old| !old.exists()) && new.exists());
        }
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
