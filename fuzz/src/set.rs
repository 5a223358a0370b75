use std::fs;

use backupcodes_core::code::CodeNumber;
use backupcodes_core::set::{CodeSet, Mail, SpentRecord, State};
use backupcodes_core::store::{FileStore, SpendError, Store};

use crate::attempt::hostile::known_by_name;
use crate::folder::Folder;

thread_local! {
    static FOLDER: Folder = Folder::new();
}

/// Reads any set file. Unspent codes are spent in place, and due notices are marked as notified: no other byte changes, and spent
/// codes stay spent. New addresses change only the addresses.
pub fn set(text: &[u8]) -> bool {
    FOLDER.with(|folder| {
        let path = folder.write("alice.toml", text);
        let store = FileStore::new(folder.path());
        let parsed = std::str::from_utf8(text).ok().and_then(|text| CodeSet::parse(text).ok());
        let Ok(Some(mut set)) = store.read("alice") else {
            assert!(parsed.is_none() || text.len() > 64 * 1024);
            return false;
        };
        assert!(parsed.is_some_and(|parsed| parsed.label == set.label));
        let mut file = text.to_vec();
        let numbers: Vec<CodeNumber> = set.entries().map(|(number, _)| number).collect();
        let mut was_spent = false;
        // A few are enough; many are slow.
        for number in numbers.into_iter().take(4) {
            match &set.entry(number).unwrap().state {
                State::Unspent(hash) => {
                    let record =
                        SpentRecord::new("2026-11-25T07:12:44Z".parse().unwrap(), 0, "sshd", "192.0.2.7");
                    let text = record.padded_to(hash.phc().len());
                    let spent = store.spend("alice", number, hash, &record).unwrap();
                    assert_eq!(spent.left() + 1, set.left());
                    let after = fs::read(&path).unwrap();
                    file = known_by_name(file, &after, &path);
                    replaces(&file, &after, hash.phc().as_bytes(), text.as_bytes());
                    if !was_spent {
                        assert!(matches!(
                            store.spend("alice", number, hash, &record),
                            Err(SpendError::NoLongerUnspent)
                        ));
                    }
                    (file, was_spent) = (after, true);
                }
                State::Spent(record) if record.mail == Mail::Due => {
                    assert!(store.mark_notified("alice", number, record).unwrap());
                    let after = fs::read(&path).unwrap();
                    replaces(&file, &after, b"due", b"ok ");
                    file = after;
                }
                State::Spent(_) | State::Damaged => continue,
            }
            let read = store.read("alice").unwrap().unwrap();
            assert!(read.label == set.label && shown(&read, Some(number)) == shown(&set, Some(number)));
            assert!(matches!(&read.entry(number).unwrap().state, State::Spent(_)));
            set = read;
        }
        if was_spent {
            change_addresses(&store, set, text.len());
        }
        was_spent
    })
}

fn change_addresses(store: &FileStore, mut set: CodeSet, length: usize) {
    let email = ["b@example.org".to_owned(), "\"c d\"@ex\u{e4}mple.org".to_owned()];
    if store.change_addresses("alice", &email, |_| vec![]).is_err() {
        assert!(length > 60 * 1024, "new addresses are accepted if they fit");
        return;
    }
    let read = store.read("alice").unwrap().unwrap();
    set.label.email = email.into();
    assert!(read.label == set.label && shown(&read, None) == shown(&set, None));
}

/// Asserts that `new` has replaced `old` at one place, and nothing else has changed.
fn replaces(before: &[u8], after: &[u8], old: &[u8], new: &[u8]) {
    let places = before.windows(old.len()).enumerate().filter(|(_, window)| *window == old);
    let is_all = |at: usize| {
        before[..at] == after[..at]
            && after[at..].starts_with(new)
            && before[at + new.len()..] == after[at + new.len()..]
    };
    assert!(before.len() == after.len() && places.into_iter().any(|(at, _)| is_all(at)));
}

/// The content of all entries except one.
fn shown(set: &CodeSet, but: Option<CodeNumber>) -> Vec<String> {
    let entries = set.entries().filter(|(number, _)| Some(*number) != but);
    entries
        .map(|(number, entry)| match &entry.state {
            State::Unspent(hash) => format!("{number} {}", hash.phc()),
            State::Spent(record) => format!("{number} {record:?}"),
            State::Damaged => format!("{number} damaged"),
        })
        .collect()
}
