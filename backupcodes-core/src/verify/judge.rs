//! The only path from a response to a verdict.
//!
//! Every prompted attempt costs one Argon2id run, outside the lock; the verdict is returned only after the spent record is on
//! stable storage. [`judge`] hashes and compares; only a [`MatchedCode`] can be spent.

use crate::account::Account;
use crate::code::{Code, CodeNumber, Malformed};
use crate::hash::{CodeHash, Cost, HashError, Memory};
use crate::set::{CodeSet, SpentRecord, State};
use crate::store::{Accepted, SpendError, Store, StoreError};
use crate::throttle::Wait;

/// A response to judge.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The account, or `None` if the user database has none.
    pub account: Option<&'a Account>,
    /// What the user typed. It is not stored.
    pub response: &'a [u8],
    /// The cost of a run without a stored hash.
    pub cost: Cost,
}

/// Why an attempt must not be accepted.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The response lacks the shape or check character of a code. It may be a password, and must not be logged.
    #[error("the response is not a backup code")]
    Malformed,
    /// The set has no code of this number.
    #[error("code {0} does not exist in the set")]
    NoSuchNumber(CodeNumber),
    /// The code is spent.
    #[error("code {0} was used before: {time}, {service}, from {host}", time = .1.time, service = .1.service, host = .1.source)]
    Spent(CodeNumber, SpentRecord),
    /// The entry is neither a hash nor a spent record.
    #[error("code {0} is damaged and counts as used")]
    Damaged(CodeNumber),
    /// The entry is the hash of another code.
    #[error("wrong code for number {0}")]
    Wrong(CodeNumber),
    /// It is proven that the user has no set.
    #[error("the user has no backup codes")]
    NoSet,
    /// The user database has no such account.
    #[error("no such user")]
    NoUser,
    /// After this many failures, the response was not examined.
    #[error("throttled {1} after {0} failures in a row; the response was not examined")]
    Throttled(u32, Wait),
    /// The attempt cannot be counted, so the response was not examined.
    #[error("the attempt cannot be counted: {0}")]
    Uncounted(String),
    /// The store cannot be read or trusted.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The hash cannot be computed.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// A code that matched. It is accepted only once it is spent.
pub struct MatchedCode<'a, S: ?Sized> {
    store: &'a S,
    user: &'a str,
    number: CodeNumber,
    hash: CodeHash,
}

/// Hashes and compares: one run of Argon2id, for any response and any content of the store. If the response is a code, `count` is
/// called before that and may refuse it; a match includes its result.
///
/// # Errors
/// A [`Refusal`]. No set has changed.
pub fn judge<'a, S: Store + ?Sized, T>(
    store: &'a S,
    request: Request<'a>,
    count: impl FnOnce() -> Result<T, Refusal>,
    memory: &mut dyn Memory,
) -> Result<(MatchedCode<'a, S>, T), Refusal> {
    let code = Code::parse(request.response);
    let counted = code.as_ref().map_err(|Malformed| Refusal::Malformed).and_then(|code| Ok((code, count()?)));
    let found = own_set(store, request.account);
    let cost = found.as_ref().ok().and_then(|(_, set)| set.cost()).unwrap_or(request.cost);
    let target = found.and_then(|(user, set)| {
        let (code, counted) = counted?;
        let number = code.number();
        Ok((MatchedCode { store, user, number, hash: unspent(&set, number)? }, counted))
    });
    let decoy = CodeHash::decoy(cost);
    let hash = target.as_ref().map_or(&decoy, |(target, _)| &target.hash);
    // This error precedes all others: a failed run must reveal nothing about the account.
    let equal = hash.matches(code.as_ref().map_or(NO_SECRET, Code::hash_input), memory)?;
    let (target, counted) = target?;
    if equal { Ok((target, counted)) } else { Err(Refusal::Wrong(target.number)) }
}

/// Whether it is proven that the account has no set.
///
/// # Errors
/// Nothing is known, or a set may exist: under this name, or of this uid under another name.
pub fn has_no_set(store: &(impl Store + ?Sized), account: &Account) -> Result<bool, StoreError> {
    store.own(Some(account)).map(|set| set.is_none())
}

impl<S: Store + ?Sized> MatchedCode<'_, S> {
    /// The number of the code.
    #[must_use]
    pub const fn number(&self) -> CodeNumber {
        self.number
    }

    /// Spends the code. On return its record is on stable storage.
    ///
    /// # Errors
    /// A [`SpendError`]: the code must not be accepted, even though it may be spent.
    pub fn spend(self, record: &SpentRecord) -> Result<Accepted, SpendError> {
        self.store.spend(self.user, self.number, &self.hash, record)
    }
}

/// The input of the hash if the response is not a code: as long as the usual code.
const NO_SECRET: &[u8] = &[0; 15];

fn own_set<'a>(
    store: &(impl Store + ?Sized),
    account: Option<&'a Account>,
) -> Result<(&'a str, CodeSet), Refusal> {
    let set = store.own(account);
    let account = account.ok_or(Refusal::NoUser)?;
    let set = set?.ok_or(Refusal::NoSet)?;
    set.label.judge_owner(account).map_err(StoreError::from)?;
    Ok((&account.name, set))
}

fn unspent(set: &CodeSet, number: CodeNumber) -> Result<CodeHash, Refusal> {
    match &set.entry(number).ok_or(Refusal::NoSuchNumber(number))?.state {
        State::Unspent(hash) => Ok(hash.clone()),
        State::Spent(record) => Err(Refusal::Spent(number, record.clone())),
        State::Damaged => Err(Refusal::Damaged(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{HeapMemory, OutOfMemory};
    use crate::set::Label;
    use crate::store::{Expected, FileStore, Prepared};
    use argon2::Block;
    use rand::rngs::SysRng;
    use std::os::unix::fs::PermissionsExt;

    struct World {
        directory: tempfile::TempDir,
        account: Account,
        codes: Vec<Code>,
    }

    /// Records the costs of all runs.
    #[derive(Default)]
    struct Counting(HeapMemory, Vec<usize>);

    impl Memory for Counting {
        fn blocks(&mut self, count: usize) -> Result<&mut [Block], OutOfMemory> {
            self.1.push(count);
            self.0.blocks(count)
        }
    }

    const COST: u32 = 16;

    impl World {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
            let account = Account { name: "alice".into(), uid: 1000 };
            let mut world = Self { directory, account, codes: Vec::new() };
            world.renew(Expected::Nothing);
            world
        }

        fn renew(&mut self, expected: Expected<'_>) {
            let cost = Cost::new(COST, 1, 1).unwrap();
            self.codes = (1..=3)
                .map(|n| Code::generate(CodeNumber::new(n).unwrap(), 13, &mut SysRng).unwrap())
                .collect();
            let mut memory = HeapMemory::default();
            let hash = |code| CodeHash::create(code, cost, &mut SysRng, &mut memory).unwrap();
            let hashes: Vec<_> = self.codes.iter().map(hash).collect();
            let label = Label::new(&self.account, record().time, vec![], &mut SysRng).unwrap();
            self.store()
                .prepare("alice", expected, Some(&CodeSet::render(&label, &hashes)))
                .unwrap()
                .commit(|_| vec![])
                .unwrap();
        }

        fn store(&self) -> FileStore {
            FileStore::new(self.directory.path())
        }

        /// The verdict on `response`, and the costs of its runs.
        fn attempt(
            &self,
            account: Option<&Account>,
            response: &[u8],
        ) -> (Result<Accepted, Refusal>, Vec<usize>) {
            let mut memory = Counting::default();
            let request = Request { account, response, cost: Cost::new(24, 1, 1).unwrap() };
            let store = self.store();
            let verdict = judge(&store, request, || Ok(()), &mut memory)
                .map(|(found, ())| found.spend(&record()).unwrap());
            (verdict, memory.1)
        }
    }

    fn record() -> SpentRecord {
        SpentRecord::new("2026-11-25T07:12:44Z".parse().unwrap(), 0, "sshd", "192.0.2.7")
    }

    #[test]
    fn a_code_is_accepted_once() {
        let world = World::new();
        let code = world.codes[1].for_sheet();
        let (verdict, runs) = world.attempt(Some(&world.account), code.as_bytes());
        let accepted = verdict.unwrap();
        assert_eq!((accepted.number().get(), accepted.left(), runs.len()), (2, 2, 1));
        let (verdict, _) = world.attempt(Some(&world.account), code.as_bytes());
        assert!(
            matches!(verdict, Err(Refusal::Spent(number, read)) if number.get() == 2 && read == record())
        );
        assert!(world.attempt(Some(&world.account), world.codes[0].hash_input()).0.is_ok());
    }

    #[test]
    fn every_refusal_costs_one_run_with_the_cost_of_the_set_if_any() {
        let world = World::new();
        let account = Some(&world.account);
        let (spent, right) = (world.codes[0].for_sheet(), world.codes[1].for_sheet());
        assert!(world.attempt(account, spent.as_bytes()).0.is_ok());
        let other = Code::generate(CodeNumber::new(3).unwrap(), 13, &mut SysRng).unwrap();
        let no_number = Code::generate(CodeNumber::new(9).unwrap(), 13, &mut SysRng).unwrap();
        let stranger = Account { name: "bob".into(), uid: 1001 };
        let recreated = Account { uid: 2000, ..world.account.clone() };
        let set_cost = COST as usize;
        type Check = fn(&Refusal) -> bool;
        let pasted = format!("\u{feff}1) {}\r\n", *spent);
        let another_number = format!("2) {}", *spent);
        let rows: [(Option<&Account>, &[u8], usize, Check); 10] = [
            (account, spent.as_bytes(), set_cost, |r| matches!(r, Refusal::Spent(..))),
            (account, pasted.as_bytes(), set_cost, |r| matches!(r, Refusal::Spent(..))),
            (account, another_number.as_bytes(), set_cost, |r| matches!(r, Refusal::Malformed)),
            (account, other.hash_input(), set_cost, |r| matches!(r, Refusal::Wrong(_))),
            (account, no_number.hash_input(), set_cost, |r| matches!(r, Refusal::NoSuchNumber(_))),
            (account, b"", set_cost, |r| matches!(r, Refusal::Malformed)),
            (account, &[0xff; 511], set_cost, |r| matches!(r, Refusal::Malformed)),
            (Some(&stranger), right.as_bytes(), 24, |r| matches!(r, Refusal::NoSet)),
            (None, right.as_bytes(), 24, |r| matches!(r, Refusal::NoUser)),
            (Some(&recreated), right.as_bytes(), 24, |r| {
                matches!(r, Refusal::Store(StoreError::OwnerMismatch { .. }))
            }),
        ];
        for (account, response, cost, check) in rows {
            let (verdict, runs) = world.attempt(account, response);
            let refusal = verdict.unwrap_err();
            assert!(check(&refusal), "{refusal}");
            assert_eq!(runs, [cost], "{refusal}");
        }
        assert!(world.attempt(account, right.as_bytes()).0.is_ok());
    }

    #[test]
    fn a_code_whose_set_is_replaced_after_the_match_is_not_spent() {
        let mut world = World::new();
        let response = world.codes[0].for_sheet();
        let (store, account) = (world.store(), world.account.clone());
        let request = Request { account: Some(&account), response: response.as_bytes(), cost: Cost::DEFAULT };
        let old = store.read("alice").unwrap().unwrap().label.set;
        let (found, ()) = judge(&store, request, || Ok(()), &mut HeapMemory::default()).unwrap();
        world.renew(Expected::Set(&old));
        assert!(matches!(found.spend(&record()), Err(SpendError::NoLongerUnspent)));
        assert_eq!(store.read("alice").unwrap().unwrap().left(), 3);
    }

    #[test]
    fn two_matches_give_one_acceptance() {
        let world = World::new();
        let response = world.codes[0].for_sheet();
        let store = world.store();
        let request =
            Request { account: Some(&world.account), response: response.as_bytes(), cost: Cost::DEFAULT };
        let (first, ()) = judge(&store, request, || Ok(()), &mut HeapMemory::default()).unwrap();
        let (second, ()) = judge(&store, request, || Ok(()), &mut HeapMemory::default()).unwrap();
        assert!(first.spend(&record()).is_ok());
        assert!(matches!(second.spend(&record()), Err(SpendError::NoLongerUnspent)));
    }

    #[test]
    fn a_throttled_response_is_not_examined_but_costs_the_same() {
        let world = World::new();
        let (store, right) = (world.store(), world.codes[0].for_sheet());
        let attempt = |response: &[u8], verdict: fn() -> Result<(), Refusal>| {
            let (mut memory, mut counted) = (Counting::default(), 0);
            let request = Request { account: Some(&world.account), response, cost: Cost::DEFAULT };
            let count = || {
                counted += 1;
                verdict()
            };
            let refusal = judge(&store, request, count, &mut memory).err();
            assert_eq!(memory.1, [COST as usize]);
            (refusal, counted)
        };
        let (refusal, counted) = attempt(right.as_bytes(), || Err(Refusal::Throttled(7, Wait::Unlock)));
        assert!(matches!(refusal, Some(Refusal::Throttled(7, Wait::Unlock))) && counted == 1);
        let busy = || Err(Refusal::Uncounted("no /run".into()));
        assert!(matches!(attempt(right.as_bytes(), busy), (Some(Refusal::Uncounted(_)), 1)));
        // A typing error is no failure.
        let (refusal, counted) = attempt(b"hunter2", || Err(Refusal::Throttled(7, Wait::Unlock)));
        assert!(matches!(refusal, Some(Refusal::Malformed)) && counted == 0);
        assert!(world.attempt(Some(&world.account), right.as_bytes()).0.is_ok());
    }

    #[test]
    fn missing_memory_is_a_separate_refusal() {
        struct None;
        impl Memory for None {
            fn blocks(&mut self, kib: usize) -> Result<&mut [Block], OutOfMemory> {
                Err(OutOfMemory { kib })
            }
        }
        let world = World::new();
        let request = Request {
            account: Some(&world.account),
            response: world.codes[0].hash_input(),
            cost: Cost::DEFAULT,
        };
        assert!(matches!(judge(&world.store(), request, || Ok(()), &mut None), Err(Refusal::Hash(_))));
    }
}
