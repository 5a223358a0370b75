//! Starts a program that is independent of the application.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::sched::{sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::sys::signal::SigSet;
use nix::unistd::Pid;

use super::memory::Mapping;

/// Starts a program with these arguments, independent of this process: it is no child of the application, and no SIGCHLD arrives
/// (except in an application that is a subreaper). The program has an empty environment, no descriptors but /dev/null, the
/// directory `/`, default signals, limits and priority, its own session, and with `leaves_cgroups` only control groups of root.
/// It has the ids of this thread, and the processors of init except the current one. All signals must be blocked: a handler of
/// the application would run in a child that shares its memory.
///
/// # Errors
/// The error of the system call.
pub(crate) fn start_detached(arguments: &[CString], leaves_cgroups: bool) -> Result<(), Errno> {
    let program = arguments.first().ok_or(Errno::EINVAL)?;
    let pointers: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).chain([NULL]).collect();
    let start = Start {
        program,
        arguments: pointers.as_ptr(),
        stack: Mapping::new(STACK).ok_or(Errno::ENOMEM)?,
        processor: sched_getcpu().ok(),
        leaves_cgroups,
        failure: AtomicI32::new(0),
    };
    let stack = Mapping::new(STACK).ok_or(Errno::ENOMEM)?;
    // The end of this child sends no signal, and wait(2) of the application does not see it. It starts the program and ends, so
    // the program is no child of the application.
    let child = start.run(&stack, start_program, 0)?;
    let mut status = 0;
    // SAFETY: the status is a live variable.
    while unsafe { libc::waitpid(child, &raw mut status, libc::__WCLONE) } < 0
        && Errno::last() == Errno::EINTR
    {}
    match start.failure.into_inner() {
        0 if libc::WIFEXITED(status) => Ok(()),
        0 => Err(Errno::ECHILD),
        errno => Err(Errno::from_raw(errno)),
    }
}

/// The stack of each of the two children, which make little more than system calls.
const STACK: usize = 64 << 10;

/// Ends a list of strings.
const NULL: *const c_char = std::ptr::null();

/// The parameters of the intermediate child and of its child, which becomes the program.
struct Start<'a> {
    program: &'a CStr,
    arguments: *const *const c_char,
    /// The stack of the second child.
    stack: Mapping,
    /// The current processor of this thread.
    processor: Option<usize>,
    leaves_cgroups: bool,
    /// The errno of a failure, or 0.
    failure: AtomicI32,
}

impl Start<'_> {
    /// Runs `f` in a child that shares the memory of this process. This thread is suspended until the child ends or becomes
    /// another program.
    fn run(
        &self,
        stack: &Mapping,
        f: extern "C" fn(*mut c_void) -> c_int,
        signal: c_int,
    ) -> Result<c_int, Errno> {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | signal;
        // SAFETY: only the child uses the stack, which is aligned to a page and grows down from its end; the stack and `self`
        // outlive the child's use of them, since the call returns after it.
        Errno::result(unsafe {
            let end = stack.start.as_ptr().add(stack.length);
            libc::clone(f, end.cast(), flags, std::ptr::from_ref(self).cast_mut().cast())
        })
    }
}

extern "C" fn start_program(start: *mut c_void) -> c_int {
    // SAFETY: it points to the `Start` of the suspended thread.
    let start = unsafe { &*start.cast::<Start<'_>>() };
    drop_inherited_state();
    if start.leaves_cgroups {
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
    // SAFETY: it points to the `Start` of the suspended thread.
    let start = unsafe { &*start.cast::<Start<'_>>() };
    // The processor of the suspended login looks idle: on it, the program would delay the login.
    if let Some(processor) = start.processor {
        avoid_processor(processor);
    }
    let variables = [NULL];
    // SAFETY: the system calls affect only this process, with live values; both lists end with a null.
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

/// Moves this process to the processors of init except one, if another is left. Processors that the system reserves (isolcpus,
/// CPUAffinity) stay unused.
fn avoid_processor(processor: usize) {
    let Ok(mut processors) = sched_getaffinity(Pid::from_raw(1)) else { return };
    // A processor beyond the set is not in it.
    let _ = processors.unset(processor);
    let _ = sched_setaffinity(Pid::from_raw(0), &processors);
}

/// The control groups of init, or the root groups, in the hierarchies where users may own groups. (The program itself leaves
/// the caller's groups in all other hierarchies.)
const GROUPS_OF_INIT: [&CStr; 7] = [
    c"/sys/fs/cgroup/cgroup.procs",
    c"/sys/fs/cgroup/init.scope/cgroup.procs",
    c"/sys/fs/cgroup/unified/cgroup.procs",
    c"/sys/fs/cgroup/unified/init.scope/cgroup.procs",
    c"/sys/fs/cgroup/freezer/cgroup.procs",
    c"/sys/fs/cgroup/memory/cgroup.procs",
    c"/sys/fs/cgroup/pids/cgroup.procs",
];

/// Drops state of the caller that the program would inherit: the terminal, descriptors, limits, and a low priority for processor
/// and disk. This process is a child that shares only the memory of the application.
fn drop_inherited_state() {
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
    // SAFETY: the system calls affect only this process, with live values; a failed one changes nothing.
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
                    // Only CAP_SYS_RESOURCE allows more than the hard limit.
                    libc::setrlimit(resource, &raw const highest);
                }
            }
        }
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        let usual = libc::sched_param { sched_priority: 0 };
        // A direct system call: musl's function does nothing.
        libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &raw const usual);
        libc::syscall(libc::SYS_ioprio_set, OF_A_PROCESS, 0, 0);
    }
    write_zero(c"/proc/self/oom_score_adj");
}

/// Writes `0` to a kernel file, if it exists. To a control group, it means the writing process.
fn write_zero(file: &CStr) {
    // SAFETY: system calls with live values; the kernel refuses an invalid descriptor.
    unsafe {
        let file = libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        libc::write(file, c"0".as_ptr().cast(), 1);
        libc::close(file);
    }
}
