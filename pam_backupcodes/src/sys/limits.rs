//! Resource limits of the process, which its caller may have set.
//!
//! They belong to the whole process: the first thread that needs it lifts them, and the last one restores them. A child that
//! another thread of the application forks meanwhile inherits the lifted limits, and restores them at its start. All data for
//! that is atomic: no thread of the parent could release a mutex for the child.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use super::fork::in_each_child;

/// Limits that are too low are lifted as far as possible, until this is dropped.
pub(crate) struct LimitsLifted;

/// The needed limit, from the original soft limit and the number of threads that need it.
type Needed = fn(rlim_t, rlim_t) -> rlim_t;

const NEEDED: [(Resource, Needed); 2] = [
    // A set file has at most 64 KiB.
    (Resource::RLIMIT_FSIZE, |_, _| 64 << 10),
    // A thread has at most 8 files open.
    (Resource::RLIMIT_NOFILE, |soft, threads| soft.saturating_add(threads.saturating_mul(8))),
];

static LIMITS: Limits = Limits {
    is_busy: AtomicBool::new(false),
    threads: AtomicU32::new(0),
    watches_forks: AtomicBool::new(false),
    lifted: [const { Lifted::none() }; 2],
};

struct Limits {
    /// A spin lock for the other fields.
    is_busy: AtomicBool,
    /// The number of threads that need lifted limits.
    threads: AtomicU32,
    watches_forks: AtomicBool,
    lifted: [Lifted; 2],
}

struct Lifted {
    is_lifted: AtomicBool,
    /// The original soft and hard limits.
    before: [AtomicU64; 2],
    /// The limits that were set last.
    to: [AtomicU64; 2],
}

impl LimitsLifted {
    pub(crate) fn new() -> Self {
        LIMITS.locked(Limits::enter);
        Self
    }
}

impl Drop for LimitsLifted {
    fn drop(&mut self) {
        LIMITS.locked(Limits::leave);
    }
}

/// Registers the fork handler. The module calls this early: a fork that begins before it restores nothing.
pub(crate) fn watch_forks() {
    LIMITS.locked(|limits| {
        if !limits.watches_forks.swap(true, SeqCst) {
            in_each_child(restore_in_child);
        }
    });
}

impl Limits {
    /// All signals are blocked when limits are changed, so no signal handler can wait for its own thread here.
    fn locked(&self, f: fn(&Self)) {
        while self.is_busy.swap(true, SeqCst) {
            pause();
        }
        f(self);
        self.is_busy.store(false, SeqCst);
    }

    fn enter(&self) {
        let threads = self.threads.load(SeqCst).saturating_add(1);
        self.threads.store(threads, SeqCst);
        for ((resource, needed), lifted) in NEEDED.into_iter().zip(&self.lifted) {
            let Ok((soft, hard)) = getrlimit(resource) else { continue };
            let was_lifted = lifted.is_lifted.load(SeqCst);
            let needed = needed(if was_lifted { read(&lifted.before).0 } else { soft }, threads.into());
            if soft >= needed {
                continue;
            }
            // This comes before the change, for a child.
            if !was_lifted {
                write(&lifted.before, (soft, hard));
                lifted.is_lifted.store(true, SeqCst);
            }
            let lift = |limit: rlim_t| {
                write(&lifted.to, (limit, limit.max(hard)));
                setrlimit(resource, limit, limit.max(hard))
            };
            // Only CAP_SYS_RESOURCE allows more than the hard limit.
            if lift(needed).or_else(|_| lift(hard)).is_err() && !was_lifted {
                lifted.is_lifted.store(false, SeqCst);
            }
        }
    }

    fn leave(&self) {
        let threads = self.threads.load(SeqCst).saturating_sub(1);
        self.threads.store(threads, SeqCst);
        if threads == 0 {
            self.lifted.iter().zip(NEEDED).for_each(|(lifted, (resource, _))| lifted.restore(resource));
        }
    }
}

impl Lifted {
    const fn none() -> Self {
        Self {
            is_lifted: AtomicBool::new(false),
            before: [const { AtomicU64::new(0) }; 2],
            to: [const { AtomicU64::new(0) }; 2],
        }
    }

    fn restore(&self, resource: Resource) {
        if self.is_lifted.load(SeqCst) {
            let (soft, hard) = read(&self.before);
            let _ = setrlimit(resource, soft, hard);
            self.is_lifted.store(false, SeqCst);
        }
    }
}

#[allow(clippy::useless_conversion, reason = "a limit has 32 bits on other machines")]
fn write([soft, hard]: &[AtomicU64; 2], limits: (rlim_t, rlim_t)) {
    soft.store(limits.0.into(), SeqCst);
    hard.store(limits.1.into(), SeqCst);
}

#[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions, reason = "as above")]
fn read(limits: &[AtomicU64; 2]) -> (rlim_t, rlim_t) {
    let [soft, hard] = limits.each_ref().map(|limit| limit.load(SeqCst).try_into().unwrap_or(rlim_t::MAX));
    (soft, hard)
}

#[expect(clippy::disallowed_methods, reason = "it waits for four system calls of another thread")]
fn pause() {
    std::thread::sleep(Duration::from_micros(20));
}

/// Restores the limits in a child. It uses only system calls and atomics, since the child has no other threads. The kernel copies
/// limits before memory, so a child may have lifted limits that its memory no longer records.
extern "C" fn restore_in_child() {
    LIMITS.threads.store(0, SeqCst);
    for (lifted, (resource, _)) in LIMITS.lifted.iter().zip(NEEDED) {
        if getrlimit(resource).is_ok_and(|limits| limits == read(&lifted.to)) {
            lifted.is_lifted.store(true, SeqCst);
        }
        lifted.restore(resource);
    }
    LIMITS.is_busy.store(false, SeqCst);
}
