//! A delivery may have been started by su, on behalf of an ordinary user: whatever of its surroundings is theirs is left
//! behind before anything else, so that they can neither stop it nor have a say in what it does.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::errno::Errno;
use nix::sched::{sched_getaffinity, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use nix::sys::statvfs::{FsFlags, Statvfs, statvfs};
use nix::unistd::{Pid, chdir, close, geteuid, getgroups, setgroups, setresgid, setresuid};

use super::control_groups;
use crate::failure::Failure;
use crate::interrupt::is_ignored;

/// Root's ids, init's control groups, no limits, init's processors, the usual signals and timers, no descriptors but the three, `/`, and a strict umask.
///
/// # Errors
/// They cannot be left.
pub(crate) fn leave() -> Result<(), Failure> {
    if is_sandbox() {
        return Err(Failure::Sandbox);
    }
    if geteuid().is_root() {
        become_root().map_err(Failure::Ids)?;
        control_groups::join_those_of_init();
    }
    lift_limits();
    run_where_init_does();
    // A timer that may be as late as a caller of su likes may not come at all: prctl(2).
    let _ = prctl::set_timerslack(50_000);
    // Children of sendmail that lose their parent become ours: so they are found if it hangs.
    let _ = prctl::set_child_subreaper(true);
    take_signals();
    close_descriptors();
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    // There is always a root.
    let _ = chdir("/");
    Ok(())
}

/// A unit such as the broker's, that sees all but its own read-only and can gain no privileges. A sendmail in there would refuse for
/// good what it takes elsewhere.
fn is_sandbox() -> bool {
    let is_read_only = |disk: Statvfs| disk.flags().contains(FsFlags::ST_RDONLY);
    prctl::get_no_new_privs() == Ok(true) && statvfs("/var").is_ok_and(is_read_only)
}

/// In every sense: as long as the real uid is another's, that one may send signals.
fn become_root() -> Result<(), Errno> {
    let root = geteuid();
    setresuid(root, root, root)?;
    setresgid(0.into(), 0.into(), 0.into())?;
    if getgroups().is_ok_and(|groups| groups.is_empty()) { Ok(()) } else { setgroups(&[]) }
}

/// As far as this process may.
fn lift_limits() {
    const FILES: rlim_t = 1024;
    const STACK: rlim_t = 8 << 20;
    let limits = [
        (Resource::RLIMIT_FSIZE, RLIM_INFINITY),
        (Resource::RLIMIT_CPU, RLIM_INFINITY),
        (Resource::RLIMIT_AS, RLIM_INFINITY),
        (Resource::RLIMIT_DATA, RLIM_INFINITY),
        (Resource::RLIMIT_NPROC, RLIM_INFINITY),
        (Resource::RLIMIT_STACK, STACK),
        (Resource::RLIMIT_NOFILE, FILES),
    ];
    for (resource, wanted) in limits {
        let Ok((soft, hard)) = getrlimit(resource) else { continue };
        if soft < wanted && setrlimit(resource, wanted, wanted.max(hard)).is_err() {
            // Above the hard limit only with CAP_SYS_RESOURCE.
            let _ = setrlimit(resource, hard, hard);
        }
    }
}

/// The login that started this has kept its processor for itself. What the system keeps for others (isolcpus, CPUAffinity)
/// is left alone.
fn run_where_init_does() {
    if let Ok(processors) = sched_getaffinity(Pid::from_raw(1)) {
        let _ = sched_setaffinity(Pid::from_raw(0), &processors);
    }
}

/// None is blocked. One that is ignored would stay so in sendmail, but one that is handled would not (execve(2)): so those
/// are handled, by doing nothing.
fn take_signals() {
    let _ = SigSet::empty().thread_set_mask();
    let nothing = Arc::new(AtomicBool::new(false));
    for signal in 1..=64 {
        if is_ignored(signal) && !signal_hook::consts::FORBIDDEN.contains(&signal) {
            let _ = signal_hook::flag::register(signal, Arc::clone(&nothing));
        }
    }
}

/// All but the standard three: what is opened from here on does not pass to a child.
fn close_descriptors() {
    let numbers: Vec<i32> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for number in numbers.into_iter().filter(|&number| number > 2) {
        // That of the listing is closed already.
        let _ = close(number);
    }
}
