//! All unsafe code: calls of libpam, memory mappings, the process state that a caller may have changed, and the start of another
//! program. Its interface is safe to use.

mod fork;
pub(crate) mod libpam;
mod limits;
mod memory;
mod shield;
mod start;

pub(crate) use self::limits::watch_forks;
pub(crate) use self::memory::{FreshMemory, has_memory};
pub(crate) use self::shield::shielded_from_caller;
pub(crate) use self::start::start_detached;
