//! Lines of a PAM file, and their words.

/// What stands between words. A carriage return does not.
const BLANKS: [char; 3] = [' ', '\t', '\n'];

/// What libpam makes of a file.
#[derive(Default)]
pub(crate) struct Lines {
    pub(crate) lines: Vec<Line>,
    pub(crate) swallows: Vec<Swallow>,
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

/// A backslash at the end of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swallow {
    /// The line that ends in it.
    pub number: usize,
    /// The line that is joined to it. None: the file is at its end, and libpam takes that for a fault of the whole file.
    pub lost: Option<(usize, String)>,
}

/// The lines of a file but blank ones and comments.
pub(crate) fn lines(text: &str) -> Lines {
    let mut all = Lines::default();
    let mut open: Option<Line> = None;
    for (number, raw) in (1..).zip(text.split('\n')) {
        let trimmed = raw.trim_start_matches(BLANKS);
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let (said, has_comment) = trimmed.split_once('#').map_or((trimmed, false), |(said, _)| (said, true));
        if open.is_some() {
            let lost = Some((number, said.trim_end_matches(BLANKS).into()));
            all.swallows.last_mut().into_iter().for_each(|swallow| swallow.lost.clone_from(&lost));
        }
        let mut line = open.take().unwrap_or_else(|| Line { number, text: String::new() });
        // A comment ends the line, whatever it ends in.
        match said.trim_end_matches(BLANKS).strip_suffix('\\').filter(|_| !has_comment) {
            Some(said) => {
                line.text.push_str(said);
                line.text.push(' ');
                all.swallows.push(Swallow { number, lost: None });
                open = Some(line);
            }
            None => {
                line.text.push_str(said);
                all.lines.push(line);
            }
        }
    }
    all.is_whole = open.is_none();
    all
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
