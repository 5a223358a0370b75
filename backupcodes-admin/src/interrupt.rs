//! Ctrl-C and other signals that ask a program to end, checked between two users.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, io};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::pipe;

use crate::failure::Failure;

/// Whether this program was asked to end.
pub(crate) struct Interrupt {
    came: Arc<AtomicBool>,
    /// Can be read from then on: any thread may get the signal, and wake no other.
    wake: UnixStream,
}

impl Interrupt {
    /// From here on signals are only noted, except those that are ignored, as by nohup(1).
    pub(crate) fn watch() -> Result<Self, Failure> {
        Self::try_watch().map_err(Failure::Signals)
    }

    fn try_watch() -> io::Result<Self> {
        let (wake, sign) = UnixStream::pair()?;
        let came = Arc::<AtomicBool>::default();
        for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal)) {
            // A second signal ends the program at once, even if a reader of its output hangs.
            flag::register_conditional_shutdown(signal, 128_i32.saturating_add(signal), Arc::clone(&came))?;
            flag::register(signal, Arc::clone(&came))?;
            pipe::register(signal, sign.try_clone()?)?;
        }
        Ok(Self { came, wake })
    }

    pub(crate) fn came(&self) -> bool {
        self.came.load(Ordering::Relaxed)
    }
}

impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Whether this process was started with the signal ignored, or ignores it since.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    let bit = signal.checked_sub(1).and_then(|bit| u32::try_from(bit).ok());
    bit.and_then(|bit| ignored.checked_shr(bit)).is_some_and(|mask| mask & 1 == 1)
}
