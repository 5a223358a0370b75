//! The control, the second word of a line: what libpam does with the result of a module.

/// The action for a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The result does not count.
    Ignore,
    /// Success, unless an earlier result failed.
    Ok,
    /// As `Ok`, and the end of the stack.
    Done,
    /// Failure.
    Bad,
    /// Failure, and the end of the stack.
    Die,
    /// Forget all earlier results.
    Reset,
    /// Skip this number of lines.
    Jump(usize),
}

/// The action for each result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    of: Vec<(&'static str, Action)>,
    default: Action,
}

impl Control {
    /// `required`, `[success=1 default=ignore]` and the like. For any other word, all results are bad.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        use Action::{Bad, Die, Done, Ignore, Ok};
        let both = |action| vec![("success", action), ("new_authtok_reqd", action)];
        let strict = || [both(Ok), vec![("ignore", Ignore)]].concat();
        match word.to_ascii_lowercase().as_str() {
            "required" => Self { of: strict(), default: Bad },
            "requisite" => Self { of: strict(), default: Die },
            "sufficient" => Self { of: both(Done), default: Ignore },
            "optional" => Self { of: both(Ok), default: Ignore },
            _ => Self::listed(word).unwrap_or_else(Self::bad),
        }
    }

    /// Every result is a failure.
    #[must_use]
    pub const fn bad() -> Self {
        Self { of: Vec::new(), default: Action::Bad }
    }

    /// The action for a result, by its name in a control (`auth_err`).
    #[must_use]
    pub fn action(&self, result: &str) -> Action {
        let given = self.of.iter().rev().find(|(name, _)| *name == result);
        given.map_or(self.default, |(_, action)| *action)
    }

    /// The longest jump of any result.
    #[must_use]
    pub fn jump(&self) -> Option<usize> {
        let actions = self.of.iter().map(|(_, action)| action).chain([&self.default]);
        actions.filter_map(|action| if let Action::Jump(lines) = action { Some(*lines) } else { None }).max()
    }

    /// Parses `value=action` pairs. The last pair of a value counts, but the first `default`.
    fn listed(word: &str) -> Option<Self> {
        let mut control = Self::bad();
        let mut default = None;
        let mut rest = word.trim_start();
        while !rest.is_empty() {
            let (value, behind) = after_one_of(rest, RESULTS).or_else(|| after_one_of(rest, &[DEFAULT]))?;
            let behind = behind.trim_start().strip_prefix('=')?.trim_start();
            let (action, behind) = action(behind)?;
            match value {
                DEFAULT => default = default.or(Some(action)),
                _ => control.of.push((value, action)),
            }
            rest = behind.trim_start();
        }
        control.default = default.unwrap_or(Action::Bad);
        Some(control)
    }
}

fn action(text: &str) -> Option<(Action, &str)> {
    use Action::{Bad, Die, Done, Ignore, Jump, Ok, Reset};
    const NAMES: &[&str] = &["ignore", "ok", "done", "bad", "die", "reset"];
    if let Some((name, behind)) = after_one_of(text, NAMES) {
        let known = [Ignore, Ok, Done, Bad, Die, Reset];
        let action = NAMES.iter().zip(known).find(|(known, _)| **known == name)?.1;
        return Some((action, behind));
    }
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (number, behind) = text.split_at(end);
    // A number that overflows is a jump beyond the end.
    let count = number.parse().unwrap_or(if number.is_empty() { 0 } else { usize::MAX });
    (count > 0).then_some((Jump(count), behind))
}

/// The name at the beginning of a text. Like libpam, this ignores what follows it.
fn after_one_of<'a>(text: &'a str, names: &[&'static str]) -> Option<(&'static str, &'a str)> {
    names.iter().find_map(|name| Some((*name, text.strip_prefix(name)?)))
}

/// All results that a control does not name.
const DEFAULT: &str = "default";

/// The names of PAM's results in a control.
pub const RESULTS: &[&str] = &[
    "success",
    "open_err",
    "symbol_err",
    "service_err",
    "system_err",
    "buf_err",
    "perm_denied",
    "auth_err",
    "cred_insufficient",
    "authinfo_unavail",
    "user_unknown",
    "maxtries",
    "new_authtok_reqd",
    "acct_expired",
    "session_err",
    "cred_unavail",
    "cred_expired",
    "cred_err",
    "no_module_data",
    "conv_err",
    "authtok_err",
    "authtok_recover_err",
    "authtok_lock_busy",
    "authtok_disable_aging",
    "try_again",
    "ignore",
    "abort",
    "authtok_expired",
    "module_unknown",
    "bad_item",
    "conv_again",
    "incomplete",
];
