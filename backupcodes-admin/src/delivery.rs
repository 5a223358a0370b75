//! Delivers the notices that are due, with sendmail.
//!
//! A notice is marked or removed only after sendmail has taken it: after a crash in between it is sent twice, never not at all. Each run
//! of sendmail has one recipient, so that an address that is refused holds up no other.

mod log;
mod sendmail;

use std::collections::HashSet;
use std::fmt::Display;

use backupcodes_core::clock::{self, Time};
use backupcodes_core::code::CodeNumber;
use backupcodes_core::config::Config;
use backupcodes_core::mail::delivery_lock::{DAY, DeliveryLock};
use backupcodes_core::mail::notice::{self, Writer};
use backupcodes_core::mail::outbox::{QueuedNotice, Refusal};
use backupcodes_core::set::{CodeSet, Label, SpentRecord};
use backupcodes_core::store::{FileStore, Store, StoreError};

use self::sendmail::Sent;
use crate::terminal;

/// Delivers until nothing is left that was not tried. How many notices were not delivered or could not be read.
///
/// What was not delivered stays due. On its first day each delivery tries it again; later one a day does, and whoever sits at a
/// terminal.
pub(crate) fn run(config: &Config) -> usize {
    let host = notice::host_name();
    let mut delivery = Delivery {
        config,
        store: FileStore::new(&config.directory),
        writer: Writer::of_this_host(config, &host),
        lock: None,
        tries_old: true,
        tried: HashSet::new(),
        hung: HashSet::new(),
        failed: 0,
    };
    // Orphans of sendmail become children of this process, which ends them if sendmail hangs.
    let _ = nix::sys::prctl::set_child_subreaper(true);
    delivery.store.outbox().sweep();
    loop {
        match DeliveryLock::acquire(&config.runtime_directory) {
            Ok(Some(lock)) => {
                delivery.tries_old = lock.is_new_day() || terminal::is_there();
                delivery.lock = Some(lock);
            }
            // The delivery that has it checks for new notices after it releases it.
            Ok(None) => break,
            Err(error) => log::warning(&format!("notices may be sent twice: {error}")),
        }
        delivery.round();
        // A delivery that found the lock taken relies on this check.
        if delivery.lock.take().is_none() || !delivery.has_news() {
            break;
        }
    }
    delivery.failed
}

struct Delivery<'a> {
    config: &'a Config,
    store: FileStore,
    writer: Writer<'a>,
    lock: Option<DeliveryLock>,
    /// Whether it tries what has been due for longer than a day.
    tries_old: bool,
    /// What this run has tried or leaves for another day.
    tried: HashSet<Due>,
    /// Recipients for whom sendmail hung: one wait a run is enough.
    hung: HashSet<String>,
    failed: usize,
}

/// What waits.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Due {
    /// A notice in the outbox, by its name.
    Queued(String),
    /// A use: user, set and number of the code.
    Use(String, String, u8),
    /// Something that cannot be read.
    Unreadable(String),
}

impl Delivery<'_> {
    /// Tries all that is due and was not tried yet.
    fn round(&mut self) {
        for name in self.notices() {
            if self.tried.insert(Due::Queued(name.clone())) {
                self.deliver_queued(&name);
            }
        }
        for user in self.users() {
            while self.deliver_next_use(&user) {}
        }
        if self.tries_old {
            self.lock.iter().for_each(DeliveryLock::note_day);
        }
    }

    /// Tries the next use of the user's codes. The set is read again: what was due in it may be in the outbox by now, if it
    /// was replaced. `false`: there is none.
    fn deliver_next_use(&mut self, user: &str) -> bool {
        let Some(set) = self.set(user) else { return false };
        for (number, record) in set.due() {
            if self.tried.insert(due(&set, number)) && self.is_in_time(record.time) {
                self.deliver_use(user, &set, number, record);
                return true;
            }
        }
        false
    }

    /// Whether this run tries what happened then. A wrong clock may have put that into the future.
    fn is_in_time(&self, time: Time) -> bool {
        self.tries_old || clock::now().seconds().abs_diff(time.seconds()) < DAY.as_secs()
    }

    /// Whether something came that was not tried.
    fn has_news(&mut self) -> bool {
        let queued = self.notices().into_iter().map(Due::Queued).collect::<Vec<_>>();
        let mut users = self.users().into_iter();
        queued.iter().any(|notice| !self.tried.contains(notice))
            || users.any(|user| {
                self.set(&user)
                    .is_some_and(|set| set.due().any(|(number, _)| !self.tried.contains(&due(&set, number))))
            })
    }

    fn notices(&mut self) -> Vec<String> {
        self.store.outbox().names().unwrap_or_else(|error| self.unreadable("outbox", &error))
    }

    fn users(&mut self) -> Vec<String> {
        self.store.users().unwrap_or_else(|error| self.unreadable("sets", &error))
    }

    fn set(&mut self, user: &str) -> Option<CodeSet> {
        self.store.read(user).unwrap_or_else(|error| self.unreadable(user, &error))
    }

    fn unreadable<T: Default>(&mut self, what: &str, error: &dyn Display) -> T {
        if self.tried.insert(Due::Unreadable(what.into())) {
            self.fail(&format!("some notices cannot be read: {error}"));
        }
        T::default()
    }

    fn deliver_queued(&mut self, name: &str) {
        let outbox = self.store.outbox();
        let notice = match outbox.read(name) {
            Ok(Some(notice)) => notice,
            Ok(None) => return,
            Err(error) => return self.unreadable(name, &error),
        };
        if !self.is_in_time(notice.time) {
            return;
        }
        let is_done = match self.send(&notice) {
            Sent::Taken => true,
            Sent::Refused(_) => !self.is_used(&notice.user, &notice.to),
            Sent::Later(_) | Sent::Hung(_) => false,
        };
        if let Some(error) = is_done.then(|| outbox.remove(name).err()).flatten() {
            self.fail(&format!("a notice about {} will be sent again: {error}", notice.user));
        }
    }

    /// Whether notices of this user go to this address. Without a set that is not known.
    fn is_used(&self, user: &str, to: &String) -> bool {
        match self.store.read(user) {
            Ok(Some(set)) => self.writer.recipients(user, &set.label.email).contains(to),
            _ => true,
        }
    }

    fn deliver_use(&mut self, user: &str, set: &CodeSet, number: CodeNumber, record: &SpentRecord) {
        let mut notices = self.writer.of_use(set, number, record);
        let total = notices.len();
        notices.retain(|notice| !matches!(self.send(notice), Sent::Taken));
        if notices.len() == total {
            return;
        }
        // Only the notices that were not delivered wait in the outbox.
        let queued = self.store.outbox().put(&notices).map(|posted| posted.names());
        let marked = queued.map_err(StoreError::from).and_then(|names| {
            // This run has tried them.
            self.tried.extend(names.into_iter().map(Due::Queued));
            self.store.mark_notified(user, number, record)
        });
        if let Err(error) = marked {
            self.fail(&format!("the notice of code {number} of {user} will be sent again: {error}"));
        }
    }

    fn send(&mut self, notice: &QueuedNotice) -> Sent {
        let QueuedNotice { user, to, message, .. } = notice;
        let outbox = self.store.outbox();
        let handed = if self.hung.contains(to) {
            Sent::Later("sendmail hung for this address before".into())
        } else {
            sendmail::send(&self.config.notify.sendmail, to, message)
        };
        match &handed {
            Sent::Taken => {
                log::info(&format!("a notice about the codes of {user} is delivered to {to}"));
                if outbox.refusal(user).is_ok_and(|refusal| refusal.is_some_and(|refusal| refusal.to == *to))
                {
                    // The next notice to this address tells of any new refusal.
                    let _ = outbox.forget_refusal(user);
                }
            }
            Sent::Later(said) | Sent::Hung(said) => {
                if let Sent::Hung(_) = handed {
                    self.hung.insert(to.clone());
                }
                self.fail(&format!("a notice about the codes of {user} for {to} stays due: {said}"));
            }
            Sent::Refused(said) => {
                self.fail(&format!(
                    "a notice about the codes of {user} for {to} is refused and stays due; for another address: \
                     backupcodes-admin email {user} ADDRESS: {said}"
                ));
                let refusal = Refusal { time: clock::now(), to: to.clone(), said: said.clone() };
                let noted = if self.is_used(user, to) { outbox.note_refusal(user, &refusal) } else { Ok(()) };
                if let Err(error) = noted {
                    log::warning(&format!("status cannot show the refusal: {error}"));
                }
            }
        }
        handed
    }

    fn fail(&mut self, what: &str) {
        self.failed = self.failed.saturating_add(1);
        log::error(what);
    }
}

fn due(set: &CodeSet, number: CodeNumber) -> Due {
    let Label { user, set, .. } = &set.label;
    Due::Use(user.clone(), set.clone(), number.get())
}
