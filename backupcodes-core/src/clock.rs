//! The time of day as a parameter, so that every rule is tested without waiting.

use jiff::Timestamp;

/// Tells the time of day.
pub trait Clock {
    /// The time now, in whole seconds: marks and sheets show no fraction.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }
}
