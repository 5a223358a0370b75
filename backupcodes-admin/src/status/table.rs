//! A line for each set, no wider than the terminal.

use backupcodes_core::mark::Mark;
use backupcodes_core::set::{Label, State};
use console::{Term, measure_text_width, pad_str, style, truncate_str};

use super::Shown;
use super::text::days_since;

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
        let longest = users.iter().map(|user| measure_text_width(user)).max().unwrap_or_default();
        // One long name must not push all else out of sight.
        let most = width.map_or(usize::MAX, |width| width.saturating_sub(MIDDLE).saturating_sub(LAST));
        Self { user: longest.min(most).max("USER".len()), width }
    }

    pub(super) fn header(&self) -> String {
        self.line(["USER", "SET", "AGE", "LEFT", "LAST USE"].map(String::from), |left| left)
    }

    pub(super) fn row(&self, shown: &Shown) -> String {
        let Label { user, set, created, .. } = &shown.set.label;
        let (left, total) = (shown.set.left(), shown.set.total());
        let word = match left {
            0 => " NONE",
            _ if shown.is_low() => " LOW",
            _ => "",
        };
        let columns = [
            user.replace(char::is_control, "?"),
            set.clone(),
            format!("{} d", days_since(*created)),
            format!("{left} of {total}{word}"),
            last(shown),
        ];
        self.line(columns, |text| match word {
            " NONE" => style(text).red().bold().to_string(),
            " LOW" => style(text).yellow().to_string(),
            _ => text,
        })
    }

    /// `paint` puts colour on what is left, where it is shown.
    fn line(&self, [user, set, age, left, last]: [String; 5], paint: impl Fn(String) -> String) -> String {
        let front =
            format!("{}  {set:8}  {age:>6}  ", pad_str(&user, self.user, console::Alignment::Left, None));
        let left = format!("{left:12}");
        let used = measure_text_width(&front).saturating_add(left.len()).saturating_add(2);
        let Some(width) = self.width else { return format!("{front}{}  {last}", paint(left)) };
        if used > width {
            return truncate_str(&format!("{front}{left}"), width, "…").into_owned();
        }
        let last = truncate_str(&last, width.saturating_sub(used), "…");
        format!("{front}{}  {last}", paint(left))
    }
}

/// The last use, behind what needs somebody's attention.
fn last(shown: &Shown) -> String {
    let mut parts = Vec::new();
    let damaged = shown.set.entries().filter(|(_, entry)| matches!(entry.state, State::Damaged)).count();
    if damaged > 0 {
        parts.push(format!("{damaged} DAMAGED;"));
    }
    if !shown.throttled.is_empty() {
        parts.push("THROTTLED;".into());
    }
    if shown.notices.refusal.is_some() {
        parts.push("NOTICE REFUSED;".into());
    }
    parts.push(match shown.last_use() {
        None => "never".into(),
        Some(Mark { time, service, source, .. }) => {
            // To the minute, with the day in front: 2026-11-25 07:12Z.
            let time = time.to_string().replace('T', " ");
            format!("{}Z {service} {source}", time.get(..16).unwrap_or(&time))
        }
    });
    parts.join(" ")
}
