use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arbitrary::Arbitrary;

/// A clock with any time.
#[derive(Arbitrary, Debug)]
pub(crate) enum Clock {
    /// This many seconds or half days from now.
    Near(i16),
    HalfDays(i16),
    Epoch(i16),
    /// Around the end of signed 32-bit time in 2038, and of unsigned in 2106.
    Signed(i8),
    Unsigned(i8),
    Any(i64),
}

impl Clock {
    pub(crate) fn time(&self, now: SystemTime) -> SystemTime {
        let (from, seconds) = match *self {
            Self::Near(seconds) => (now, seconds.into()),
            Self::HalfDays(count) => (now, i64::from(count) * 43_200),
            Self::Epoch(seconds) => (UNIX_EPOCH, seconds.into()),
            Self::Signed(seconds) => (UNIX_EPOCH, i64::from(i32::MAX) + i64::from(seconds)),
            Self::Unsigned(seconds) => (UNIX_EPOCH, i64::from(u32::MAX) + i64::from(seconds)),
            Self::Any(seconds) => (UNIX_EPOCH, seconds),
        };
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let time = if seconds < 0 { from.checked_sub(distance) } else { from.checked_add(distance) };
        time.unwrap_or(from)
    }
}
