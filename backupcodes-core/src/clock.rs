//! The time of day. Rules take it as a parameter, so tests need not wait.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last supported second: the end of the year 9999, or of 32-bit time on 32-bit machines.
const LAST: u64 = if cfg!(target_pointer_width = "32") { 0x7FFF_FFFF } else { 253_402_300_799 };

/// Whole seconds since 1970 in UTC, shown as RFC 3339: `2026-11-24T02:00:00Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(u64);

impl Time {
    /// This many seconds since 1970-01-01T00:00:00Z, or the last supported second.
    #[must_use]
    pub fn of_seconds(seconds: u64) -> Self {
        Self(seconds.min(LAST))
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0
    }
}

impl From<SystemTime> for Time {
    /// Drops the fraction of the second. A clock before 1970 or after 9999 becomes the nearer limit.
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().min(LAST)))
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = UNIX_EPOCH.checked_add(Duration::from_secs(self.0)).unwrap_or(UNIX_EPOCH);
        humantime::format_rfc3339_seconds(time).fmt(f)
    }
}

impl FromStr for Time {
    type Err = humantime::TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_rfc3339(text).map(Self::from)
    }
}

/// The current time.
#[must_use]
pub fn now() -> Time {
    precise().into()
}

/// The current time with the fraction of the second, as file timestamps have it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn precise() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_and_no_clock_is_too_wrong() {
        let last = Time::of_seconds(u64::MAX).to_string();
        let is_short = cfg!(target_pointer_width = "32");
        assert_eq!(last, if is_short { "2038-01-19T03:14:07Z" } else { "9999-12-31T23:59:59Z" });
        for text in ["1970-01-01T00:00:00Z", "2026-11-24T02:00:00Z", "2038-01-19T03:14:07Z", &last] {
            assert_eq!(text.parse::<Time>().unwrap().to_string(), text);
        }
        let day = Duration::from_secs(86_400);
        assert_eq!(Time::from(UNIX_EPOCH - day).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Time::from(UNIX_EPOCH + day * 4_000_000).to_string(), last);
        for bad in
            ["", "2026-11-24", "2026-11-24T02:00:00", "2026-13-24T02:00:00Z", "2026-11-24T02:00:00+01:00"]
        {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
    }
}
