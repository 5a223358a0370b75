//! A line for each set, no wider than the terminal.

use backupcodes_core::set::{Label, SpentRecord, State};
use backupcodes_core::visible::{cut, shown};
use console::{Style, Term, measure_text_width, pad_str, truncate_str};

use super::Shown;
use super::text::days_since;
use crate::output::Line;

/// How wide the columns are; the last one takes what is left.
pub(super) struct Table {
    user: usize,
    /// Of the terminal; `None` where there is none, and nothing is cut.
    width: Option<usize>,
}

/// Columns of set, age and what is left, with gaps.
const MIDDLE: usize = 2 + 8 + 2 + 6 + 2 + 12 + 2;
/// What the last column should have: a time and a service.
const LAST: usize = 24;

impl Table {
    /// A table of these users, for standard output.
    pub(super) fn over(users: &[String]) -> Self {
        let terminal = Term::stdout();
        let width = terminal.is_term().then(|| usize::from(terminal.size().1));
        Self::of_width(users, width)
    }

    fn of_width(users: &[String], width: Option<usize>) -> Self {
        let longest = users.iter().map(|user| measure_text_width(&shown(user))).max().unwrap_or_default();
        // One long name must not push all else out of sight.
        let most = width.map_or(usize::MAX, |width| width.saturating_sub(MIDDLE).saturating_sub(LAST));
        Self { user: longest.min(most).max("USER".len()), width }
    }

    pub(super) fn header(&self) -> Line {
        let names = ["USER", "SET", "AGE", "LEFT"].map(String::from);
        self.line(names, &Style::new(), |_| "LAST USE".into())
    }

    pub(super) fn row(&self, one: &Shown) -> Line {
        let Label { set, created, .. } = &one.set.label;
        let (left, total) = (one.set.left(), one.set.total());
        let (word, style) = match left {
            0 => (" NONE", Style::new().red().bold()),
            _ if one.is_low() => (" LOW", Style::new().yellow()),
            _ => ("", Style::new()),
        };
        let columns = [
            shown(&one.name()),
            shown(set),
            format!("{} d", days_since(*created)),
            format!("{left} of {total}{word}"),
        ];
        self.line(columns, &style, |room| last(one, room))
    }

    /// The column of what is left has a style. The last one is told how much room it has.
    fn line(
        &self,
        [user, set, age, left]: [String; 4],
        style: &Style,
        last: impl FnOnce(usize) -> String,
    ) -> Line {
        let front =
            format!("{}  {set:8}  {age:>6}  ", pad_str(&user, self.user, console::Alignment::Left, None));
        let left = format!("{left:12}");
        let used = measure_text_width(&front).saturating_add(left.len()).saturating_add(2);
        let room = self.width.map_or(Some(usize::MAX), |width| width.checked_sub(used));
        let Some(room) = room else {
            return Line::of(&truncate_str(&format!("{front}{left}"), self.width.unwrap_or_default(), "…"));
        };
        let last = shown(&last(room));
        Line::of(&front).painted(&left, style).and(&format_args!("  {}", truncate_str(&last, room, "…")))
    }
}

/// The last use, behind what needs somebody's attention. A source that is too long keeps what identifies it.
fn last(one: &Shown, room: usize) -> String {
    let mut parts = Vec::new();
    let damaged = one.set.entries().filter(|(_, entry)| matches!(entry.state, State::Damaged)).count();
    if damaged > 0 {
        parts.push(format!("{damaged} DAMAGED;"));
    }
    if !one.throttled.is_empty() {
        parts.push("THROTTLED;".into());
    }
    if one.notices.refusal.is_some() {
        parts.push("NOTICE REFUSED;".into());
    }
    let Some(SpentRecord { time, service, source, .. }) = one.last_use() else {
        parts.push("never".into());
        return parts.join(" ");
    };
    // To the minute, with the day in front: 2026-11-25 07:12Z.
    let time = time.to_string().replace('T', " ");
    parts.push(format!("{}Z {service} ", time.get(..16).unwrap_or(&time)));
    let front = parts.join(" ");
    let source = cut(source, room.saturating_sub(front.len()));
    front + &source
}
