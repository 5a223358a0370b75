//! A user's set of codes, as its file holds it.
//!
//! Spending overwrites one entry in place, so reading keeps where in the file each entry stands.

mod label;
mod spent_record;

use std::fmt::Display;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use self::label::{Label, OwnerMismatch};
pub use self::spent_record::{Mail, SpentRecord, printable};
use crate::code::CodeNumber;
use crate::hash::{CodeHash, Cost};
use crate::toml_value::{Value, one_line, read};

/// The only format there is so far.
const FORMAT: u32 = 1;
/// All keys of it.
const KEYS: [&str; 8] = ["format", "set", "user", "uid", "created", "email", "codes", "durable"];
/// The number of no inode: it is not known whether the set's name is on stable storage.
const NOT_KNOWN: u64 = 0;

/// A set as it was read.
#[derive(Clone)]
pub struct CodeSet {
    /// Whose it is.
    pub label: Label,
    entries: Vec<Entry>,
    durable: Option<Durable>,
}

/// What the file says of its own name.
#[derive(Clone)]
struct Durable {
    /// The inode whose name is on stable storage, in 20 digits. A file that was put in place in another way has another.
    inode: String,
    /// Where in the file they begin.
    start: usize,
}

/// The place of one code in its set.
#[derive(Clone)]
pub struct Entry {
    /// What stands there.
    pub state: State,
    /// The first of the bytes of the file that hold it.
    start: usize,
}

/// What became of a code.
#[derive(Clone)]
pub enum State {
    /// It can be used.
    Unspent(CodeHash),
    /// It was used.
    Spent(SpentRecord),
    /// Neither a hash nor a record: counts as spent.
    Damaged,
}

impl State {
    /// What stands in a set for a code in this state.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Unspent(hash) => hash.phc(),
            Self::Spent(record) => record.text(),
            Self::Damaged => "damaged".into(),
        }
    }
}

/// Why a file is not a set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSet {
    /// Not TOML, or not the keys of a set.
    #[error("{0}")]
    Syntax(String),
    /// Made by another version.
    #[error(
        "format {0}; this version reads format {FORMAT} (0: it is moving into a fleet; to go on: backupcodes-admin fleet import USER)"
    )]
    Format(u32),
    /// No code, or more than a sheet can number.
    #[error("{0} codes; expected 1 to {most}", most = CodeNumber::MOST)]
    Count(usize),
    /// An entry that cannot be overwritten in place.
    #[error("code {0} is not a plain string between double quotes")]
    Entry(usize),
}

impl CodeSet {
    /// Reads a set file.
    ///
    /// # Errors
    /// [`BadSet`] says what is wrong with it. A damaged entry is no error: the other codes still work.
    pub fn parse(text: &str) -> Result<Self, BadSet> {
        let table =
            DeTable::parse(text).map_err(|error| BadSet::Syntax(one_line(text, &error)))?.into_inner();
        let format = field(&table, "format")?;
        if format != FORMAT {
            return Err(BadSet::Format(format));
        }
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_ref().as_ref())) {
            return Err(BadSet::Syntax(format!("unknown key {:?}", key.get_ref())));
        }
        let codes = table.get("codes").and_then(|codes| codes.get_ref().as_array());
        let codes = codes.ok_or_else(|| BadSet::Syntax("codes is no list".into()))?;
        if codes.is_empty() || codes.len() > usize::from(CodeNumber::MOST) {
            return Err(BadSet::Count(codes.len()));
        }
        let entries =
            (1..).zip(codes).map(|(number, code)| Entry::locate(text, code).ok_or(BadSet::Entry(number)));
        Ok(Self {
            entries: entries.collect::<Result<_, _>>()?,
            durable: table.get("durable").and_then(|value| Durable::locate(text, value)),
            label: Label {
                set: field(&table, "set")?,
                user: field(&table, "user")?,
                uid: field(&table, "uid")?,
                created: field(&table, "created")?,
                email: field(&table, "email")?,
            },
        })
    }

    /// The text of a new set file, with `hashes` in the order of their numbers.
    #[must_use]
    pub fn render(label: &Label, hashes: &[CodeHash]) -> String {
        Self::render_entries(label, hashes.iter().map(CodeHash::phc))
    }

    /// The text of a set file with these entries in the order of their numbers.
    pub fn render_entries(label: &Label, entries: impl Iterator<Item = String>) -> String {
        let Label { set, user, uid, created, email } = label;
        let codes: Vec<_> = entries.map(|entry| format!("  {},\n", quoted(&entry))).collect();
        format!(
            "format = {FORMAT}\nset = {}\nuser = {}\nuid = {uid}\ncreated = {created}\nemail = {}\ncodes = [\n{}]\n\
             durable = \"{}\"\n",
            quoted(set),
            quoted(user),
            quoted_list(email),
            codes.concat(),
            digits(NOT_KNOWN),
        )
    }

    /// The digit of the format in a set that is moving to another store, and so is unusable here.
    pub(crate) const UNUSABLE: &'static str = "0";
    /// The same in one that works.
    pub(crate) const USABLE: &'static str = "1";

    /// The text of a set file as one that works, whether it does or not, and where the digit of its format stands.
    pub(crate) fn of_any_use(text: &str) -> Result<(String, usize), BadSet> {
        let table =
            DeTable::parse(text).map_err(|error| BadSet::Syntax(one_line(text, &error)))?.into_inner();
        let place = table
            .get("format")
            .map(Spanned::span)
            .filter(|place| [Some(Self::UNUSABLE), Some(Self::USABLE)].contains(&text.get(place.clone())));
        let place = place.ok_or_else(|| BadSet::Syntax("format is no plain digit".into()))?;
        Ok((with_value(text, "format", Self::USABLE)?, place.start))
    }

    /// The text of a set file with other addresses, and all else as it was.
    pub(crate) fn change_addresses(text: &str, email: &[String]) -> Result<String, BadSet> {
        with_value(text, "email", &quoted_list(email)).map(|text| for_another_file(&text))
    }

    /// The text of a set file of the same account under another name.
    pub(crate) fn rename(text: &str, user: &str) -> Result<String, BadSet> {
        with_value(text, "user", &quoted(user)).map(|text| for_another_file(&text))
    }

    /// Whether the set is known to be on stable storage under its name, as the file of this inode.
    pub(crate) fn is_durable(&self, inode: impl Display) -> bool {
        self.durable.as_ref().is_some_and(|durable| durable.inode == digits(inode))
    }

    /// What to write over the file of this inode, and where, once it is on stable storage under its name. `None` in a file that
    /// has no place for it.
    pub(crate) fn durable(&self, inode: impl Display) -> Option<(usize, String)> {
        self.durable.as_ref().map(|durable| (durable.start, digits(inode)))
    }

    /// The text of a set file with the entries of this one.
    #[must_use]
    pub fn text(&self) -> String {
        Self::render_entries(&self.label, self.entries.iter().map(|entry| entry.state.text()))
    }

    /// The entry of a number, where the set has one.
    #[must_use]
    pub fn entry(&self, number: CodeNumber) -> Option<&Entry> {
        self.entries.get(number.index())
    }

    /// All entries with their numbers.
    pub fn entries(&self) -> impl Iterator<Item = (CodeNumber, &Entry)> {
        (1..).zip(&self.entries).filter_map(|(number, entry)| Some((CodeNumber::new(number)?, entry)))
    }

    /// Replaces `hash`, which entry `number` must still hold, by `record`. Returns its place in the file.
    pub(crate) fn spend(
        &mut self,
        number: CodeNumber,
        hash: &CodeHash,
        record: &SpentRecord,
    ) -> Option<usize> {
        let entry = self.entries.get_mut(number.index())?;
        if !matches!(&entry.state, State::Unspent(unspent) if unspent == hash) {
            return None;
        }
        entry.state = State::Spent(record.clone());
        Some(entry.start)
    }

    /// Marks this use, whose notice must still be due, as notified. Returns the place of its mark in the file.
    pub(crate) fn mark_notified(&mut self, number: CodeNumber, due: &SpentRecord) -> Option<usize> {
        let entry = self.entries.get_mut(number.index())?;
        match &mut entry.state {
            State::Spent(record) if record == due && record.mail == Mail::Due => record.mail = Mail::Ok,
            _ => return None,
        }
        entry.start.checked_add(SpentRecord::WORD)
    }

    /// The uses whose notices are due.
    pub fn due(&self) -> impl Iterator<Item = (CodeNumber, &SpentRecord)> {
        self.entries().filter_map(|(number, entry)| match &entry.state {
            State::Spent(record) if record.mail == Mail::Due => Some((number, record)),
            _ => None,
        })
    }

    /// How many codes can still be used.
    #[must_use]
    pub fn left(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.state, State::Unspent(_))).count()
    }

    /// How many codes the set had when it was made.
    #[must_use]
    pub fn total(&self) -> usize {
        self.entries.len()
    }

    /// What an attempt against this set costs: all of its hashes were made alike.
    #[must_use]
    pub fn cost(&self) -> Option<Cost> {
        self.entries.iter().find_map(|entry| match &entry.state {
            State::Unspent(hash) => Some(hash.cost()),
            State::Spent(_) | State::Damaged => None,
        })
    }
}

impl Entry {
    fn locate(file: &str, code: &Spanned<DeValue<'_>>) -> Option<Self> {
        let (text, start) = in_place(file, code)?;
        let state = match CodeHash::parse(text) {
            Some(hash) => State::Unspent(hash),
            None => SpentRecord::parse(text).map_or(State::Damaged, State::Spent),
        };
        Some(Self { state, start })
    }
}

impl Durable {
    /// Anything else means "not known", which costs a login a flush and is no reason to refuse one.
    fn locate(file: &str, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let (inode, start) = in_place(file, value)?;
        (inode.len() == digits(NOT_KNOWN).len()).then(|| Self { inode: inode.into(), start })
    }
}

/// A string that can be overwritten in place, and where it begins. With an escape or triple quotes, the bytes in the file are not
/// the value.
fn in_place<'a>(file: &str, value: &'a Spanned<DeValue<'_>>) -> Option<(&'a str, usize)> {
    let text = value.get_ref().as_str()?;
    let is_plain = *file.get(value.span())? == format!("\"{text}\"");
    is_plain.then_some((text, value.span().start.checked_add(1)?))
}

/// As wide as any inode's number, so that one is written over another in place.
fn digits(inode: impl Display) -> String {
    format!("{inode:020}")
}

/// The text of a set for a file whose name is not durable yet: it may get an inode that its own text speaks of.
fn for_another_file(text: &str) -> String {
    let not_known = quoted(&digits(NOT_KNOWN));
    with_value(text, "durable", &not_known)
        // One that says nothing of it so far.
        .unwrap_or_else(|_| format!("{}\ndurable = {not_known}\n", text.trim_end_matches('\n')))
}

/// The text of a set file with another value, and all else as it was.
fn with_value(text: &str, key: &str, value: &str) -> Result<String, BadSet> {
    let table = DeTable::parse(text).map_err(|error| BadSet::Syntax(one_line(text, &error)))?.into_inner();
    let place = table.get(key).map(Spanned::span);
    let around = place.and_then(|place| Some((text.get(..place.start)?, text.get(place.end..)?)));
    let (before, behind) = around.ok_or_else(|| BadSet::Syntax(format!("{key} is missing")))?;
    Ok([before, value, behind].concat())
}

/// A TOML list of strings.
fn quoted_list(texts: &[String]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len().saturating_add(2));
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn field<T: Value>(table: &DeTable<'_>, key: &str) -> Result<T, BadSet> {
    let value = table.get(key).ok_or_else(|| BadSet::Syntax(format!("{key} is missing")))?;
    read(key, value.get_ref()).map_err(BadSet::Syntax)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;
    use rand::rngs::SysRng;

    fn label(user: &str) -> Label {
        let account = Account { name: user.into(), uid: 1000 };
        let created = "2026-11-24T02:00:00Z".parse().unwrap();
        Label::new(&account, created, vec!["alice@example.org".into()], &mut SysRng).unwrap()
    }

    fn file() -> String {
        CodeSet::render(&label("alice"), &vec![CodeHash::decoy(Cost::DEFAULT); 10])
    }

    #[test]
    fn a_new_set_reads_back() {
        for user in ["alice", "DOM\\user", "a\"b", "zoë", "a\nb\u{7f}"] {
            let label = label(user);
            let set = CodeSet::parse(&CodeSet::render(&label, &[CodeHash::decoy(Cost::DEFAULT)])).unwrap();
            assert_eq!(set.label, label);
            assert_eq!((set.left(), set.total(), set.cost()), (1, 1, Some(Cost::DEFAULT)));
        }
    }

    #[test]
    fn every_entry_is_found_where_it_stands() {
        let text = file();
        let set = CodeSet::parse(&text).unwrap();
        for (_, entry) in set.entries() {
            let hash = CodeHash::decoy(Cost::DEFAULT).phc();
            assert!(text[entry.start..].starts_with(&hash));
        }
        assert_eq!(set.entries().count(), 10);
        assert!(set.entry(CodeNumber::new(11).unwrap()).is_none());
    }

    #[test]
    fn other_addresses_change_nothing_else() {
        let record = SpentRecord::new("2026-11-25T07:12:44Z".parse().unwrap(), 0, "sshd", "192.0.2.7");
        let hash = CodeHash::decoy(Cost::DEFAULT).phc();
        let text =
            file().replacen(&hash, &record.padded_to(97), 1).replacen(&hash, &format!("{:97}", "x"), 1);
        let inode = text.replace(&digits(NOT_KNOWN), &digits(77));
        assert_eq!(CodeSet::change_addresses(&inode, &["alice@example.org".into()]).unwrap(), text);
        let silent = text.replace(&format!("durable = \"{}\"\n", digits(NOT_KNOWN)), "");
        assert_eq!(CodeSet::rename(&silent, "alice").unwrap(), text);
        let email = ["b@example.org".into(), "\"c\"@ex\u{e4}mple.org".into()];
        let new = CodeSet::change_addresses(&text, &email).unwrap();
        assert_eq!(CodeSet::parse(&new).unwrap().label.email, email);
        assert_eq!(CodeSet::change_addresses(&new, &["alice@example.org".into()]).unwrap(), text);
    }

    #[test]
    fn a_spent_and_a_damaged_entry_leave_the_others_alone() {
        let hash = CodeHash::decoy(Cost::DEFAULT).phc();
        let record = SpentRecord::new("2026-11-25T07:12:44Z".parse().unwrap(), 0, "sshd", "192.0.2.7");
        let text =
            file().replacen(&hash, &record.padded_to(97), 1).replacen(&hash, &format!("{:97}", "x"), 1);
        let set = CodeSet::parse(&text).unwrap();
        assert!(
            matches!(&set.entry(CodeNumber::new(1).unwrap()).unwrap().state, State::Spent(read) if *read == record)
        );
        assert!(matches!(set.entry(CodeNumber::new(2).unwrap()).unwrap().state, State::Damaged));
        assert_eq!((set.left(), set.total()), (8, 10));
    }

    #[test]
    fn a_use_is_due_until_it_is_marked_as_notified_and_no_other_is_taken_for_it() {
        let hash = CodeHash::decoy(Cost::DEFAULT).phc();
        let record = SpentRecord::new("2026-11-25T07:12:44Z".parse().unwrap(), 0, "sshd", "192.0.2.7");
        let other = SpentRecord::new("2026-11-25T07:12:45Z".parse().unwrap(), 0, "sshd", "192.0.2.7");
        let text = file().replacen(&hash, &record.padded_to(97), 1);
        let mut set = CodeSet::parse(&text).unwrap();
        let [first, second] = [1, 2].map(|number| CodeNumber::new(number).unwrap());
        assert_eq!(set.due().collect::<Vec<_>>(), [(first, &record)]);
        assert_eq!(set.mark_notified(second, &record), None, "unspent");
        assert_eq!(set.mark_notified(first, &other), None, "another use");
        let place = set.mark_notified(first, &record).unwrap();
        assert_eq!(text.get(place..place + 3), Some("due"));
        assert_eq!(set.due().count(), 0);
        let told = SpentRecord { mail: Mail::Ok, ..record };
        assert_eq!(set.mark_notified(first, &told), None, "it is told");
    }

    #[test]
    fn a_set_has_as_many_codes_as_a_sheet_can_number() {
        let text = |count| CodeSet::render(&label("alice"), &vec![CodeHash::decoy(Cost::DEFAULT); count]);
        assert_eq!(CodeSet::parse(&text(31)).unwrap().total(), 31);
        assert!(matches!(CodeSet::parse(&text(32)), Err(BadSet::Count(32))));
        assert!(matches!(CodeSet::parse(&text(0)), Err(BadSet::Count(0))));
    }

    #[test]
    fn a_file_that_is_no_set_is_refused_with_the_reason() {
        let hash = CodeHash::decoy(Cost::DEFAULT).phc();
        let head = "set = \"a\"\nuser = \"a\"\nuid = 1\ncreated = 2026-11-24T02:00:00Z\nemail = []\n";
        for (bad, reason) in [
            (String::new(), "format is missing"),
            ("\0".into(), "key with no value"),
            (file().replace("uid", "guid"), "unknown key \"guid\""),
            (file().replace("format = 1", "format = 2"), "format 2; this version reads format 1"),
            (file().replace("2026-11-24T02:00:00Z", "2026-11-24"), "created is 2026-11-24; expected a time"),
            (format!("format = 1\n{head}codes = []\n"), "0 codes; expected 1 to 31"),
            (CodeSet::render(&label("a"), &vec![CodeHash::decoy(Cost::DEFAULT); 32]), "32 codes"),
            (file().replacen(&hash, &hash.replace("$v=", "\\u0024v="), 1), "code 1 is not a plain string"),
            (
                file().replacen(&format!("\"{hash}\""), &format!("'{hash}'"), 1),
                "code 1 is not a plain string",
            ),
            (file()[..600].into(), ""),
        ] {
            let error = CodeSet::parse(&bad).err().unwrap().to_string();
            assert!(error.contains(reason) && !error.contains('\n'), "{error} for {bad}");
        }
    }
}
