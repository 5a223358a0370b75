//! What a power cut must leave, and a look whether it does.

use std::fs;

use super::{Act, Event};
use crate::{Sheet, World, me, pam, text};

/// What a state must be like.
#[derive(Debug, Default)]
pub(super) struct Promise {
    /// The set, by its number.
    set: Option<usize>,
    /// Its accepted codes.
    spent: Vec<usize>,
    /// What may have been done or not.
    pub(super) acting: Option<Act>,
    /// How many sets there have been.
    sets: usize,
    /// How many notices there are at least.
    notices: usize,
}

impl Promise {
    pub(super) fn at(moment: u64, events: &[Event]) -> Self {
        let mut promise = Self::default();
        for event in events {
            if moment < event.after {
                promise.acting = (event.before < moment).then_some(event.act);
                break;
            }
            promise.notices += 1;
            match event.act {
                Act::Generate(number) | Act::GenerateAfterRevoke(number) => {
                    promise = Self { set: Some(number), spent: Vec::new(), sets: number + 1, ..promise };
                }
                Act::Spend(place) => promise.spent.push(place),
                Act::SpendInside { set, place } => {
                    // The command's own notice.
                    promise.notices += 1;
                    if promise.set != Some(set) {
                        promise = Self { set: Some(set), spent: Vec::new(), sets: set + 1, ..promise };
                    }
                    promise.spent.push(place);
                }
                Act::Readdress => {}
                Act::Revoke => promise.set = None,
            }
        }
        promise
    }

    /// The sets that may be there.
    fn possible(&self) -> Vec<Option<usize>> {
        match self.acting {
            Some(Act::Generate(number) | Act::SpendInside { set: number, .. }) => {
                vec![self.set, Some(number)]
            }
            Some(Act::GenerateAfterRevoke(number)) => vec![self.set, None, Some(number)],
            Some(Act::Revoke) => vec![self.set, None],
            _ => vec![self.set],
        }
    }
}

/// What was seen of a state.
pub(super) struct Seen {
    /// A record is torn.
    pub(super) damaged: bool,
    /// The act in whose middle it is was done.
    pub(super) done: bool,
}

/// Looks at what a power cut has left. What breaks the promise comes back.
pub(super) fn look(world: &World, sheets: &[Sheet], promise: &Promise) -> Result<Seen, String> {
    let output = world.admin(&["status", "--format", "json", &me()]);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let found = match output.status.code() {
        Some(0) => {
            Some(sheets.iter().position(|sheet| status[0]["set"] == sheet.set).ok_or("a set of nobody's")?)
        }
        Some(1) => None,
        _ => return Err(format!("unreadable: {}", text(&output.stderr))),
    };
    if !promise.possible().contains(&found) {
        return Err(format!("set {found:?}, expected set {:?}", promise.set));
    }
    let mut seen = Seen { damaged: false, done: found != promise.set };
    // Of a set that was not yet promised no code was used.
    let (spent, acting) = match promise.acting {
        Some(Act::SpendInside { set, place }) if found == Some(set) => {
            (if seen.done { &[][..] } else { &promise.spent[..] }, Some(place))
        }
        _ if seen.done => (&[][..], None),
        Some(Act::Spend(place)) => (&promise.spent[..], Some(place)),
        _ => (&promise.spent[..], None),
    };
    let no_codes = Vec::new();
    let codes = status[0]["codes"].as_array().unwrap_or(&no_codes);
    let returned = |place: usize| world.try_answer(&sheets[found.unwrap()].codes[place]);
    let mut unspent = None;
    for (place, code) in codes.iter().enumerate() {
        let state = code["state"].as_str().unwrap();
        if spent.contains(&place) {
            let now = returned(place);
            if state != "spent" || now != pam::AUTH_ERR {
                return Err(format!("code {place} was accepted; it is {state}, and now returns {now}"));
            }
        } else if acting == Some(place) {
            (seen.damaged, seen.done) = (state == "damaged", state != "unspent");
            let first = if seen.done { pam::AUTH_ERR } else { pam::SUCCESS };
            let twice = [returned(place), returned(place)];
            if twice != [first, pam::AUTH_ERR] {
                return Err(format!("code {place} was being spent; it is {state}, and returns {twice:?}"));
            }
        } else if state == "unspent" {
            unspent = Some(place);
        } else {
            return Err(format!("code {place} was never used; it is {state}"));
        }
    }
    let due = codes.iter().filter(|code| code["mailed"] == false).count();
    let notices = due + queued(world)?;
    if notices < promise.notices {
        return Err(format!("{notices} notices, expected {}", promise.notices));
    }
    if let Some(place) = unspent {
        let twice = [returned(place), returned(place)];
        if twice != [pam::SUCCESS, pam::AUTH_ERR] {
            return Err(format!("code {place} was never used, and returns {twice:?}"));
        }
    }
    for (number, sheet) in sheets.iter().enumerate().skip(promise.sets.saturating_sub(2)).take(3) {
        if Some(number) != found && world.try_answer(&sheet.codes[9]) != pam::AUTH_ERR {
            return Err(format!("a code of set {number} is accepted, and the set does not exist"));
        }
    }
    // What is left half done is in nobody's way.
    let new = world.generate();
    if world.try_answer(&new.codes[0]) != pam::SUCCESS {
        return Err("a code of a set that is made after the cut is refused".into());
    }
    Ok(seen)
}

/// How many notices are queued, each of which must be whole.
fn queued(world: &World) -> Result<usize, String> {
    let outbox = world.store().join("outbox");
    let mut count = 0;
    for name in world.other_files().iter().filter(|name| !name.starts_with('.')) {
        let notice = fs::read_to_string(outbox.join(name)).map_err(|error| format!("{name}: {error}"))?;
        if !notice.contains("\nSubject: ") || !notice.contains("\n\n") || !notice.ends_with('\n') {
            return Err(format!("a part of a notice, {name}: {notice:?}"));
        }
        count += 1;
    }
    Ok(count)
}
