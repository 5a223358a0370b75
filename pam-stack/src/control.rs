//! What libpam does with the result of a module: the second word of a line.

/// What to do with a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It counts for nothing.
    Ignore,
    /// A yes, if nothing before it was a no.
    Ok,
    /// As `Ok`, and the end of the stack.
    Done,
    /// A no.
    Bad,
    /// A no, and the end of the stack.
    Die,
    /// Forget all results so far.
    Reset,
    /// Over so many lines.
    Jump(usize),
}

/// Which action each result leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    of: Vec<(&'static str, Action)>,
    default: Action,
}

impl Control {
    /// `required`, `[success=1 default=ignore]` … What libpam does not understand is bad in any case.
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

    /// What a result leads to, by its name in a control (`auth_err`).
    #[must_use]
    pub fn action(&self, result: &str) -> Action {
        let given = self.of.iter().rev().find(|(name, _)| *name == result);
        given.map_or(self.default, |(_, action)| *action)
    }

    /// The widest jump that a result may lead to.
    #[must_use]
    pub fn jump(&self) -> Option<usize> {
        let actions = self.of.iter().map(|(_, action)| action).chain([&self.default]);
        actions.filter_map(|action| if let Action::Jump(lines) = action { Some(*lines) } else { None }).max()
    }

    /// `value=action` pairs. The last one of a value counts, but of `default` the first.
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
    // A jump over more lines than memory holds is as one over too many.
    let count = number.parse().unwrap_or(if number.is_empty() { 0 } else { usize::MAX });
    (count > 0).then_some((Jump(count), behind))
}

/// The name that a text begins with, as libpam compares them: without a look at what follows.
fn after_one_of<'a>(text: &'a str, names: &[&'static str]) -> Option<(&'static str, &'a str)> {
    names.iter().find_map(|name| Some((*name, text.strip_prefix(name)?)))
}

/// Stands for all results that a control does not name.
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
