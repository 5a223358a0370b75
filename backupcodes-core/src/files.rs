//! Private files and directories: opened first and judged by their descriptor, locked with an end, and flushed.
//!
//! What is wrong with a file is a [`FileError`] here, which knows nothing of what the file is for.

pub(crate) mod directory;
mod error;
pub(crate) mod lock;
pub(crate) mod stat;
pub(crate) mod trust;

pub use self::error::FileError;
pub use self::trust::{ShownPath, Untrusted};
