//! The sheet as text.

use std::fmt::Write;

use backupcodes_core::clock::Time;
use backupcodes_core::code::Code;
use backupcodes_core::visible::shown;
use zeroize::Zeroizing;

use super::{date, halves, works_once};

/// A sheet of 80 columns: whose codes they are, the codes in two columns, and how to use and keep them.
pub(crate) fn text(host: &str, user: &str, set: &str, created: Time, codes: &[Code]) -> Zeroizing<String> {
    let ([host, user, set], date) = ([host, user, set].map(shown), date(created));
    let mut sheet = Zeroizing::new(String::with_capacity(8192));
    // Writing to a String cannot fail.
    let _ = write!(
        sheet,
        "BACKUP CODES FOR LOGGING IN\n\n  Host  {host}\n  User  {user}\n  Set   {set}\n  Date  {date}\n\n"
    );
    let (left, right) = halves(codes);
    for (row, code) in left.iter().enumerate() {
        let _ = write!(sheet, "  {:2}  {}", code.number(), *code.for_sheet());
        if let Some(code) = right.get(row) {
            let _ = write!(sheet, "    {:2}  {}", code.number(), *code.for_sheet());
        }
        sheet.push('\n');
    }
    let _ = write!(sheet, "\n{}\n{ADVICE}", works_once(codes.len()));
    sheet
}

const ADVICE: &str = "\
Type one where a backup code is asked for. Capitals, dashes and spaces do not
matter. Keep this sheet away from the device that makes your verification codes
and from the computer you log in with: in your wallet, or a drawer that locks.
Renew it before the last code is used, and at once if it is lost: run
`backupcodes renew` on the host, or ask your administrator. New codes make
these worthless.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sheet::tests::new_codes;

    fn sheet(count: u8, length: usize) -> (String, Vec<Code>) {
        let codes = new_codes(count, length);
        let created = "2026-11-24T02:00:00Z".parse().unwrap();
        (text("host.example.org", "alice", "1f580831", created, &codes).to_string(), codes)
    }

    #[test]
    fn every_code_stands_behind_its_number_in_80_columns() {
        for (count, length) in [(1, 13), (2, 13), (10, 13), (31, 13), (31, 26)] {
            let (sheet, codes) = sheet(count, length);
            for code in codes {
                assert!(sheet.contains(&format!("{:2}  {}", code.number(), *code.for_sheet())));
            }
            assert!(sheet.lines().all(|line| line.len() <= 80), "{sheet}");
            assert!(sheet.lines().count() <= 60, "one page: {sheet}");
        }
    }

    #[test]
    fn the_sheet_says_whose_it_is_and_how_to_keep_it() {
        let (sheet, _) = sheet(10, 13);
        for part in [
            "host.example.org",
            "alice",
            "1f580831",
            "2026-11-24",
            "10 codes",
            "away from the device",
            "works once",
            "backupcodes renew",
        ] {
            assert!(sheet.contains(part), "{part}");
        }
    }
}
