//! The sheet as a section of an HTML document, with the codes in a card for the wallet.

use std::fmt::Write;

use backupcodes_core::clock::Time;
use backupcodes_core::code::Code;
use backupcodes_core::visible::shown;
use html_escape::encode_quoted_attribute as escape;
use zeroize::Zeroizing;

use super::{date, halves, works_once};

/// What stands before the first sheet. It loads nothing, and each sheet after it is printed on a page of its own.
pub(crate) const HEAD: &str = include_str!("head.html");

/// What stands behind the last one.
pub(crate) const TAIL: &str = "</body>\n</html>\n";

/// One sheet: whose codes they are, the card, and how to use, keep and renew them.
pub(crate) fn html(host: &str, user: &str, set: &str, created: Time, codes: &[Code]) -> Zeroizing<String> {
    let names = [host, user, set].map(shown);
    let [host, user, set] = names.each_ref().map(escape);
    let date = date(created);
    // Room for all of it, so that no copy of the codes is left behind by growing: names stand in it twice.
    let names = [&host, &user, &set].iter().fold(0_usize, |sum, name| sum.saturating_add(name.len()));
    let rows = codes.len().saturating_mul(ROW);
    let room = REST.saturating_add(names.saturating_mul(2)).saturating_add(rows);
    let mut sheet = Zeroizing::new(String::with_capacity(room));
    let (left, right) = halves(codes);
    // Writing to a String cannot fail.
    let _ = write!(
        sheet,
        r#"<section class="sheet">
<h1>Backup codes for logging in</h1>
<dl>
<dt>Host</dt><dd>{host}</dd>
<dt>User</dt><dd>{user}</dd>
<dt>Set</dt><dd>{set}</dd>
<dt>Date</dt><dd>{date}</dd>
</dl>
<div class="{card}">
<div class="half">
<header><b>Backup codes</b><br>{host}</header>
"#,
        card = card(codes),
    );
    list(&mut sheet, left);
    let _ = write!(
        sheet,
        r#"</div>
<div class="half">
<header><b>{user}</b><br>Set {set}, {date}</header>
"#,
    );
    list(&mut sheet, right);
    let _ = write!(
        sheet,
        r#"</div>
</div>
<div class="advice">
<h2>Use</h2>
<p>{works}
Type one where a backup code is asked for. Capitals, dashes and spaces do not matter.</p>
{ADVICE}</div>
</section>
"#,
        works = works_once(codes.len()),
    );
    sheet
}

/// Bytes of a code in its row: the longest one has 33 characters.
const ROW: usize = 64;
/// Bytes of all that is neither a code nor a name.
const REST: usize = 2048;
/// The most characters that stand in one line of half a card.
const LINE: usize = 20;
/// The most codes of two lines each that find room on a page in the usual size.
const TALL: usize = 20;

const ADVICE: &str = "\
<h2>Keep</h2>
<p>Cut the card out along the dashed line, fold it along the dotted line, and keep it in your wallet, or in a drawer
that locks: away from the device that makes your verification codes and from the computer you log in with.</p>
<h2>Renew</h2>
<p>Run <code>backupcodes renew</code> on the host, or ask your administrator, before the last code is used, and at once
if the card is lost. New codes make these worthless.</p>
";

/// The classes of the card.
fn card(codes: &[Code]) -> &'static str {
    let is_long = codes.iter().any(|code| code.for_sheet().len() > LINE);
    match (is_long, codes.len() > TALL) {
        (false, _) => "card",
        (true, false) => "card long",
        (true, true) => "card long small",
    }
}

fn list(sheet: &mut String, codes: &[Code]) {
    sheet.push_str("<ol>\n");
    for code in codes {
        let _ = writeln!(sheet, "<li><span>{}</span>{}</li>", code.number(), *code.for_sheet());
    }
    sheet.push_str("</ol>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sheet::tests::new_codes;

    fn sheet(host: &str, user: &str, codes: &[Code]) -> Zeroizing<String> {
        html(host, user, "1f580831", "2026-11-24T02:00:00Z".parse().unwrap(), codes)
    }

    #[test]
    fn every_code_stands_once_behind_its_number() {
        for (count, length) in [(1, 13), (2, 13), (10, 13), (31, 13), (10, 26), (31, 26)] {
            let codes = new_codes(count, length);
            let sheet = sheet("host.example.org", "alice", &codes);
            for code in &codes {
                let text = code.for_sheet();
                assert_eq!(sheet.matches(text.as_str()).count(), 1);
                assert!(sheet.contains(&format!(">{}</span>{}<", code.number(), *text)));
            }
        }
    }

    #[test]
    fn names_are_text_whatever_they_hold() {
        let hostile = r#"</dd><script>alert("1")</script>&lt;'"#;
        let (host, user) = (hostile.repeat(6), hostile.repeat(7));
        let codes = new_codes(10, 13);
        let (sheet, plain) = (sheet(&host, &user, &codes), sheet("host", "user", &codes));
        let marks = |text: &str| text.matches(['<', '>', '"', '\'']).count();
        assert_eq!(marks(&sheet), marks(&plain), "{}", *sheet);
        assert_eq!(
            html_escape::decode_html_entities(sheet.as_str()).matches("<script>").count(),
            2 * (6 + 7)
        );
    }

    #[test]
    fn no_copy_of_a_code_is_left_behind_by_growing() {
        for (count, name) in [(1, "a".into()), (31, "\"".repeat(255))] {
            let sheet = sheet(&name, &name, &new_codes(count, 26));
            let names = 2 * (2 * escape(&name).len() + "1f580831".len());
            assert_eq!(sheet.capacity(), REST + usize::from(count) * ROW + names);
        }
    }

    #[test]
    fn a_document_loads_nothing() {
        let document = [HEAD, &sheet("host", "user", &new_codes(10, 13)), TAIL].concat();
        for loader in ["http:", "https:", "url(", "@import", "<link", "<script", "<img", "src="] {
            assert!(!document.contains(loader), "{loader}");
        }
    }
}
