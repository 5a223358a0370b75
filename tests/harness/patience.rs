//! Waiting for what real programs bring about.

use std::time::{Duration, Instant};

/// Longer than it takes on a busy machine: what is waited for comes soon, or never.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it is so.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "in vain waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
