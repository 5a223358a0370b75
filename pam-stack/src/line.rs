//! The lines of a PAM file, and their words.

/// The characters between words. A carriage return is not among them.
const BLANKS: [char; 3] = [' ', '\t', '\n'];

/// The lines of a file, as libpam reads them.
#[derive(Default)]
pub(crate) struct Lines {
    pub(crate) lines: Vec<Line>,
    /// Faults with their line numbers.
    pub(crate) faults: Vec<(usize, Fault)>,
    /// Whether libpam can read the file to its end. It does not see the last line if it cannot.
    pub(crate) is_whole: bool,
}

/// A line as libpam sees it, possibly joined from several.
#[derive(Debug)]
pub(crate) struct Line {
    /// The number of its first line, from 1.
    pub(crate) number: usize,
    /// Its text without the comment.
    pub(crate) text: String,
}

/// Why libpam reads a line differently than a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A backslash at its end joins the line of this number and text, which is lost. None: no line follows, and libpam rejects the
    /// whole file.
    Joins(Option<(usize, String)>),
    /// A carriage return at its end, as in Windows files. To libpam it is a part of the last word.
    CarriageReturn,
    /// An invisible character. To libpam it is a part of a word.
    Invisible(char),
}

/// The lines of a file, without blank ones and comments.
pub(crate) fn lines(text: &str) -> Lines {
    let mut all = Lines::default();
    let mut open: Option<(Line, usize)> = None;
    for (number, raw) in (1..).zip(text.split('\n')) {
        let trimmed = raw.trim_start_matches(BLANKS);
        let (said, comment) =
            trimmed.split_once('#').map_or((trimmed, None), |(said, rest)| (said, Some(rest)));
        all.faults.extend(invisible(said, comment).map(|fault| (number, fault)));
        if said.is_empty() {
            continue;
        }
        let (mut line, joins) = open.take().unwrap_or((Line { number, text: String::new() }, 0));
        if joins > 0 {
            let lost = (number, said.trim_end_matches(BLANKS).into());
            all.faults.push((joins, Fault::Joins(Some(lost))));
        }
        // A comment ends the line, even if the comment ends with a backslash.
        match said.trim_end_matches(BLANKS).strip_suffix('\\').filter(|_| comment.is_none()) {
            Some(said) => {
                line.text.push_str(said);
                line.text.push(' ');
                open = Some((line, number));
            }
            None => {
                line.text.push_str(said);
                all.lines.push(line);
            }
        }
    }
    all.faults.extend(open.iter().map(|(_, joins)| (*joins, Fault::Joins(None))));
    all.is_whole = open.is_none();
    all
}

/// The first invisible character of a line that libpam does not treat as a blank. Brackets may contain other Unicode blanks.
fn invisible(said: &str, comment: Option<&str>) -> Option<Fault> {
    let mut is_quoted = false;
    let mut before = ' ';
    let mut is_stray = |char: &char| {
        match char {
            '[' if BLANKS.contains(&before) => is_quoted = true,
            ']' if before != '\\' => is_quoted = false,
            _ => {}
        }
        before = *char;
        !BLANKS.contains(char) && (char.is_control() || !is_quoted && is_invisible(*char))
    };
    // Text after a lone carriage return in a comment looks like a line, but belongs to the comment.
    let commented = comment.unwrap_or_default().trim_end_matches(['\r', ' ', '\t']);
    let stray = said.chars().find(&mut is_stray).or_else(|| commented.chars().find(|char| *char == '\r'))?;
    let is_last =
        comment.is_none() && matches!(said.trim_end_matches(BLANKS).split_once('\r'), Some((_, "")));
    Some(if stray == '\r' && is_last { Fault::CarriageReturn } else { Fault::Invisible(stray) })
}

/// Whether a character is a blank or has no width.
pub(crate) fn is_invisible(char: char) -> bool {
    char.is_whitespace() || matches!(char, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

/// The words of a line. `[...]` is one word, without the brackets; in it, `\]` is a bracket.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(BLANKS);
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('[') {
            Some(inside) => bracketed(inside),
            None => {
                let (word, behind) = rest.split_at(rest.find(BLANKS).unwrap_or(rest.len()));
                (word.into(), behind)
            }
        };
        words.push(word);
        rest = behind.trim_start_matches(BLANKS);
    }
    words
}

/// The text before and after the closing bracket. Without one, the whole line.
fn bracketed(inside: &str) -> (String, &str) {
    let mut word = String::new();
    let mut chars = inside.chars();
    while let Some(char) = chars.next() {
        match char {
            ']' => break,
            '\\' if chars.as_str().starts_with(']') => word.extend(chars.next()),
            other => word.push(other),
        }
    }
    (word, chars.as_str())
}
