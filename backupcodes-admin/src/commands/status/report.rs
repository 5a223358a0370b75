//! What `status` prints, set by set as they come.

use std::io::{self, BufWriter, Stdout, Write};

use backupcodes_core::set::Label;

use super::table::Table;
use super::{Shown, text};
use crate::cli;
use crate::output::{Escaping, write_row};

/// What is printed so far is not kept.
pub(super) struct Report {
    form: Form,
    out: BufWriter<Stdout>,
    printed: usize,
}

enum Form {
    Table(Table),
    Details,
    Json,
    Csv,
}

impl Report {
    /// For people with a table, or with all there is to say.
    pub(super) fn new(format: cli::Report, table: Option<Table>) -> Self {
        let form = match format {
            cli::Report::Text => table.map_or(Form::Details, Form::Table),
            cli::Report::Json => Form::Json,
            cli::Report::Csv => Form::Csv,
        };
        Self { form, out: BufWriter::new(io::stdout()), printed: 0 }
    }

    pub(super) fn print(&mut self, shown: &Shown) -> io::Result<()> {
        let is_first = self.printed == 0;
        self.printed = self.printed.saturating_add(1);
        match &self.form {
            Form::Table(table) => {
                if is_first {
                    writeln!(self.out, "{}", table.header())?;
                }
                writeln!(self.out, "{}", table.row(shown))
            }
            Form::Details => text::lines(shown).iter().try_for_each(|line| writeln!(self.out, "{line}")),
            Form::Json => {
                self.out.write_all(if is_first { b"[\n" } else { b",\n" })?;
                Ok(serde_json::to_writer(Escaping(&mut self.out), shown)?)
            }
            Form::Csv => csv(&mut self.out, shown, is_first),
        }
    }

    /// How many there were.
    pub(super) fn end(mut self) -> io::Result<usize> {
        match self.form {
            Form::Json if self.printed == 0 => self.out.write_all(b"[]\n")?,
            Form::Json => self.out.write_all(b"\n]\n")?,
            _ => {}
        }
        self.out.flush()?;
        Ok(self.printed)
    }
}

fn csv(out: &mut impl Write, shown: &Shown, is_first: bool) -> io::Result<()> {
    let mut rows = csv::Writer::from_writer(out);
    if is_first {
        rows.write_record([
            "user",
            "set",
            "created",
            "total",
            "left",
            "low",
            "last_use",
            "service",
            "source",
            "throttled",
            "due",
        ])?;
    }
    let Label { set, created, .. } = &shown.set.label;
    let last = shown.last_use();
    let fields = [
        shown.file_of.as_str(),
        set.as_str(),
        &created.to_string(),
        &shown.set.total().to_string(),
        &shown.set.left().to_string(),
        &shown.is_low().to_string(),
        &last.map(|record| record.time.to_string()).unwrap_or_default(),
        last.map_or("", |record| &record.service),
        last.map_or("", |record| &record.source),
        &shown.throttled.len().to_string(),
        &shown.notices.due.to_string(),
    ];
    write_row(&mut rows, fields)?;
    rows.flush()
}
