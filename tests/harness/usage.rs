//! What a process uses, to see whether it grows.

use std::fs;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes that malloc has given out and not got back, exact only where [`EXACT`] holds. The resident size says less:
    /// what malloc keeps for later varies by more than a thousand small leaks.
    pub allocated: usize,
    pub size_kib: u64,
    pub mappings: usize,
    pub descriptors: usize,
}

/// Keeps malloc from keeping small pieces that were given back, which it counts as given out (mallinfo(3)).
pub const EXACT: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");

impl Usage {
    /// Of this process, now.
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let size =
            status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a line of the status");
        let mappings = fs::read_to_string("/proc/self/maps").unwrap().lines().count();
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
        let size_kib = size.trim().trim_end_matches(" kB").parse().expect("a number");
        drop(status);
        // SAFETY: it takes nothing, and returns numbers.
        let heap = unsafe { libc::mallinfo2() };
        Self { allocated: heap.uordblks + heap.hblkhd, size_kib, mappings, descriptors }
    }

    /// A few bytes may come and go, and libc's heap grows by 132 KiB at a time: what is lost every time is more than that
    /// after a thousand.
    pub fn is_more_than(&self, before: &Self) -> bool {
        self.allocated > before.allocated + 1000
            || self.size_kib > before.size_kib + 132
            || self.mappings > before.mappings
            || self.descriptors > before.descriptors
    }
}
