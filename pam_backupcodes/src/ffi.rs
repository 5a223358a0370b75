//! The C side: entry points, the log, memory by the page, and a moment without the host's disturbance.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::{Mutex, Once};

use argon2::Block;
use backupcodes_core::hash::{Memory, OutOfMemory};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use pam::constants::{PamFlag, PamResultCode};
use pam::module::{PamHandle, PamHooks};
use zeroize::Zeroizing;

use crate::limits::LimitsLifted;

struct Module;

pam::pam_hooks!(Module);

impl PamHooks for Module {
    fn sm_authenticate(pamh: &mut PamHandle, args: Vec<&CStr>, flags: PamFlag) -> PamResultCode {
        guard(|| crate::attempt::authenticate(pamh, &args, flags)).unwrap_or_else(|at| {
            log_panic(pamh, "refused", &at);
            PamResultCode::PAM_ABORT
        })
    }

    fn sm_setcred(_: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        // No credentials of ours, but in a stack where this module decided, IGNORE would deny the login.
        PamResultCode::PAM_SUCCESS
    }

    fn acct_mgmt(_: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        PamResultCode::PAM_IGNORE
    }

    fn sm_chauthtok(_: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        PamResultCode::PAM_IGNORE
    }

    fn sm_open_session(pamh: &mut PamHandle, args: Vec<&CStr>, flags: PamFlag) -> PamResultCode {
        // A reminder, which takes no login away.
        if let Err(at) = guard(|| crate::reminder::open_session(pamh, &args, flags)) {
            log_panic(pamh, "no reminder", &at);
        }
        PamResultCode::PAM_IGNORE
    }

    fn sm_close_session(_: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        PamResultCode::PAM_IGNORE
    }
}

/// Where the last panic was. The message is not kept: it may hold what was typed.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Runs `f`. A panic ends here, without a word on the host's stderr: the place in the source comes back.
///
/// # Errors
/// The place of the panic.
fn guard<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static SILENCE: Once = Once::new();
    // The standard library is linked into this module: the hook is ours alone, not the host's.
    SILENCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            if let (Ok(mut last), Some(place)) = (LAST_PANIC.try_lock(), panic.location()) {
                *last = place.to_string();
            }
        }));
    });
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        // Dropping a payload may panic again, where nothing would catch it: it is leaked instead.
        std::mem::forget(payload);
        LAST_PANIC.try_lock().map_or_else(|_| "an unknown place".into(), |last| last.clone())
    })
}

fn log_panic(pamh: &PamHandle, outcome: &str, at: &str) {
    let reason = format!("{outcome}: this module failed at {at}, which is a bug: please report it");
    // The log itself must not be the next panic.
    let _ = guard(|| log(pamh, Level::Critical, &reason));
}

/// Weights of the log, as syslog(3) names them.
#[derive(Clone, Copy)]
#[repr(i32)]
pub(crate) enum Level {
    Critical = libc::LOG_CRIT,
    Error = libc::LOG_ERR,
    Warning = libc::LOG_WARNING,
    Notice = libc::LOG_NOTICE,
    Debug = libc::LOG_DEBUG,
}

#[link(name = "pam")]
unsafe extern "C" {
    fn pam_syslog(pamh: *const PamHandle, priority: c_int, format: *const c_char, ...);
    fn pam_set_item(pamh: *mut PamHandle, item: c_int, value: *const c_void) -> c_int;
    fn pam_getenv(pamh: *mut PamHandle, name: *const c_char) -> *const c_char;
    fn pam_putenv(pamh: *mut PamHandle, name_value: *const c_char) -> c_int;
}

/// Writes one line to the log, by the means of the PAM library. Control characters, NUL among them, are replaced.
pub(crate) fn log(pamh: &PamHandle, level: Level, line: &str) {
    let Ok(line) = CString::new(line.replace(char::is_control, "?")) else { return };
    // SAFETY: the handle is a live one, and format and argument are C strings that outlive the call.
    unsafe { pam_syslog(pamh, level as c_int, c"%s".as_ptr(), line.as_ptr()) }
}

/// Puts `answer` where the next module looks for it, PAM_AUTHTOK, or empties that place.
///
/// # Errors
/// What libpam says.
pub(crate) fn hand_on(pamh: &mut PamHandle, answer: Option<&[u8]>) -> Result<(), PamResultCode> {
    const PAM_AUTHTOK: c_int = 6; // _pam_types.h
    let text = answer.map(|answer| Zeroizing::new([answer, &[0]].concat()));
    let text = text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    // SAFETY: the handle is a live one, and libpam copies the text, which ends with a NUL and outlives the call.
    match unsafe { pam_set_item(pamh, PAM_AUTHTOK, text.cast()) } {
        0 => Ok(()),
        code => Err(PamResultCode::try_from(code).unwrap_or(PamResultCode::PAM_SYSTEM_ERR)),
    }
}

/// Sets a variable of the PAM environment, which sshd carries from the authentication to the session: `NAME=value`.
/// A name alone removes the variable.
///
/// # Errors
/// What libpam says, as a number.
pub(crate) fn set_variable(pamh: &mut PamHandle, name_value: &CStr) -> Result<(), c_int> {
    // SAFETY: the handle is a live one, and libpam copies the text.
    match unsafe { pam_putenv(pamh, name_value.as_ptr()) } {
        0 => Ok(()),
        code => Err(code),
    }
}

/// The value of a variable of the PAM environment.
pub(crate) fn variable(pamh: &mut PamHandle, name: &CStr) -> Option<String> {
    // SAFETY: the handle is a live one, and the name a C string.
    let value = unsafe { pam_getenv(pamh, name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: a value that is there is a C string of libpam's, and nothing changes it while it is copied.
    Some(unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned())
}

/// Whether there is memory for an attempt beside its hash. Where it is missing the attempt must not go on: Rust ends the
/// process for a small piece that cannot be had, and whoever starts su may limit its memory.
pub(crate) fn has_memory() -> bool {
    // Enough for a set of 31 codes, and a piece that libc keeps when it is freed.
    const ATTEMPT: usize = 64 << 10;
    let mut room = Vec::<u8>::new();
    let is_there = room.try_reserve_exact(ATTEMPT).is_ok();
    // A compiler leaves out memory that nobody looks at.
    std::hint::black_box(&mut room);
    is_there
}

/// Memory for one hash, straight from the kernel and given back right after. Where it is large it is asked for in huge
/// pages, since a third of a hash's time goes into faults of small ones; it stays out of core dumps.
#[derive(Default)]
pub(crate) struct FreshMemory(Option<Mapping>);

struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

/// Huge pages of x86-64, and of arm64 with 4 KiB pages.
const HUGE: usize = 2 << 20;

impl Memory for FreshMemory {
    fn blocks(&mut self, count: usize) -> Result<&mut [Block], OutOfMemory> {
        const { assert!(size_of::<Block>() == Block::SIZE && align_of::<Block>() <= 4096) };
        let bytes = count.checked_mul(Block::SIZE).filter(|&bytes| bytes > 0);
        // Whole huge pages, from an address that is a multiple of their size.
        let (unit, slack) = if bytes < Some(HUGE) { (1, 0) } else { (HUGE, HUGE) };
        let room =
            bytes.and_then(|bytes| bytes.checked_next_multiple_of(unit)).ok_or(OutOfMemory { kib: count })?;
        let mapping = Mapping::new(room.saturating_add(slack)).ok_or(OutOfMemory { kib: count })?;
        let skip = if slack == 0 { 0 } else { mapping.start.align_offset(HUGE) };
        // SAFETY: skip is less than HUGE, which is the slack, so this is inside the mapping.
        let start = unsafe { mapping.start.add(skip) };
        // SAFETY: the range lies inside the mapping. Advice only: what is refused changes nothing but the speed.
        unsafe {
            libc::madvise(start.as_ptr().cast(), room, libc::MADV_DONTDUMP);
            if slack > 0 {
                libc::madvise(start.as_ptr().cast(), room, libc::MADV_HUGEPAGE);
            }
        }
        self.0 = Some(mapping);
        // SAFETY: the mapping is ours alone, readable and writable, at least `count` blocks long behind `start`, lives
        // until `self` is dropped or asked again, and is aligned to a page at least. A block is an array of u64: zero
        // bytes are one.
        Ok(unsafe { std::slice::from_raw_parts_mut(start.as_ptr().cast(), count) })
    }
}

impl Mapping {
    fn new(length: usize) -> Option<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory that is in use.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            None
        } else {
            Some(Self { start: NonNull::new(start.cast())?, length })
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: start and length are those of a mapping that is ours, and no reference to it is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Runs `f` where whoever started the host process cannot get at it, and gives back all that was changed.
///
/// In su the caller owns the real uid, the signals and the limits of the process: between a lock and its release a
/// signal of theirs could stop it, and a limit of theirs could make a spend fail.
///
/// # Errors
/// The system refused, in words for the log. `f` may have run all the same.
pub(crate) fn undisturbed<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    shielded(f).map_err(|errno| {
        format!(
            "this process cannot be shielded from its caller ({errno}); expected root with its capabilities"
        )
    })
}

fn shielded<T>(f: impl FnOnce() -> T) -> Result<T, Errno> {
    let _signals = SignalsBlocked::new()?;
    let mut ids = RootIds::new()?;
    let limits = LimitsLifted::new();
    let result = f();
    drop(limits);
    // A host that would go on with ids that are not its own must not be told yes.
    ids.give_back()?;
    Ok(result)
}

/// Blocks every signal for this thread until it is dropped.
struct SignalsBlocked(SigSet);

impl SignalsBlocked {
    fn new() -> Result<Self, Errno> {
        Ok(Self(SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?))
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // A write over the file size limit leaves a signal behind that is ours, and would end the host.
        let mut ours = SigSet::empty();
        ours.add(Signal::SIGXFSZ);
        let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: set and time are live values, and no information about the signal is asked for.
        unsafe { libc::sigtimedwait(ours.as_ref(), std::ptr::null_mut(), &raw const no_time) };
        let _ = self.0.thread_set_mask();
    }
}

/// Real and saved uid of this thread are root's until they are given back, where the effective one is, and where there
/// is a way back.
struct RootIds(Option<[libc::uid_t; 3]>);

impl RootIds {
    fn new() -> Result<Self, Errno> {
        let mut ids = [0; 3];
        let [real, effective, saved] = &mut ids;
        // SAFETY: three live places for three uids.
        Errno::result(unsafe { libc::getresuid(real, effective, saved) })?;
        // Without CAP_SETUID an effective root may take these ids, but could not give them back.
        if ids[1] != 0 || ids == [0; 3] || !may_set_uids()? {
            return Ok(Self(None));
        }
        set_ids([0; 3])?;
        Ok(Self(Some(ids)))
    }

    fn give_back(&mut self) -> Result<(), Errno> {
        self.0.take().map_or(Ok(()), set_ids)
    }
}

impl Drop for RootIds {
    fn drop(&mut self) {
        // Left to do only when a panic came between.
        let _ = self.give_back();
    }
}

/// Whether this thread has CAP_SETUID in effect.
fn may_set_uids() -> Result<bool, Errno> {
    const VERSION: u32 = 0x2008_0522; // _LINUX_CAPABILITY_VERSION_3 of linux/capability.h
    const CAP_SETUID: u32 = 7;
    let header: [u32; 2] = [VERSION, 0];
    // Effective, permitted and inheritable: the low 32 capabilities, then the high ones.
    let mut sets = [0_u32; 6];
    // SAFETY: both have the size and layout of this version's structures, which are arrays of u32.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) })?;
    Ok(sets[0] & (1 << CAP_SETUID) != 0)
}

/// The system call itself: libc's function would change every thread of the host.
fn set_ids([real, effective, saved]: [libc::uid_t; 3]) -> Result<(), Errno> {
    // SAFETY: plain numbers go in.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, real, effective, saved) }).map(drop)
}

/// Starts a program with these arguments that this process has nothing to do with: no child of it is left, none is waited
/// for by the host, and no SIGCHLD comes (but to a host that has asked to be the parent of orphans). It has an empty
/// environment, no descriptors but /dev/null, `/`, the usual signals, limits and priority, and is in a session of its own; its
/// ids are those of this thread.
///
/// # Errors
/// The system's.
pub(crate) fn start_detached(arguments: &[CString]) -> Result<(), Errno> {
    const STACK: usize = 128 << 10;
    let program = arguments.first().ok_or(Errno::EINVAL)?;
    let pointers = arguments.iter().map(|argument| argument.as_ptr().cast_mut());
    let mut pointers: Vec<_> = pointers.chain([std::ptr::null_mut()]).collect();
    let stack = Mapping::new(STACK).ok_or(Errno::ENOMEM)?;
    let start = Start { program, arguments: pointers.as_mut_ptr(), manner: Manner::new()? };
    // A child whose end sends no signal, and that wait(2) of the host does not see; it starts the program and ends, and so
    // the program is nobody's here. With CLONE_VFORK this thread stands still until then.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK;
    // SAFETY: the stack is fresh, aligned to a page, and grows down from its end; `start` outlives the child, which has
    // ended when this returns.
    let child = unsafe {
        libc::clone(
            start_in_child,
            stack.start.as_ptr().add(STACK).cast(),
            flags,
            (&raw const start).cast_mut().cast(),
        )
    };
    Errno::result(child)?;
    let mut status = 0;
    // SAFETY: a live place for the status.
    while unsafe { libc::waitpid(child, &raw mut status, libc::__WCLONE) } < 0
        && Errno::last() == Errno::EINTR
    {}
    match libc::WEXITSTATUS(status) {
        0 if libc::WIFEXITED(status) => Ok(()),
        0 => Err(Errno::ECHILD),
        errno => Err(Errno::from_raw(errno)),
    }
}

/// What the child between is told.
struct Start<'a> {
    program: &'a CStr,
    arguments: *mut *mut c_char,
    manner: Manner,
}

extern "C" fn start_in_child(start: *mut c_void) -> c_int {
    // SAFETY: it is the `Start` of the thread that stands still meanwhile.
    let start = unsafe { &*start.cast::<Start<'_>>() };
    leave_to_the_caller_what_is_theirs();
    let mut child = 0;
    // SAFETY: all are live, the list of arguments ends with a null, and that of the environment is one. An errno fits into
    // an exit status.
    unsafe {
        libc::posix_spawn(
            &raw mut child,
            start.program.as_ptr(),
            &raw const start.manner.files,
            &raw const start.manner.attributes,
            start.arguments,
            (&raw const NO_ENVIRONMENT).cast(),
        )
    }
}

/// What a process has from whoever started it, and would pass on: a terminal that sends signals, descriptors, limits, and how
/// little of the processor it gets. This process is a child of the host's, and nothing of it is the host's but the memory.
fn leave_to_the_caller_what_is_theirs() {
    const LARGEST_STACK: libc::rlim_t = 8 << 20;
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
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const usual);
        let every_processor = [u8::MAX; size_of::<libc::cpu_set_t>()];
        libc::sched_setaffinity(0, every_processor.len(), every_processor.as_ptr().cast());
        let score = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        libc::write(score, c"0".as_ptr().cast(), 1);
        libc::close(score);
    }
}

/// An environment without a variable.
static NO_ENVIRONMENT: usize = 0;

/// How a program is started.
struct Manner {
    files: libc::posix_spawn_file_actions_t,
    attributes: libc::posix_spawnattr_t,
}

impl Manner {
    fn new() -> Result<Self, Errno> {
        let done = |code: c_int| if code == 0 { Ok(()) } else { Err(Errno::from_raw(code)) };
        let mut files = std::mem::MaybeUninit::uninit();
        let mut attributes = std::mem::MaybeUninit::uninit();
        // SAFETY: both are initialised where that succeeds.
        let mut manner = unsafe {
            done(libc::posix_spawn_file_actions_init(files.as_mut_ptr()))?;
            let files = files.assume_init();
            done(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            Self { files, attributes: attributes.assume_init() }
        };
        let (files, attributes) = (&raw mut manner.files, &raw mut manner.attributes);
        let (all, none) = (SigSet::all(), SigSet::empty());
        let flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        let flags = libc::c_short::try_from(flags).map_err(|_| Errno::EINVAL)?;
        // SAFETY: both are initialised, and the strings are copied.
        unsafe {
            for number in 0..=2 {
                done(libc::posix_spawn_file_actions_addopen(
                    files,
                    number,
                    c"/dev/null".as_ptr(),
                    libc::O_RDWR,
                    0,
                ))?;
            }
            done(libc::posix_spawn_file_actions_addchdir_np(files, c"/".as_ptr()))?;
            done(libc::posix_spawnattr_setsigdefault(attributes, all.as_ref()))?;
            done(libc::posix_spawnattr_setsigmask(attributes, none.as_ref()))?;
            done(libc::posix_spawnattr_setflags(attributes, flags))?;
        }
        Ok(manner)
    }
}

impl Drop for Manner {
    fn drop(&mut self) {
        // SAFETY: both were initialised, and nobody uses them any more.
        unsafe {
            libc::posix_spawn_file_actions_destroy(&raw mut self.files);
            libc::posix_spawnattr_destroy(&raw mut self.attributes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    #[test]
    fn a_panic_ends_in_the_guard_even_if_its_payload_panics_when_dropped() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::panic_any(Self);
            }
        }
        let place = guard(|| std::panic::panic_any(Bomb)).unwrap_err();
        assert!(place.contains("ffi.rs:"), "{place}");
        let place = guard(|| panic!("a message with a secret")).unwrap_err();
        assert!(!place.contains("secret"), "{place}");
        assert_eq!(guard(|| 7), Ok(7));
    }

    #[test]
    fn memory_is_as_large_as_asked_zero_and_aligned() {
        let mut memory = FreshMemory::default();
        for count in [8, 2047, 2048, 2049, 19_456] {
            let blocks = memory.blocks(count).unwrap();
            assert_eq!(blocks.len(), count);
            if count >= 2048 {
                assert_eq!(blocks.as_ptr().align_offset(HUGE), 0);
            }
            assert!([0, count - 1].iter().all(|&at| blocks[at].as_ref().iter().all(|&word| word == 0)));
            blocks[count - 1].as_mut()[127] = 1;
        }
        assert!(memory.blocks(usize::MAX / Block::SIZE).is_err());
        assert!(memory.blocks(usize::MAX).is_err());
        assert!(memory.blocks(0).is_err());
    }

    #[test]
    fn what_was_changed_is_given_back() {
        let state = || (SigSet::thread_get_mask().unwrap(), getrlimit(Resource::RLIMIT_FSIZE).unwrap());
        let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, 1 << 10, hard).unwrap();
        let before = state();
        let inside = undisturbed(state).unwrap();
        assert!(inside.0.contains(nix::sys::signal::Signal::SIGTERM));
        assert_eq!(inside.1.0, 64 << 10);
        assert_eq!(before, state());
        setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    }
}
