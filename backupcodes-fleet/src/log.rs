//! The log of the service.

use backupcodes_core::verify::Level;
use backupcodes_core::visible::shown;
use nix::syslog::{Facility, Priority, Severity, syslog};

/// Writes one line to syslog.
pub(crate) fn log(level: Level, line: &str) {
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
