//! One run of sendmail: a message, a recipient, and what became of it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use process_wrap::std::{ProcessSession, StdCommandWrap};

/// How long sendmail may take to take a message.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether it has ended, in milliseconds.
const TICK: u8 = 10;
/// Most bytes of what it says that are kept.
const KEPT: usize = 4096;
/// EX_TEMPFAIL of sysexits.h.
const TEMPORARY: i32 = 75;
/// All that it finds in its environment, as PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What became of a message.
pub(super) enum Sent {
    /// sendmail has taken it.
    Taken,
    /// sendmail could not take it now, for this reason.
    Later(String),
    /// sendmail did not end by itself, and was ended.
    Hung(String),
    /// sendmail refused it: how it ended and what it said.
    Refused(String),
}

/// Gives `message` to sendmail for `to`.
pub(super) fn send(sendmail: &[String], to: &str, message: &str) -> Sent {
    let (ended, said) = match run(sendmail, to, message) {
        Ok(result) => result,
        Err(error) => {
            let program = sendmail.first().map_or("", String::as_str);
            return Sent::Later(format!(
                "{program} cannot be run ({error}); expected a mail server's sendmail; see [notify] in \
                 backupcodes.conf"
            ));
        }
    };
    let said = if said.is_empty() { "it said nothing".into() } else { format!("it said: {said}") };
    match ended {
        None => Sent::Hung(format!("sendmail was ended after {} s; {said}", PATIENCE.as_secs())),
        Some(status) => match status.code() {
            Some(0) => Sent::Taken,
            Some(TEMPORARY) => {
                Sent::Later(format!("sendmail cannot take it now (exit status {TEMPORARY}); {said}"))
            }
            Some(code) => Sent::Refused(format!("exit status {code} of sendmail; {said}")),
            None => {
                let signal = status.signal().unwrap_or_default();
                Sent::Later(format!("sendmail was ended by signal {signal}; {said}"))
            }
        },
    }
}

/// How it ended (`None`: it was ended), and what it said.
fn run(sendmail: &[String], to: &str, message: &str) -> io::Result<(Option<ExitStatus>, String)> {
    let (program, arguments) = sendmail.split_first().ok_or(io::ErrorKind::NotFound)?;
    judge(program)?;
    // A file, not a pipe: nobody has to write while sendmail reads, or does not.
    let mut stdin = File::from(memfd_create(c"notice", MFdFlags::MFD_CLOEXEC)?);
    stdin.write_all(message.as_bytes())?;
    stdin.rewind()?;
    let mut command = StdCommandWrap::with_new(program, |command| {
        command
            .args(arguments)
            .args(["--", to])
            .env_clear()
            .env("PATH", PATH)
            .current_dir("/")
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
    });
    let mut child = command.wrap(ProcessSession).spawn()?.into_inner();
    let mut said = Said::of(child.stderr.take());
    let start = Instant::now();
    let ended = loop {
        if let Ok(Some(status)) = child.try_wait() {
            break Some(status);
        }
        if start.elapsed() >= PATIENCE {
            end(&mut child);
            break None;
        }
        said.listen();
    };
    Ok((ended, said.last_words()))
}

/// What the kernel cannot run the C library gives to a shell (execvp(3)), whose exit status would count as sendmail's.
fn judge(program: &str) -> io::Result<()> {
    let mut start = Vec::new();
    File::open(program)?.take(4).read_to_end(&mut start)?;
    if start.starts_with(b"#!") || start == b"\x7fELF" { Ok(()) } else { Err(Errno::ENOEXEC.into()) }
}

/// What comes on standard error: the beginning is kept, the rest read so that nobody waits to say it.
struct Said {
    pipe: Option<ChildStderr>,
    kept: Vec<u8>,
}

impl Said {
    /// A pipe that might be waited for for ever is none.
    fn of(pipe: Option<ChildStderr>) -> Self {
        let waits_not = |pipe: &ChildStderr| fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok();
        Self { pipe: pipe.filter(waits_not), kept: Vec::new() }
    }

    /// Waits a moment for something to read.
    fn listen(&mut self) {
        let mut places: Vec<_> =
            self.pipe.iter().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
        if poll(&mut places, PollTimeout::from(TICK)).is_ok_and(|ready| ready > 0) {
            self.read();
        }
    }

    /// Reads a piece. Whether there was one.
    fn read(&mut self) -> bool {
        let mut piece = [0; 65536];
        let Some(pipe) = &mut self.pipe else { return false };
        match pipe.read(&mut piece) {
            Ok(0) => self.pipe = None,
            Ok(count) => {
                let room = KEPT.saturating_sub(self.kept.len());
                self.kept.extend_from_slice(piece.get(..count.min(room)).unwrap_or_default());
                return true;
            }
            // Nothing there, or nothing to be had.
            Err(_) => {}
        }
        false
    }

    /// What is in the pipe when sendmail has ended; who has it still may go on talking.
    fn last_words(mut self) -> String {
        while self.kept.len() < KEPT && self.read() {}
        let said = String::from_utf8_lossy(&self.kept);
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Ends sendmail and its children: whatever is in its session, and whatever came from it, orphans too.
fn end(child: &mut Child) {
    let Ok(leader) = i32::try_from(child.id()) else { return };
    let born = Process::read(&Path::new("/proc").join(leader.to_string())).map_or(0, |leader| leader.born);
    // Each look may find children that were made since the last one. What the kernel does not let go is left behind.
    for _ in 0..100 {
        let _ = kill(Pid::from_raw(leader), Signal::SIGKILL);
        let victims = family(leader, born);
        for &victim in &victims {
            let _ = kill(Pid::from_raw(victim), Signal::SIGKILL);
        }
        if child.try_wait().is_ok_and(|status| status.is_some()) && victims.is_empty() {
            break;
        }
        let _ = poll(&mut [], PollTimeout::from(TICK));
    }
}

/// The living processes in the session of `leader`, and their children in others. Orphans are this process's children
/// (PR_SET_CHILD_SUBREAPER), but not those that are older than `leader`: an earlier sendmail may deliver in the
/// background.
fn family(leader: i32, born: u64) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let processes: Vec<_> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| Process::read(&entry.ok()?.path()))
        .filter(|process| !process.is_dead)
        .collect();
    let is_in =
        |process: &&Process| process.session == leader || (process.parent == own && process.born >= born);
    let mut family: Vec<_> = processes.iter().filter(is_in).map(|process| process.id).collect();
    loop {
        let children: Vec<_> = processes
            .iter()
            .filter(|process| family.contains(&process.parent) && !family.contains(&process.id))
            .map(|process| process.id)
            .collect();
        if children.is_empty() {
            return family;
        }
        family.extend(children);
    }
}

struct Process {
    id: i32,
    parent: i32,
    session: i32,
    /// In ticks since boot.
    born: u64,
    is_dead: bool,
}

impl Process {
    /// From `/proc/PID/stat`: proc(5).
    fn read(folder: &Path) -> Option<Self> {
        let id = folder.file_name()?.to_str()?.parse().ok()?;
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        // The name before it may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let is_dead = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        let born = fields.nth(15)?.parse().ok()?;
        Some(Self { id, parent, session, born, is_dead })
    }
}
