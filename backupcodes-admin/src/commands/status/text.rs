//! All about one set, for people.

use backupcodes_core::clock::{self, Time};
use backupcodes_core::mail::outbox::Refusal;
use backupcodes_core::set::{Label, Mail, SpentRecord, State};
use backupcodes_core::throttle::Throttled;

use super::Shown;
use crate::output::Line;

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
) -> Vec<Line> {
    let days = days_since(created);
    let warning = match left {
        0 => ", NONE LEFT",
        _ if low => ", LOW",
        _ => "",
    };
    vec![
        Line::of(&format_args!("{user}: {left} of {total} codes left{warning}")),
        Line::of(&format_args!("  set {set}, made {created} ({days} days ago)")),
    ]
}

pub(super) fn lines(one: &Shown) -> Vec<Line> {
    let Shown { set, throttled, notices, low, .. } = one;
    let Label { set: id, created, email, .. } = &set.label;
    let mut lines = summary(&one.name(), id, *created, (set.left(), set.total()), set.left() <= *low);
    let mut line = |text: std::fmt::Arguments<'_>| lines.push(Line::of(&text));
    if !email.is_empty() {
        line(format_args!("  notices to {}", email.join(", ")));
    }
    if notices.due > 0 {
        line(format_args!("  NOTICES DUE: {}; to deliver them: backupcodes-admin notify", notices.due));
    }
    if let Some(Refusal { time, to, said }) = &notices.refusal {
        line(format_args!("  NOTICE REFUSED {time} for {to}: {said}"));
    }
    for Throttled { service, source, failures, until } in throttled {
        line(format_args!("  THROTTLED for {service} from {source} {until}, after {failures} failures"));
    }
    for (number, entry) in set.entries() {
        match &entry.state {
            State::Unspent(_) => continue,
            State::Spent(SpentRecord { time, mail, service, source, host, .. }) => {
                let on = host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
                let notice = match mail {
                    Mail::Ok => "",
                    Mail::Due => ", notice due",
                };
                line(format_args!("  code {number} used {time} by {service} from {source}{on}{notice}"));
            }
            State::Damaged => line(format_args!("  code {number} DAMAGED, counts as used")),
        }
    }
    lines
}
