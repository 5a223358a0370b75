//! Mail to users: what it says, where it waits, and who may deliver it.

pub mod address;
pub mod delivery_lock;
#[cfg(feature = "notice")]
pub mod notice;
pub mod outbox;
