//! Lines of a PAM file, and their words.

/// What stands between words. A carriage return does not.
const BLANKS: [char; 3] = [' ', '\t', '\n'];

/// What libpam makes of a file.
#[derive(Default)]
pub(crate) struct Lines {
    pub(crate) lines: Vec<Line>,
    /// With the numbers of the lines that they are in.
    pub(crate) faults: Vec<(usize, Fault)>,
    /// Whether libpam can read it to the end. It never sees a line behind which it cannot.
    pub(crate) is_whole: bool,
}

/// A line as libpam sees it: it may be several of the file.
#[derive(Debug)]
pub(crate) struct Line {
    /// Where it begins, from 1.
    pub(crate) number: usize,
    /// Without its comment.
    pub(crate) text: String,
}

/// What makes of a line something else than it looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A backslash at its end, by which the line of this number and text is joined to it and lost. None: the file is at its end, and
    /// libpam takes that for a fault of the whole file.
    Joins(Option<(usize, String)>),
    /// A carriage return at its end, as files of Windows have it. To libpam it is a part of the last word.
    CarriageReturn,
    /// A character that cannot be seen. To libpam it is a part of a word.
    Invisible(char),
}

/// The lines of a file but blank ones and comments.
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
        // A comment ends the line, whatever it ends in.
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

/// The first character of a line that cannot be seen and is no blank. What is in brackets may have blanks of other scripts.
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
    // All that follows a lone carriage return in a comment looks like a line, and is a part of the comment.
    let commented = comment.unwrap_or_default().trim_end_matches(['\r', ' ', '\t']);
    let stray = said.chars().find(&mut is_stray).or_else(|| commented.chars().find(|char| *char == '\r'))?;
    let is_last =
        comment.is_none() && matches!(said.trim_end_matches(BLANKS).split_once('\r'), Some((_, "")));
    Some(if stray == '\r' && is_last { Fault::CarriageReturn } else { Fault::Invisible(stray) })
}

/// Blanks that are not ASCII, and what has no width.
pub(crate) fn is_invisible(char: char) -> bool {
    char.is_whitespace() || matches!(char, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

/// The words of a line: `[...]` is one, without its brackets, and `\]` in it a bracket.
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

/// What stands in front of the closing bracket, and what behind it. Without one, all of the line.
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
