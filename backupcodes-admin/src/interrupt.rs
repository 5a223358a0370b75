//! Ctrl-C, and what else politely asks a program to end, as something to look at between two users.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register;

use crate::failure::Failure;

/// Whether this program was asked to end.
#[derive(Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on, signals only leave a sign.
    ///
    /// # Errors
    /// They cannot be handled.
    pub(crate) fn watch() -> Result<Self, Failure> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            register(signal, Arc::clone(&interrupt.0)).map_err(Failure::Signals)?;
        }
        Ok(interrupt)
    }

    pub(crate) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
