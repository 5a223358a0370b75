//! The progress of a long run, shown only on a terminal.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};

/// A line on standard error that shows it.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Of a run over so many users; a single one needs no progress.
    pub(crate) fn over(users: usize) -> Self {
        if users < 2 || !stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(u64::try_from(users).unwrap_or(u64::MAX));
        let style = ProgressStyle::with_template("{bar:24} {pos} of {len} users, {per_sec}, {eta} left");
        Self(style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style)))
    }

    pub(crate) fn one_more(&self) {
        self.0.inc(1);
    }

    /// Does something that may write to the terminal.
    pub(crate) fn beside<T>(&self, what: impl FnOnce() -> T) -> T {
        self.0.suspend(what)
    }

    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }
}
