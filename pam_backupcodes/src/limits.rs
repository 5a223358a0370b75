//! Limits of the host process, which whoever started it may have set.

use std::sync::{Mutex, PoisonError};

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// Limits that are in the way are lifted, as far as they may be, until this is dropped.
pub(crate) struct LimitsLifted;

/// Limits are the whole process's: the first thread that comes in here lifts them, and the last one gives them back.
static LIFTED: Mutex<Lifted> = Mutex::new(Lifted { threads: 0, before: [None; 2] });

struct Lifted {
    threads: rlim_t,
    /// Soft and hard, where they were changed.
    before: [Option<(rlim_t, rlim_t)>; 2],
}

/// What is needed where the soft limit was so much, and so many threads are in here.
type Needed = fn(rlim_t, rlim_t) -> rlim_t;

const NEEDED: [(Resource, Needed); 2] = [
    // A set file has at most 64 KiB.
    (Resource::RLIMIT_FSIZE, |_, _| 64 << 10),
    // A thread opens no more at one time.
    (Resource::RLIMIT_NOFILE, |soft, threads| soft.saturating_add(threads.saturating_mul(8))),
];

impl LimitsLifted {
    pub(crate) fn new() -> Self {
        LIFTED.lock().unwrap_or_else(PoisonError::into_inner).enter();
        Self
    }
}

impl Drop for LimitsLifted {
    fn drop(&mut self) {
        LIFTED.lock().unwrap_or_else(PoisonError::into_inner).leave();
    }
}

impl Lifted {
    fn enter(&mut self) {
        self.threads = self.threads.saturating_add(1);
        for ((resource, needed), before) in NEEDED.into_iter().zip(&mut self.before) {
            let Ok((soft, hard)) = getrlimit(resource) else { continue };
            let needed = needed(before.map_or(soft, |(soft, _)| soft), self.threads);
            let lift = |limit: rlim_t| setrlimit(resource, limit, limit.max(hard));
            // Above the hard limit only with CAP_SYS_RESOURCE.
            if soft < needed && lift(needed).or_else(|_| lift(hard)).is_ok() {
                before.get_or_insert((soft, hard));
            }
        }
    }

    fn leave(&mut self) {
        self.threads = self.threads.saturating_sub(1);
        if self.threads == 0 {
            for ((resource, _), before) in NEEDED.into_iter().zip(&mut self.before) {
                let _ = before.take().map(|(soft, hard)| setrlimit(resource, soft, hard));
            }
        }
    }
}
