//! All about one set, for people.

use std::fmt::Write;

use backupcodes_core::clock::{self, Time};
use backupcodes_core::mark::{Mail, Mark};
use backupcodes_core::outbox::Refusal;
use backupcodes_core::set::{Label, State};
use backupcodes_core::throttle::Throttled;

use super::Shown;

/// Whole days; none where the clock was ahead then.
pub(super) fn days_since(time: Time) -> u64 {
    clock::now().seconds().saturating_sub(time.seconds()) / 86_400
}

/// What is said of any set.
pub(crate) fn summary(
    user: &str,
    set: &str,
    created: Time,
    (left, total): (usize, usize),
    low: bool,
) -> String {
    let days = days_since(created);
    let warning = match left {
        0 => ", NONE LEFT",
        _ if low => ", LOW",
        _ => "",
    };
    format!("{user}: {left} of {total} codes left{warning}\n  set {set}, made {created} ({days} days ago)\n")
}

pub(super) fn text(Shown { set, throttled, notices, low }: &Shown) -> String {
    let Label { set: id, user, created, email, .. } = &set.label;
    let mut text = summary(user, id, *created, (set.left(), set.total()), set.left() <= *low);
    // Writing to a String cannot fail.
    if !email.is_empty() {
        let _ = writeln!(text, "  notices to {}", email.join(", "));
    }
    if notices.due > 0 {
        let _ = writeln!(text, "  NOTICES DUE: {}; to deliver them: backupcodes-admin notify", notices.due);
    }
    if let Some(Refusal { time, to, said }) = &notices.refusal {
        let _ = writeln!(text, "  NOTICE REFUSED {time} for {to}: {}", said.replace(char::is_control, " "));
    }
    for Throttled { service, source, failures, until } in throttled {
        let _ = writeln!(text, "  THROTTLED for {service} from {source} {until}, after {failures} failures");
    }
    for (slot, entry) in set.entries() {
        let _ = match &entry.state {
            State::Unspent(_) => continue,
            State::Spent(Mark { time, mail, service, source, .. }) => {
                let notice = match mail {
                    Mail::Ok => "",
                    Mail::Due => ", notice due",
                    Mail::Refused => ", notice refused at first",
                };
                writeln!(text, "  code {slot} used {time} by {service} from {source}{notice}")
            }
            State::Damaged => writeln!(text, "  code {slot} DAMAGED, counts as used"),
        };
    }
    text
}
