//! A process that is led from one system call to the next. A tracer that is root leaves a setuid program its powers.

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// It is stopped, but for the time of a step. Only the thread that seized it may lead it.
pub struct Traced {
    pid: Pid,
    is_in_call: bool,
}

impl Traced {
    pub fn seize(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.try_into().unwrap());
        ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
        ptrace::interrupt(pid).unwrap();
        waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
        Self { pid, is_in_call: false }
    }

    /// Leads it to where it enters its next system call, whose number comes back; `None`: it has ended.
    pub fn next_call(&mut self) -> Option<i64> {
        let mut signal = None;
        loop {
            ptrace::syscall(self.pid, signal.take()).ok()?;
            match waitpid(self.pid, Some(WaitPidFlag::__WALL)).unwrap() {
                WaitStatus::PtraceSyscall(_) => {
                    self.is_in_call = !self.is_in_call;
                    if self.is_in_call {
                        return Some(self.number());
                    }
                }
                WaitStatus::Stopped(_, other) => signal = Some(other),
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return None,
                _ => {}
            }
        }
    }

    fn number(&self) -> i64 {
        let info = ptrace::syscall_info(self.pid).unwrap();
        // SAFETY: the kernel says so of a process that is stopped where it enters a call.
        i64::try_from(unsafe { info.u.entry.nr }).unwrap()
    }

    /// Lets it go on alone.
    pub fn release(self) {
        let _ = ptrace::detach(self.pid, None);
    }
}
