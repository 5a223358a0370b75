//! The log, since nobody may sit at standard error.

use nix::syslog::{Facility, Priority, Severity, syslog};

use crate::output;

pub(super) fn info(line: &str) {
    write(Severity::LOG_INFO, line);
}

pub(super) fn warning(line: &str) {
    write(Severity::LOG_WARNING, line);
    output::complain(&plain(line));
}

pub(super) fn error(line: &str) {
    write(Severity::LOG_ERR, line);
    output::complain(&plain(line));
}

fn write(severity: Severity, line: &str) {
    // A log that is not there keeps no notice back.
    let _ = syslog(Priority::new(severity, Facility::LOG_AUTH), &plain(line));
}

/// What comes from outside cannot end a line.
fn plain(line: &str) -> String {
    line.replace(char::is_control, " ")
}
