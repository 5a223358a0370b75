//! A moment in which whoever started the host process cannot disturb it.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use crate::limits::LimitsLifted;

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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

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
