//! Standard output and standard error. All text passes through here, so that no name from outside controls a terminal or forges a
//! line. Lines come one by one, because nobody can tell later where a line was meant to end.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::process::ExitCode;

use backupcodes_core::visible::{is_hidden, shown};
use clap::error::{ContextKind, ContextValue};
use console::Style;
use serde::Serialize;

use crate::failure::{Failure, Outcome};

/// The exit status of a program.
pub(crate) fn exit(program: &str, result: Result<Outcome, Failure>) -> ExitCode {
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(failure) => {
            // A reader that has read enough, such as head(1), needs no complaint.
            if !matches!(&failure, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
                complain_as(program, &failure);
            }
            ExitCode::from(3)
        }
    }
}

/// The command line of this process. One that is wrong ends it.
pub(crate) fn parse<C: clap::Parser>(program: &str) -> C {
    C::try_parse().unwrap_or_else(|mut error| {
        // What was typed stands in a text of several lines.
        let hostile: Vec<_> = error
            .context()
            .filter_map(|(kind, value)| match value {
                ContextValue::String(text) if text.contains(is_hidden) => Some((kind, shown(text))),
                _ => None,
            })
            .collect();
        for (kind, text) in hostile {
            error.insert(kind, ContextValue::String(text));
            error.remove(ContextKind::Suggested);
        }
        refuse(program, &error)
    })
}

/// What is wrong with a command line, or the help that was asked for, and the end of the program.
pub(crate) fn refuse(program: &str, error: &clap::Error) -> ! {
    if !error.use_stderr() {
        error.exit();
    }
    let text = error.render().to_string();
    tell(&format!("{program}: {}", text.strip_prefix("error: ").unwrap_or(&text).trim_end()));
    std::process::exit(2)
}

/// A single failure is the command's; of several each is told, and then how many there were.
pub(crate) fn report(mut failed: Vec<Failure>, total: usize) -> Result<(), Failure> {
    match failed.len() {
        0 => Ok(()),
        1 if total == 1 => failed.pop().map_or(Ok(()), Err),
        count => {
            failed.iter().for_each(|failure| complain(failure));
            Err(Failure::Some { failed: count, total })
        }
    }
}

/// One line on standard error. If that fails, the exit status still tells.
pub(crate) fn complain(what: &dyn Display) {
    complain_as(crate::PROGRAM, what);
}

/// The same of another program.
pub(crate) fn complain_as(program: &str, what: &dyn Display) {
    tell(&shown(&format!("{program}: {what}")));
}

/// Several lines on standard error: standard output may lead to a printer.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{}", lines(text));
}

/// A text of several lines, as PAM modules have them, that is nothing else.
pub(crate) fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\t', " ").replace(|c| c != '\n' && is_hidden(c), "?")
}

/// One line on standard output, with a newline at its end.
pub(crate) fn print(line: &str) -> Result<(), Failure> {
    print_lines(&[Line::of(&line.strip_suffix('\n').unwrap_or(line))])
}

/// Lines on standard output.
pub(crate) fn print_lines(lines: &[Line]) -> Result<(), Failure> {
    write(|out| lines.iter().try_for_each(|line| writeln!(out, "{line}"))).map_err(Failure::Output)
}

/// One line for people, whatever the texts in it are. No other colours are in it than those it is painted with.
#[derive(Default)]
pub(crate) struct Line(String);

impl Line {
    pub(crate) fn of(text: &dyn Display) -> Self {
        Self::default().and(text)
    }

    pub(crate) fn and(self, text: &dyn Display) -> Self {
        Self(self.0 + &shown(&text.to_string()))
    }

    pub(crate) fn painted(self, text: &str, style: &Style) -> Self {
        Self(self.0 + &style.apply_to(shown(text)).to_string())
    }
}

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One JSON value on standard output, and a newline.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    write(|out| {
        serde_json::to_writer_pretty(Escaping(&mut *out), value)?;
        writeln!(out)
    })
    .map_err(Failure::Output)
}

/// Where JSON is written to: what serde_json leaves as it is, such as DEL and the control characters behind it, is escaped.
/// Nothing of the kind stands outside of a string, but the newlines between values.
pub(crate) struct Escaping<W>(pub(crate) W);

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // serde_json writes no part of a character.
        let mut rest = std::str::from_utf8(bytes).map_err(io::Error::other)?;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| c != '\n' && is_hidden(c)) {
            let (before, hidden) = rest.split_at(at);
            self.0.write_all(before.as_bytes())?;
            c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(self.0, "\\u{unit:04x}"))?;
            rest = hidden.get(c.len_utf8()..).unwrap_or_default();
        }
        self.0.write_all(rest.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A row of a table for programs. They read it line by line, too.
pub(crate) fn write_row<'a, W: Write>(
    rows: &mut csv::Writer<W>,
    fields: impl IntoIterator<Item = &'a str>,
) -> io::Result<()> {
    for field in fields {
        // A copy of a code must not be made.
        if field.contains(is_hidden) { rows.write_field(shown(field))? } else { rows.write_field(field)? }
    }
    Ok(rows.write_record(None::<&[u8]>)?)
}

/// Writes and flushes.
pub(crate) fn write(what: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    what(&mut out)?;
    out.flush()
}
