//! Hands over to sendmail what is due.
//!
//! A notice is done with only after sendmail has taken it: a crash between both sends it once more, never not at all. One
//! run of sendmail has one recipient, so that an address that is refused holds up no other.

mod log;
mod sendmail;

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::time::Duration;

use backupcodes_core::clock;
use backupcodes_core::code::CodeNumber;
use backupcodes_core::config::Config;
use backupcodes_core::mail::delivery_lock::DeliveryLock;
use backupcodes_core::mail::notice::{self, Writer};
use backupcodes_core::mail::outbox::{QueuedNotice, Refusal};
use backupcodes_core::set::{CodeSet, Label};
use backupcodes_core::set::{Mail, SpentRecord};
use backupcodes_core::store::{FileStore, Store};

use self::sendmail::Handed;

/// For so long after a refusal a user's refused letters rest.
const REST: Duration = Duration::from_secs(24 * 60 * 60);
/// A letter that is refused for so many days is given up.
const GIVEN_UP: u32 = 30;

/// Delivers until nothing is left that was not tried. How much could not be delivered, or looked for.
pub(crate) fn run(config: &Config) -> usize {
    let host = notice::host_name();
    let mut delivery = Delivery {
        config,
        store: FileStore::new(&config.directory),
        writer: Writer::of_this_host(config, &host),
        turn: None,
        tried: HashSet::new(),
        rests: HashMap::new(),
        hung: HashSet::new(),
        failed: 0,
    };
    // Orphans of sendmail become children of this process, which ends them if sendmail hangs.
    let _ = nix::sys::prctl::set_child_subreaper(true);
    delivery.store.outbox().sweep();
    loop {
        match DeliveryLock::acquire(&config.runtime_directory) {
            Ok(Some(turn)) => delivery.turn = Some(turn),
            // Whoever has it looks once more when it has let go.
            Ok(None) => break,
            Err(error) => log::warning(&format!("notices may go out twice: {error}")),
        }
        delivery.round();
        // Who came meanwhile relies on this look, and would not look itself.
        if delivery.turn.take().is_none() || !delivery.has_news() {
            break;
        }
    }
    delivery.failed
}

struct Delivery<'a> {
    config: &'a Config,
    store: FileStore,
    writer: Writer<'a>,
    turn: Option<DeliveryLock>,
    /// What was tried in this run: a later one tries again.
    tried: HashSet<Due>,
    /// Whether a user's refused letters rest.
    rests: HashMap<String, bool>,
    /// Recipients for whom sendmail hung: one wait a run is enough.
    hung: HashSet<String>,
    failed: usize,
}

/// What waits.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Due {
    /// A letter in the outbox, by its name.
    QueuedNotice(String),
    /// A use: user, set and number of the code.
    Use(String, String, u8),
    /// Something that cannot be looked at.
    Unreadable(String),
}

impl Delivery<'_> {
    /// Tries all that is due and was not tried yet, as long as it is this delivery's turn.
    fn round(&mut self) {
        for name in self.notices() {
            if self.tried.insert(Due::QueuedNotice(name.clone())) {
                self.deliver_letter(&name);
            }
        }
        for user in self.users() {
            while self.deliver_next_use(&user) {}
        }
    }

    /// Tries the next use of the user's codes. The set is looked at anew: what was due in it may be a letter by now, if it
    /// was replaced. `false`: there is none.
    fn deliver_next_use(&mut self, user: &str) -> bool {
        let Some(set) = self.set(user) else { return false };
        for (number, record) in set.due() {
            if self.tried.insert(due(&set, number)) {
                self.deliver_use(user, &set, number, record);
                return true;
            }
        }
        false
    }

    /// Whether something came that was not tried.
    fn has_news(&mut self) -> bool {
        let letters = self.notices().into_iter().map(Due::QueuedNotice).collect::<Vec<_>>();
        let mut users = self.users().into_iter();
        letters.iter().any(|letter| !self.tried.contains(letter))
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
            self.fail(&format!("notices may be due that cannot be read: {error}"));
        }
        T::default()
    }

    fn deliver_letter(&mut self, name: &str) {
        let outbox = self.store.outbox();
        let letter = match outbox.read(name) {
            Ok(Some(letter)) => letter,
            Ok(None) => return,
            Err(error) => return self.unreadable(name, &error),
        };
        if letter.is_refused && self.rests(&letter.user) {
            return;
        }
        // From before it is refused, so that its day is over when the user's rest is.
        let now = clock::now();
        let seen_to = match self.hand_over(&letter) {
            Handed::Later(_) | Handed::Hung(_) => return,
            Handed::Refused(_) if !self.is_used(&letter.user, &letter.to) => outbox.remove(name),
            Handed::Refused(_) => match outbox.refuse(name, now) {
                Ok(refused) if refused.days >= GIVEN_UP => {
                    self.fail(&format!(
                        "a notice about the codes of {} for {} is given up",
                        letter.user, letter.to
                    ));
                    outbox.remove(&refused.name)
                }
                // Under its other name it is no news.
                kept => kept.map(|refused| self.tried.extend([Due::QueuedNotice(refused.name)])),
            },
            Handed::Over => outbox.remove(name),
        };
        if let Err(error) = seen_to {
            self.fail(&format!("a notice about {} will go out once more: {error}", letter.user));
        }
    }

    /// Whether notices of this user go to this address, as far as is known.
    fn is_used(&self, user: &str, to: &String) -> bool {
        match self.store.read(user) {
            Ok(Some(set)) => self.writer.recipients(user, &set.label.email).contains(to),
            _ => true,
        }
    }

    /// As it was when this run first asked: a refusal in this run keeps none of the user's others back.
    fn rests(&mut self, user: &str) -> bool {
        if let Some(&rests) = self.rests.get(user) {
            return rests;
        }
        let refusal = self.store.outbox().refusal(user).unwrap_or_default();
        let now = clock::now().seconds();
        // What was refused in the future, when the clock was wrong, does not rest until then.
        let age = refusal.and_then(|refusal| now.checked_sub(refusal.time.seconds()));
        let rests = age.is_some_and(|age| age < REST.as_secs());
        self.rests.insert(user.into(), rests);
        rests
    }

    fn deliver_use(&mut self, user: &str, set: &CodeSet, number: CodeNumber, record: &SpentRecord) {
        let letters = self.writer.of_use(set, number, record);
        let total = letters.len();
        let mut kept = Vec::new();
        for letter in letters {
            match self.hand_over(&letter) {
                Handed::Over => {}
                Handed::Later(_) | Handed::Hung(_) => kept.push(letter),
                Handed::Refused(_) => kept.push(QueuedNotice { is_refused: true, ..letter }),
            }
        }
        let refused = kept.iter().any(|letter| letter.is_refused);
        if kept.len() == total && !refused {
            return;
        }
        // Those who have got it are not told again: only the others' letters wait.
        let kept = self.store.outbox().put(&kept).map(|posted| posted.names());
        if let Err(error) = kept {
            return self
                .fail(&format!("the notice of code {number} of {user} will go out once more: {error}"));
        }
        // They were tried.
        self.tried.extend(kept.into_iter().flatten().map(Due::QueuedNotice));
        let mail = if refused { Mail::Refused } else { Mail::Ok };
        match self.store.mark_notified(user, number, record, mail) {
            Ok(_) => {}
            Err(error) => {
                self.fail(&format!("the notice of code {number} of {user} will go out once more: {error}"));
            }
        }
    }

    fn hand_over(&mut self, letter: &QueuedNotice) -> Handed {
        let QueuedNotice { user, to, message, .. } = letter;
        // As it is before this one is refused.
        self.rests(user);
        let outbox = self.store.outbox();
        let handed = if self.hung.contains(to) {
            Handed::Later("sendmail hung for the same address before".into())
        } else {
            sendmail::hand_over(&self.config.notify.sendmail, to, message)
        };
        if let Handed::Hung(_) = handed {
            self.hung.insert(to.clone());
        }
        match &handed {
            Handed::Over => {
                log::info(&format!("a notice about the codes of {user} is handed over for {to}"));
                if outbox.refusal(user).is_ok_and(|refusal| refusal.is_some_and(|refusal| refusal.to == *to))
                {
                    // It is told again with the next one.
                    let _ = outbox.forget_refusal(user);
                }
            }
            Handed::Later(said) | Handed::Hung(said) => {
                self.fail(&format!("a notice about the codes of {user} for {to} stays due: {said}"));
            }
            Handed::Refused(said) => {
                self.fail(&format!(
                    "a notice about the codes of {user} for {to} is refused, and tried again in a day, or after \
                     backupcodes-admin email {user} ADDRESS: {said}"
                ));
                let refusal = Refusal { time: clock::now(), to: to.clone(), said: said.clone() };
                if !self.is_used(user, to) {
                    return handed;
                }
                if let Err(error) = outbox.note_refusal(user, &refusal) {
                    log::warning(&format!("status cannot tell of that: {error}"));
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
