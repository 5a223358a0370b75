//! What a process uses, to see whether it grows.

use std::fs;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub resident_kib: u64,
    pub size_kib: u64,
    pub mappings: usize,
    pub descriptors: usize,
}

impl Usage {
    /// Of this process, now.
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line of the status");
            line.trim().trim_end_matches(" kB").parse().expect("a number")
        };
        Self {
            resident_kib: kib("VmRSS:"),
            size_kib: kib("VmSize:"),
            mappings: fs::read_to_string("/proc/self/maps").unwrap().lines().count(),
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
        }
    }

    /// Some pages may come and go, and libc's heap grows by 132 KiB at a time: what is lost every time is more than that
    /// after a thousand.
    pub fn is_more_than(&self, before: &Self) -> bool {
        self.resident_kib > before.resident_kib + 64
            || self.size_kib > before.size_kib + 132
            || self.mappings > before.mappings
            || self.descriptors > before.descriptors
    }
}
