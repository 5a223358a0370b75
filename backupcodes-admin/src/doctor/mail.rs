//! Whether notices are delivered.

use std::collections::BTreeSet;
use std::fs::metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use backupcodes_core::clock::{self, Time};
use backupcodes_core::config::Config;
use backupcodes_core::files::FileError;
use backupcodes_core::mail::outbox::Outbox;
use backupcodes_core::store::FileStore;

use super::finding::{Finding, Level, some_of};

/// The message about them.
pub(super) const LATE: &str = "notices have been due for more than an hour";
pub(super) const REMEDY: &str =
    "for the reason: backupcodes-admin notify; backupcodes-admin(8) says what should start it";

/// Deliveries come every 15 minutes at the latest.
pub(super) fn is_late(time: Time) -> bool {
    const HOUR: u64 = 60 * 60;
    clock::now().seconds().saturating_sub(time.seconds()) > HOUR
}

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<_> = sendmail(&config.notify.sendmail).into_iter().collect();
    match notices(&FileStore::new(&config.directory).outbox()) {
        Ok((late, refused)) => {
            let refusal = "sendmail refused notices to their addresses; the notices stay due";
            let remedy = "for the reason: backupcodes-admin status USER; for another address: backupcodes-admin email USER ADDRESS";
            for (users, check, message, remedy) in
                [(late, "notices-stuck", LATE, REMEDY), (refused, "notices-refused", refusal, remedy)]
            {
                if !users.is_empty() {
                    findings.push(Finding::new(Level::Warning, check, some_of(&users), message, remedy));
                }
            }
        }
        // The check of the directory tells of it.
        Err(FileError::NoDirectory(_)) => {}
        Err(error) => findings.push(Finding::explained(Level::Error, "outbox", error.explanation())),
    }
    findings
}

fn sendmail(command: &[String]) -> Option<Finding> {
    let program = command.first()?;
    let is_program = metadata(Path::new(program))
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    let remedy =
        "install a mail server, or a client such as msmtp-mta, or set another program: notify.sendmail";
    (!is_program).then(|| {
        Finding::new(
            Level::Warning,
            "no-sendmail",
            program,
            "no such program: no user is notified of a use",
            remedy,
        )
    })
}

/// Users with a notice that should be gone, and those of whom sendmail has refused one.
fn notices(outbox: &Outbox) -> Result<(Vec<String>, Vec<String>), FileError> {
    let refused = outbox.waiting()?.into_iter().filter(|(_, waiting)| waiting.has_refusal);
    let mut late = BTreeSet::new();
    for name in outbox.names()? {
        late.extend(outbox.read(&name)?.filter(|notice| is_late(notice.time)).map(|notice| notice.user));
    }
    Ok((late.into_iter().collect(), refused.map(|(user, _)| user).collect()))
}
