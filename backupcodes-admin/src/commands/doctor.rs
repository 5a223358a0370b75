//! `doctor`: shows the faults of this host, and how to fix them.

use crate::cli::{Cli, Doctor, Style};
use crate::doctor::{Finding, Level, findings};
use crate::failure::{Failure, Outcome};
use crate::output::{self, Line};

pub(crate) fn run(cli: &Cli, arguments: &Doctor) -> Result<Outcome, Failure> {
    // What is wrong with the configuration is a finding among others.
    let findings = findings(cli.config.as_deref(), cli.configuration());
    match arguments.format.style {
        Style::Json => output::print_json(&findings)?,
        Style::Text => output::print_lines(&lines(&findings))?,
    }
    let is_well = findings.iter().all(|finding| finding.level != Level::Error);
    Ok(if is_well { Outcome::Done } else { Outcome::No })
}

fn lines(findings: &[Finding]) -> Vec<Line> {
    let of_one = |finding: &Finding| {
        let plain = console::Style::new();
        let (word, style) = match finding.level {
            Level::Error => ("error:", plain.red().bold()),
            Level::Warning => ("warning:", plain.yellow()),
            Level::Note => ("note:", plain.dim()),
        };
        Line::default().painted(word, &style).and(&format_args!(" {finding}"))
    };
    let mut lines: Vec<_> = findings.iter().map(of_one).collect();
    let counts = [(Level::Error, "error"), (Level::Warning, "warning"), (Level::Note, "note")];
    let counts =
        counts.map(|(level, word)| match findings.iter().filter(|finding| finding.level == level).count() {
            1 => format!("1 {word}"),
            count => format!("{count} {word}s"),
        });
    lines.push(Line::of(&counts.join(", ")));
    lines
}
