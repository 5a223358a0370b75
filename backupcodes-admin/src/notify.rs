//! `notify`: hands over to sendmail what is due.
//!
//! A notice is done with only after sendmail has taken it: a crash between both sends it once more, never not at all. One
//! run of sendmail has one recipient, so that an address that is refused holds up no other.

mod log;
mod sendmail;
mod surroundings;

use std::collections::HashSet;

use backupcodes_core::clock;
use backupcodes_core::code::Slot;
use backupcodes_core::config::Config;
use backupcodes_core::mark::{Mail, Mark};
use backupcodes_core::notice::Writer;
use backupcodes_core::outbox::{Letter, Refusal};
use backupcodes_core::set::{CodeSet, Label};
use backupcodes_core::store::{FileStore, Store, StoreError};
use backupcodes_core::turn::Turn;

use self::sendmail::Handed;
pub(crate) use self::surroundings::leave as leave_surroundings;
use crate::failure::{Failure, Outcome};
use crate::output;

/// Delivers until nothing is left that was not tried.
pub(crate) fn run(config: &Config) -> Result<Outcome, Failure> {
    let host = output::host_name();
    let mut delivery = Delivery {
        config,
        store: FileStore::new(&config.directory),
        writer: output::writer(config, &host),
        turn: None,
        tried: HashSet::new(),
        failed: 0,
    };
    loop {
        match Turn::take(&config.runtime_directory) {
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
    match delivery.failed {
        0 => Ok(Outcome::Done),
        failed => Err(Failure::Undelivered(failed)),
    }
}

struct Delivery<'a> {
    config: &'a Config,
    store: FileStore,
    writer: Writer<'a>,
    turn: Option<Turn>,
    /// What was tried in this run: a later one tries again.
    tried: HashSet<Due>,
    failed: usize,
}

/// What waits.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Due {
    /// A letter in the outbox, by its name.
    Letter(String),
    /// A use: user, set and number of the code.
    Use(String, String, u8),
    /// Something that cannot be looked at.
    Unreadable(String),
}

impl Delivery<'_> {
    /// Tries all that is due and was not tried yet, as long as it is this delivery's turn.
    fn round(&mut self) {
        for name in self.letters() {
            if self.has_turn() && self.tried.insert(Due::Letter(name.clone())) {
                self.deliver_letter(&name);
            }
        }
        for user in self.users() {
            while self.has_turn() && self.deliver_next_use(&user) {}
        }
    }

    /// Tries the next use of the user's codes. The set is looked at anew: what was due in it may be a letter by now, if it
    /// was replaced. `false`: there is none.
    fn deliver_next_use(&mut self, user: &str) -> bool {
        let Some(set) = self.set(user) else { return false };
        for (slot, mark) in set.due() {
            if self.tried.insert(due(&set, slot)) {
                self.deliver_use(user, &set, slot, mark);
                return true;
            }
        }
        false
    }

    /// Whether no other has gone ahead because this one stood still. Without a turn there is no order.
    fn has_turn(&self) -> bool {
        self.turn.as_ref().is_none_or(Turn::goes_on)
    }

    /// Whether something came that was not tried.
    fn has_news(&mut self) -> bool {
        let letters = self.letters().into_iter().map(Due::Letter).collect::<Vec<_>>();
        let mut users = self.users().into_iter();
        letters.iter().any(|letter| !self.tried.contains(letter))
            || users.any(|user| {
                self.set(&user)
                    .is_some_and(|set| set.due().any(|(slot, _)| !self.tried.contains(&due(&set, slot))))
            })
    }

    fn letters(&mut self) -> Vec<String> {
        self.store.outbox().names().unwrap_or_else(|error| self.unreadable("outbox", &error))
    }

    fn users(&mut self) -> Vec<String> {
        self.store.users().unwrap_or_else(|error| self.unreadable("sets", &error))
    }

    fn set(&mut self, user: &str) -> Option<CodeSet> {
        self.store.read(user).unwrap_or_else(|error| self.unreadable(user, &error))
    }

    fn unreadable<T: Default>(&mut self, what: &str, error: &StoreError) -> T {
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
        if let Handed::Later(_) = self.hand_over(&letter) {
            return;
        }
        if let Err(error) = outbox.remove(name) {
            self.fail(&format!("a notice about {} will go out once more: {error}", letter.user));
        }
    }

    fn deliver_use(&mut self, user: &str, set: &CodeSet, slot: Slot, mark: &Mark) {
        let letters = self.writer.of_use(set, slot, mark);
        let total = letters.len();
        let (mut later, mut refused) = (Vec::new(), false);
        for letter in letters {
            match self.hand_over(&letter) {
                Handed::Over => {}
                Handed::Later(_) => later.push(letter),
                Handed::Refused(_) => refused = true,
            }
        }
        if later.len() == total {
            return;
        }
        // Those who have got it are not told again: only the others' letters wait.
        let kept = self.store.outbox().put(&later).map(|posted| posted.names());
        if let Err(error) = kept {
            return self.fail(&format!("the notice of code {slot} of {user} will go out once more: {error}"));
        }
        // They were tried.
        self.tried.extend(kept.into_iter().flatten().map(Due::Letter));
        let mail = if refused { Mail::Refused } else { Mail::Ok };
        match self.store.see_to(user, slot, mark, mail) {
            Ok(_) => {}
            Err(error) => {
                self.fail(&format!("the notice of code {slot} of {user} will go out once more: {error}"));
            }
        }
    }

    fn hand_over(&mut self, letter: &Letter) -> Handed {
        let Letter { user, to, message, .. } = letter;
        // A notice may have many recipients, each of whom takes time.
        let _ = self.has_turn();
        let outbox = self.store.outbox();
        let handed = sendmail::hand_over(&self.config.notify.sendmail, to, message);
        match &handed {
            Handed::Over => {
                log::info(&format!("a notice about the codes of {user} is handed over for {to}"));
                if outbox.refusal(user).is_ok_and(|refusal| refusal.is_some_and(|refusal| refusal.to == *to))
                {
                    // It is told again with the next one.
                    let _ = outbox.forget_refusal(user);
                }
            }
            Handed::Later(said) => {
                self.fail(&format!("a notice about the codes of {user} for {to} stays due: {said}"));
            }
            Handed::Refused(said) => {
                self.fail(&format!(
                    "a notice about the codes of {user} for {to} is refused, and not tried again before its address is \
                     set again (backupcodes-admin email {user} ADDRESS): {said}"
                ));
                let refusal = Refusal { time: clock::now(), to: to.clone(), said: said.clone() };
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

fn due(set: &CodeSet, slot: Slot) -> Due {
    let Label { user, set, .. } = &set.label;
    Due::Use(user.clone(), set.clone(), slot.number())
}
