//! All that a user has. A host may have written anything beside it.

use backupcodes_core::code::CodeNumber;
use tokio::time::Instant;

use super::stored::{SignedLabel, Stored};
use super::{Sets, SetsError, Unproven, ranges};
use crate::etcd::messages::{Header, KeyValue, TxnResponse};
use crate::keys::Keys;

/// The most bytes of all that a user has, unless a host has written junk there: a set of 31 codes has some 10 KB.
const LARGEST: usize = 1 << 20;
/// The most names that an account may have had since it got its set: each costs a call.
const MOST_NAMES: usize = 16;

/// All of a user in the store.
pub(super) struct Found {
    pub(super) set: Result<Option<Stored>, Unproven>,
    /// What the store says of itself.
    pub(super) header: Header,
    /// The names under which a uid has a set.
    pub(super) names: Vec<String>,
}

impl Sets {
    /// All of a user, in one revision.
    pub(super) async fn find(
        &self,
        user: &str,
        uid: Option<u32>,
        deadline: Instant,
    ) -> Result<Found, SetsError> {
        let prefix = &self.prefix;
        let success = vec![
            prefix.sets_of(user).read(),
            self.names(user, uid).read(),
            prefix.slots_of(user).read(),
            prefix.due_of(user).list(),
        ];
        match self.read_ranges(success, deadline, LARGEST).await {
            Err(SetsError::TooLarge(_)) => self.find_among_junk(user, uid, deadline).await,
            Err(error) => Err(error),
            Ok((reply, header)) => self.found(user, uid, reply, header),
        }
    }

    /// The same, where a host has written more than can be read: only what an administrator has written is read as it is. Of what
    /// hosts have written there is only that it is there: such codes count as damaged.
    async fn find_among_junk(
        &self,
        user: &str,
        uid: Option<u32>,
        deadline: Instant,
    ) -> Result<Found, SetsError> {
        let prefix = &self.prefix;
        let labels = || prefix.sets_of(user).read();
        let (reply, header) = match self.read_ranges(vec![labels()], deadline, LARGEST).await {
            Err(SetsError::TooLarge(reason)) => {
                let (_, header) = self.read_ranges(vec![], deadline, LARGEST).await?;
                return Ok(Found { set: Err(Unproven(reason)), header, names: Vec::new() });
            }
            read => read?,
        };
        let mut success = vec![labels(), self.names(user, uid).read()];
        let labels_then = ranges(reply).concat();
        let proven = self.last_proven(user, &labels_then, header).unwrap_or_default();
        let then = proven.as_ref().map(|(_, set)| (set.label.set.clone(), set.codes));
        if let Some((id, codes)) = then.clone() {
            let numbers = || (1..=CodeNumber::MOST).filter_map(CodeNumber::new);
            let slot = |number| prefix.slot(user, &id, number);
            success.extend(numbers().map(|number| slot(number).list()));
            // Behind the others: these have a value.
            success.extend(numbers().map(|number| slot(number).read_written_until(codes)));
            success.extend(numbers().map(|number| prefix.due_use(user, &id, number).list()));
        }
        let (reply, header) = self.read_ranges(success, deadline, LARGEST).await?;
        let found = self.found(user, uid, reply, header)?;
        let now = found.set.as_ref().ok().and_then(Option::as_ref);
        // The codes that were read are those of the set as it was then.
        if now.map(|set| (set.label.set.clone(), set.codes)) == then {
            Ok(found)
        } else {
            Err(SetsError::Changed)
        }
    }

    /// The names with a set of a uid, or something else that costs as much.
    fn names(&self, user: &str, uid: Option<u32>) -> Keys {
        uid.map_or_else(|| self.prefix.sets_of(user), |uid| self.prefix.names_of(uid))
    }

    /// What a reply tells of a user: labels, names, and then codes and notices, each by its key.
    fn found(
        &self,
        user: &str,
        uid: Option<u32>,
        reply: TxnResponse,
        header: Header,
    ) -> Result<Found, SetsError> {
        let mut ranges = ranges(reply).into_iter();
        let (Some(labels), Some(names)) = (ranges.next(), ranges.next()) else {
            return Err(SetsError::Unavailable("the store replied with something else than ranges".into()));
        };
        let rest: Vec<KeyValue> = ranges.flatten().collect();
        let is_slot = |key: &&KeyValue| {
            self.prefix.parts(&key.key).is_some_and(|parts| parts.first() == Some(&"slots"))
        };
        let (slots, due): (Vec<_>, Vec<_>) = rest.iter().partition(is_slot);
        let proven = self.last_proven(user, &labels, header);
        let is_under_another = uid.is_some() && matches!(proven, Ok(None));
        if is_under_another && names.len() > MOST_NAMES {
            let reason = "names have a set of this uid; see backupcodes-admin doctor";
            return Err(SetsError::Unavailable(format!("{} {reason}", names.len())));
        }
        let names = names.into_iter().filter(|_| is_under_another);
        let names = names.filter_map(|found| String::from_utf8(found.value).ok()).collect();
        let set = proven.map(|proven| proven.map(|(found, label)| self.stored(found, label, &slots, &due)));
        Ok(Found { set, header, names })
    }

    fn stored(
        &self,
        found: &KeyValue,
        signed: SignedLabel,
        slots: &[&KeyValue],
        due: &[&KeyValue],
    ) -> Stored {
        let SignedLabel { label, codes, .. } = signed;
        let (prefix, user, id) = (&self.prefix, &label.user, &label.set);
        let numbers = || (1..=label.count).filter_map(CodeNumber::new);
        let slot = |number: CodeNumber| {
            let key = prefix.slot(user, id, number);
            // Of one that was listed and read, the value comes last.
            let found = slots.iter().rfind(|found| key.is(&found.key))?;
            Some((number.get(), (*found).clone()))
        };
        let is_due = |number: &CodeNumber| {
            let key = prefix.due_use(user, id, *number);
            due.iter().any(|found| key.is(&found.key))
        };
        let (slots, due) =
            (numbers().filter_map(slot).collect(), numbers().filter(is_due).map(CodeNumber::get).collect());
        Stored { label, created: found.create_revision, codes, slots, due }
    }
}
