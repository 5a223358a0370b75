//! Asks the broker, for a process without access to the sets.

use std::time::{Duration, Instant};

use backupcodes_core::config::Config;
use backupcodes_core::protocol::{Broker, CallError, Check, HasSet, ServiceError, Verdict};
use backupcodes_core::store::Accepted;
use backupcodes_core::verify::{Denial, Level, Login, Outcome};

/// The longest wait for a verdict: longer than the broker may wait for a permit and a lock.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest wait for a reply that needs neither.
const SHORT: Duration = Duration::from_secs(5);

/// The broker waits 10 s for the first call of a connection: an older connection may end with the next call.
const FRESH: Duration = Duration::from_secs(5);

/// A broker that listens.
pub(crate) struct Found {
    connection: Broker,
    since: Instant,
}

/// Finds the broker.
///
/// # Errors
/// No broker listens, or it cannot be trusted.
pub(crate) fn find(config: &Config) -> Result<Found, ServiceError> {
    Ok(Found { connection: Broker::connect(config, SHORT)?, since: Instant::now() })
}

/// Whether the broker has proof that the user has no set.
///
/// # Errors
/// The broker uses another directory of sets. The attempt reports any other fault.
pub(crate) fn has_no_set(found: &mut Found, login: &Login<'_>) -> Result<bool, ServiceError> {
    let question = HasSet { user: user(login).into(), directory: login.config.directory.as_path().into() };
    match found.connection.has_set(&question, SHORT) {
        Ok(has_set) => Ok(!has_set),
        Err(CallError::Service(error @ ServiceError::OtherDirectory { .. })) => Err(error),
        Err(_) => Ok(false),
    }
}

/// Lets the broker judge the response and spend its code.
///
/// # Errors
/// [`Denial`]: it is not accepted. The broker's log has the reason.
pub(crate) fn check(found: Found, login: &Login<'_>, response: &[u8]) -> Result<Accepted, Denial> {
    let Login { config, origin, .. } = *login;
    let question = Check {
        user: user(login).into(),
        directory: config.directory.as_path().into(),
        // A response that is not UTF-8 is no code.
        response: std::str::from_utf8(response).unwrap_or_default().into(),
        service: origin.service.as_str().into(),
        host: origin.host.as_deref().map(Into::into),
        tty: Some(origin.tty.as_str().into()),
    };
    let denied = |outcome, level, reason| Denial { outcome, level, reason };
    let Found { connection, since } = found;
    // A user may type for longer than the broker waits.
    let is_fresh = since.elapsed() < FRESH;
    let connection = if is_fresh { Ok(connection) } else { Broker::connect(config, PATIENCE) };
    let verdict = connection
        .map_err(CallError::from)
        .and_then(|mut broker| broker.check(&question, PATIENCE))
        .map_err(|error| denied(Outcome::Unavailable, Level::Error, format!("{error}; {origin}")))?;
    verdict.map_err(|verdict| {
        let (outcome, level) = match verdict {
            Verdict::Refused => (Outcome::Refused, Level::Debug),
            Verdict::UserUnknown => (Outcome::UserUnknown, Level::Debug),
            Verdict::Accepted | Verdict::Unavailable => (Outcome::Unavailable, Level::Error),
        };
        denied(outcome, level, format!("refused by the broker; {origin}"))
    })
}

fn user<'a>(login: &Login<'a>) -> &'a str {
    login.account.map_or("", |account| &account.name)
}
