//! The state of a process that a PAM module may change and must restore: [`ProcessState`] is a look at all of it.
//!
//! No look opens a descriptor, and one that was prepared needs no path: it works with no descriptor left, and in a chroot.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use serde::{Deserialize, Serialize};

/// All that belongs to the application and not to the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessState {
    /// Real, effective, saved and file system uid.
    pub uids: [u32; 4],
    pub gids: [u32; 4],
    pub groups: Vec<u32>,
    /// Effective, permitted and inheritable, low halves first.
    pub capabilities: [u32; 6],
    pub signals: Signals,
    pub descriptors: Vec<Descriptor>,
    /// Device and inode.
    pub cwd: (u64, u64),
    pub umask: u32,
    pub environment: Vec<String>,
    /// Soft and hard, by their numbers.
    pub limits: Vec<(u64, u64)>,
    /// Intervals of the three timers in microseconds.
    pub timers: [libc::time_t; 3],
    pub is_dumpable: i32,
    pub threads: u64,
    pub has_children: bool,
}

/// The state of all signals. Sets are bits, that of signal 1 the lowest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signals {
    /// Handler, flags and mask.
    pub actions: Vec<(usize, i32, u64)>,
    pub blocked: u64,
    pub pending: u64,
}

/// An open descriptor: flags of its own, flags of the open file, and which file it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    pub number: i32,
    pub flags: [i32; 2],
    pub file: (u64, u64),
}

/// What every look needs of /proc, opened while it can be.
pub struct Looker {
    tasks: File,
}

impl Looker {
    #[expect(clippy::new_without_default, reason = "it opens a file")]
    pub fn new() -> Self {
        let tasks = File::options().read(true).custom_flags(libc::O_PATH).open("/proc/self/task");
        Self { tasks: tasks.expect("/proc/self/task") }
    }

    /// The threads of this process: a directory has two links, and one for each directory in it.
    pub fn threads(&self) -> u64 {
        self.tasks.metadata().expect("threads").nlink() - 2
    }

    pub fn look(&self) -> ProcessState {
        // SAFETY: asks for the umask in the one way there is, and sets it again; no file is made meanwhile.
        let umask = unsafe {
            let umask = libc::umask(0);
            libc::umask(umask);
            umask
        };
        ProcessState {
            uids: ids(libc::getresuid, libc::setfsuid),
            gids: ids(libc::getresgid, libc::setfsgid),
            groups: nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect(),
            capabilities: capabilities(),
            signals: Signals::now(),
            descriptors: descriptors(),
            cwd: std::fs::metadata(".").map(|cwd| (cwd.dev(), cwd.ino())).unwrap(),
            umask,
            environment: std::env::vars_os().map(|variable| format!("{variable:?}")).collect(),
            limits: (0..16).map(limit).collect(),
            timers: [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF].map(interval),
            // SAFETY: no pointer goes in.
            is_dumpable: unsafe { libc::prctl(libc::PR_GET_DUMPABLE) },
            threads: self.threads(),
            has_children: has_children(),
        }
    }
}

impl ProcessState {
    /// What differs, in words. (The whole would be hard to read, and an environment is nobody's business.)
    pub fn differences(&self, after: &Self) -> Vec<String> {
        let fields = |lent: &Self| match serde_json::to_value(lent) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => unreachable!("a structure is an object"),
        };
        let after = fields(after);
        let differs = |(name, before): (String, serde_json::Value)| {
            let after = &after[&name];
            let items = |value: &serde_json::Value| match value {
                serde_json::Value::Array(items) => items.clone(),
                other => vec![other.clone()],
            };
            let (before, after) = (items(&before), items(after));
            let lost: Vec<_> = before.iter().filter(|item| !after.contains(item)).collect();
            let new: Vec<_> = after.iter().filter(|item| !before.contains(item)).collect();
            (before != after).then(|| format!("{name}: {lost:?} became {new:?}"))
        };
        fields(self).into_iter().filter_map(differs).collect()
    }
}

type GetIds = unsafe extern "C" fn(*mut u32, *mut u32, *mut u32) -> i32;

fn ids(get: GetIds, set_for_files: unsafe extern "C" fn(u32) -> i32) -> [u32; 4] {
    let [mut real, mut effective, mut saved] = [0; 3];
    // SAFETY: three live places; an id of -1 is none, so that nothing is set and the present one comes back.
    unsafe {
        get(&raw mut real, &raw mut effective, &raw mut saved);
        [real, effective, saved, set_for_files(u32::MAX) as u32]
    }
}

fn capabilities() -> [u32; 6] {
    let header: [u32; 2] = [0x2008_0522, 0]; // _LINUX_CAPABILITY_VERSION_3, this thread
    let mut sets = [0; 6];
    // SAFETY: both are as large as this version's structures, arrays of u32.
    assert_eq!(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) }, 0);
    sets
}

impl Signals {
    fn now() -> Self {
        // SAFETY: each call fills the live value that it is given; zero bytes are one of these C structures.
        unsafe {
            let [mut blocked, mut pending] = [std::mem::zeroed(); 2];
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut blocked);
            libc::sigpending(&raw mut pending);
            let action = |signal| {
                let mut action: libc::sigaction = std::mem::zeroed();
                // The two that libc keeps for itself stay zero.
                libc::sigaction(signal, std::ptr::null(), &raw mut action);
                (action.sa_sigaction, action.sa_flags, bits(&action.sa_mask))
            };
            Self { actions: (1..=64).map(action).collect(), blocked: bits(&blocked), pending: bits(&pending) }
        }
    }
}

fn bits(set: &libc::sigset_t) -> u64 {
    // SAFETY: a live set.
    let has = |signal| unsafe { libc::sigismember(set, signal) } == 1;
    (1..=64).filter(|&signal| has(signal)).map(|signal| 1 << (signal - 1)).sum()
}

/// libc connects again where a signal comes between it and a log that is busy: that is not ours.
fn is_connected_to_log(number: i32) -> bool {
    nix::sys::socket::getpeername::<nix::sys::socket::UnixAddr>(number)
        .is_ok_and(|peer| peer.path() == Some(std::path::Path::new("/dev/log")))
}

fn descriptors() -> Vec<Descriptor> {
    let open = |number| {
        // SAFETY: no pointer goes in, but for a place for one stat, which zero bytes are.
        unsafe {
            let flags = [libc::F_GETFD, libc::F_GETFL].map(|command| libc::fcntl(number, command));
            let mut stat: libc::stat64 = std::mem::zeroed();
            let is_log = is_connected_to_log(number);
            (flags[0] != -1 && libc::fstat64(number, &raw mut stat) == 0).then_some(Descriptor {
                number,
                flags,
                file: if is_log { (0, 0) } else { (stat.st_dev, stat.st_ino) },
            })
        }
    };
    (0..1024).filter_map(open).collect()
}

fn limit(number: u32) -> (u64, u64) {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a live place.
    assert_eq!(unsafe { libc::getrlimit64(number, &raw mut limit) }, 0);
    (limit.rlim_cur, limit.rlim_max)
}

fn interval(timer: i32) -> libc::time_t {
    // SAFETY: a live place, for which zero bytes are a value.
    unsafe {
        let mut value: libc::itimerval = std::mem::zeroed();
        libc::getitimer(timer, &raw mut value);
        value.it_interval.tv_sec * 1_000_000 + value.it_interval.tv_usec
    }
}

fn has_children() -> bool {
    let kinds = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: a live place, for which zero bytes are a value.
    let status = unsafe {
        let mut child: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_ALL, 0, &raw mut child, kinds)
    };
    // With none it is ECHILD.
    status == 0
}
