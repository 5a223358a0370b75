//! A program that the host has nothing to do with.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::sched::{sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::sys::signal::SigSet;
use nix::unistd::Pid;

use super::memory::Mapping;

/// Starts a program with these arguments that this process has nothing to do with: no child of it is left, none is waited
/// for by the host, and no SIGCHLD comes (but to a host that has asked to be the parent of orphans). It has an empty
/// environment, no descriptors but /dev/null, `/`, the usual signals, limits and priority, a session of its own, and with
/// `leaves_groups` control groups that are nobody's but root's; its ids are those of this thread, and its processors init's but this
/// one. All signals must be blocked: a handler of the host's would run in a child that has its memory.
///
/// # Errors
/// The system's.
pub(crate) fn start_detached(arguments: &[CString], leaves_groups: bool) -> Result<(), Errno> {
    let program = arguments.first().ok_or(Errno::EINVAL)?;
    let pointers: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).chain([NO_MORE]).collect();
    let start = Start {
        program,
        arguments: pointers.as_ptr(),
        stack: Mapping::new(STACK).ok_or(Errno::ENOMEM)?,
        processor: sched_getcpu().ok(),
        leaves_groups,
        failure: AtomicI32::new(0),
    };
    let stack = Mapping::new(STACK).ok_or(Errno::ENOMEM)?;
    // A child whose end sends no signal, and that wait(2) of the host does not see; it starts the program and ends, and so
    // the program is nobody's here.
    let child = start.run(&stack, start_program, 0)?;
    let mut status = 0;
    // SAFETY: a live place for the status.
    while unsafe { libc::waitpid(child, &raw mut status, libc::__WCLONE) } < 0
        && Errno::last() == Errno::EINTR
    {}
    match start.failure.into_inner() {
        0 if libc::WIFEXITED(status) => Ok(()),
        0 => Err(Errno::ECHILD),
        errno => Err(Errno::from_raw(errno)),
    }
}

/// Enough for each of the two children, which call little more than the system.
const STACK: usize = 64 << 10;

/// The end of a list of strings.
const NO_MORE: *const c_char = std::ptr::null();

/// What the child between, and its child that becomes the program, are told.
struct Start<'a> {
    program: &'a CStr,
    arguments: *const *const c_char,
    /// Of the second child.
    stack: Mapping,
    /// The one that the host runs on.
    processor: Option<usize>,
    leaves_groups: bool,
    /// The errno of what failed.
    failure: AtomicI32,
}

impl Start<'_> {
    /// Runs `f` in a child that has the memory of this process. This thread stands still until it has ended or become
    /// another program.
    fn run(
        &self,
        stack: &Mapping,
        f: extern "C" fn(*mut c_void) -> c_int,
        signal: c_int,
    ) -> Result<c_int, Errno> {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | signal;
        // SAFETY: the stack is the child's alone, aligned to a page, and grows down from its end; it and `self` outlive the
        // child's use of them, for this returns only then.
        Errno::result(unsafe {
            let end = stack.start.as_ptr().add(stack.length);
            libc::clone(f, end.cast(), flags, std::ptr::from_ref(self).cast_mut().cast())
        })
    }
}

extern "C" fn start_program(start: *mut c_void) -> c_int {
    // SAFETY: it is the `Start` of the thread that stands still meanwhile.
    let start = unsafe { &*start.cast::<Start<'_>>() };
    leave_to_the_caller_what_is_theirs();
    if start.leaves_groups {
        for group in GROUPS_OF_INIT {
            write_zero(group);
        }
    }
    if let Err(errno) = start.run(&start.stack, become_program, libc::SIGCHLD) {
        start.failure.store(errno as i32, Ordering::Relaxed);
    }
    0
}

extern "C" fn become_program(start: *mut c_void) -> c_int {
    // SAFETY: as above.
    let start = unsafe { &*start.cast::<Start<'_>>() };
    // Or the login would wait until this program lets it go on: its processor looks free while it stands still.
    if let Some(processor) = start.processor {
        keep_off(processor);
    }
    let variables = [NO_MORE];
    // SAFETY: system calls on this process alone, with live values; both lists end with a null.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        if null >= 0
            && (0..=2).all(|number| libc::dup2(null, number) == number)
            && libc::chdir(c"/".as_ptr()) == 0
        {
            if null > 2 {
                libc::close(null);
            }
            for signal in 1..=libc::SIGRTMAX() {
                libc::signal(signal, libc::SIG_DFL);
            }
            libc::sigprocmask(libc::SIG_SETMASK, SigSet::empty().as_ref(), std::ptr::null_mut());
            libc::execve(start.program.as_ptr(), start.arguments, variables.as_ptr());
        }
    }
    start.failure.store(Errno::last_raw(), Ordering::Relaxed);
    0
}

/// Keeps this process off a processor, where there is another that init has: what the system keeps for others (isolcpus,
/// CPUAffinity) is left alone.
fn keep_off(processor: usize) {
    let Ok(mut processors) = sched_getaffinity(Pid::from_raw(1)) else { return };
    // One that has no place in there is none of these.
    let _ = processors.unset(processor);
    let _ = sched_setaffinity(Pid::from_raw(0), &processors);
}

/// The groups that init is in, or the root of all groups, in the hierarchies that users have parts of. (The program itself leaves the
/// caller's groups in all others.)
const GROUPS_OF_INIT: [&CStr; 7] = [
    c"/sys/fs/cgroup/cgroup.procs",
    c"/sys/fs/cgroup/init.scope/cgroup.procs",
    c"/sys/fs/cgroup/unified/cgroup.procs",
    c"/sys/fs/cgroup/unified/init.scope/cgroup.procs",
    c"/sys/fs/cgroup/freezer/cgroup.procs",
    c"/sys/fs/cgroup/memory/cgroup.procs",
    c"/sys/fs/cgroup/pids/cgroup.procs",
];

/// What a process has from whoever started it, and would pass on: a terminal that sends signals, descriptors, limits, and how
/// little of the processor and the disk it gets. This process is a child of the host's, and nothing of it is the host's but the memory.
fn leave_to_the_caller_what_is_theirs() {
    const LARGEST_STACK: libc::rlim_t = 8 << 20;
    const OF_A_PROCESS: c_int = 1; // IOPRIO_WHO_PROCESS of linux/ioprio.h
    let limits = [
        (libc::RLIMIT_AS, libc::RLIM_INFINITY),
        (libc::RLIMIT_CPU, libc::RLIM_INFINITY),
        (libc::RLIMIT_DATA, libc::RLIM_INFINITY),
        (libc::RLIMIT_FSIZE, libc::RLIM_INFINITY),
        (libc::RLIMIT_NPROC, libc::RLIM_INFINITY),
        (libc::RLIMIT_STACK, LARGEST_STACK),
        (libc::RLIMIT_NOFILE, 1024),
    ];
    // SAFETY: system calls on this process alone, with live values; what is refused is left as it is.
    unsafe {
        libc::setsid();
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
        for (resource, wanted) in limits {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::getrlimit(resource, &raw mut limit);
            if limit.rlim_cur < wanted {
                let lifted = libc::rlimit { rlim_cur: wanted, rlim_max: limit.rlim_max.max(wanted) };
                let highest = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
                if libc::setrlimit(resource, &raw const lifted) != 0 {
                    // Above the hard limit only with CAP_SYS_RESOURCE.
                    libc::setrlimit(resource, &raw const highest);
                }
            }
        }
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        let usual = libc::sched_param { sched_priority: 0 };
        // The system call itself: musl's function does nothing.
        libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &raw const usual);
        libc::syscall(libc::SYS_ioprio_set, OF_A_PROCESS, 0, 0);
    }
    write_zero(c"/proc/self/oom_score_adj");
}

/// Writes `0` to a file of the kernel's, where there is one. A control group takes it for whoever writes it.
fn write_zero(file: &CStr) {
    // SAFETY: system calls with live values; a descriptor that is none is refused.
    unsafe {
        let file = libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        libc::write(file, c"0".as_ptr().cast(), 1);
        libc::close(file);
    }
}
