//! The keys in the store, and the parts of transactions that are made of them.

use backupcodes_core::code::CodeNumber;
use backupcodes_core::file_name::escaped;

use crate::etcd::messages::{
    Compare, DeleteRangeRequest, Expected, PutRequest, RangeRequest, Relation, Request, RequestOp, Target,
};

/// A key, or all keys that begin with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    first: Vec<u8>,
    /// The first key behind them; empty for one key.
    end: Vec<u8>,
}

/// Builds keys below the prefix of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Prefix(pub(crate) String);

impl Prefix {
    /// All labels: hosts read, administrators write.
    pub(crate) fn sets(&self) -> Keys {
        self.beginning_with("sets/")
    }

    /// The labels of a user's sets: one, or none.
    pub(crate) fn sets_of(&self, user: &str) -> Keys {
        self.beginning_with(&format!("sets/{}/", name(user)))
    }

    /// The label of a set.
    pub(crate) fn set(&self, user: &str, set: &str) -> Keys {
        self.one(&format!("sets/{}/{}", name(user), name(set)))
    }

    /// The names with a set of this uid.
    pub(crate) fn names_of(&self, uid: u32) -> Keys {
        self.beginning_with(&format!("sets/%uid/{uid}/"))
    }

    /// That this uid has a set under this name. No escaped name begins so.
    pub(crate) fn name_of(&self, uid: u32, user: &str) -> Keys {
        self.one(&format!("sets/%uid/{uid}/{}", name(user)))
    }

    /// All codes: hosts read and write.
    pub(crate) fn slots(&self) -> Keys {
        self.beginning_with("slots/")
    }

    /// The codes of a user.
    pub(crate) fn slots_of(&self, user: &str) -> Keys {
        self.beginning_with(&format!("slots/{}/", name(user)))
    }

    /// The codes of a set.
    pub(crate) fn slots_of_set(&self, user: &str, set: &str) -> Keys {
        self.beginning_with(&format!("slots/{}/{}/", name(user), name(set)))
    }

    /// A code: its hash, later its spent record.
    pub(crate) fn slot(&self, user: &str, set: &str, number: CodeNumber) -> Keys {
        self.one(&format!("slots/{}/{}/{:02}", name(user), name(set), number.get()))
    }

    /// All notices that are due: hosts read and write.
    pub(crate) fn due(&self) -> Keys {
        self.beginning_with("due/")
    }

    /// The notices of a user that are due.
    pub(crate) fn due_of(&self, user: &str) -> Keys {
        self.beginning_with(&format!("due/{}/", name(user)))
    }

    /// The notices of a set that are due.
    pub(crate) fn due_of_set(&self, user: &str, set: &str) -> Keys {
        self.beginning_with(&format!("due/{}/{}/", name(user), name(set)))
    }

    /// The notice of a use, as long as it is due.
    pub(crate) fn due_use(&self, user: &str, set: &str, number: CodeNumber) -> Keys {
        self.one(&format!("due/{}/{}/{:02}", name(user), name(set), number.get()))
    }

    /// When an administrator last said that the store was restored: hosts read.
    pub(crate) fn restored(&self) -> Keys {
        self.one("restored")
    }

    /// All that is below the prefix.
    pub(crate) fn all(&self) -> Keys {
        self.beginning_with("")
    }

    /// The parts of a key behind one of the prefixes above.
    pub(crate) fn parts<'a>(&self, key: &'a [u8]) -> Option<Vec<&'a str>> {
        Some(std::str::from_utf8(key).ok()?.strip_prefix(&*self.0)?.split('/').collect())
    }

    fn one(&self, key: &str) -> Keys {
        Keys { first: format!("{}{key}", self.0).into_bytes(), end: Vec::new() }
    }

    fn beginning_with(&self, key: &str) -> Keys {
        let first = format!("{}{key}", self.0).into_bytes();
        let mut end = first.clone();
        // All keys end with a character that has one behind it.
        if let Some(last) = end.last_mut() {
            *last = last.saturating_add(1);
        }
        Keys { first, end }
    }
}

impl Keys {
    /// All of these but `inner`, which is among them.
    pub(crate) fn except(self, inner: Self) -> [Self; 2] {
        let mut behind = inner.end;
        if behind.is_empty() {
            behind.extend_from_slice(&inner.first);
            behind.push(0);
        }
        [Self { first: self.first, end: inner.first }, Self { first: behind, end: self.end }]
    }

    pub(crate) fn bounds(self) -> (Vec<u8>, Vec<u8>) {
        (self.first, self.end)
    }

    /// Whether this is that one key.
    pub(crate) fn is(&self, key: &[u8]) -> bool {
        self.first == key
    }

    pub(crate) fn read(self) -> RequestOp {
        op(Request::Range(self.range()))
    }

    pub(crate) fn list(self) -> RequestOp {
        op(Request::Range(RangeRequest { keys_only: true, ..self.range() }))
    }

    /// The keys that were last written in this revision or before.
    pub(crate) fn read_written_until(self, revision: i64) -> RequestOp {
        op(Request::Range(RangeRequest { max_mod_revision: revision, ..self.range() }))
    }

    fn range(self) -> RangeRequest {
        RangeRequest { key: self.first, range_end: self.end, ..RangeRequest::default() }
    }

    pub(crate) fn put(self, value: impl Into<Vec<u8>>) -> RequestOp {
        op(Request::Put(PutRequest { key: self.first, value: value.into() }))
    }

    pub(crate) fn delete(self) -> RequestOp {
        op(Request::DeleteRange(DeleteRangeRequest { key: self.first, range_end: self.end }))
    }

    /// The keys were created in this revision; those that do not exist, in revision 0.
    pub(crate) fn are_created_in(self, revision: i64) -> Compare {
        self.compare(Relation::Equal, Target::Created, Expected::Created(revision))
    }

    pub(crate) fn have_version(self, version: i64) -> Compare {
        self.compare(Relation::Equal, Target::Version, Expected::Version(version))
    }

    pub(crate) fn do_not_exist(self) -> Compare {
        self.have_version(0)
    }

    /// None of the keys was written after this revision.
    pub(crate) fn are_unchanged_since(self, revision: i64) -> Compare {
        self.compare(Relation::Less, Target::Modified, Expected::Modified(revision.saturating_add(1)))
    }

    fn compare(self, relation: Relation, target: Target, expected: Expected) -> Compare {
        Compare {
            relation: relation.into(),
            target: target.into(),
            key: self.first,
            expected: Some(expected),
            range_end: self.end,
        }
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn name(text: &str) -> String {
    escaped(text, usize::MAX)
}
