//! Limits of the host process, which whoever started it may have set.
//!
//! They are the whole process's: the first thread that comes in here lifts them, and the last one gives them back. A child that
//! another thread of the host forks meanwhile has them as they are in that moment, and gives them back at its beginning. All that
//! it needs for that is in atomic values: a child has one thread, and none of the parent's would let go of a mutex for it.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use super::fork::in_each_child;

/// Limits that are in the way are lifted, as far as they may be, until this is dropped.
pub(crate) struct LimitsLifted;

/// What is needed where the soft limit was so much, and so many threads are in here.
type Needed = fn(rlim_t, rlim_t) -> rlim_t;

const NEEDED: [(Resource, Needed); 2] = [
    // A set file has at most 64 KiB.
    (Resource::RLIMIT_FSIZE, |_, _| 64 << 10),
    // A thread opens no more at one time.
    (Resource::RLIMIT_NOFILE, |soft, threads| soft.saturating_add(threads.saturating_mul(8))),
];

static LIMITS: Limits = Limits {
    is_busy: AtomicBool::new(false),
    threads: AtomicU32::new(0),
    watches_forks: AtomicBool::new(false),
    lifted: [const { Lifted::none() }; 2],
};

struct Limits {
    /// One thread is changing the rest.
    is_busy: AtomicBool,
    /// So many are in here.
    threads: AtomicU32,
    watches_forks: AtomicBool,
    lifted: [Lifted; 2],
}

struct Lifted {
    is_lifted: AtomicBool,
    /// What soft and hard were before, and were lifted to last.
    before: [AtomicU64; 2],
    to: [AtomicU64; 2],
}

impl LimitsLifted {
    pub(crate) fn new() -> Self {
        LIMITS.alone(Limits::enter);
        Self
    }
}

impl Drop for LimitsLifted {
    fn drop(&mut self) {
        LIMITS.alone(Limits::leave);
    }
}

/// Comes early: a fork that has begun before it gives nothing back.
pub(crate) fn watch_forks() {
    LIMITS.alone(|limits| {
        if !limits.watches_forks.swap(true, SeqCst) {
            in_each_child(forked);
        }
    });
}

impl Limits {
    /// Whoever lifts or gives back has all signals blocked: no handler of theirs can wait for them here.
    fn alone(&self, f: fn(&Self)) {
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
            // First of all, for a child.
            if !was_lifted {
                write(&lifted.before, (soft, hard));
                lifted.is_lifted.store(true, SeqCst);
            }
            let lift = |limit: rlim_t| {
                write(&lifted.to, (limit, limit.max(hard)));
                setrlimit(resource, limit, limit.max(hard))
            };
            // Above the hard limit only with CAP_SYS_RESOURCE.
            if lift(needed).or_else(|_| lift(hard)).is_err() && !was_lifted {
                lifted.is_lifted.store(false, SeqCst);
            }
        }
    }

    fn leave(&self) {
        let threads = self.threads.load(SeqCst).saturating_sub(1);
        self.threads.store(threads, SeqCst);
        if threads == 0 {
            self.lifted.iter().zip(NEEDED).for_each(|(lifted, (resource, _))| lifted.give_back(resource));
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

    fn give_back(&self, resource: Resource) {
        if self.is_lifted.load(SeqCst) {
            let (soft, hard) = read(&self.before);
            let _ = setrlimit(resource, soft, hard);
            self.is_lifted.store(false, SeqCst);
        }
    }
}

#[allow(clippy::useless_conversion, reason = "elsewhere a limit has 32 bits")]
fn write([soft, hard]: &[AtomicU64; 2], limits: (rlim_t, rlim_t)) {
    soft.store(limits.0.into(), SeqCst);
    hard.store(limits.1.into(), SeqCst);
}

#[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions, reason = "as above")]
fn read(limits: &[AtomicU64; 2]) -> (rlim_t, rlim_t) {
    let [soft, hard] = limits.each_ref().map(|limit| limit.load(SeqCst).try_into().unwrap_or(rlim_t::MAX));
    (soft, hard)
}

#[expect(clippy::disallowed_methods, reason = "for another thread's four system calls")]
fn pause() {
    std::thread::sleep(Duration::from_micros(20));
}

/// Nothing but system calls and values of its own: the other threads are gone, whatever they were at. The kernel copies limits before
/// memory, so that a child can have lifted ones that its memory knows nothing of any more.
extern "C" fn forked() {
    LIMITS.threads.store(0, SeqCst);
    for (lifted, (resource, _)) in LIMITS.lifted.iter().zip(NEEDED) {
        if getrlimit(resource).is_ok_and(|limits| limits == read(&lifted.to)) {
            lifted.is_lifted.store(true, SeqCst);
        }
        lifted.give_back(resource);
    }
    LIMITS.is_busy.store(false, SeqCst);
}
