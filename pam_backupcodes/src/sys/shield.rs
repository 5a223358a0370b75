//! A shield against the user who started the process.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use super::limits::LimitsLifted;

/// Runs `f` while the caller of the process cannot disturb it, and restores all process state that it changes.
///
/// The caller of su controls the real uid, the signals and the limits of the process: a signal could stop it while it holds a
/// lock, and a limit could make a spend fail.
///
/// # Errors
/// A system call failed, as text for the log. `f` may have run.
pub(crate) fn shielded_from_caller<T>(f: impl FnOnce() -> T) -> Result<T, String> {
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
    // An application that would go on with wrong ids must not accept the login.
    ids.restore()?;
    Ok(result)
}

/// Blocks all signals of this thread until it is dropped.
struct SignalsBlocked(SigSet);

impl SignalsBlocked {
    fn new() -> Result<Self, Errno> {
        Ok(Self(SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?))
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // Our write above the file size limit leaves this signal pending, and it would end the application.
        let mut file_size = SigSet::empty();
        file_size.add(Signal::SIGXFSZ);
        let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: set and time are live values, and a null pointer requests no information about the signal.
        unsafe { libc::sigtimedwait(file_size.as_ref(), std::ptr::null_mut(), &raw const no_time) };
        let _ = self.0.thread_set_mask();
    }
}

/// Gives this thread root's real and saved uid until they are restored, if its effective uid is root's and they can be restored.
struct RootIds(Option<[libc::uid_t; 3]>);

impl RootIds {
    fn new() -> Result<Self, Errno> {
        let ids = ids()?;
        // Without CAP_SETUID, a thread with root's effective uid may take these ids but could not restore them.
        if ids[1] != 0 || ids == [0; 3] || !may_set_uids()? {
            return Ok(Self(None));
        }
        set_ids([0; 3])?;
        Ok(Self(Some(ids)))
    }

    fn restore(&mut self) -> Result<(), Errno> {
        self.0.take().map_or(Ok(()), set_ids)
    }
}

impl Drop for RootIds {
    fn drop(&mut self) {
        // This has an effect only after a panic.
        let _ = self.restore();
    }
}

/// Whether CAP_SETUID is effective in this thread.
fn may_set_uids() -> Result<bool, Errno> {
    const VERSION: u32 = 0x2008_0522; // _LINUX_CAPABILITY_VERSION_3 of linux/capability.h
    const CAP_SETUID: u32 = 7;
    let header: [u32; 2] = [VERSION, 0];
    // Effective, permitted and inheritable: the low 32 capabilities, then the high ones.
    let mut sets = [0_u32; 6];
    // SAFETY: both arrays have the size and layout of this version's structures.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) })?;
    Ok(sets[0] & (1 << CAP_SETUID) != 0)
}

/// Real, effective and saved uid of this thread.
fn ids() -> Result<[libc::uid_t; 3], Errno> {
    let mut ids = [0; 3];
    let [real, effective, saved] = &mut ids;
    // SAFETY: three live variables for three uids.
    Errno::result(unsafe { libc::getresuid(real, effective, saved) })?;
    Ok(ids)
}

/// The system call with 32-bit uids. On old architectures the plain call has 16-bit uids: it takes 131072 for root.
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
const SETRESUID: libc::c_long = libc::SYS_setresuid;
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
const SETRESUID: libc::c_long = libc::SYS_setresuid32;

/// A direct system call: libc's function would change all threads of the application.
fn set_ids(wanted: [libc::uid_t; 3]) -> Result<(), Errno> {
    let [real, effective, saved] = wanted;
    // SAFETY: the arguments are plain numbers.
    Errno::result(unsafe { libc::syscall(SETRESUID, real, effective, saved) })?;
    // The kernel may have set other ids, and no application must go on with those.
    if ids()? == wanted { Ok(()) } else { Err(Errno::EOVERFLOW) }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, Mutex, PoisonError};

    use super::*;
    use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    /// All tests of a process share its limits.
    static ALONE: Mutex<()> = Mutex::new(());

    fn limits() -> [(rlim_t, rlim_t); 2] {
        [Resource::RLIMIT_FSIZE, Resource::RLIMIT_NOFILE].map(|resource| getrlimit(resource).unwrap())
    }

    /// Leaves one limit that can be lifted. Not that of the file size: it would end this process at its next line of output where
    /// that goes to a longer file.
    fn lower_limit() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard.saturating_sub(8)), hard).unwrap();
    }

    /// A child has the original limits at any time, and can lift and restore them itself.
    #[test]
    fn a_child_that_is_forked_meanwhile_has_the_original_limits_and_can_lift_them() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        lower_limit();
        super::super::limits::watch_forks();
        let before = limits();
        let barrier = Barrier::new(2);
        let status = std::thread::scope(|scope| {
            scope.spawn(|| shielded_from_caller(|| [barrier.wait(), barrier.wait()]).unwrap());
            barrier.wait();
            assert_ne!(limits(), before);
            // SAFETY: the child only checks its limits, and ends.
            let status = match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    let is_original = limits() == before;
                    let is_lifted = shielded_from_caller(limits).is_ok_and(|lifted| lifted != before);
                    let code = i32::from(!is_original)
                        + 2 * i32::from(!is_lifted)
                        + 4 * i32::from(limits() != before);
                    // SAFETY: ends the process at once.
                    unsafe { libc::_exit(code) }
                }
                ForkResult::Parent { child } => waitpid(child, None).unwrap(),
            };
            assert_ne!(limits(), before, "the parent's limits are still lifted");
            barrier.wait();
            status
        });
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
        assert_eq!(limits(), before);
    }

    /// The 16-bit call would change the second uid to root, and the third to another user.
    #[test]
    fn a_uid_of_more_than_16_bits_is_restored() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        // Each thread has its own ids.
        let is_restored = |real| {
            set_ids([real, 0, 0]).unwrap();
            let mut root = RootIds::new().unwrap();
            assert_eq!(ids().unwrap(), [0; 3]);
            root.restore().unwrap();
            assert_eq!(ids().unwrap(), [real, 0, 0]);
        };
        std::thread::spawn(move || [65535, 131_072, 131_073, 4_000_000_000].map(is_restored)).join().unwrap();
    }

    #[test]
    fn all_changed_process_state_is_restored() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        lower_limit();
        let state = || (SigSet::thread_get_mask().unwrap(), limits());
        let before = state();
        let inside = shielded_from_caller(state).unwrap();
        assert!(inside.0.contains(nix::sys::signal::Signal::SIGTERM));
        assert!(inside.1[1] > before.1[1], "{inside:?}");
        assert_eq!(before, state());
    }
}
