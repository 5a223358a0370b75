//! A file a user in one private directory of root's.
//!
//! Spending overwrites the entry in place: one `pwrite` of the same width, one `fdatasync`. The hash itself is
//! destroyed, no block is allocated (a full disk does not matter), and the inode stays, so that its lock means
//! something. Replacing a set writes a new file and renames it, all under the directory's lock. Until the directory is
//! flushed a power cut may bring the old file back, with a code that was spent in the new one. So a set says of itself
//! whether it is known to be durable under its name; a login that meets one that is not flushes the directory first.

mod names;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::SFlag;
use nix::unistd::{AccessFlags, faccessat, fdatasync, geteuid};

use super::{Expected, PATIENCE, ReplaceError, SpendError, Store, StoreError};
use crate::account::Account;
use crate::code::CodeNumber;
use crate::file_name::{escaped, unescaped};
use crate::files::directory::{Directory, NewFile};
use crate::files::lock::{Deadline, Locked, lock};
use crate::files::stat::{Stat, same, stat};
use crate::files::trust::{self, Requirement};
use crate::hash::CodeHash;
use crate::mail::outbox::{Outbox, QueuedNotice};
use crate::set::{BadSet, CodeSet, Label};
use crate::set::{Mail, SpentRecord};

/// The file that becomes a set by being renamed. Only who holds the directory's lock may touch it, so one name is
/// enough, and what a crash left of it goes with the next. No set can have this name.
const NEW: &str = ".new";
/// How the name of a set ends.
const ENDING: &str = ".toml";

/// Sets as files.
pub struct FileStore {
    directory: PathBuf,
}

impl FileStore {
    /// The store in `directory`, which is opened and judged anew by every call.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The users that have a file here, sorted; files of other names are passed over.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn users(&self) -> Result<Vec<String>, StoreError> {
        let names = Directory::of_sets(&self.directory)?.names()?;
        let mut users: Vec<_> = names.iter().filter_map(|name| user_of(name)).collect();
        users.sort_unstable();
        Ok(users)
    }

    /// The sets of many users, in their order, without opening the directory for each of them.
    ///
    /// # Errors
    /// Of the directory; those of each set are with it.
    pub fn read_all(&self, users: &[String]) -> Result<Vec<Result<Option<CodeSet>, StoreError>>, StoreError> {
        let directory = Directory::of_sets(&self.directory)?;
        Ok(users.iter().map(|user| read_in(&directory, user)).collect())
    }

    /// Notes that the notice of this use was seen to, in place and on stable storage. `false` where it is not due any
    /// more.
    ///
    /// It takes no lock: a delivery may be frozen by whoever started it, and would keep all others from the set. Nothing
    /// else is written over these three bytes of this file. A file that takes its place in this moment may have them as
    /// they were; then the notice goes out twice.
    ///
    /// # Errors
    /// The set cannot be read or written.
    pub fn mark_notified(
        &self,
        user: &str,
        number: CodeNumber,
        record: &SpentRecord,
        mail: Mail,
    ) -> Result<bool, StoreError> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let directory = Directory::of_sets(&self.directory)?;
            let Some(file) = directory.find(user, deadline)? else { return Ok(false) };
            let Some(place) = file.read()?.mark_notified(number, record, mail) else { return Ok(false) };
            file.overwrite(&directory, place, mail.word())?;
            if file.is_still_named_in(&directory)? {
                return Ok(true);
            }
            deadline.pause(&file.path)?;
        }
    }

    /// Whether the set is found by its uid, where its account has another name by now. One that a backup or a person has put in
    /// place may not be.
    ///
    /// # Errors
    /// Nothing is known.
    pub fn is_listed(&self, label: &Label) -> Result<bool, StoreError> {
        let names = names::of_uid(&Directory::of_sets(&self.directory)?, label.uid)?;
        Ok(names.contains(&label.user))
    }

    /// Gives the user's set other addresses. `notices` are written before, under the lock of the set as it then is.
    /// `false` where there is no set.
    ///
    /// # Errors
    /// [`ReplaceError`]: the set is as it was, but where the error says otherwise.
    pub fn readdress(
        &self,
        user: &str,
        email: &[String],
        notices: &mut dyn FnMut(&CodeSet) -> Vec<QueuedNotice>,
    ) -> Result<bool, ReplaceError> {
        let deadline = Deadline::after(PATIENCE);
        let directory = Directory::of_sets(&self.directory)?;
        let _locked = directory.lock(deadline)?;
        let Some(file) = directory.find(user, deadline)? else { return Ok(false) };
        // From here on no code is spent in the file that goes.
        let file = file.lock(deadline)?;
        let bad = |reason| ReplaceError::Unreadable(reason, user.into());
        let text = CodeSet::readdress(&file.text()?, email).map_err(bad)?;
        readable(&text).map_err(bad)?;
        let new = NewFile::write(&directory, NEW, &text)?;
        let outbox = self.outbox();
        let set = file.read()?;
        let queued = outbox.put(&notices(&set))?;
        // One that came from a backup may not be listed.
        names::add(&directory, set.label.uid, user).inspect_err(|_| queued.withdraw())?;
        new.rename(&file_name(user)).inspect_err(|_| queued.withdraw())?;
        make_durable(&directory, user)?;
        Ok(true)
    }

    /// Gives the set of `old` to the account that the user of that name has become, which must have its uid. The id of the set, or
    /// `None` where there is none, or the account has its own already and `old` has none.
    ///
    /// The set is renamed first, and says whose it is then: at no moment do its codes stand under two names. Between both it is
    /// nobody's; after a crash there the same call goes on.
    ///
    /// # Errors
    /// [`ReplaceError`]: the set is as it was, but where the error says otherwise.
    pub fn rename(&self, old: &str, account: &Account) -> Result<Option<String>, ReplaceError> {
        let deadline = Deadline::after(PATIENCE);
        let directory = Directory::of_sets(&self.directory)?;
        let _locked = directory.lock(deadline)?;
        let (new, uid) = (account.name.as_str(), account.uid);
        if old == new {
            return Ok(None);
        }
        let there = match (directory.find(old, deadline)?, directory.find(new, deadline)?) {
            (None, None) => return Ok(None),
            (None, Some(file)) => file,
            (Some(file), Some(there)) => {
                let (set, there) = (file.read()?, there.read()?);
                judge_before_rename(&set, old, account)?;
                // Perhaps a copy: its codes would stand under both names.
                return Err(ReplaceError::Both {
                    old: old.into(),
                    old_set: set.label.set,
                    new: new.into(),
                    new_set: there.label.set,
                });
            }
            (Some(file), None) => {
                let file = file.lock(deadline)?;
                judge_before_rename(&file.read()?, old, account)?;
                names::add(&directory, uid, new)?;
                directory.rename(&file_name(old), &file_name(new))?;
                directory.flush()?;
                directory
                    .find(new, deadline)?
                    .ok_or(StoreError::system(&file.path, "find again")(Errno::ESTALE))?
            }
        };
        let file = there.lock(deadline)?;
        let set = file.read()?;
        if set.label.user == new {
            // Nothing to do but what a crash at the very end has left.
            names::remove(&directory, set.label.uid, old)?;
            return Ok(None);
        }
        judge_before_rename(&set, old, account)?;
        let bad = |reason| ReplaceError::Unreadable(reason, old.into());
        let text = CodeSet::rename(&file.text()?, new).map_err(bad)?;
        readable(&text).map_err(bad)?;
        let renamed = NewFile::write(&directory, NEW, &text)?;
        names::add(&directory, uid, new)?;
        renamed.rename(&file_name(new))?;
        names::remove(&directory, uid, old)?;
        make_durable(&directory, new)?;
        Ok(Some(set.label.set))
    }

    /// Where notices wait that no set holds.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        Outbox::of(&self.directory)
    }

    /// Whether this process is to ask the broker: it may not enter the directory, which an ordinary user may not, or it
    /// sees it read-only, as in a sandbox. What else may be wrong with it is for the attempt to find out.
    #[must_use]
    pub fn wants_broker(&self) -> bool {
        let all = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
        match faccessat(AT_FDCWD, &self.directory, all, AtFlags::AT_EACCESS) {
            Ok(()) => false,
            Err(Errno::EROFS) => true,
            Err(_) => !geteuid().is_root(),
        }
    }
}

impl Store for FileStore {
    fn read(&self, user: &str) -> Result<Option<CodeSet>, StoreError> {
        read_in(&Directory::of_sets(&self.directory)?, user)
    }

    fn prove_no_other_name(&self, account: &Account) -> Result<(), StoreError> {
        let directory = Directory::of_sets(&self.directory)?;
        for user in names::of_uid(&directory, account.uid)? {
            let other = if user == account.name { None } else { read_in(&directory, &user)? };
            if let Some(set) = other.filter(|set| set.label.uid == account.uid) {
                return Err(StoreError::OtherName { set: set.label.set, user, account: account.clone() });
            }
        }
        Ok(())
    }

    fn spend(
        &self,
        user: &str,
        number: CodeNumber,
        hash: &CodeHash,
        record: &SpentRecord,
    ) -> Result<CodeSet, SpendError> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let directory = Directory::of_sets(&self.directory)?;
            let file = directory.find(user, deadline)?.ok_or(SpendError::Taken)?.lock(deadline)?;
            if !file.is_still_named_in(&directory)? {
                deadline.pause(&file.path)?;
                continue;
            }
            let mut set = file.read()?;
            let place = set.spend(number, hash, record).ok_or(SpendError::Taken)?;
            // While this lock is held nothing else takes the name.
            if !set.is_durable(file.stat.st_ino) {
                directory.flush()?;
                file.say_durable(&directory, &set);
            }
            file.overwrite(&directory, place, &record.over(hash.phc().len()))?;
            return Ok(set);
        }
    }

    fn replace(
        &self,
        user: &str,
        expected: Expected<'_>,
        new: Option<&str>,
        announce: &mut dyn FnMut() -> std::io::Result<()>,
        notices: &mut dyn FnMut(Option<&CodeSet>) -> Vec<QueuedNotice>,
    ) -> Result<(), ReplaceError> {
        let deadline = Deadline::after(PATIENCE);
        let directory = Directory::of_sets(&self.directory)?;
        let _locked = directory.lock(deadline)?;
        let old = Old::find(&directory, user, deadline)?;
        if old.seen() != expected {
            return Err(ReplaceError::Changed { user: user.into() });
        }
        let bad = |reason| ReplaceError::Unreadable(reason, user.into());
        let uid = new.map(readable).transpose().map_err(bad)?.map(|set| set.label.uid);
        let new = new.map(|text| NewFile::write(&directory, NEW, text)).transpose()?;
        announce().map_err(|error| ReplaceError::Announce(error, user.into()))?;
        // Whoever has locked the old set is about to spend one of its codes: that comes before its end, or never.
        let spends_no_more = old.file.map(|file| file.lock(Deadline::after(PATIENCE))).transpose()?;
        let last = match spends_no_more.as_ref().map(|file| file.read()) {
            // What is no set tells of no use.
            Some(Err(error)) if error.can_be_replaced() => None,
            last => last.transpose()?,
        };
        let outbox = self.outbox();
        let queued = outbox.put(&notices(last.as_ref()))?;
        // Before the set: it must not be there without being found.
        uid.map_or(Ok(()), |uid| names::add(&directory, uid, user)).inspect_err(|_| queued.withdraw())?;
        let changed = match new {
            Some(new) => new.rename(&file_name(user)),
            None => directory.remove(&file_name(user)),
        };
        changed.inspect_err(|_| queued.withdraw())?;
        if let Some(last) = last.map(|last| last.label.uid).filter(|last| Some(*last) != uid) {
            // Where it stays, the missing set has the last word.
            let _ = names::remove(&directory, last, user);
        }
        make_durable(&directory, user)
    }
}

/// Only the account's own set is renamed: by its uid, from the old name, which it still bears where it stands under the new one.
fn judge_before_rename(set: &CodeSet, old: &str, account: &Account) -> Result<(), ReplaceError> {
    let Label { set, user, uid, .. } = set.label.clone();
    if (user.as_str(), uid) == (old, account.uid) {
        return Ok(());
    }
    let (new, new_uid) = (account.name.clone(), account.uid);
    Err(ReplaceError::OfAnother { set, user, uid, old: old.into(), new, new_uid })
}

/// Flushes what was done to a user's name. If there is a set, it says so of itself.
fn make_durable(directory: &Directory, user: &str) -> Result<(), ReplaceError> {
    directory.flush().map_err(ReplaceError::Unflushed)?;
    // Where that cannot be written, the next login flushes once more.
    if let Ok(Some(file)) = directory.find(user, Deadline::after(PATIENCE)) {
        let _ = file.read().map(|set| file.say_durable(directory, &set));
    }
    Ok(())
}

/// What a replacement finds in its place.
struct Old {
    /// A file that can be locked, whatever it holds.
    file: Option<SetFile<OwnedFd>>,
    set: Option<String>,
    is_there: bool,
}

impl Old {
    /// What cannot be used as a set may be replaced; what cannot be looked at, or is a directory, may not.
    fn find(directory: &Directory, user: &str, deadline: Deadline) -> Result<Self, StoreError> {
        let file = match directory.find(user, deadline) {
            Ok(None) => return Ok(Self { file: None, set: None, is_there: false }),
            Ok(file) => file,
            Err(error) if error.can_be_replaced() => None,
            Err(error) => return Err(error),
        };
        let name = file_name(user);
        if directory
            .stat(&name)
            .is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits())
        {
            let found = "a directory, which must be removed by hand first";
            return Err(Requirement::PrivateFile.refuse(&directory.path.join(name), found).into());
        }
        let set = match file.as_ref().map(|file| file.read()) {
            Some(Ok(set)) => Some(set.label.set),
            None => None,
            Some(Err(error)) if error.can_be_replaced() => None,
            Some(Err(error)) => return Err(error),
        };
        Ok(Self { file, set, is_there: true })
    }

    fn seen(&self) -> Expected<'_> {
        match &self.set {
            Some(set) => Expected::Set(set),
            None if self.is_there => Expected::Unusable,
            None => Expected::Nothing,
        }
    }
}

fn read_in(directory: &Directory, user: &str) -> Result<Option<CodeSet>, StoreError> {
    let file = directory.find(user, Deadline::after(PATIENCE))?;
    file.map(|file| file.read()).transpose()
}

fn file_name(user: &str) -> String {
    escaped(user, usize::MAX) + ENDING
}

fn user_of(file: &str) -> Option<String> {
    file.strip_suffix(ENDING).and_then(unescaped)
}

/// A set that cannot be read again is none.
fn readable(text: &str) -> Result<CodeSet, BadSet> {
    if text.len() > trust::LARGEST {
        return Err(BadSet::Syntax(format!("it has {} bytes, more than {}", text.len(), trust::LARGEST)));
    }
    CodeSet::parse(text)
}

impl Directory {
    /// The user's file, open and judged. `None` is the one proof that there is no set: ENOENT in this directory.
    fn find(&self, user: &str, deadline: Deadline) -> Result<Option<SetFile<OwnedFd>>, StoreError> {
        let name = file_name(user);
        let path = self.path.join(&name);
        loop {
            let found = self.find_file(&name, OFlag::O_RDONLY, Requirement::PrivateFile)?;
            let Some((fd, stat)) = found else { return Ok(None) };
            if stat.st_nlink > 0 {
                return Ok(Some(SetFile { fd, path, name, stat }));
            }
            // Replaced between our open and our look: the new one is in its place.
            deadline.pause(&path)?;
        }
    }
}

/// A set file, open for reading and judged.
struct SetFile<F> {
    fd: F,
    path: PathBuf,
    name: String,
    stat: Stat,
}

impl SetFile<OwnedFd> {
    fn lock(self, deadline: Deadline) -> Result<SetFile<Locked>, StoreError> {
        let Self { fd, path, name, stat } = self;
        Ok(SetFile { fd: lock(fd, &path, deadline)?, path, name, stat })
    }

    fn read(&self) -> Result<CodeSet, StoreError> {
        read(&self.path, self.fd.as_fd())
    }
}

impl SetFile<Locked> {
    /// What is read under the lock is what is there: all who write hold it, but for the words of notices.
    fn read(&self) -> Result<CodeSet, StoreError> {
        read(&self.path, self.fd.as_fd())
    }

    fn text(&self) -> Result<String, StoreError> {
        text(&self.path, self.fd.as_fd())
    }
}

impl<F> SetFile<F> {
    /// Whether the open file is still the one that its name stands for.
    fn is_still_named_in(&self, directory: &Directory) -> Result<bool, StoreError> {
        match directory.stat(&self.name) {
            Ok(now) => Ok(same(&now, &self.stat)),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(StoreError::system(&self.path, "look at")(errno)),
        }
    }

    /// Notes in the set, which this file holds, that it is durable under its name. It need not be flushed: where it is lost, a
    /// later login flushes the name once more.
    fn say_durable(&self, directory: &Directory, set: &CodeSet) {
        if let Some((start, text)) = set.durable(self.stat.st_ino) {
            let _ = self.write(directory, start, &text);
        }
    }

    /// Writes `text` at `start` and brings it to stable storage. What fails here is final: the code may be spent, and
    /// a second fdatasync would say yes to what the first one lost.
    fn overwrite(&self, directory: &Directory, start: usize, text: &str) -> Result<(), StoreError> {
        let file = self.write(directory, start, text)?;
        fdatasync(&file).map_err(StoreError::system(&self.path, "flush"))
    }

    fn write(&self, directory: &Directory, start: usize, text: &str) -> Result<File, StoreError> {
        let failed = |action| StoreError::system(&self.path, action);
        // Only here is it opened for writing: a close after that wakes whoever watches the directory.
        let fd = directory.file(&self.name, OFlag::O_RDWR).map_err(failed("open for writing"))?;
        if !stat(&fd).is_ok_and(|now| same(&now, &self.stat)) {
            return Err(failed("find again")(Errno::ESTALE));
        }
        let file = File::from(fd);
        let start = u64::try_from(start).map_err(|_| failed("write")(Errno::EOVERFLOW))?;
        match file.write_at(text.as_bytes(), start) {
            Ok(written) if written == text.len() => Ok(file),
            Ok(_) => Err(failed("write all of the record")(Errno::EIO)),
            Err(error) => Err(failed("write")(trust::errno(&error))),
        }
    }
}

fn read(path: &Path, fd: BorrowedFd<'_>) -> Result<CodeSet, StoreError> {
    CodeSet::parse(&text(path, fd)?).map_err(|reason| StoreError::Corrupt { path: path.into(), reason })
}

fn text(path: &Path, fd: BorrowedFd<'_>) -> Result<String, StoreError> {
    let bytes = trust::read(fd).map_err(StoreError::system(path, "read"))?;
    String::from_utf8(bytes).map_err(|error| {
        let reason = BadSet::Syntax(error.utf8_error().to_string());
        StoreError::Corrupt { path: path.into(), reason }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;
    use crate::clock;
    use crate::hash::Cost;
    use crate::set::Label;
    use rand::rngs::SysRng;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A private directory, and the file of a set of alice's with one code, which is not written yet.
    fn directory() -> (tempfile::TempDir, Label, String) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let account = Account { name: "alice".into(), uid: 1000 };
        let label = Label::new(&account, clock::now(), vec![], &mut SysRng).unwrap();
        let text = CodeSet::render(&label, &[CodeHash::decoy(Cost::DEFAULT)]);
        (directory, label, text)
    }

    #[test]
    fn a_spend_and_its_notice_are_in_the_file_and_nowhere_twice() {
        let (directory, _, text) = directory();
        let store = FileStore::new(directory.path());
        assert!(store.users().unwrap().is_empty());
        store.replace("alice", Expected::Nothing, Some(&text), &mut || Ok(()), &mut |_| vec![]).unwrap();
        assert_eq!(store.users().unwrap(), ["alice"]);
        let number = CodeNumber::new(1).unwrap();
        let record = SpentRecord::new(clock::now(), 0, "sshd", "192.0.2.7");
        assert!(!store.mark_notified("alice", number, &record, Mail::Ok).unwrap(), "it is unspent");
        store.spend("alice", number, &CodeHash::decoy(Cost::DEFAULT), &record).unwrap();
        let again = store.spend("alice", number, &CodeHash::decoy(Cost::DEFAULT), &record);
        assert!(matches!(again, Err(SpendError::Taken)));
        let due = || store.read("alice").unwrap().unwrap().due().count();
        assert_eq!(due(), 1);
        assert!(store.mark_notified("alice", number, &record, Mail::Ok).unwrap());
        assert_eq!(due(), 0);
        assert!(!store.mark_notified("alice", number, &record, Mail::Ok).unwrap(), "it is told");
        assert!(!store.mark_notified("bob", number, &record, Mail::Ok).unwrap(), "he has no set");
    }

    #[test]
    fn a_set_says_that_its_name_is_durable_until_something_else_puts_a_file_in_its_place() {
        let (directory, label, text) = directory();
        let store = FileStore::new(directory.path());
        let file = directory.path().join("alice.toml");
        let is_durable = || {
            let inode = std::fs::metadata(&file).unwrap().ino();
            CodeSet::parse(&std::fs::read_to_string(&file).unwrap()).unwrap().is_durable(inode)
        };
        assert!(!CodeSet::parse(&text).unwrap().is_durable(NO_INODE_HAS_THIS));
        store.replace("alice", Expected::Nothing, Some(&text), &mut || Ok(()), &mut |_| vec![]).unwrap();
        assert!(is_durable());
        assert!(store.readdress("alice", &label.email, &mut |_| vec![]).unwrap());
        assert!(is_durable());
        // As a restored backup, or an editor.
        std::fs::copy(&file, directory.path().join("copy")).unwrap();
        std::fs::rename(directory.path().join("copy"), &file).unwrap();
        assert!(!is_durable());
        let record = SpentRecord::new(clock::now(), 0, "sshd", "192.0.2.7");
        store.spend("alice", CodeNumber::new(1).unwrap(), &CodeHash::decoy(Cost::DEFAULT), &record).unwrap();
        assert!(is_durable());
    }

    const NO_INODE_HAS_THIS: u64 = 7;

    fn account(name: &str, uid: u32) -> Account {
        Account { name: name.into(), uid }
    }

    #[test]
    fn a_set_under_another_name_of_the_uid_is_no_proof_of_none() {
        let (directory, label, text) = directory();
        let store = FileStore::new(directory.path());
        let bob = account("bob", 1000);
        assert!(store.prove_no_other_name(&bob).is_ok());
        store.replace("alice", Expected::Nothing, Some(&text), &mut || Ok(()), &mut |_| vec![]).unwrap();
        let error = store.prove_no_other_name(&bob).unwrap_err();
        assert!(error.to_string().contains("backupcodes-admin rename alice bob"), "{error}");
        for other in [account("alice", 1000), account("bob", 1001)] {
            assert!(store.prove_no_other_name(&other).is_ok());
        }
        // The set has the last word, and one that cannot be read proves nothing.
        let file = directory.path().join("alice.toml");
        std::fs::write(&file, text.replace("uid = 1000", "uid = 1001")).unwrap();
        assert!(store.prove_no_other_name(&bob).is_ok());
        std::fs::write(&file, "no set").unwrap();
        assert!(store.prove_no_other_name(&bob).is_err());
        std::fs::write(&file, &text).unwrap();
        store.replace("alice", Expected::Set(&label.set), None, &mut || Ok(()), &mut |_| vec![]).unwrap();
        assert!(store.prove_no_other_name(&bob).is_ok());
        assert!(!directory.path().join("uid-1000").is_symlink());
    }

    #[test]
    fn a_set_goes_with_its_account_to_another_name_and_to_no_other_account() {
        let (directory, label, text) = directory();
        let store = FileStore::new(directory.path());
        let bob = account("bob", 1000);
        assert_eq!(store.rename("alice", &bob).unwrap(), None);
        store.replace("alice", Expected::Nothing, Some(&text), &mut || Ok(()), &mut |_| vec![]).unwrap();
        let refused = store.rename("alice", &account("bob", 1001)).unwrap_err();
        assert!(matches!(refused, ReplaceError::OfAnother { .. }), "{refused}");
        // As a crash between both of its steps leaves it.
        let path = |name| directory.path().join(name);
        std::fs::rename(path("alice.toml"), path("bob.toml")).unwrap();
        let set = store.read("bob").unwrap().unwrap();
        assert!(set.label.judge_owner(&bob).is_err());
        assert_eq!(store.rename("alice", &bob).unwrap().as_deref(), Some(label.set.as_str()));
        let set = store.read("bob").unwrap().unwrap();
        assert!(set.label.judge_owner(&bob).is_ok() && set.left() == 1);
        // Done: again, and with the same name for both, nothing happens.
        for old in ["alice", "nobody", "bob"] {
            assert_eq!(store.rename(old, &bob).unwrap(), None);
        }
        assert!(store.read("alice").unwrap().is_none());
        assert!(store.prove_no_other_name(&account("alice", 1000)).is_err());
        assert_eq!(
            store.rename("bob", &account("alice", 1000)).unwrap().as_deref(),
            Some(label.set.as_str())
        );
        assert_eq!(std::fs::read_link(path("uid-1000")).unwrap(), Path::new("alice"));
        let record = SpentRecord::new(clock::now(), 0, "sshd", "192.0.2.7");
        store.spend("alice", CodeNumber::new(1).unwrap(), &CodeHash::decoy(Cost::DEFAULT), &record).unwrap();
        // Nobody's set is replaced.
        let bobs = CodeSet::rename(&text, "bob").unwrap();
        store.replace("bob", Expected::Nothing, Some(&bobs), &mut || Ok(()), &mut |_| vec![]).unwrap();
        let both = || ["alice.toml", "bob.toml"].map(|name| std::fs::read(path(name)).unwrap());
        let before = both();
        let refused = store.rename("alice", &bob).unwrap_err();
        assert!(matches!(refused, ReplaceError::Both { .. }), "{refused}");
        assert_eq!(both(), before);
        assert_eq!(store.users().unwrap(), ["alice", "bob"]);
        // Nor is a copy that was put aside taken for somebody's.
        std::fs::rename(path("alice.toml"), path("alice.bak.toml")).unwrap();
        for (name, uid) in [("alice", 1000), ("bob", 1000), ("carl", 1000), ("alice", 1001)] {
            let refused = store.rename("alice.bak", &account(name, uid)).unwrap_err();
            assert!(matches!(refused, ReplaceError::OfAnother { .. }), "{name}: {refused}");
        }
    }

    #[test]
    fn what_is_no_set_may_be_replaced_and_what_cannot_be_reached_may_not() {
        let (directory, _, text) = directory();
        let store = FileStore::new(directory.path());
        let file = directory.path().join("alice.toml");
        let write = |text: &str, mode| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("no set", 0o600);
        assert!(store.read("alice").is_err_and(|error| error.can_be_replaced()));
        write(&text, 0o644);
        assert!(store.read("alice").is_err_and(|error| error.can_be_replaced()));
        // Its codes are good once the other name is gone, if nothing else is wrong.
        write(&text, 0o600);
        std::fs::hard_link(&file, directory.path().join("backup")).unwrap();
        assert!(store.read("alice").is_err_and(|error| !error.can_be_replaced()));
        let refused =
            store.replace("alice", Expected::Unusable, Some(&text), &mut || Ok(()), &mut |_| vec![]);
        assert!(matches!(refused, Err(ReplaceError::Store(StoreError::Untrusted(_)))), "{refused:?}");
        write(&text, 0o640);
        assert!(store.read("alice").is_err_and(|error| error.can_be_replaced()));
        let busy = nix::fcntl::Flock::lock(
            std::fs::File::open(directory.path()).unwrap(),
            nix::fcntl::FlockArg::LockExclusive,
        );
        let refused = store.replace("bob", Expected::Nothing, Some(&text), &mut || Ok(()), &mut |_| vec![]);
        drop(busy.unwrap());
        assert!(
            matches!(&refused, Err(ReplaceError::Store(error)) if !error.can_be_replaced()),
            "{refused:?}"
        );
    }

    #[test]
    fn a_set_that_is_being_replaced_is_never_taken_for_none() {
        let (directory, label, text) = directory();
        let store = FileStore::new(directory.path());
        let replace = |expected| {
            store.replace("alice", expected, Some(&text), &mut || Ok(()), &mut |_| vec![]).unwrap();
        };
        replace(Expected::Nothing);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..300 {
                    replace(Expected::Set(&label.set));
                }
                done.store(true, Ordering::Relaxed);
            });
            while !done.load(Ordering::Relaxed) {
                assert!(store.read("alice").unwrap().is_some());
            }
        });
    }
}
