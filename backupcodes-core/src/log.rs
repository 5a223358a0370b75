//! The log of services, under the name of the program.

use nix::syslog::{Facility, Priority, Severity, syslog};

use crate::verify::Level;
use crate::visible::shown;

/// Writes one line to syslog.
pub fn log(level: Level, line: &str) {
    let severity = match level {
        Level::Critical => Severity::LOG_CRIT,
        Level::Error => Severity::LOG_ERR,
        Level::Warning => Severity::LOG_WARNING,
        Level::Notice => Severity::LOG_NOTICE,
        Level::Debug => Severity::LOG_DEBUG,
    };
    // Untrusted text cannot end the line.
    let _ = syslog(Priority::new(severity, Facility::LOG_AUTH), &shown(line));
}
