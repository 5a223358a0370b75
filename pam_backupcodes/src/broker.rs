//! Asks the broker, where this process cannot work with the store itself.

use std::path::Path;
use std::time::Duration;

use backupcodes_core::attempt::Accepted;
use backupcodes_core::broker::{Broker, BrokerError, Reply};
use backupcodes_core::code::Slot;
use backupcodes_core::login::{Answer, Level, No};
use backupcodes_core::place::Place;
use serde_json::{Value, json};

/// How long a verdict is waited for: longer than the broker may wait for a slot and for a lock.
const PATIENCE: Duration = Duration::from_secs(20);
/// A look at the store waits for nothing.
const SHORT: Duration = Duration::from_secs(5);

/// Whether somebody listens there.
///
/// # Errors
/// Nobody does, or nobody to trust.
pub(crate) fn is_there(path: &Path) -> Result<(), BrokerError> {
    Broker::connect(path, SHORT).map(drop)
}

/// Has the answer judged, and its code spent. The user is asked for by the name that was typed: which account that is says
/// the broker.
///
/// # Errors
/// The answer is not accepted. What is wrong with it stands in the broker's log.
pub(crate) fn attempt(path: &Path, user: &str, answer: &[u8], place: &Place) -> Result<Accepted, No> {
    let Place { service, host, tty, .. } = place;
    // What is no text is no code.
    let answer = String::from_utf8_lossy(answer);
    let check = json!({ "user": user, "answer": answer, "service": service, "host": host, "tty": tty });
    let reply = call(path, "Check", check, PATIENCE).map_err(|error| unavailable(&error))?;
    let no = |answer, level| Err(No { answer, level, reason: format!("refused by the broker; {place}") });
    match reply.parameters.get("verdict").and_then(Value::as_str) {
        Some("accepted") => accepted(&reply).ok_or_else(|| unavailable(&"the broker says no number")),
        Some("refused") => no(Answer::Refused, Level::Debug),
        Some("user_unknown") => no(Answer::UserUnknown, Level::Debug),
        Some("unavailable") => no(Answer::Unavailable, Level::Error),
        _ => Err(unavailable(&"the broker gives no verdict")),
    }
}

/// Whether the broker has proof that the user has no set.
pub(crate) fn has_no_set(path: &Path, user: &str) -> bool {
    let reply = call(path, "HasSet", json!({ "user": user }), SHORT);
    reply.is_ok_and(|reply| reply.parameters.get("has_set") == Some(&Value::Bool(false)))
}

fn call(path: &Path, method: &str, parameters: Value, patience: Duration) -> Result<Reply, BrokerError> {
    let reply = Broker::connect(path, patience)?.call(method, &parameters, false, patience);
    wipe(parameters);
    reply
}

/// The answer is in there.
fn wipe(parameters: Value) {
    if let Value::Object(parameters) = parameters {
        for (_, value) in parameters {
            if let Value::String(text) = value {
                drop(zeroize::Zeroizing::new(text));
            }
        }
    }
}

fn accepted(reply: &Reply) -> Option<Accepted> {
    let number = |key: &str| reply.parameters.get(key).and_then(Value::as_u64);
    let slot = number("slot").and_then(|slot| u8::try_from(slot).ok()).and_then(Slot::new)?;
    Some(Accepted { slot, set: String::new(), left: usize::try_from(number("left")?).ok()? })
}

fn unavailable(error: &dyn std::fmt::Display) -> No {
    No { answer: Answer::Unavailable, level: Level::Error, reason: error.to_string() }
}
