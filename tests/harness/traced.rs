//! A process that goes from one system call to the next when it is told to. A tracer that is root leaves a setuid program its powers.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

/// It is stopped, but for the time of a step. Only the thread that seized or started it may lead it.
pub struct Traced {
    pid: Pid,
    entered: Option<Stop>,
}

/// A moment of a process: on its way into a call, or out of it.
#[derive(Clone, Copy)]
pub struct Stop {
    pub call: libc::c_long,
    pub arguments: [u64; 6],
    pub is_entry: bool,
}

impl Stop {
    /// A call in which something changes, behind it.
    pub fn changes(&self) -> bool {
        const CREATES: u64 = libc::O_CREAT as u64;
        let changes = match self.call {
            libc::SYS_openat => self.arguments[2] & CREATES != 0,
            libc::SYS_write
            | libc::SYS_sendto
            | libc::SYS_pwrite64
            | libc::SYS_ftruncate
            | libc::SYS_fsync
            | libc::SYS_fdatasync => true,
            libc::SYS_mkdirat
            | libc::SYS_unlinkat
            | libc::SYS_renameat
            | libc::SYS_renameat2
            | libc::SYS_utimensat
            | libc::SYS_fchmod => true,
            libc::SYS_flock | libc::SYS_setresuid | libc::SYS_rt_sigprocmask => true,
            libc::SYS_clone | libc::SYS_wait4 => !self.looks(),
            _ => false,
        };
        changes && !self.is_entry
    }

    /// Any call, before and behind it.
    pub fn does_something(&self) -> bool {
        !self.looks()
    }

    /// A call that only looks, and that is made so often that stops would be lost in it, or more often on a busy machine, where a stop
    /// would have another number each time. Its kill would be that behind the call before.
    fn looks(&self) -> bool {
        const WAITS_NOT: u64 = libc::WNOHANG as u64;
        const FLAGS: [u64; 2] = [libc::F_GETFD as u64, libc::F_GETFL as u64];
        match self.call {
            // Whether sendmail has ended. The second one goes on with the first, where the child's end came between.
            libc::SYS_poll | libc::SYS_restart_syscall => true,
            libc::SYS_wait4 => self.arguments[2] & WAITS_NOT != 0,
            // What the tests' application looks at in itself: descriptors and signals.
            libc::SYS_fcntl => FLAGS.contains(&self.arguments[1]),
            libc::SYS_getpeername => true,
            // One byte more of a call, and how long it is waited for.
            libc::SYS_read | libc::SYS_recvfrom => self.arguments[2] == 1,
            libc::SYS_setsockopt => true,
            libc::SYS_rt_sigaction => self.arguments[1] == 0,
            _ => false,
        }
    }
}

impl Traced {
    pub fn seize(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.try_into().unwrap());
        ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
        ptrace::interrupt(pid).unwrap();
        waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
        Self { pid, entered: None }
    }

    /// One that [`start_traced`] has started, or its first child.
    fn led(child: &Child, victim: Victim) -> Self {
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        waitpid(pid, None).unwrap();
        let follow = match victim {
            Victim::Itself => ptrace::Options::empty(),
            Victim::ItsChild => ptrace::Options::PTRACE_O_TRACEFORK,
        };
        ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD | follow).unwrap();
        Self { pid: if victim == Victim::ItsChild { first_child(pid) } else { pid }, entered: None }
    }

    /// Leads it to where it enters its next system call, whose number comes back; `None`: it has ended.
    pub fn next_call(&mut self) -> Option<libc::c_long> {
        loop {
            let stop = self.next_stop()?;
            if stop.is_entry {
                return Some(stop.call);
            }
        }
    }

    /// Leads it to where it enters or leaves its next system call; `None`: it has ended, which whoever waits for it still hears.
    pub fn next_stop(&mut self) -> Option<Stop> {
        let mut signal = None;
        loop {
            ptrace::syscall(self.pid, signal.take()).ok()?;
            let flags =
                WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
            if let WaitStatus::Exited(..) | WaitStatus::Signaled(..) =
                waitid(Id::Pid(self.pid), flags).unwrap()
            {
                return None;
            }
            match waitpid(self.pid, Some(WaitPidFlag::__WALL)).unwrap() {
                WaitStatus::PtraceSyscall(_) => return Some(self.stop()),
                WaitStatus::Stopped(_, other) => signal = Some(other),
                _ => {}
            }
        }
    }

    fn stop(&mut self) -> Stop {
        if let Some(entered) = self.entered.take() {
            return Stop { is_entry: false, ..entered };
        }
        let info = ptrace::syscall_info(self.pid).unwrap();
        // SAFETY: the kernel says so of a process that is stopped where it enters a call.
        let entry = unsafe { info.u.entry };
        let stop = Stop { call: entry.nr.try_into().unwrap(), arguments: entry.args, is_entry: true };
        self.entered = Some(stop);
        stop
    }

    /// The parent of a process that is led hears of its end only after who leads it.
    fn let_its_parent_know(&self, victim: Victim) {
        if victim == Victim::ItsChild {
            waitpid(self.pid, Some(WaitPidFlag::__WALL)).unwrap();
        }
    }

    /// Lets it go on alone.
    pub fn release(self) {
        let _ = ptrace::detach(self.pid, None);
    }
}

/// The first child of a process that stops when it forks. It is led from its first moment, and its parent no longer.
fn first_child(parent: Pid) -> Pid {
    let child = loop {
        ptrace::cont(parent, None).unwrap();
        if let WaitStatus::PtraceEvent(..) = waitpid(parent, None).unwrap() {
            break Pid::from_raw(ptrace::getevent(parent).unwrap().try_into().unwrap());
        }
    };
    waitpid(child, Some(WaitPidFlag::__WALL)).unwrap();
    ptrace::detach(parent, None).unwrap();
    // Its own children are not led.
    ptrace::setoptions(child, ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
    child
}

/// What is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The process that is started.
    Itself,
    /// Its first child: an attempt is made by one.
    ItsChild,
}

/// Starts `command` and kills it at its stop of this number, counted from 0, among those that `counts`. A process that is killed
/// on its way into a call does not make it. The stop comes back, or `None` where it ended before.
pub fn killed_at(
    command: &mut Command,
    input: &str,
    victim: Victim,
    counts: fn(&Stop) -> bool,
    number: usize,
) -> (Option<Stop>, Output) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = start_traced(command);
    // Less than a pipe holds.
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let killed = kill_at(&child, victim, counts, number);
    (killed, child.wait_with_output().unwrap())
}

/// The same with a connection as its standard input, which nobody has any more when this comes back.
pub fn killed_at_serving(
    mut command: Command,
    connection: UnixStream,
    counts: fn(&Stop) -> bool,
    number: usize,
) -> Option<Stop> {
    let mut child = start_traced(command.stdin(OwnedFd::from(connection)));
    drop(command);
    let killed = kill_at(&child, Victim::Itself, counts, number);
    child.wait().unwrap();
    killed
}

fn kill_at(child: &Child, victim: Victim, counts: fn(&Stop) -> bool, number: usize) -> Option<Stop> {
    let mut led = Traced::led(child, victim);
    let mut left = number;
    let killed = loop {
        let Some(stop) = led.next_stop() else { break None };
        if counts(&stop) {
            let Some(fewer) = left.checked_sub(1) else { break Some(stop) };
            left = fewer;
        }
    };
    if killed.is_some() {
        kill(led.pid, Signal::SIGKILL).unwrap();
    }
    led.let_its_parent_know(victim);
    killed
}

/// A process that stops when it has become the program.
fn start_traced(command: &mut Command) -> Child {
    // SAFETY: between fork and exec it makes a system call and nothing else.
    unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
    command.spawn().unwrap()
}

/// What was killed, at so many stops, among which are these calls.
pub fn report(what: &str, killed: &[Stop], calls: &[libc::c_long]) {
    println!("{what}: killed at {} stops", killed.len());
    for call in calls {
        assert!(killed.iter().any(|stop| stop.call == *call), "{what} is not killed at call {call}");
    }
}
