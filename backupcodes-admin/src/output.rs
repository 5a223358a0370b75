//! Standard output and standard error.

use std::fmt::Display;
use std::io::{self, Write};

use backupcodes_core::config::Config;
use backupcodes_core::notice::Writer;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::failure::Failure;

/// One line on standard error. If that fails, the exit status still tells.
pub(crate) fn complain(what: &dyn Display) {
    let _ = writeln!(io::stderr(), "backupcodes-admin: {what}");
}

/// What this host calls itself.
pub(crate) fn host_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".into(), |name| name.to_string_lossy().into_owned())
}

/// Who writes this host's notices.
pub(crate) fn writer<'a>(config: &'a Config, host: &str) -> Writer<'a> {
    Writer::new(config, host, TimeZone::system())
}

/// Text on standard output.
///
/// # Errors
/// [`Failure::Output`].
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    write(|out| out.write_all(text.as_bytes())).map_err(Failure::Output)
}

/// One JSON value on standard output, and a newline.
///
/// # Errors
/// [`Failure::Output`].
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    write(|out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        writeln!(out)
    })
    .map_err(Failure::Output)
}

/// Writes, and sees that it has arrived.
pub(crate) fn write(what: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    what(&mut out)?;
    out.flush()
}
