//! Whether users learn that a code was used.

use std::fs::metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use backupcodes_core::clock::{self, Time};
use backupcodes_core::config::Config;
use backupcodes_core::store::{FileStore, Store};

use super::finding::{Finding, Level, some_of};

/// Seconds after which a notice should be gone: deliveries come every 15 minutes.
const LATE: u64 = 60 * 60;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<_> = sendmail(&config.notify.sendmail).into_iter().collect();
    let store = FileStore::new(&config.directory);
    match late(&store, clock::now()) {
        Ok(late) if late.is_empty() => {}
        Ok(late) => findings.push(Finding::new(
            Level::Warning,
            "notices-stuck",
            some_of(&late),
            "notices have been due for more than an hour",
            "see why: backupcodes-admin notify; who starts it is said in README (Mail)",
        )),
        Err(error) => findings.push(Finding::of_error(Level::Error, "outbox", &error)),
    }
    findings
}

fn sendmail(command: &[String]) -> Option<Finding> {
    let program = command.first()?;
    let is_program = metadata(Path::new(program))
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    let remedy =
        "install a mail server, or a client such as msmtp-mta, or name another program: notify.sendmail";
    (!is_program).then(|| {
        Finding::new(
            Level::Warning,
            "no-sendmail",
            program,
            "no such program: nobody is told that a code was used",
            remedy,
        )
    })
}

/// Users with a notice that should be gone. What cannot be read is told of elsewhere.
fn late(store: &FileStore, now: Time) -> Result<Vec<String>, backupcodes_core::store::StoreError> {
    let is_late = |time: Time| now.seconds().saturating_sub(time.seconds()) > LATE;
    let outbox = store.outbox();
    let mut users = Vec::new();
    for name in outbox.names()? {
        let letter = outbox.read(&name)?;
        users.extend(
            letter.filter(|letter| !letter.is_refused && is_late(letter.time)).map(|letter| letter.user),
        );
    }
    for user in store.users().unwrap_or_default() {
        let is_stuck = store
            .read(&user)
            .is_ok_and(|set| set.is_some_and(|set| set.due().any(|(_, mark)| is_late(mark.time))));
        users.extend(is_stuck.then_some(user));
    }
    users.sort_unstable();
    users.dedup();
    Ok(users)
}
