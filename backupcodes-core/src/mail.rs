//! Mail to users: its text, the outbox where it waits, and the lock that one delivery holds.

pub mod address;
pub mod delivery_lock;
#[cfg(feature = "notice")]
pub mod notice;
pub mod outbox;
