//! One file for each user, in a private directory owned by root.
//!
//! A spend overwrites the entry in place: one `pwrite` of the same width and one `fdatasync`. This destroys the hash, needs no
//! new disk block (so a full disk does not matter), and keeps the inode, so that its lock stays valid. A replacement writes a
//! new file and renames it, under the lock of the directory. A power cut before the flush of the directory may restore the old
//! file, with a code that was spent in the new one. A set therefore records whether its name is durable; if it is not, the
//! next spend flushes the directory first.

mod moving;
mod rename;
mod replace;
mod set_file;
mod spend;
mod uid_index;

use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat, geteuid};

pub(super) use self::rename::judge_before_rename;
pub(super) use self::replace::Replacement;
use crate::account::Account;
use crate::code::CodeNumber;
use crate::files::directory::Directory;
use crate::hash::CodeHash;
use crate::mail::outbox::Outbox;
use crate::set::{CodeSet, Label, SpentRecord};
use crate::store::{Accepted, Expected, ReplaceError, SpendError, Store, StoreError};

/// Sets as files.
pub struct FileStore {
    directory: PathBuf,
}

impl FileStore {
    /// The store in `directory`, which every call opens and judges.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The users with a file in the directory, sorted. Files with other names do not count.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn users(&self) -> Result<Vec<String>, StoreError> {
        let names = self.open()?.names()?;
        let mut users: Vec<_> = names.iter().filter_map(|name| set_file::user_of(name)).collect();
        users.sort_unstable();
        Ok(users)
    }

    /// The sets of `users`, in their order. The directory is opened only once.
    ///
    /// # Errors
    /// The error of the directory. Each set has its own result.
    pub fn read_all(&self, users: &[String]) -> Result<Vec<Result<Option<CodeSet>, StoreError>>, StoreError> {
        let directory = self.open()?;
        Ok(users.iter().map(|user| set_file::read_in(&directory, user)).collect())
    }

    /// Whether the set is listed under its uid, and so is found after its account is renamed. A set from a backup may not be.
    ///
    /// # Errors
    /// Nothing is known.
    pub fn is_listed(&self, label: &Label) -> Result<bool, StoreError> {
        let names = uid_index::of_uid(&self.open()?, label.uid)?;
        Ok(names.contains(&label.user))
    }

    /// The outbox, for notices that no set holds.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        Outbox::of(&self.directory)
    }

    /// Whether this process must ask the broker: it is not root and has no access to the directory, or sees it read-only, as in a
    /// sandbox. The attempt reports any other fault.
    #[must_use]
    pub fn wants_broker(&self) -> bool {
        let all = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
        match faccessat(AT_FDCWD, &self.directory, all, AtFlags::AT_EACCESS) {
            Ok(()) => false,
            Err(Errno::EROFS) => true,
            Err(_) => !geteuid().is_root(),
        }
    }

    fn open(&self) -> Result<Directory, StoreError> {
        Ok(Directory::of_sets(&self.directory)?)
    }
}

impl Store for FileStore {
    type Prepared<'a> = replace::Replacement<'a>;

    fn read(&self, user: &str) -> Result<Option<CodeSet>, StoreError> {
        set_file::read_in(&self.open()?, user)
    }

    fn own(&self, account: Option<&Account>) -> Result<Option<CodeSet>, StoreError> {
        let Some(account) = account else { return Ok(None) };
        own_or_proven_none(|| self.read(&account.name), || self.prove_no_other_name(account))
    }

    fn spend(
        &self,
        user: &str,
        number: CodeNumber,
        hash: &CodeHash,
        record: &SpentRecord,
    ) -> Result<Accepted, SpendError> {
        self.spend_in_place(user, number, hash, record)
    }

    fn prepare(
        &self,
        user: &str,
        expected: Expected<'_>,
        new: Option<&str>,
    ) -> Result<replace::Replacement<'_>, ReplaceError> {
        replace::Replacement::prepare(self, user, expected, new)
    }
}

impl FileStore {
    /// Proves that no set of the account's uid exists under another name.
    ///
    /// # Errors
    /// [`StoreError::OtherName`] if one does; any other error means that nothing is known.
    pub fn prove_no_other_name(&self, account: &Account) -> Result<(), StoreError> {
        let directory = self.open()?;
        for user in uid_index::of_uid(&directory, account.uid)? {
            let other = if user == account.name { None } else { set_file::read_in(&directory, &user)? };
            if let Some(set) = other.filter(|set| set.label.uid == account.uid) {
                return Err(StoreError::OtherName { set: set.label.set, user, account: account.clone() });
            }
        }
        Ok(())
    }
}

/// The second read finds a set that a concurrent `rename` has moved from the other name to this one.
fn own_or_proven_none(
    read: impl Fn() -> Result<Option<CodeSet>, StoreError>,
    prove_no_other_name: impl FnOnce() -> Result<(), StoreError>,
) -> Result<Option<CodeSet>, StoreError> {
    if let Some(set) = read()? {
        return Ok(Some(set));
    }
    prove_no_other_name()?;
    read()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;
    use crate::clock;
    use crate::files::FileError;
    use crate::hash::Cost;
    use crate::set::Label;
    use crate::store::Prepared;
    use rand::rngs::SysRng;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A private directory, and the text of a set of alice's with one code.
    fn directory() -> (tempfile::TempDir, Label, String) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let account = Account { name: "alice".into(), uid: 1000 };
        let label = Label::new(&account, clock::now(), vec![], &mut SysRng).unwrap();
        let text = CodeSet::render(&label, &[CodeHash::decoy(Cost::DEFAULT)]);
        (directory, label, text)
    }

    fn replace(
        store: &FileStore,
        user: &str,
        expected: Expected<'_>,
        new: Option<&str>,
    ) -> Result<(), ReplaceError> {
        store.prepare(user, expected, new)?.commit(|_| vec![])
    }

    #[test]
    fn a_code_is_spent_and_marked_as_notified_only_once() {
        let (directory, _, text) = directory();
        let store = FileStore::new(directory.path());
        assert!(store.users().unwrap().is_empty());
        replace(&store, "alice", Expected::Nothing, Some(&text)).unwrap();
        assert_eq!(store.users().unwrap(), ["alice"]);
        let number = CodeNumber::new(1).unwrap();
        let record = SpentRecord::new(clock::now(), 0, "sshd", "192.0.2.7");
        assert!(!store.mark_notified("alice", number, &record).unwrap(), "it is unspent");
        store.spend("alice", number, &CodeHash::decoy(Cost::DEFAULT), &record).unwrap();
        let again = store.spend("alice", number, &CodeHash::decoy(Cost::DEFAULT), &record);
        assert!(matches!(again, Err(SpendError::NoLongerUnspent)));
        let due = || store.read("alice").unwrap().unwrap().due().count();
        assert_eq!(due(), 1);
        assert!(store.mark_notified("alice", number, &record).unwrap());
        assert_eq!(due(), 0);
        assert!(!store.mark_notified("alice", number, &record).unwrap(), "it is marked already");
        assert!(!store.mark_notified("bob", number, &record).unwrap(), "he has no set");
    }

    #[test]
    fn a_set_records_that_its_name_is_durable_until_another_program_replaces_the_file() {
        let (directory, label, text) = directory();
        let store = FileStore::new(directory.path());
        let file = directory.path().join("alice.toml");
        let is_durable = || {
            let inode = std::fs::metadata(&file).unwrap().ino();
            CodeSet::parse(&std::fs::read_to_string(&file).unwrap()).unwrap().is_durable(inode)
        };
        assert!(!CodeSet::parse(&text).unwrap().is_durable(NO_INODE_HAS_THIS));
        replace(&store, "alice", Expected::Nothing, Some(&text)).unwrap();
        assert!(is_durable());
        assert!(store.change_addresses("alice", &label.email, |_| vec![]).unwrap());
        assert!(is_durable());
        // A restored backup or an editor does this.
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
        replace(&store, "alice", Expected::Nothing, Some(&text)).unwrap();
        let error = store.prove_no_other_name(&bob).unwrap_err();
        assert!(error.to_string().contains("backupcodes-admin rename alice bob"), "{error}");
        for other in [account("alice", 1000), account("bob", 1001)] {
            assert!(store.prove_no_other_name(&other).is_ok());
        }
        // The set decides, and an unreadable set proves nothing.
        let file = directory.path().join("alice.toml");
        std::fs::write(&file, text.replace("uid = 1000", "uid = 1001")).unwrap();
        assert!(store.prove_no_other_name(&bob).is_ok());
        std::fs::write(&file, "no set").unwrap();
        assert!(store.prove_no_other_name(&bob).is_err());
        std::fs::write(&file, &text).unwrap();
        replace(&store, "alice", Expected::Set(&label.set), None).unwrap();
        assert!(store.prove_no_other_name(&bob).is_ok());
        assert!(!directory.path().join("uid-1000").is_symlink());
    }

    #[test]
    fn a_set_that_is_renamed_between_two_reads_is_found() {
        let (directory, _, text) = directory();
        let store = FileStore::new(directory.path());
        replace(&store, "alice", Expected::Nothing, Some(&text)).unwrap();
        let bob = account("bob", 1000);
        let rename = || {
            assert!(store.rename("alice", &bob).unwrap().is_some());
            store.prove_no_other_name(&bob)
        };
        assert!(own_or_proven_none(|| store.read("bob"), rename).unwrap().is_some());
    }

    #[test]
    fn a_set_is_renamed_only_with_its_account() {
        let (directory, label, text) = directory();
        let store = FileStore::new(directory.path());
        let bob = account("bob", 1000);
        assert_eq!(store.rename("alice", &bob).unwrap(), None);
        replace(&store, "alice", Expected::Nothing, Some(&text)).unwrap();
        let refused = store.rename("alice", &account("bob", 1001)).unwrap_err();
        assert!(matches!(refused, ReplaceError::OfAnother { .. }), "{refused}");
        // The state after a crash between the two steps.
        let path = |name| directory.path().join(name);
        std::fs::rename(path("alice.toml"), path("bob.toml")).unwrap();
        let set = store.read("bob").unwrap().unwrap();
        assert!(set.label.judge_owner(&bob).is_err());
        assert_eq!(store.rename("alice", &bob).unwrap().as_deref(), Some(label.set.as_str()));
        let set = store.read("bob").unwrap().unwrap();
        assert!(set.label.judge_owner(&bob).is_ok() && set.left() == 1);
        // A repeated rename, or one to the same name, does nothing.
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
        // A rename replaces no set.
        let bobs = CodeSet::rename(&text, "bob").unwrap();
        replace(&store, "bob", Expected::Nothing, Some(&bobs)).unwrap();
        let both = || ["alice.toml", "bob.toml"].map(|name| std::fs::read(path(name)).unwrap());
        let before = both();
        let refused = store.rename("alice", &bob).unwrap_err();
        assert!(matches!(refused, ReplaceError::Both { .. }), "{refused}");
        assert_eq!(both(), before);
        assert_eq!(store.users().unwrap(), ["alice", "bob"]);
        // A copy under another name belongs to nobody.
        std::fs::rename(path("alice.toml"), path("alice.bak.toml")).unwrap();
        for (name, uid) in [("alice", 1000), ("bob", 1000), ("carl", 1000), ("alice", 1001)] {
            let refused = store.rename("alice.bak", &account(name, uid)).unwrap_err();
            assert!(matches!(refused, ReplaceError::OfAnother { .. }), "{name}: {refused}");
        }
    }

    #[test]
    fn a_file_that_is_no_set_may_be_replaced_but_an_unreachable_one_may_not() {
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
        // If the second name is the only fault, the codes are good once it is removed.
        write(&text, 0o600);
        std::fs::hard_link(&file, directory.path().join("backup")).unwrap();
        assert!(store.read("alice").is_err_and(|error| !error.can_be_replaced()));
        let refused = replace(&store, "alice", Expected::Unusable, Some(&text));
        assert!(
            matches!(refused, Err(ReplaceError::Store(StoreError::File(FileError::Untrusted(_))))),
            "{refused:?}"
        );
        write(&text, 0o640);
        assert!(store.read("alice").is_err_and(|error| error.can_be_replaced()));
        let busy = nix::fcntl::Flock::lock(
            std::fs::File::open(directory.path()).unwrap(),
            nix::fcntl::FlockArg::LockExclusive,
        );
        let refused = replace(&store, "bob", Expected::Nothing, Some(&text));
        drop(busy.unwrap());
        assert!(
            matches!(&refused, Err(ReplaceError::Store(error)) if !error.can_be_replaced()),
            "{refused:?}"
        );
    }

    #[test]
    fn a_set_always_exists_while_it_is_replaced() {
        let (directory, label, text) = directory();
        let store = FileStore::new(directory.path());
        let replace = |expected| {
            replace(&store, "alice", expected, Some(&text)).unwrap();
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
