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
use backupcodes_core::mail::notice::{self, Event, Writer};
use backupcodes_core::mail::outbox::{QueuedNotice, Refusal};
use backupcodes_core::protocol::fleet::DueNotice;
use backupcodes_core::set::{CodeSet, Label, SpentRecord};
use backupcodes_core::store::{FileStore, FleetStore, Sets, Store, StoreError};

use self::sendmail::Sent;
use crate::terminal;

/// Tries every due notice. Returns how many notices were not delivered or could not be read.
///
/// A notice that was not delivered stays due. On its first day each delivery tries it again; later one delivery a day does, and
/// each one at a terminal.
pub(crate) fn run(config: &Config) -> usize {
    let mut delivery = Delivery {
        config,
        store: FileStore::new(&config.directory),
        fleet: Sets::new(config).into_fleet(),
        writer: Writer::of_this_host(config, &notice::host_name()),
        tries_old: true,
        tried: HashSet::new(),
        skipped: HashSet::new(),
        hung: HashSet::new(),
        failed: 0,
    };
    // Orphans of sendmail become children of this process, which ends them if sendmail hangs.
    let _ = nix::sys::prctl::set_child_subreaper(true);
    delivery.store.outbox().sweep();
    loop {
        let lock = match DeliveryLock::acquire(&config.runtime_directory) {
            Ok(Some(lock)) => {
                delivery.tries_old = lock.is_new_day() || terminal::is_there();
                if delivery.tries_old {
                    lock.note_day();
                    delivery.skipped.clear();
                }
                Some(lock)
            }
            // The delivery that has it checks for new notices after it releases it.
            Ok(None) => break,
            Err(error) => {
                log::warning(&format!("notices may be sent twice: {error}"));
                None
            }
        };
        delivery.round();
        let had_lock = lock.is_some();
        drop(lock);
        // A delivery that found the lock taken relies on this check.
        if !had_lock || !delivery.has_news() {
            break;
        }
    }
    delivery.failed
}

struct Delivery<'a> {
    config: &'a Config,
    store: FileStore,
    fleet: Option<FleetStore>,
    writer: Writer<'a>,
    /// Whether it tries what has been due for longer than a day.
    tries_old: bool,
    tried: HashSet<Due>,
    /// What this run leaves for another day.
    skipped: HashSet<Due>,
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

/// What becomes of a notice after a try.
enum Fate {
    /// sendmail has it.
    Delivered,
    /// It stays due.
    Stays,
    /// It was refused for an address that the user no longer has, and goes to these instead.
    MovesTo(Vec<String>),
}

impl Delivery<'_> {
    /// Tries all that is due and was not tried yet.
    fn round(&mut self) {
        for name in self.notices() {
            if self.is_new(&Due::Queued(name.clone())) {
                self.deliver_queued(&name);
            }
        }
        for user in self.users() {
            while self.deliver_next_use(&user) {}
        }
        for notice in self.fleet_due() {
            self.deliver_fleet_use(&notice);
        }
        self.forget_settled_refusals();
    }

    /// Tries the next use of the user's codes. The set is read again: what was due in it may be in the outbox by now, if it
    /// was replaced. `false`: there is none.
    fn deliver_next_use(&mut self, user: &str) -> bool {
        let Some(set) = self.set(user) else { return false };
        for (number, record) in set.due() {
            if self.is_new(&due(&set, number)) && self.takes_on(due(&set, number), record.time) {
                self.deliver_use(user, &set, number, record);
                return true;
            }
        }
        false
    }

    fn is_new(&self, due: &Due) -> bool {
        !self.tried.contains(due) && !self.skipped.contains(due)
    }

    /// Whether this run tries what happened then, or skips it. A wrong clock may have put that into the future.
    fn takes_on(&mut self, due: Due, time: Time) -> bool {
        let is_in_time = self.tries_old || clock::now().seconds().abs_diff(time.seconds()) < DAY.as_secs();
        let list = if is_in_time { &mut self.tried } else { &mut self.skipped };
        list.insert(due);
        is_in_time
    }

    /// `status` shows a refusal as long as something waits that it may concern.
    fn forget_settled_refusals(&mut self) {
        let outbox = self.store.outbox();
        for (user, _) in
            outbox.waiting().unwrap_or_default().into_iter().filter(|(_, waiting)| waiting.has_refusal)
        {
            let Ok(Some(refusal)) = outbox.refusal(&user) else { continue };
            let waits = outbox.names_to(&user, &refusal.to).map_or(true, |names| !names.is_empty());
            if !waits && self.set(&user).is_none_or(|set| set.due().next().is_none()) {
                let _ = outbox.forget_refusal(&user);
            }
        }
    }

    /// Whether something came that was not tried.
    fn has_news(&mut self) -> bool {
        let queued = self.notices().into_iter().map(Due::Queued).collect::<Vec<_>>();
        let mut users = self.users().into_iter();
        !self.fleet_due().is_empty()
            || queued.iter().any(|notice| self.is_new(notice))
            || users.any(|user| {
                self.set(&user)
                    .is_some_and(|set| set.due().any(|(number, _)| self.is_new(&due(&set, number))))
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
            Err(error) => {
                self.tried.insert(Due::Queued(name.into()));
                return self.unreadable(name, &error);
            }
        };
        if !self.takes_on(Due::Queued(name.into()), notice.time) {
            return;
        }
        let done = match self.send(&notice) {
            Fate::Delivered => outbox.remove(name),
            Fate::MovesTo(addresses) => outbox.send_on(&[name.into()], &addresses),
            Fate::Stays => Ok(()),
        };
        if let Err(error) = done {
            self.fail(&format!("a notice about {} will be sent again: {error}", notice.user));
        }
    }

    /// The addresses that the user has instead of this one. `None`: this one is still used, or nobody knows.
    fn addresses_instead(&self, user: &str, to: &String) -> Option<Vec<String>> {
        let email = Sets::new(self.config).read(user).ok().flatten()?.label.email;
        let is_used = self.writer.recipients(user, &email).contains(to);
        (!is_used).then(|| self.writer.addresses(user, &email))
    }

    fn deliver_use(&mut self, user: &str, set: &CodeSet, number: CodeNumber, record: &SpentRecord) {
        let notices = self.writer.of_use(set, number, record);
        if self.deliver_some(notices, user, number) {
            let marked = self.store.mark_notified(user, number, record).map(drop);
            self.will_be_sent_again(marked, user, number);
        }
    }

    /// The uses that are due in the fleet, and this host's to tell.
    fn fleet_due(&mut self) -> Vec<DueNotice> {
        let due = self.fleet.as_ref().map_or(Ok(Vec::new()), FleetStore::due);
        let mut due = due.unwrap_or_else(|error| self.unreadable("fleet", &error));
        due.retain(|notice| self.is_new(&Due::Use(notice.user.clone(), notice.set.clone(), notice.number)));
        due
    }

    fn deliver_fleet_use(&mut self, due: &DueNotice) {
        let DueNotice { user, uid, set, created, email, .. } = due.clone();
        let (Some(record), Some(number), Ok(created)) =
            (SpentRecord::parse(&due.record), CodeNumber::new(due.number), created.parse())
        else {
            return;
        };
        if !self.takes_on(Due::Use(user.clone(), set.clone(), due.number), record.time) {
            return;
        }
        let label = Label { set, user, uid, created, email };
        let event = Event::Used { number, record: &record, left: Some((due.left, due.total)) };
        let notices = self.writer.notices(&label, &label.email, record.time, event);
        if self.deliver_some(notices, &label.user, number) {
            let ended = self.fleet.as_ref().map_or(Ok(()), |fleet| fleet.notified(due));
            self.will_be_sent_again(ended, &label.user, number);
        }
    }

    /// Sends the notices of one use. Those that were not delivered wait in the outbox, if others were: whether the use is told of.
    fn deliver_some(&mut self, mut notices: Vec<QueuedNotice>, user: &str, number: CodeNumber) -> bool {
        let total = notices.len();
        notices.retain(|notice| !matches!(self.send(notice), Fate::Delivered));
        if notices.len() == total {
            return false;
        }
        match self.store.outbox().put(&notices).map(|queued| queued.names()) {
            Ok(names) => {
                // This run has tried them.
                self.tried.extend(names.into_iter().map(Due::Queued));
                true
            }
            Err(error) => {
                self.will_be_sent_again(Err(error.into()), user, number);
                false
            }
        }
    }

    fn will_be_sent_again(&mut self, marked: Result<(), StoreError>, user: &str, number: CodeNumber) {
        if let Err(error) = marked {
            self.fail(&format!("the notice of code {number} of {user} will be sent again: {error}"));
        }
    }

    fn send(&mut self, notice: &QueuedNotice) -> Fate {
        let QueuedNotice { user, to, message, .. } = notice;
        let sent = if self.hung.contains(to) {
            Sent::Later("sendmail hung for this address before".into())
        } else {
            sendmail::send(&self.config.notify.sendmail, to, message)
        };
        let about = format!("a notice about the codes of {user}");
        match sent {
            Sent::Taken => {
                log::info(&format!("{about} is delivered to {to}"));
                return Fate::Delivered;
            }
            Sent::Later(said) => self.fail(&format!("{about} for {to} stays due: {said}")),
            Sent::Hung(said) => {
                self.hung.insert(to.clone());
                self.fail(&format!("{about} for {to} stays due: {said}"));
            }
            Sent::Refused(said) => {
                let refused = format!("{about} for {to} is refused and");
                if let Some(instead) = self.addresses_instead(user, to) {
                    self.fail(&format!("{refused} goes to {} instead: {said}", instead.join(", ")));
                    return Fate::MovesTo(instead);
                }
                self.fail(&format!(
                    "{refused} stays due; for another address: backupcodes-admin email {user} ADDRESS: {said}"
                ));
                let refusal = Refusal { time: clock::now(), to: to.clone(), said };
                if let Err(error) = self.store.outbox().note_refusal(user, &refusal) {
                    log::warning(&format!("status cannot show the refusal: {error}"));
                }
            }
        }
        Fate::Stays
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
