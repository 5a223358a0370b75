//! Notices: what a user is told by mail whenever a code is used, or a set or its addresses change.
//!
//! A notice holds no code, no hash and no link. Names come from outside, some from the network: none can leave its place
//! in the text, and none reaches a header but encoded.

mod text;

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::tz::TimeZone;
use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::date::Date;
use mail_builder::headers::message_id::MessageId;
use mail_builder::headers::text::Text;

use crate::clock::Time;
use crate::code::CodeNumber;
use crate::config::{Config, Notify};
use crate::mail::address;
use crate::mail::outbox::QueuedNotice;
use crate::set::{CodeSet, Label, SpentRecord};

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A code was used to log in.
    Used {
        /// Its number.
        number: CodeNumber,
        /// When, where and by which service.
        record: &'a SpentRecord,
        /// How many codes are left, and of how many; `None`: its set has been replaced or removed since.
        left: Option<(usize, usize)>,
    },
    /// The first set of a user, or one that replaces a file that is no set.
    Made {
        /// Codes in it.
        total: usize,
    },
    /// A new set that replaces another.
    Replaced {
        /// The id of the other.
        old: &'a str,
        /// Its unspent codes, which work no more.
        lost: usize,
        /// Codes in the new one.
        total: usize,
    },
    /// A set was removed.
    Revoked {
        /// Its unspent codes, which work no more.
        lost: usize,
    },
    /// Notices go to other addresses.
    Readdressed {
        /// Where they went.
        old: &'a [String],
        /// Where they go.
        new: &'a [String],
        /// Codes left.
        left: usize,
        /// Codes in the set.
        total: usize,
    },
}

/// Writes the notices of this host.
pub struct Writer<'a> {
    notify: &'a Notify,
    low: usize,
    host: String,
    zone: TimeZone,
}

/// What this host calls itself.
#[must_use]
pub fn host_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".into(), |name| name.to_string_lossy().into_owned())
}

impl<'a> Writer<'a> {
    /// A writer for this host, of the name `host`, in its own time zone.
    #[must_use]
    pub fn of_this_host(config: &'a Config, host: &str) -> Self {
        Self::new(config, host, TimeZone::system())
    }

    /// A writer for the host of this name, where clocks show the time of `zone`.
    #[must_use]
    pub fn new(config: &'a Config, host: &str, zone: TimeZone) -> Self {
        Self { notify: &config.notify, low: config.codes.low, host: text::shown(host, text::NAME), zone }
    }

    /// The notice of a use, to all who get the set's.
    #[must_use]
    pub fn of_use(&self, set: &CodeSet, number: CodeNumber, record: &SpentRecord) -> Vec<QueuedNotice> {
        let event = Event::Used { number, record, left: Some((set.left(), set.total())) };
        self.notices(&set.label, &set.label.email, record.time, event)
    }

    /// The notices of uses that are due when their set ends or gets other addresses.
    #[must_use]
    pub fn of_due_uses(&self, set: &CodeSet) -> Vec<QueuedNotice> {
        let notices = |(number, record): (CodeNumber, &SpentRecord)| {
            let event = Event::Used { number, record, left: None };
            self.notices(&set.label, &set.label.email, record.time, event)
        };
        set.due().flat_map(notices).collect()
    }

    /// The notice that notices go to other addresses, to the old ones and the new.
    #[must_use]
    pub fn readdressed(
        &self,
        label: &Label,
        new: &[String],
        (left, total): (usize, usize),
        time: Time,
    ) -> Vec<QueuedNotice> {
        let old = self.addresses(&label.user, &label.email);
        let new = self.addresses(&label.user, new);
        let event = Event::Readdressed { old: &old, new: &new, left, total };
        self.notices(label, &[old.as_slice(), &new].concat(), time, event)
    }

    /// The notice of an event, one message a recipient: to these addresses of the set's user, and to `copy_to`.
    #[must_use]
    pub fn notices(
        &self,
        label: &Label,
        email: &[String],
        time: Time,
        event: Event<'_>,
    ) -> Vec<QueuedNotice> {
        let notice = |to: String| {
            let message = self.message(label, &to, time, event);
            QueuedNotice { user: label.user.clone(), time, to, message }
        };
        self.recipients(&label.user, email).into_iter().map(notice).collect()
    }

    /// Where the notices of a user with these addresses go, beside `copy_to`.
    #[must_use]
    pub fn addresses(&self, user: &str, email: &[String]) -> Vec<String> {
        // Whoever wrote a set by hand may have written anything.
        let fit: Vec<_> = email.iter().filter(|to| address::check(to).is_ok()).cloned().collect();
        if fit.is_empty() { vec![address::of_user(user, &self.notify.domain)] } else { fit }
    }

    /// Where notices of a user with these addresses go.
    #[must_use]
    pub fn recipients(&self, user: &str, email: &[String]) -> Vec<String> {
        let mut recipients = self.addresses(user, email);
        recipients.extend_from_slice(&self.notify.copy_to);
        let mut seen = std::collections::HashSet::new();
        recipients.retain(|to| seen.insert(to.clone()));
        recipients
    }

    fn message(&self, label: &Label, to: &str, time: Time, event: Event<'_>) -> String {
        let text::Content { subject, body } = text::content(self, label, time, event);
        let Notify { from, domain, .. } = self.notify;
        let from = if from.contains('@') { from.clone() } else { address::of_user(from, domain) };
        let seconds = i64::try_from(time.seconds()).unwrap_or_default();
        let message = MessageBuilder::new()
            .header("From", Address::new_address(Some("Backup codes"), from))
            .header("To", Address::new_address(None::<&str>, to))
            .header("Subject", Text::new(subject))
            .header("Date", Date::new(seconds))
            .header("Message-ID", MessageId::new(self.message_id(label, time, event)))
            .header("Auto-Submitted", Text::new("auto-generated"))
            .text_body(body)
            .write_to_string();
        // It fails only where what it writes to does, and that is memory. sendmail takes lines as this system has them.
        // Where it folds a line it adds a tab to the space that is there.
        message.unwrap_or_default().replace("\r\n", "\n").replace("\n\t ", "\n ")
    }

    /// The same for the same event: what a crash lets go out twice can be told.
    fn message_id(&self, label: &Label, time: Time, event: Event<'_>) -> String {
        let what = match event {
            Event::Used { number, .. } => format!("used-{number}"),
            Event::Made { .. } => "made".into(),
            Event::Replaced { .. } => "replaced".into(),
            Event::Revoked { .. } => "revoked".into(),
            Event::Readdressed { new, .. } => {
                let mut hasher = DefaultHasher::new();
                new.hash(&mut hasher);
                format!("readdressed-{:016x}", hasher.finish())
            }
        };
        let plain = |text: &str| -> String {
            text.chars().filter(|&c| c.is_ascii_alphanumeric() || "-.".contains(c)).take(64).collect()
        };
        let host = plain(&self.host);
        let host = host.trim_matches('.');
        let host = if host.is_empty() { "localhost" } else { host };
        format!("{}.{what}.{}.backupcodes@{host}", plain(&label.set), time.seconds())
    }
}
