//! `completions`, of both programs.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::failure::{Failure, Outcome};
use crate::output;

/// A script by which a shell completes the program's command line.
pub(crate) fn print<C: CommandFactory>(program: &str, shell: Shell) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut C::command(), program, &mut script);
    output::write(|out| out.write_all(&script)).map_err(Failure::Output)?;
    Ok(Outcome::Done)
}
