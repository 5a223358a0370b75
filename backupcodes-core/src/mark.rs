//! The mark that destroys a hash when its code is spent:
//! `spent 2026-11-25T07:12:44Z mail=due fails=0 sshd 192.0.2.7`, padded to the width of the hash.

use crate::clock::Time;

/// Most characters of a service in a mark; the source takes what the width leaves.
const SERVICE: usize = 24;

/// When, where and by which service a code was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
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
}

/// The state of the notice of a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mail {
    /// Not yet handed to sendmail.
    Due,
    /// Handed over.
    Ok,
    /// Refused by sendmail for one address at least, whose letter is in the outbox.
    Refused,
}

impl Mail {
    /// All words have one width, so that one is written over the other in place.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Ok => "ok ",
            Self::Refused => "err",
        }
    }
}

impl Mark {
    /// Where the word of the notice stands in the text.
    pub(crate) const WORD: usize = "spent 2026-11-25T07:12:44Z mail=".len();

    /// A mark for a use after so many failures, with service and source made fit to be shown and stored.
    #[must_use]
    pub fn new(time: Time, fails: u32, service: &str, source: &str) -> Self {
        let mut service = printable(service);
        service.truncate(SERVICE);
        Self { time, mail: Mail::Due, fails, service, source: printable(source) }
    }

    /// The text that is written over a hash of `width` bytes; a source that is too long is cut. It ends with a space,
    /// as no hash does, so that the end of a hash behind a torn mark is not taken for its source.
    #[must_use]
    pub fn over(&self, width: usize) -> String {
        let Self { time, mail, fails, service, source } = self;
        let mut text = format!("spent {time} mail={} fails={fails} {service} {source}", mail.word());
        text.truncate(width.saturating_sub(1));
        format!("{text:width$}")
    }

    /// Reads a mark, in exactly the form that [`Mark::over`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let mark = Self {
            time: words.next().filter(|&word| word == "spent").and_then(|_| words.next())?.parse().ok()?,
            mail: match words.next()?.strip_prefix("mail=")? {
                "due" => Mail::Due,
                "ok" => Mail::Ok,
                "err" => Mail::Refused,
                _ => return None,
            },
            fails: words.next()?.strip_prefix("fails=")?.parse().ok()?,
            service: words.next()?.into(),
            source: words.next()?.into(),
        };
        // Whatever was overlooked above shows here: a torn mark is no mark.
        (mark.over(text.len()) == text).then_some(mark)
    }
}

/// Names come from the network: what is not a plain character of a host or service name becomes `?`.
fn printable(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._:%@+-".contains(c) { c } else { '?' };
    if name.is_empty() { "?".into() } else { name.chars().map(plain).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{CodeHash, Cost};

    fn mark(service: &str, source: &str) -> Mark {
        Mark::new("2026-11-25T07:12:44Z".parse().unwrap(), 0, service, source)
    }

    #[test]
    fn a_mark_has_the_width_of_the_hash_and_reads_back() {
        let mark = mark("sshd", "192.0.2.7");
        let text = mark.over(97);
        assert!(text.starts_with("spent 2026-11-25T07:12:44Z mail=due fails=0 sshd 192.0.2.7 "), "{text}");
        assert_eq!(text.len(), 97);
        assert_eq!(Mark::parse(&text), Some(mark.clone()));
        for mail in [Mail::Ok, Mail::Refused] {
            let seen_to = Mark { mail, ..mark.clone() };
            assert_eq!(seen_to.over(97).len(), 97);
            let word = [&text[..Mark::WORD], mail.word(), &text[Mark::WORD + 3..]].concat();
            assert_eq!(seen_to.over(97), word, "only its word changes");
            assert_eq!(Mark::parse(&seen_to.over(97)), Some(seen_to));
        }
    }

    #[test]
    fn what_the_network_says_cannot_leave_its_place() {
        let text = mark("ss\"hd\n\\", "évil \u{1b}[2J host\0").over(97);
        assert!(text.contains(" ss?hd?? ?vil???2J?host? "), "{text}");
        assert!(Mark::parse(&text).is_some());
        let long = mark(&"s".repeat(300), &"h".repeat(300)).over(93);
        assert_eq!(long.len(), 93);
        assert!(
            Mark::parse(&long).is_some_and(|mark| mark.service.len() == SERVICE && mark.source.len() > 20)
        );
        assert!(Mark::parse(&mark("", "").over(93)).is_some());
    }

    #[test]
    fn the_longest_address_fits() {
        let address = "2001:0db8:85a3:0000:0000:8a2e:0370:7334";
        assert_eq!(Mark::parse(&mark("sshd", address).over(93)).unwrap().source, address);
    }

    #[test]
    fn a_torn_mark_is_neither_mark_nor_hash() {
        let hash = CodeHash::decoy(Cost::DEFAULT).phc();
        let mark = mark("sshd", "192.0.2.7").over(hash.len());
        for cut in 1..hash.len() {
            for torn in [[&mark[..cut], &hash[cut..]].concat(), [&hash[..cut], &mark[cut..]].concat()] {
                assert!(CodeHash::parse(&torn).is_none(), "{torn}");
                assert!(Mark::parse(&torn).is_none(), "{torn}");
            }
        }
    }

    #[test]
    fn what_is_not_written_so_is_no_mark() {
        let text = mark("sshd", "192.0.2.7").over(97);
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
            assert_eq!(Mark::parse(&bad), None, "{bad}");
        }
    }
}
