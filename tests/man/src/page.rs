//! What a manual page documents.

/// A heading of a page, or a tag in front of a paragraph (`.TP`), with what is said of it.
pub struct Entry {
    /// `.SH`
    pub section: String,
    /// `.SS`
    pub subsection: String,
    /// Without fonts and quotes; none for a heading.
    pub tag: Option<String>,
    /// In one line.
    pub text: String,
}

/// All that is in a page of man(7) macros, in its order.
pub fn entries(page: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let (macro_name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let last = entries.last();
        let section = last.map_or("", |last| &last.section).to_owned();
        let subsection = last.map_or("", |last| &last.subsection).to_owned();
        let text = String::new();
        match macro_name {
            ".SH" => {
                entries.push(Entry { section: plain(rest), subsection: String::new(), tag: None, text });
            }
            ".SS" => entries.push(Entry { section, subsection: plain(rest), tag: None, text }),
            ".TP" | ".TQ" => {
                let tag = Some(plain(lines.next().expect("a tag")));
                entries.push(Entry { section, subsection, tag, text });
            }
            _ => {
                let Some(Entry { text, .. }) = entries.last_mut() else { continue };
                text.push_str(&plain(line));
                text.push(' ');
            }
        }
    }
    entries
}

/// The tags of a section.
pub fn tags(page: &str, section: &str) -> Vec<String> {
    let here = entries(page).into_iter().filter(|entry| entry.section == section);
    here.filter_map(|entry| entry.tag).collect()
}

/// The examples of a page (`.EX` to `.EE`), with the line in front of each.
pub fn examples(page: &str) -> Vec<(String, String)> {
    let starts = page.split("\n.EX\n").collect::<Vec<_>>();
    let examples = starts.windows(2).map(|pair| {
        let before = pair[0].lines().last().unwrap_or_default();
        let example = pair[1].split_once(".EE\n").expect("the end of an example").0;
        (before.to_owned(), without_escapes(example))
    });
    examples.collect()
}

/// The words of a line.
fn plain(line: &str) -> String {
    if line.starts_with(".\\\"") {
        return String::new();
    }
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').expect("the end of a quoted word"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word);
        rest = behind.trim_start();
    }
    let words = match words.as_slice() {
        // The words of a macro that changes between two fonts stand without a gap.
        [".BI" | ".BR" | ".IB" | ".IR" | ".RB" | ".RI", words @ ..] => words.concat(),
        [word, words @ ..] if word.starts_with('.') => words.join(" "),
        words => words.join(" "),
    };
    without_escapes(&words)
}

fn without_escapes(text: &str) -> String {
    let fonts = ["\\fB", "\\fI", "\\fR", "\\&"];
    let text = fonts.iter().fold(text.to_owned(), |text, font| text.replace(font, ""));
    text.replace("\\-", "-").replace("\\(dq", "\"").replace("\\e", "\\")
}
