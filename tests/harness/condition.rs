//! The states in which an application may call a module, and [`Squeezed`] memory.

use std::ffi::{CString, c_int, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use serde::{Deserialize, Serialize};

/// Something that an application does to itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Condition {
    /// Descriptors 0, 1 and 2 are closed.
    StandardClosed,
    /// So many descriptors can be opened; `hard`: and the limit cannot be lifted, but with CAP_SYS_RESOURCE.
    DescriptorsLeft {
        count: rlim_t,
        hard: bool,
    },
    /// A limit by its number, which may be lifted again.
    SoftLimit(u32, rlim_t),
    /// A limit by its number.
    HardLimit(u32, rlim_t),
    /// SIGCHLD is ignored.
    ChildrenIgnored,
    /// A handler of SIGCHLD waits for any child.
    ChildrenReaped,
    /// Another thread waits for any child, again and again.
    ChildrenWaitedFor,
    /// After the prompt another thread forks again and again. Children whose limits are not the application's are counted.
    Forks,
    /// SIGPIPE and SIGXFSZ end the process, as they do where nobody cares.
    DefaultSignals,
    AllSignalsBlocked,
    /// SIGALRM comes every millisecond, and its handler lets system calls end with EINTR.
    Alarms,
    /// So many microseconds after the prompt comes a SIGTERM, which ends the process or is handled.
    Term {
        after: libc::c_long,
        handled: bool,
    },
    CwdDeleted,
    Umask(u32),
    Chroot(String),
}

impl Condition {
    /// # Panics
    /// The system refuses.
    pub fn impose(&self) {
        match self {
            Self::StandardClosed => (0..3).for_each(|number| nix::unistd::close(number).unwrap()),
            &Self::DescriptorsLeft { count, hard } => {
                // SAFETY: no pointer goes in.
                let is_free = |&number: &c_int| unsafe { libc::fcntl(number, libc::F_GETFD) } == -1;
                let above = usize::try_from(count).unwrap();
                let limit = (0..).filter(is_free).nth(above).unwrap().try_into().unwrap();
                limit_to(Resource::RLIMIT_NOFILE, limit, hard);
            }
            &Self::SoftLimit(number, limit) => limit_to(resource(number), limit, false),
            &Self::HardLimit(number, limit) => limit_to(resource(number), limit, true),
            Self::ChildrenIgnored => handle(libc::SIGCHLD, libc::SIG_IGN),
            Self::ChildrenReaped => handle(libc::SIGCHLD, reap as extern "C" fn(c_int) as usize),
            Self::ChildrenWaitedFor => drop(std::thread::spawn(wait_for_any)),
            Self::Forks => {
                let before = limits();
                drop(std::thread::spawn(move || fork_again_and_again(before)));
            }
            Self::DefaultSignals => {
                [libc::SIGPIPE, libc::SIGXFSZ].into_iter().for_each(|signal| handle(signal, libc::SIG_DFL));
            }
            Self::AllSignalsBlocked => nix::sys::signal::SigSet::all().thread_block().unwrap(),
            Self::Alarms => {
                handle(libc::SIGALRM, pass as extern "C" fn(c_int) as usize);
                let millisecond = libc::timeval { tv_sec: 0, tv_usec: 1000 };
                let timer = libc::itimerval { it_interval: millisecond, it_value: millisecond };
                // SAFETY: a live value.
                assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, null_mut()) }, 0);
            }
            Self::Term { handled, .. } => {
                let handler = if *handled { pass as extern "C" fn(c_int) as usize } else { libc::SIG_DFL };
                handle(libc::SIGTERM, handler);
            }
            Self::CwdDeleted => {
                let folder = tempfile::tempdir().unwrap();
                std::env::set_current_dir(folder.path()).unwrap();
            }
            &Self::Umask(mask) => {
                nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
            }
            Self::Chroot(folder) => {
                nix::unistd::chroot(Path::new(folder)).unwrap();
                std::env::set_current_dir("/").unwrap();
            }
        }
    }

    /// What happens when the module asks.
    pub fn at_prompt(&self) {
        if let Self::Forks = self {
            FORKS.store(BEGIN, Ordering::SeqCst);
        }
        let &Self::Term { after, .. } = self else { return };
        // SAFETY: a timer of this process; zero bytes are a sigevent, and all values are live.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_SIGNAL;
            event.sigev_signo = libc::SIGTERM;
            let mut timer = null_mut();
            assert_eq!(libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer), 0);
            let mut value: libc::itimerspec = std::mem::zeroed();
            value.it_value = libc::timespec { tv_sec: 0, tv_nsec: after * 1000 + 1 };
            assert_eq!(libc::timer_settime(timer, 0, &raw const value, null_mut()), 0);
        }
    }
}

/// How often a handler of ours ran, or a thread of ours found a child.
pub static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn pass(_: c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn reap(_: c_int) {
    // SAFETY: waitpid may be called in a handler.
    while unsafe { libc::waitpid(-1, null_mut(), libc::WNOHANG) } > 0 {}
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

fn wait_for_any() {
    loop {
        // SAFETY: no status is asked for.
        if unsafe { libc::wait(null_mut()) } > 0 {
            HANDLED.fetch_add(1, Ordering::Relaxed);
        } else {
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
    }
}

/// How far the thread is that forks.
static FORKS: AtomicU32 = AtomicU32::new(0);
const BEGIN: u32 = 1;
const END: u32 = 2;
const ENDED: u32 = 3;

fn limits() -> [(rlim_t, rlim_t); 2] {
    [Resource::RLIMIT_FSIZE, Resource::RLIMIT_NOFILE].map(|limit| getrlimit(limit).unwrap())
}

fn fork_again_and_again(before: [(rlim_t, rlim_t); 2]) {
    let wait = || std::thread::sleep(std::time::Duration::from_micros(50));
    while FORKS.load(Ordering::SeqCst) < BEGIN {
        wait();
    }
    while FORKS.load(Ordering::SeqCst) < END {
        // SAFETY: the child looks at its limits and ends; the parent waits for it.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(i32::from(limits() != before));
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            HANDLED.fetch_add(u32::from(status != 0), Ordering::Relaxed);
        }
    }
    FORKS.store(ENDED, Ordering::SeqCst);
    loop {
        wait();
    }
}

/// Lets a thread that forks come to its last child.
pub fn end_forks() {
    if FORKS.load(Ordering::SeqCst) == BEGIN {
        FORKS.store(END, Ordering::SeqCst);
        while FORKS.load(Ordering::SeqCst) != ENDED {
            std::thread::yield_now();
        }
    }
}

fn handle(signal: c_int, handler: usize) {
    // SAFETY: zero bytes are a sigaction without flags; the handler does what one may do.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        assert_eq!(libc::sigaction(signal, &raw const action, null_mut()), 0);
    }
}

fn resource(number: u32) -> Resource {
    let known =
        [Resource::RLIMIT_FSIZE, Resource::RLIMIT_AS, Resource::RLIMIT_NPROC, Resource::RLIMIT_NOFILE];
    known.into_iter().find(|&known| known as u32 == number).expect("a limit that is known")
}

fn limit_to(resource: Resource, limit: rlim_t, hard: bool) {
    let hard = if hard { limit } else { getrlimit(resource).unwrap().1 };
    setrlimit(resource, limit, hard).unwrap();
}

/// What memory is to be had.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes in one piece on the heap, which cannot grow.
    pub heap: usize,
    /// Bytes for mappings, fewer than the heap would grow by.
    pub mappings: rlim_t,
}

/// Until it is dropped, no more memory can be had.
pub struct Squeezed {
    limit: (rlim_t, rlim_t),
    filler: *mut c_void,
}

impl Squeezed {
    pub fn new(left: Memory) -> Self {
        let limit = getrlimit(Resource::RLIMIT_AS).unwrap();
        // SAFETY: memory of libc's, each piece large enough for the pointer that is written to it.
        unsafe {
            // A compiler leaves out memory that nobody looks at.
            let hole = std::hint::black_box(libc::malloc(left.heap));
            assert!(!hole.is_null());
            let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: rlim_t = pages.split(' ').next().unwrap().parse().unwrap();
            limit_to(Resource::RLIMIT_AS, pages * 4096, false);
            let mut filler = null_mut();
            // Every size class of libc's small pieces has a list of its own.
            for size in [1 << 16, 1 << 14, 1 << 12].into_iter().chain((1..=128).rev().map(|n| n * 16)) {
                loop {
                    let piece: *mut *mut c_void = libc::malloc(size).cast();
                    if piece.is_null() {
                        break;
                    }
                    *piece = filler;
                    filler = piece.cast();
                }
            }
            libc::free(hole);
            limit_to(Resource::RLIMIT_AS, pages * 4096 + left.mappings, false);
            Self { limit, filler }
        }
    }
}

impl Drop for Squeezed {
    fn drop(&mut self) {
        setrlimit(Resource::RLIMIT_AS, self.limit.0, self.limit.1).unwrap();
        while !self.filler.is_null() {
            // SAFETY: each piece holds the pointer to the one before, and is freed once.
            unsafe {
                let next = *self.filler.cast();
                libc::free(self.filler);
                self.filler = next;
            }
        }
    }
}

/// What every application has done before it calls libpam: it has written a line to the log, whose socket libc then keeps open,
/// and has looked somebody up, after which libc has what it needs for that. (Its first look crashes where it has no memory.)
pub fn settle() {
    nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap();
    let line = CString::new("an application begins").unwrap();
    // SAFETY: two C strings. A null name stands for the program's.
    unsafe {
        libc::openlog(null(), 0, libc::LOG_AUTHPRIV);
        libc::syslog(libc::LOG_DEBUG, c"%s".as_ptr(), line.as_ptr());
    }
}
