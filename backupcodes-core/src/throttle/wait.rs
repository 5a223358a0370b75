//! The delay after failures.

use std::time::{Duration, SystemTime};

use crate::clock::Time;
use crate::config::ThrottleRules;

/// The end of a delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// This time, unless another attempt comes before it.
    Until(Time),
    /// `unlock` or a new set.
    Unlock,
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Until(time) => write!(f, "until {time}"),
            Self::Unlock => f.write_str("until backupcodes-admin unlock or generate"),
        }
    }
}

impl ThrottleRules {
    /// The delay of an attempt after `before` failures, the last one at `last`. `None`: the response is examined.
    pub(super) fn wait(&self, before: u32, last: SystemTime, now: SystemTime) -> Option<Wait> {
        if self.most > 0 && before >= self.most {
            return Some(Wait::Unlock);
        }
        // The first response is always examined.
        let doublings = before.checked_sub(self.free.max(1))?;
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let delay = self.first_delay.saturating_mul(factor).min(self.longest_delay);
        // After the clock is set back, the whole delay begins again. But a time further ahead than the delay is ignored.
        let waited = match now.duration_since(last) {
            Err(ahead) if ahead.duration() > delay => return None,
            waited => waited.unwrap_or_default(),
        };
        // Rounded up to a whole second, so as not to be too early.
        let until =
            last.checked_add(delay).and_then(|end| end.checked_add(Duration::from_nanos(999_999_999)));
        (waited < delay).then(|| Wait::Until(until.unwrap_or(last).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn delays_are_bounded_for_all_numbers() {
        let wait = |rules: ThrottleRules, before| rules.wait(before, UNIX_EPOCH, UNIX_EPOCH);
        let rules = ThrottleRules {
            free: 0,
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(u32::MAX.into()),
            most: 0,
        };
        for before in [1, 2, 30, 31, 32, 33, 4096, u32::MAX] {
            assert!(matches!(wait(rules.clone(), before), Some(Wait::Until(_))), "{before}");
        }
        let never = ThrottleRules { first_delay: Duration::ZERO, ..rules };
        assert!([0, 31, 32, u32::MAX].iter().all(|&before| wait(never.clone(), before).is_none()));
        let first = ThrottleRules {
            free: 0,
            first_delay: Duration::from_secs(2),
            longest_delay: Duration::from_secs(15),
            most: 0,
        };
        assert!(wait(first.clone(), 0).is_none() && wait(first, 1).is_some());
    }
}
