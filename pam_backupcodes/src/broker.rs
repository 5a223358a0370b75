//! Asks the broker, where this process cannot work with the store itself.

use std::time::Duration;

use backupcodes_core::code::CodeNumber;
use backupcodes_core::config::Config;
use backupcodes_core::origin::Origin;
use backupcodes_core::protocol::{Broker, BrokerError, Reply};
use backupcodes_core::verify::Accepted;
use backupcodes_core::verify::{Denial, Level, Outcome};
use serde::{Deserialize, Serialize};

/// How long a verdict is waited for: longer than the broker may wait for a permit and for a lock.
const PATIENCE: Duration = Duration::from_secs(20);
/// A look waits for nothing.
const SHORT: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct OfUser<'a> {
    user: &'a str,
    directory: &'a str,
}

#[derive(Serialize)]
struct Check<'a> {
    user: &'a str,
    directory: &'a str,
    answer: &'a str,
    service: &'a str,
    host: Option<&'a str>,
    tty: &'a str,
}

/// What either question is replied to with, or an error: one type, for the module's size.
#[derive(Deserialize)]
struct Told {
    has_set: Option<bool>,
    verdict: Option<String>,
    number: Option<u8>,
    left: Option<usize>,
    directory: Option<String>,
}

/// Whether somebody listens there.
///
/// # Errors
/// Nobody does, or nobody to trust.
pub(crate) fn is_there(config: &Config) -> Result<(), BrokerError> {
    Broker::connect(config, SHORT).map(drop)
}

/// Whether the broker has proof that the user has no set.
///
/// # Errors
/// It has the sets of another directory. Whatever else is wrong shows in the attempt.
pub(crate) fn has_no_set(config: &Config, user: &str) -> Result<bool, BrokerError> {
    let question = OfUser { user, directory: &config.directory.to_string_lossy() };
    match ask(config, "HasSet", &question, SHORT) {
        Ok(Told { has_set, .. }) => Ok(has_set == Some(false)),
        Err(error @ BrokerError::OtherDirectory { .. }) => Err(error),
        Err(_) => Ok(false),
    }
}

/// Has the answer judged, and its code spent.
///
/// # Errors
/// The answer is not accepted. Why stands in the broker's log.
pub(crate) fn attempt(
    config: &Config,
    user: &str,
    answer: &[u8],
    origin: &Origin,
) -> Result<Accepted, Denial> {
    let unavailable = |error: BrokerError| Denial {
        answer: Outcome::Unavailable,
        level: Level::Error,
        reason: format!("{error}; {origin}"),
    };
    let no =
        |answer, level| Err(Denial { answer, level, reason: format!("refused by the broker; {origin}") });
    let Origin { service, host, tty, .. } = origin;
    // What is no text is no code.
    let answer = std::str::from_utf8(answer).unwrap_or_default();
    let directory = &config.directory.to_string_lossy();
    let check = Check { user, directory, answer, service, host: host.as_deref(), tty };
    let Told { verdict, number, left, .. } = ask(config, "Check", &check, PATIENCE).map_err(unavailable)?;
    match (verdict.as_deref(), number.and_then(CodeNumber::new), left) {
        (Some("accepted"), Some(number), Some(left)) => Ok(Accepted { number, set: String::new(), left }),
        (Some("refused"), ..) => no(Outcome::Refused, Level::Debug),
        (Some("user_unknown"), ..) => no(Outcome::UserUnknown, Level::Debug),
        _ => no(Outcome::Unavailable, Level::Error),
    }
}

fn ask(
    config: &Config,
    method: &str,
    question: &impl Serialize,
    patience: Duration,
) -> Result<Told, BrokerError> {
    let mut broker = Broker::connect(config, patience)?;
    let Reply { error, parameters } = broker.exchange::<_, Told>(method, question, patience)?;
    match (error, parameters) {
        (None, Some(told)) => Ok(told),
        (None, None) => Err(broker.refused("nothing", None)),
        (Some(error), told) => Err(broker.refused(&error, told.and_then(|told| told.directory).as_deref())),
    }
}
