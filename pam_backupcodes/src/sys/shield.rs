//! A moment in which whoever started the host process cannot disturb it.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use super::limits::LimitsLifted;

/// Runs `f` where whoever started the host process cannot get at it, and gives back all that was changed.
///
/// In su the caller owns the real uid, the signals and the limits of the process: between a lock and its release a
/// signal of theirs could stop it, and a limit of theirs could make a spend fail.
///
/// # Errors
/// The system refused, in words for the log. `f` may have run all the same.
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
        let ids = ids()?;
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

/// Real, effective and saved uid of this thread.
fn ids() -> Result<[libc::uid_t; 3], Errno> {
    let mut ids = [0; 3];
    let [real, effective, saved] = &mut ids;
    // SAFETY: three live places for three uids.
    Errno::result(unsafe { libc::getresuid(real, effective, saved) })?;
    Ok(ids)
}

/// The call whose uids have 32 bits. Where the kernel is older than those, the one of the plain name has 16: 131072 is root to it.
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
const SETRESUID: libc::c_long = libc::SYS_setresuid;
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
const SETRESUID: libc::c_long = libc::SYS_setresuid32;

/// The system call itself: libc's function would change every thread of the host.
fn set_ids(wanted: [libc::uid_t; 3]) -> Result<(), Errno> {
    let [real, effective, saved] = wanted;
    // SAFETY: plain numbers go in.
    Errno::result(unsafe { libc::syscall(SETRESUID, real, effective, saved) })?;
    // What the kernel made of them, which no host may go on with where it is something else.
    if ids()? == wanted { Ok(()) } else { Err(Errno::EOVERFLOW) }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, Mutex, PoisonError};

    use super::*;
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    /// The limits of this process are those of all its tests.
    static ALONE: Mutex<()> = Mutex::new(());

    /// Whatever other threads are at, a child has the limits of the host, and can have them lifted and get them back itself.
    #[test]
    fn a_child_that_is_forked_meanwhile_has_its_own_limits_and_can_lift_them() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let limits =
            || [Resource::RLIMIT_FSIZE, Resource::RLIMIT_NOFILE].map(|resource| getrlimit(resource).unwrap());
        super::super::limits::watch_forks();
        let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, 1 << 10, hard).unwrap();
        let before = limits();
        let barrier = Barrier::new(2);
        let status = std::thread::scope(|scope| {
            scope.spawn(|| shielded_from_caller(|| [barrier.wait(), barrier.wait()]).unwrap());
            barrier.wait();
            assert_ne!(limits(), before);
            // SAFETY: the child looks at its limits, and ends.
            let status = match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    let is_its_own = limits() == before;
                    let is_lifted = shielded_from_caller(limits).is_ok_and(|lifted| lifted != before);
                    let code = i32::from(!is_its_own)
                        + 2 * i32::from(!is_lifted)
                        + 4 * i32::from(limits() != before);
                    // SAFETY: ends the process at once.
                    unsafe { libc::_exit(code) }
                }
                ForkResult::Parent { child } => waitpid(child, None).unwrap(),
            };
            assert_ne!(limits(), before, "the parent's are lifted as before");
            barrier.wait();
            status
        });
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
        assert_eq!(limits(), before);
        setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    }

    /// The 16-bit call would make root of the second one, and another user of the third.
    #[test]
    fn a_uid_of_more_than_16_bits_comes_back_as_it_was() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        // A thread's ids are its own.
        let come_back = |real| {
            set_ids([real, 0, 0]).unwrap();
            let mut root = RootIds::new().unwrap();
            assert_eq!(ids().unwrap(), [0; 3]);
            root.give_back().unwrap();
            assert_eq!(ids().unwrap(), [real, 0, 0]);
        };
        std::thread::spawn(move || [65535, 131_072, 131_073, 4_000_000_000].map(come_back)).join().unwrap();
    }

    #[test]
    fn what_was_changed_is_given_back() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let state = || (SigSet::thread_get_mask().unwrap(), getrlimit(Resource::RLIMIT_FSIZE).unwrap());
        let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, 1 << 10, hard).unwrap();
        let before = state();
        let inside = shielded_from_caller(state).unwrap();
        assert!(inside.0.contains(nix::sys::signal::Signal::SIGTERM));
        assert_eq!(inside.1.0, 64 << 10);
        assert_eq!(before, state());
        setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    }
}
