//! Private files and directories: opened first, judged by their descriptor, locked with a deadline, and flushed.
//!
//! A [`FileError`] does not know the purpose of the file.

pub(crate) mod directory;
mod error;
pub(crate) mod lock;
pub(crate) mod stat;
pub(crate) mod trust;

pub use self::error::FileError;
pub use self::trust::{ShownPath, Untrusted};
