//! The record that destroys a hash when its code is spent:
//! `spent 2026-11-25T07:12:44Z mail=due fails=0 sshd 192.0.2.7`, padded to the width of the hash.

use crate::clock::Time;
use crate::visible::cut;

/// The most failures that a record tells of, so that an address has room beside them.
const FAILS: u32 = 9999;
/// So many bytes of a service are kept beside a long source.
const SERVICE: usize = 16;
/// The same beside an IPv6 address, which is never cut: with a hash of the least width, [`FAILS`] and all of its 39 bytes.
const SERVICE_OF_ADDRESS: usize = 5;

/// When, where and by which service a code was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpentRecord {
    /// When.
    pub time: Time,
    /// Whether the notice of this use has gone out.
    pub mail: Mail,
    /// Failures in a row that came before this use, by the same service and source.
    pub fails: u32,
    /// PAM service.
    pub service: String,
    /// Remote host, or `local`.
    pub source: String,
    /// The host where the code was used, in a set that hosts share.
    pub host: Option<String>,
}

/// The state of the notice of a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mail {
    /// Not yet handed to sendmail.
    Due,
    /// Handed over.
    Ok,
}

impl Mail {
    /// All words have one width, so that one is written over the other in place.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Ok => "ok ",
        }
    }
}

impl SpentRecord {
    /// Where the word of the notice stands in the text.
    pub(crate) const WORD: usize = "spent 2026-11-25T07:12:44Z mail=".len();

    /// A record for a use after so many failures, with service and source made fit to be shown and stored.
    #[must_use]
    pub fn new(time: Time, fails: u32, service: &str, source: &str) -> Self {
        let [service, source] = [service, source].map(printable);
        Self { time, mail: Mail::Due, fails: fails.min(FAILS), service, source, host: None }
    }

    /// The text that is written over a hash of `width` bytes, with a cut that shows in a service or source that is too long.
    /// It ends with a space, as no hash does, so that the end of a hash behind a torn record is not taken for its source.
    #[must_use]
    pub fn padded_to(&self, width: usize) -> String {
        let Self { time, mail, fails, service, source, host } = self;
        let mut text = format!("spent {time} mail={} fails={fails} ", mail.word());
        // But the space between both, and the one at the end.
        let room = width.saturating_sub(text.len()).saturating_sub(2);
        let least = if source.contains(':') { SERVICE_OF_ADDRESS } else { SERVICE };
        let service = cut(service, room.saturating_sub(source.len()).max(least));
        let source = cut(source, room.saturating_sub(service.len()));
        text.extend([&service, " ", &source]);
        if let Some(host) = host {
            text.extend([" on=", host]);
        }
        format!("{text:width$}")
    }

    /// The text in a store where records need no certain width: nothing is cut.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{} ", self.padded_to(usize::from(u16::MAX)).trim_end())
    }

    /// The same record in a set that hosts share: the code was used on this one.
    #[must_use]
    pub fn on_host(self, host: &str) -> Self {
        Self { host: Some(printable(host)), ..self }
    }

    /// Reads a record, in exactly the form that [`SpentRecord::padded_to`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let record = Self {
            time: words.next().filter(|&word| word == "spent").and_then(|_| words.next())?.parse().ok()?,
            mail: match words.next()?.strip_prefix("mail=")? {
                "due" => Mail::Due,
                "ok" => Mail::Ok,
                _ => return None,
            },
            fails: words.next()?.strip_prefix("fails=")?.parse().ok()?,
            service: words.next()?.into(),
            source: words.next()?.into(),
            host: match words.next() {
                // The rest of a hash behind a torn record is no host.
                Some(word) => Some(word.strip_prefix("on=")?.into()),
                None => None,
            },
        };
        // Whatever was overlooked above shows here: a torn record is no record.
        (record.padded_to(text.len()) == text).then_some(record)
    }
}

/// A name as records have it. Names come from the network: what is not a plain character of a host or service name becomes `?`.
#[must_use]
pub fn printable(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._:%@+-".contains(c) { c } else { '?' };
    if name.is_empty() { "?".into() } else { name.chars().map(plain).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{CodeHash, Cost};

    fn record(service: &str, source: &str) -> SpentRecord {
        SpentRecord::new("2026-11-25T07:12:44Z".parse().unwrap(), 0, service, source)
    }

    #[test]
    fn a_record_has_the_width_of_the_hash_and_reads_back() {
        let record = record("sshd", "192.0.2.7");
        let text = record.padded_to(97);
        assert!(text.starts_with("spent 2026-11-25T07:12:44Z mail=due fails=0 sshd 192.0.2.7 "), "{text}");
        assert_eq!(text.len(), 97);
        assert_eq!(SpentRecord::parse(&text), Some(record.clone()));
        let notified = SpentRecord { mail: Mail::Ok, ..record };
        let word = [&text[..SpentRecord::WORD], Mail::Ok.word(), &text[SpentRecord::WORD + 3..]].concat();
        assert_eq!(notified.padded_to(97), word, "only its word changes");
        assert_eq!(SpentRecord::parse(&word), Some(notified));
    }

    #[test]
    fn what_the_network_says_cannot_leave_its_place() {
        let text = record("ss\"hd\n\\", "évil \u{1b}[2J host\0").padded_to(97);
        assert!(text.contains(" ss?hd?? ?vil???2J?host? "), "{text}");
        assert!(SpentRecord::parse(&text).is_some());
        assert!(SpentRecord::parse(&record("", "").padded_to(93)).is_some());
    }

    /// As it reads back.
    fn again(fails: u32, service: &str, source: &str) -> SpentRecord {
        let text = SpentRecord { fails: fails.min(FAILS), ..record(service, source) }.padded_to(93);
        assert!(text.len() == 93 && text.ends_with(' '), "{text:?}");
        let record = SpentRecord::parse(&text).expect(&text);
        assert_eq!(record.padded_to(93), text);
        record
    }

    #[test]
    fn an_address_is_never_cut() {
        let service = "gdm-smartcard-pkcs11-exclusive";
        for address in ["2001:db8:85a3:1234:5678:8a2e:1370:7334", "fe80::1234:5678:9abc:def0%enp0s31f6"] {
            let record = again(u32::MAX, service, address);
            assert!(record.source == address && service.starts_with(record.service.trim_end_matches("..")));
            assert_eq!(again(0, "login", address).service, "login");
        }
    }

    #[test]
    fn the_identifying_part_of_a_host_name_is_kept_and_a_cut_is_marked() {
        let host = "a-very-long-name-of-a-machine.somewhere.customer.example.org";
        let told = again(0, "sshd", host);
        assert_eq!((&*told.service, &*told.source), ("sshd", "a-very-long-name-of-a..customer.example.org"));
        let told = again(3, "gdm-smartcard-pkcs11-exclusive", host);
        assert_eq!((&*told.service, &*told.source), ("gdm-smartcard-..", "a-very-lo..customer.example.org"));
        for long in ["h", ".", ":", "h.", "..", "a:"].map(|part| part.repeat(300)) {
            let told = again(u32::MAX, &long, &long);
            assert!(told.service.contains("..") && told.source.contains(".."), "{told:?}");
        }
    }

    #[test]
    fn a_record_that_was_cut_at_its_end_still_reads() {
        let old = "spent 2026-11-25T07:12:44Z mail=due fails=12345 a-service-of-24-characte host.that.goes.on.to-the ";
        let old = SpentRecord::parse(old).unwrap();
        assert!(old.source == "host.that.goes.on.to-the" && old.fails == 12345, "{old:?}");
    }

    #[test]
    fn a_torn_record_is_neither_record_nor_hash() {
        let hash = CodeHash::decoy(Cost::DEFAULT).phc();
        let record = record("sshd", "192.0.2.7").padded_to(hash.len());
        for cut in 1..hash.len() {
            for torn in [[&record[..cut], &hash[cut..]].concat(), [&hash[..cut], &record[cut..]].concat()] {
                assert!(CodeHash::parse(&torn).is_none(), "{torn}");
                assert!(SpentRecord::parse(&torn).is_none(), "{torn}");
            }
        }
    }

    #[test]
    fn only_the_exact_form_is_a_record() {
        let text = record("sshd", "192.0.2.7").padded_to(97);
        for bad in [
            text.replace("spent", "Spent"),
            text.replace("mail=due", "mail=no "),
            text.replace("fails=0", "fails=+0"),
            text.replace("fails=0", "fails=00"),
            text.replace("07:12:44Z", "07:12:44"),
            text.replace("sshd ", "sshd  "),
            text.replace("  ", " x"),
            text.replace(" sshd 192.0.2.7", ""),
            String::new(),
        ] {
            assert_eq!(SpentRecord::parse(&bad), None, "{bad}");
        }
    }
}
