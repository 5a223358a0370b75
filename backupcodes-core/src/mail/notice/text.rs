//! The words of a notice.

use std::fmt::Write;

use jiff::Timestamp;

use super::{Event, Writer};
use crate::clock::Time;
use crate::set::{Label, SpentRecord};
use crate::throttle::LOCAL;
use crate::visible::is_hidden;

/// Most characters of a name in a subject.
pub(super) const NAME: usize = 64;
/// Most characters of a name in the text.
const LONG_NAME: usize = 256;
/// Most addresses that are listed.
const ADDRESSES: usize = 10;

pub(super) struct Content {
    pub(super) subject: String,
    pub(super) body: String,
}

pub(super) fn content(writer: &Writer<'_>, label: &Label, time: Time, event: Event<'_>) -> Content {
    let user = shown(&label.user, NAME);
    // Of a fleet it may be another one.
    let of_use = match event {
        Event::Used { record, .. } => record.host.as_deref().map(|host| shown(host, NAME)),
        _ => None,
    };
    let host = &of_use.unwrap_or_else(|| writer.host.clone());
    let words = match event {
        Event::Used { number, record, left } => used(writer, &user, host, number.get(), record, left),
        Event::Made { total } => Words {
            happened: "You have backup codes for logging in now. Each works once.",
            facts: vec![("Left", of(total, total))],
            yours: "If you have the sheet, keep it away from the device that makes your\nverification codes."
                .into(),
            not_yours: "If you do not have the sheet, somebody else may have it.",
            ..Words::of(format!("New backup codes for {user} on {host}"))
        },
        Event::Replaced { old, lost, total } => Words {
            happened: "You have a new set of backup codes for logging in. The old set works no\nmore.",
            facts: vec![
                ("Left", of(total, total)),
                ("Old set", format!("{}, with {lost} unspent", shown(old, NAME))),
            ],
            yours: "If you have the new sheet, throw the old one away.".into(),
            not_yours: "If you do not have the new sheet, somebody else may have it.",
            ..Words::of(format!("Backup codes of {user} on {host} were replaced"))
        },
        Event::Revoked { lost } => Words {
            happened: "You have no backup codes any more: the set was removed, and none of its codes\nworks.",
            facts: vec![("Left", format!("none; {lost} were unspent"))],
            yours: "If you expected this, throw the sheet away.".into(),
            not_yours: "If you did not expect it, somebody may want to lock you out.",
            commands: &[("makes a new set", "generate")],
            ..Words::of(format!("Backup codes of {user} on {host} were revoked"))
        },
        Event::Readdressed { old, new, left, total } => Words {
            happened: "From now on other addresses are told when a backup code of yours is used.",
            facts: vec![("Before", listed(old)), ("Now", listed(new)), ("Left", of(left, total))],
            yours: "If you expected this, there is nothing to do.".into(),
            not_yours: "If you did not expect it, somebody may want to keep you from knowing.",
            commands: &[SHOW, ("shows the addresses, or sets them", "email")],
            ..Words::of(format!("Notices about backup codes of {user} on {host} go to other addresses"))
        },
    };
    // No name begins an encoded word, which would be shown as another.
    Content { subject: words.subject.replace("=?", "= ?"), body: words.body(writer, host, label, time) }
}

/// What a notice is made of beside what all have.
struct Words {
    subject: String,
    happened: &'static str,
    /// Where it came from, and by which service.
    from: Option<(String, String)>,
    facts: Vec<(&'static str, String)>,
    /// What to do if it was the user.
    yours: String,
    /// What it means if it was not.
    not_yours: &'static str,
    /// What a command does that root may run then, and its name.
    commands: &'static [(&'static str, &'static str)],
}

const REVOKE: (&str, &str) = ("ends every code of the set", "revoke");
const SHOW: (&str, &str) = ("shows when and where codes were used", "status");

fn used(
    writer: &Writer<'_>,
    user: &str,
    host: &str,
    number: u8,
    record: &SpentRecord,
    left: Option<(usize, usize)>,
) -> Words {
    let SpentRecord { fails, service, source, .. } = record;
    let few = left.map(|(left, _)| left).filter(|&left| left <= writer.low);
    let warning = match few {
        None => String::new(),
        Some(0) => ": none is left".into(),
        Some(left) => format!(": only {left} left"),
    };
    let source = if source == LOCAL { "this host itself".into() } else { shown(source, LONG_NAME) };
    let mut facts = vec![
        ("Code", format!("number {number} of the sheet")),
        (
            "Left",
            left.map_or_else(
                || "the set was replaced, removed or given other addresses after this use".into(),
                |(left, total)| of(left, total),
            ),
        ),
    ];
    match fails {
        0 => {}
        1 => facts.push(("Before it", "1 code from there was refused".into())),
        fails => facts.push(("Before it", format!("{fails} codes in a row from there were refused"))),
    }
    let advice = if few.is_some() { " Get a new sheet soon." } else { "" };
    Words {
        happened: "One of your backup codes was used to log in. It works no more.",
        from: Some((source, shown(service, LONG_NAME))),
        facts,
        yours: format!("If this was you, cross code {number} out on your sheet.{advice}"),
        not_yours: "If this was not you, somebody has your sheet and may have your password.",
        ..Words::of(format!("Backup code {number} of {user} was used on {host}{warning}"))
    }
}

impl Words {
    fn of(subject: String) -> Self {
        Self {
            subject,
            happened: "",
            from: None,
            facts: Vec::new(),
            yours: String::new(),
            not_yours: "",
            commands: &[REVOKE, SHOW],
        }
    }

    /// What happened, the facts, and what to do: if it was the user, and if it was not.
    fn body(self, writer: &Writer<'_>, host: &str, label: &Label, time: Time) -> String {
        let Self { happened, from, facts, yours, not_yours, commands, .. } = self;
        let (source, service) =
            from.unwrap_or_else(|| ("this host itself, by root".into(), "backupcodes-admin".into()));
        let always = [
            ("User", shown(&label.user, LONG_NAME)),
            ("Host", host.to_owned()),
            ("Time", local(time, writer)),
            ("From", source),
            ("Service", service),
            ("Set", shown(&label.set, NAME)),
        ];
        let mut text = format!("{happened}\n\n");
        for (name, value) in always.iter().chain(&facts) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {:<11}{value}", format!("{name}:"));
        }
        let contact = match shown(&writer.notify.contact, LONG_NAME) {
            nobody if nobody.is_empty() => format!("the administrator of {host}"),
            contact => contact,
        };
        let _ = writeln!(text, "\n{yours}\n\n{not_yours}\nTell {contact} at once. Root of {host} may run:\n");
        let user = word(&label.user);
        for (does, command) in commands {
            let _ = writeln!(text, "  backupcodes-admin {command} -- {user}  {does}");
        }
        text
    }
}

fn of(left: usize, total: usize) -> String {
    format!("{left} of {total}")
}

/// The time as clocks in the host's zone show it, with the offset: `24 November 2026, 13:07:12 UTC+01:00`.
fn local(time: Time, writer: &Writer<'_>) -> String {
    let seconds = i64::try_from(time.seconds()).unwrap_or_default();
    let Ok(time) = Timestamp::from_second(seconds) else { return time.to_string() };
    time.to_zoned_datetime(writer.zone.clone()).strftime("%-d %B %Y, %H:%M:%S UTC%:z").to_string()
}

fn listed(addresses: &[String]) -> String {
    let mut listed: Vec<_> =
        addresses.iter().take(ADDRESSES).map(|address| shown(address, LONG_NAME)).collect();
    if addresses.len() > ADDRESSES {
        listed.push(format!("{} more", addresses.len().saturating_sub(ADDRESSES)));
    }
    listed.join(", ")
}

/// A name from outside as one piece of a line: nothing in it ends the line, turns its direction or hides.
pub(super) fn shown(name: &str, most: usize) -> String {
    let mut shown: String = name.chars().take(most).map(|c| if is_hidden(c) { '?' } else { c }).collect();
    if name.chars().nth(most).is_some() {
        shown.push('\u{2026}');
    }
    shown
}

/// A name as one word of a shell: whoever copies the command runs no other.
fn word(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !name.is_empty() && name.chars().all(plain) {
        return name.into();
    }
    format!("'{}'", shown(name, LONG_NAME).replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;
    use crate::code::CodeNumber;
    use crate::config::Config;
    use crate::mail::outbox::QueuedNotice;
    use jiff::tz::{Offset, TimeZone};
    use rand::rngs::SysRng;

    fn notices(user: &str, host: &str, config: &Config, event: Event<'_>) -> Vec<QueuedNotice> {
        let account = Account { name: user.into(), uid: 1000 };
        let time = "2026-11-24T12:07:12Z".parse().unwrap();
        let label = Label::new(&account, time, vec!["a@example.org".into()], &mut SysRng).unwrap();
        let label = Label { set: "9f3c21aa".into(), ..label };
        let zone = TimeZone::fixed(Offset::from_seconds(19_800).unwrap());
        Writer::new(config, host, zone).notices(&label, &label.email, time, event)
    }

    fn record(fails: u32, service: &str, source: &str) -> SpentRecord {
        SpentRecord::new("2026-11-24T12:07:12Z".parse().unwrap(), fails, service, source)
    }

    fn of_use(user: &str, host: &str, record: &SpentRecord, left: Option<(usize, usize)>) -> String {
        let number = CodeNumber::new(3).unwrap();
        let mut notices = notices(user, host, &Config::default(), Event::Used { number, record, left });
        assert_eq!(notices.len(), 1);
        notices.remove(0).message
    }

    #[test]
    fn a_use_is_told_with_all_that_a_worried_user_asks() {
        let message = of_use("alice", "web1", &record(4, "sshd", "192.0.2.7"), Some((6, 10)));
        let expected = "\
From: \"Backup codes\" <root>
To: <a@example.org>
Subject: Backup code 3 of alice was used on web1
Date: Tue, 24 Nov 2026 12:07:12 +0000
Message-ID: <9f3c21aa.used-3.1795522032.backupcodes@web1>
Auto-Submitted: auto-generated
MIME-Version: 1.0
Content-Type: text/plain; charset=\"utf-8\"
Content-Transfer-Encoding: 7bit

One of your backup codes was used to log in. It works no more.

  User:      alice
  Host:      web1
  Time:      24 November 2026, 17:37:12 UTC+05:30
  From:      192.0.2.7
  Service:   sshd
  Set:       9f3c21aa
  Code:      number 3 of the sheet
  Left:      6 of 10
  Before it: 4 codes in a row from there were refused

If this was you, cross code 3 out on your sheet.

If this was not you, somebody has your sheet and may have your password.
Tell the administrator of web1 at once. Root of web1 may run:

  backupcodes-admin revoke -- alice  ends every code of the set
  backupcodes-admin status -- alice  shows when and where codes were used
";
        assert_eq!(message, expected);
    }

    #[test]
    fn few_left_is_in_the_subject() {
        let local = record(0, "login", "local");
        let message = of_use("alice", "web1", &local, Some((2, 10)));
        assert!(
            message.contains("\nSubject: Backup code 3 of alice was used on web1: only 2 left\n"),
            "{message}"
        );
        assert!(
            message.contains("Get a new sheet soon") && message.contains("this host itself"),
            "{message}"
        );
        assert!(!message.contains("refused"), "{message}");
        assert!(of_use("alice", "web1", &local, Some((0, 10))).contains("web1: none is left\n"));
        assert!(!of_use("alice", "web1", &local, Some((4, 10))).contains("Get a new sheet soon"));
    }

    #[test]
    fn no_name_leaves_its_place() {
        let evil = "a\r\nBcc: x@example.org\r\n\r\n\u{202e}\0\t'; rm -rf / #%s\u{2028}";
        let message = of_use(evil, evil, &record(0, evil, evil), Some((6, 10)));
        let header = message.split("\n\n").next().unwrap();
        let names: Vec<_> = header
            .lines()
            .filter(|line| !line.starts_with('\t'))
            .filter_map(|line| line.split(':').next())
            .collect();
        let expected = [
            "From",
            "To",
            "Subject",
            "Date",
            "Message-ID",
            "Auto-Submitted",
            "MIME-Version",
            "Content-Type",
            "Content-Transfer-Encoding",
        ];
        assert_eq!(names, expected);
        assert!(!message.contains('\r') && !message.contains('\0'), "{message}");
        let body = shown(evil, 300);
        assert!(!body.contains(['\n', '\r', '\0', '\t', '\u{202e}', '\u{2028}']), "{body}");
        assert_eq!(word(evil), format!("'{}'", body.replace('\'', "'\\''")));
        let long = of_use(&"n".repeat(1000), &"h".repeat(1000), &record(0, "s", "h"), None);
        assert!(long.len() < 4096 && long.lines().all(|line| line.len() < 998), "{long}");
    }

    #[test]
    fn each_recipient_gets_a_message_of_its_own_and_none_gets_two() {
        let mut config = Config::default();
        config.notify.copy_to = vec!["sec@example.org".into(), "a@example.org".into()];
        config.notify.contact = "Jürgen, room 7".into();
        let to =
            |notices: &[QueuedNotice]| notices.iter().map(|notice| notice.to.clone()).collect::<Vec<_>>();
        let notices = notices("alice", "web1", &config, Event::Revoked { lost: 1 });
        assert_eq!(to(&notices), ["a@example.org", "sec@example.org"]);
        assert!(notices[1].message.contains("\nTo: <sec@example.org>\n"));
        assert!(notices[0].message.contains("Tell J=C3=BCrgen, room 7 at once"), "{}", notices[0].message);
    }
}
