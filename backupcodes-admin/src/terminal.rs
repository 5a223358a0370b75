//! Questions at the terminal.

use std::io::{self, BufRead, IsTerminal, Write};
use std::os::fd::AsFd;

use backupcodes_core::visible::shown;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::interrupt::Interrupt;
use crate::output::lines;

/// Whether standard input is a terminal.
pub(crate) fn is_there() -> bool {
    io::stdin().is_terminal()
}

/// Asks a yes-or-no question. Anything but `y` or `yes` means no.
///
/// # Errors
/// The terminal's, or `Interrupted` by a signal that is watched.
pub(crate) fn agrees(question: &str, interrupt: &Interrupt) -> io::Result<bool> {
    let mut terminal = io::stderr();
    write!(terminal, "{} [y/N] ", shown(question))?;
    terminal.flush()?;
    let stdin = io::stdin();
    let mut both = [stdin.as_fd(), interrupt.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    loop {
        match poll(&mut both, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            ready => break ready.map(drop)?,
        }
    }
    if interrupt.came() {
        let _ = writeln!(terminal);
        return Err(io::ErrorKind::Interrupted.into());
    }
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// What a terminal's line holds at the most; more leaves copies behind as the buffer grows.
const LONGEST_LINE: usize = 4096;

/// Reads a code: at a terminal without showing it, else a line of standard input.
pub(crate) fn secret(prompt: &str) -> io::Result<Zeroizing<String>> {
    let _hidden = if is_there() { Some(EchoOff::new()?) } else { None };
    line(prompt)
}

/// Reads a line that may be seen.
pub(crate) fn line(prompt: &str) -> io::Result<Zeroizing<String>> {
    if is_there() {
        write!(io::stderr(), "{}", lines(prompt))?;
    }
    let mut line = Zeroizing::new(String::with_capacity(LONGEST_LINE));
    if io::stdin().lock().read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let end = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(end);
    Ok(line)
}

/// A terminal that does not show what is typed, until this is dropped. It is made before the prompt appears: rpassword
/// shows the prompt first, and with it what a fast typist types.
struct EchoOff(Termios);

impl EchoOff {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        // Nor does Ctrl-C end the program while the terminal is so.
        hidden.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
        // The new line that ends the response is shown.
        hidden.local_flags.insert(LocalFlags::ECHONL);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}
