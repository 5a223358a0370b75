//! What a printer keeps.

use std::path::Path;

use super::finding::{Finding, Level};
use super::read_small;

/// CUPS keeps what it has printed in its spool, for a day where nothing else is said: cupsd.conf(5), `PreserveJobFiles`.
pub(super) fn check(root: &Path) -> Option<Finding> {
    let file = root.join("etc/cups/cupsd.conf");
    let settings = String::from_utf8(read_small(&file).ok()?).ok()?;
    let said = settings.lines().rev().find_map(|line| {
        let (key, value) = line.trim().split_once(char::is_whitespace)?;
        key.eq_ignore_ascii_case("PreserveJobFiles").then(|| value.trim().to_owned())
    });
    if said
        .as_ref()
        .is_some_and(|value| ["no", "off", "false", "0"].contains(&value.to_ascii_lowercase().as_str()))
    {
        return None;
    }
    let found = said.map_or_else(|| "not set (the default is a day)".into(), |value| format!("{value:?}"));
    Some(Finding::new(
        Level::Note,
        "printer-keeps-sheets",
        "/etc/cups/cupsd.conf",
        format!(
            "PreserveJobFiles is {found}: CUPS keeps the sheets that generate --print prints, with their codes"
        ),
        "PreserveJobFiles No, and: systemctl restart cups",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_that_keeps_sheets_is_reported() {
        let root = tempfile::tempdir().unwrap();
        assert!(check(root.path()).is_none(), "no CUPS");
        std::fs::create_dir_all(root.path().join("etc/cups")).unwrap();
        let check = |text: &str| {
            std::fs::write(root.path().join("etc/cups/cupsd.conf"), text).unwrap();
            check(root.path())
        };
        for text in [
            "",
            "LogLevel warn\n",
            "PreserveJobFiles Yes\n",
            "# PreserveJobFiles No\n",
            "preservejobfiles 86400\n",
        ] {
            assert_eq!(check(text).unwrap().check, "printer-keeps-sheets", "{text}");
        }
        for text in ["PreserveJobFiles No\n", "  preservejobfiles\toff\n", "PreserveJobFiles 0"] {
            assert!(check(text).is_none(), "{text}");
        }
    }
}
