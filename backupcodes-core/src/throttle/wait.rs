//! How long failures make wait.

use std::time::{Duration, SystemTime};

use crate::clock::Time;
use crate::config::Rules;

/// What a counter that refuses waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// For this time to pass, if there is no other attempt before.
    Until(Time),
    /// For `unlock` or a new set.
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

impl Rules {
    /// What has to come before an attempt is looked at that has `before` failures before it, the last one at `last`.
    pub(super) fn wait(&self, before: u32, last: SystemTime, now: SystemTime) -> Option<Wait> {
        if self.most > 0 && before >= self.most {
            return Some(Wait::Unlock);
        }
        // The first answer of all is always looked at.
        let doublings = before.checked_sub(self.free.max(1))?;
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let delay = self.first_delay.saturating_mul(factor).min(self.longest_delay);
        // A clock that was set back has measured nothing: the wait begins anew. But nobody waits for a time that is further
        // ahead than the delay.
        let waited = match now.duration_since(last) {
            Err(ahead) if ahead.duration() > delay => return None,
            waited => waited.unwrap_or_default(),
        };
        // The next whole second, which is never too early.
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
    fn delays_have_an_end_whatever_the_numbers_are() {
        let wait = |rules: Rules, before| rules.wait(before, UNIX_EPOCH, UNIX_EPOCH);
        let rules = Rules {
            free: 0,
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(u32::MAX.into()),
            most: 0,
        };
        for before in [1, 2, 30, 31, 32, 33, 4096, u32::MAX] {
            assert!(matches!(wait(rules.clone(), before), Some(Wait::Until(_))), "{before}");
        }
        let never = Rules { first_delay: Duration::ZERO, ..rules };
        assert!([0, 31, 32, u32::MAX].iter().all(|&before| wait(never.clone(), before).is_none()));
        let first = Rules {
            free: 0,
            first_delay: Duration::from_secs(2),
            longest_delay: Duration::from_secs(15),
            most: 0,
        };
        assert!(wait(first.clone(), 0).is_none() && wait(first, 1).is_some());
    }
}
