//! Standard output and standard error.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use serde::Serialize;

use crate::failure::{Failure, Outcome};

/// The exit status of a program.
pub(crate) fn exit(program: &str, result: Result<Outcome, Failure>) -> ExitCode {
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(failure) => {
            // Who has read enough, as head(1), need not be told so.
            if !matches!(&failure, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
                complain_as(program, &failure);
            }
            ExitCode::from(3)
        }
    }
}

/// The command line of this process. One that is wrong ends it.
pub(crate) fn parse<C: clap::Parser>(program: &str) -> C {
    C::try_parse().unwrap_or_else(|error| refuse(program, &error))
}

/// What is wrong with a command line, or the help that was asked for, and the end of the program.
pub(crate) fn refuse(program: &str, error: &clap::Error) -> ! {
    if !error.use_stderr() {
        error.exit();
    }
    let text = error.render().to_string();
    complain_as(program, &text.strip_prefix("error: ").unwrap_or(&text).trim_end());
    std::process::exit(2)
}

/// One line on standard error. If that fails, the exit status still tells.
pub(crate) fn complain(what: &dyn Display) {
    complain_as(crate::PROGRAM, what);
}

/// The same of another program.
pub(crate) fn complain_as(program: &str, what: &dyn Display) {
    let _ = writeln!(io::stderr(), "{program}: {what}");
}

/// Text on standard output.
///
/// # Errors
/// [`Failure::Output`].
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    write(|out| out.write_all(text.as_bytes())).map_err(Failure::Output)
}

/// One JSON value on standard output, and a newline.
///
/// # Errors
/// [`Failure::Output`].
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    write(|out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        writeln!(out)
    })
    .map_err(Failure::Output)
}

/// A script by which a shell completes the program's command line.
///
/// # Errors
/// [`Failure::Output`].
pub(crate) fn completions<C: CommandFactory>(program: &str, shell: Shell) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut C::command(), program, &mut script);
    write(|out| out.write_all(&script)).map_err(Failure::Output)?;
    Ok(Outcome::Done)
}

/// Writes, and sees that it has arrived.
pub(crate) fn write(what: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    what(&mut out)?;
    out.flush()
}
