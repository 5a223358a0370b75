//! The log: nobody may read standard error.

use backupcodes_core::visible::shown;
use nix::syslog::{Facility, Priority, Severity, syslog};

use crate::output;

pub(super) fn info(line: &str) {
    write(Severity::LOG_INFO, line);
}

pub(super) fn warning(line: &str) {
    write(Severity::LOG_WARNING, line);
    output::complain(&line);
}

pub(super) fn error(line: &str) {
    write(Severity::LOG_ERR, line);
    output::complain(&line);
}

fn write(severity: Severity, line: &str) {
    // A missing log holds up no notice.
    let _ = syslog(Priority::new(severity, Facility::LOG_AUTH), &shown(line));
}
