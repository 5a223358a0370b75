//! All unsafe code: calls of libpam, memory mappings, and the process state that a caller may have changed. Its interface is safe to use.

mod fork;
pub(crate) mod libpam;
mod limits;
mod memory;
mod shield;

pub(crate) use self::limits::watch_forks;
pub(crate) use self::memory::{FreshMemory, has_memory};
pub(crate) use self::shield::shielded_from_caller;
