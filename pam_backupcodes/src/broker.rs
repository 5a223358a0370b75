//! Asks the broker, where this process cannot work with the store itself.

use std::path::Path;
use std::time::Duration;

use backupcodes_core::attempt::Accepted;
use backupcodes_core::broker::{Broker, BrokerError};
use backupcodes_core::code::Slot;
use backupcodes_core::login::{Answer, Level, No};
use backupcodes_core::place::Place;
use serde::{Deserialize, Serialize};

/// How long a verdict is waited for: longer than the broker may wait for a slot and for a lock.
const PATIENCE: Duration = Duration::from_secs(20);
/// A look waits for nothing.
const SHORT: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct OfUser<'a> {
    user: &'a str,
}

#[derive(Deserialize)]
struct Found {
    has_set: Option<bool>,
}

#[derive(Serialize)]
struct Check<'a> {
    user: &'a str,
    answer: &'a str,
    service: &'a str,
    host: Option<&'a str>,
    tty: &'a str,
}

#[derive(Deserialize)]
struct Verdict {
    verdict: Option<String>,
    slot: Option<u8>,
    left: Option<usize>,
}

/// Whether somebody listens there.
///
/// # Errors
/// Nobody does, or nobody to trust.
pub(crate) fn is_there(path: &Path) -> Result<(), BrokerError> {
    Broker::connect(path, SHORT).map(drop)
}

/// Whether the broker has proof that the user has no set.
pub(crate) fn has_no_set(path: &Path, user: &str) -> bool {
    let found =
        Broker::connect(path, SHORT).and_then(|mut broker| broker.call("HasSet", &OfUser { user }, SHORT));
    found.is_ok_and(|Found { has_set }| has_set == Some(false))
}

/// Has the answer judged, and its code spent.
///
/// # Errors
/// The answer is not accepted. Why stands in the broker's log.
pub(crate) fn attempt(path: &Path, user: &str, answer: &[u8], place: &Place) -> Result<Accepted, No> {
    let unavailable = |error: BrokerError| No {
        answer: Answer::Unavailable,
        level: Level::Error,
        reason: format!("{error}; {place}"),
    };
    let no = |answer, level| Err(No { answer, level, reason: format!("refused by the broker; {place}") });
    let Place { service, host, tty, .. } = place;
    // What is no text is no code.
    let answer = std::str::from_utf8(answer).unwrap_or_default();
    let check = Check { user, answer, service, host: host.as_deref(), tty };
    let mut broker = Broker::connect(path, PATIENCE).map_err(unavailable)?;
    let Verdict { verdict, slot, left } = broker.call("Check", &check, PATIENCE).map_err(unavailable)?;
    match (verdict.as_deref(), slot.and_then(Slot::new), left) {
        (Some("accepted"), Some(slot), Some(left)) => Ok(Accepted { slot, set: String::new(), left }),
        (Some("refused"), ..) => no(Answer::Refused, Level::Debug),
        (Some("user_unknown"), ..) => no(Answer::UserUnknown, Level::Debug),
        _ => no(Answer::Unavailable, Level::Error),
    }
}
