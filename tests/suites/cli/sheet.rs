//! The sheet that `generate --format html` prints, as a browser puts it on paper.

use backupcodes_tests::pdf::{MM, Page, Paper, Pdf, Word, print};
use backupcodes_tests::{CHEAP, World, me, status, text};

/// The sheet of `count` codes of this length, with the codes.
fn sheet(world: &World, count: usize, length: usize) -> (String, Vec<String>) {
    world.configure(&format!("{CHEAP}[codes]\nlength = {length}\n"));
    let output =
        world.admin(&["generate", "--yes", "--format", "html", "--count", &count.to_string(), &me()]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let html = text(&output.stdout);
    let characters = length + 2;
    let shown = characters + (characters - 1) / 5;
    let is_code = |word: &&str| {
        word.len() == shown
            && word.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase() || byte == b'-')
    };
    let codes: Vec<_> = html.split(['<', '>']).filter(is_code).map(Into::into).collect();
    assert_eq!(codes.len(), count, "{html}");
    (html, codes)
}

/// Each code stands once behind its number, whole, black and in a monospaced font. Its lines.
fn printed_codes<'a>(pdf: &'a Pdf, codes: &[String]) -> Vec<&'a Word> {
    let mut lines = Vec::new();
    let everything = pdf.text().replace(' ', "");
    for (at, code) in codes.iter().enumerate() {
        assert_eq!(everything.matches(code.as_str()).count(), 1, "{code} in {everything}");
        let found: Vec<(&Page, _)> = pdf
            .pages
            .iter()
            .flat_map(|page| page.code(at + 1, code).into_iter().map(move |words| (page, words)))
            .collect();
        let [(page, words)] = &found[..] else { panic!("{} {code}: {}", at + 1, pdf.text()) };
        for word in &page.words[words.clone()] {
            assert!(word.is_monospaced() && page.is_black(word), "{word:?}");
            let others = page.words.iter().filter(|other| !std::ptr::eq(*other, word));
            assert!(others.into_iter().all(|other| !word.touches(other)), "{word:?}");
            lines.push(word);
        }
    }
    assert!(pdf.fonts.iter().any(|font| font.ends_with("DejaVuSansMono")), "{:?}", pdf.fonts);
    pdf.pages.iter().for_each(|page| page.assert_margin(10.0 * MM));
    lines
}

fn is_about(length: f64, expected: f64) -> bool {
    (length - expected).abs() < 0.3 * MM
}

const USE: &str = "where a backup code is asked for";
const RENEW: &str = "backupcodes renew";

#[test]
fn a_printed_sheet_is_one_page_with_a_card_for_the_wallet() {
    let Some(world) = World::new("") else { return };
    let (html, codes) = sheet(&world, 10, 13);
    let set = status(&world.admin(&["status", "--format", "json", &me()]));
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for (paper, width) in [(Paper::A4, 210.0), (Paper::Letter, 215.9)] {
        let pdf = print(world.folder.path(), &html, paper);
        assert_eq!(pdf.pages.len(), 1);
        let page = &pdf.pages[0];
        assert!(is_about(page.width, width * MM), "{}", page.width);
        let lines = printed_codes(&pdf, &codes);
        assert!(lines.len() == 10 && lines.iter().all(|word| (word.size() - 15.0).abs() < 0.1), "{lines:?}");
        let (set, date) = (set["set"].as_str().unwrap(), &set["created"].as_str().unwrap()[..10]);
        for part in [
            &format!("Host {host}"),
            &format!("User {}", me()),
            &format!("Set {set}"),
            date,
            "10 codes",
            USE,
            RENEW,
        ] {
            assert!(pdf.text().contains(part), "{part}: {}", pdf.text());
        }
        // Two halves of ISO/IEC 7810's ID-1.
        let (width, height) = page.card();
        assert!(
            is_about(width, 2.0 * 85.6 * MM) && is_about(height, 53.98 * MM),
            "{width} x {height} points"
        );
    }
}

#[test]
fn more_and_longer_codes_lose_nothing_on_paper() {
    let Some(world) = World::new("") else { return };
    for (count, length, size) in [(31, 13, 15.0), (10, 26, 15.0), (31, 26, 12.0)] {
        let (html, codes) = sheet(&world, count, length);
        for paper in [Paper::A4, Paper::Letter] {
            let pdf = print(world.folder.path(), &html, paper);
            assert_eq!(pdf.pages.len(), 1, "{count} codes of {length} on {paper:?}");
            let lines = printed_codes(&pdf, &codes);
            assert!(lines.iter().all(|word| (word.size() - size).abs() < 0.1), "{lines:?}");
            assert!(is_about(pdf.pages[0].card().0, 2.0 * 85.6 * MM));
        }
    }
}

#[test]
fn every_sheet_has_a_page_of_its_own() {
    let Some(world) = World::new("") else { return };
    let (html, codes) = sheet(&world, 10, 13);
    let (start, end) =
        (html.find("<section").unwrap(), html.find("</section>").unwrap() + "</section>".len());
    let three = html.replace(&html[start..end], &html[start..end].repeat(3));
    let pdf = print(world.folder.path(), &three, Paper::A4);
    assert_eq!(pdf.pages.len(), 3);
    for page in &pdf.pages {
        assert_eq!(page.code(1, &codes[0]).len(), 1);
    }
}
