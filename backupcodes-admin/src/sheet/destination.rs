//! Where new sheets go: standard output, files, or a printer.

use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backupcodes_core::code::Code;
use backupcodes_core::file_name;
use backupcodes_core::new_set::NewSet;
use backupcodes_core::set::Label;
use clap::ValueEnum;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, makedev};
use nix::unistd::{UnlinkatFlags, fdatasync, fsync, geteuid, unlinkat};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::output::{self, Escaping, write_row};
use crate::sheet;

/// How a sheet looks.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    Text,
    Html,
    Json,
    Csv,
}

/// Where sheets go. `D` is a directory: its path, or opened.
pub(crate) enum Destination<D> {
    /// Standard output.
    Stream(Layout),
    /// A file for each user in this directory.
    Directory(D, Layout),
    /// This printer, or the default one.
    Printer(Option<String>),
}

/// Shows one new set after the other.
pub(crate) struct Sheets {
    to: Destination<Folder>,
    /// Codes of a set: as many columns as a table has.
    columns: u8,
    shown: usize,
}

impl Sheets {
    /// `columns` is the most codes that a set has.
    ///
    /// # Errors
    /// Others can create or remove files in the directory, or codes may not go to standard output.
    pub(crate) fn open(destination: Destination<PathBuf>, columns: u8) -> Result<Self, Failure> {
        let to = match destination {
            Destination::Stream(layout) => judge_output().map(|()| Destination::Stream(layout))?,
            Destination::Directory(path, layout) => Destination::Directory(Folder::open(&path)?, layout),
            Destination::Printer(printer) => Destination::Printer(printer),
        };
        Ok(Self { to, columns, shown: 0 })
    }

    /// Whether all sheets go to one reader.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.to, Destination::Stream(_))
    }

    /// Shows a set that is not saved yet, and the host where it is good. On return its codes are at their destination.
    ///
    /// # Errors
    /// What was to be shown is not, or not whole.
    pub(crate) fn show(&mut self, new: &NewSet, host: &str) -> io::Result<()> {
        match &self.to {
            Destination::Stream(layout) => self.stream(*layout, new, host).and_then(|()| flush_output())?,
            Destination::Directory(folder, layout) => {
                let name = file_name(*layout, new);
                folder.write(&name, &document(*layout, new, host)).map_err(|error| {
                    let hint = if error.kind() == io::ErrorKind::AlreadyExists {
                        "; no file is overwritten; if backupcodes-admin status USER shows a different set, the file is invalid: \
                         remove it"
                    } else {
                        ""
                    };
                    io::Error::other(format!("{}: {error}{hint}", folder.path.join(name).display()))
                })?;
            }
            Destination::Printer(printer) => print(printer.as_deref(), &document(Layout::Text, new, host))?,
        }
        self.shown = self.shown.saturating_add(1);
        Ok(())
    }

    /// Takes back the sheet of a set that was not saved, or says where the worthless sheet is.
    pub(crate) fn withdraw(&self, new: &NewSet) -> Option<String> {
        match &self.to {
            Destination::Stream(_) => Some("THE SHEET ABOVE".into()),
            Destination::Printer(_) => Some("THE SHEET THAT WAS PRINTED".into()),
            Destination::Directory(folder, layout) => {
                let name = file_name(*layout, new);
                folder.remove(&name).err().map(|_| format!("THE SHEET {}", folder.path.join(name).display()))
            }
        }
    }

    /// What follows the last one.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        let ours = |text: &str| output::write(|out| out.write_all(text.as_bytes())).map_err(Failure::Output);
        match (&self.to, self.shown) {
            (Destination::Stream(Layout::Json), 0) => output::print("[]"),
            (Destination::Stream(Layout::Json), _) => ours("\n]\n"),
            (Destination::Stream(Layout::Html), 1..) => ours(sheet::HTML_TAIL),
            _ => Ok(()),
        }
    }

    fn stream(&self, layout: Layout, new: &NewSet, host: &str) -> io::Result<()> {
        let is_first = self.shown == 0;
        output::write(|out| match layout {
            Layout::Text => {
                let gap = if is_first { "" } else { "\n\n" };
                out.write_all(gap.as_bytes())?;
                out.write_all(text(new, host).as_bytes())
            }
            Layout::Html => {
                out.write_all(if is_first { sheet::HTML_HEAD } else { "" }.as_bytes())?;
                out.write_all(section(new, host).as_bytes())
            }
            Layout::Json => {
                out.write_all(if is_first { "[\n" } else { ",\n" }.as_bytes())?;
                let Label { user, set, created, .. } = &new.label;
                let codes: Vec<_> = new.codes.iter().map(Code::for_sheet).collect();
                let codes = codes.iter().map(|code| code.as_str()).collect();
                let json = Json { user, set, created: created.to_string(), codes };
                Ok(serde_json::to_writer(Escaping(out), &json)?)
            }
            Layout::Csv => {
                let mut rows = csv::Writer::from_writer(out);
                if is_first {
                    let fixed = ["user", "email", "host", "set", "created"].map(String::from);
                    rows.write_record(
                        fixed.into_iter().chain((1..=self.columns).map(|n| format!("code{n}"))),
                    )?;
                }
                let Label { user, email, set, created, .. } = &new.label;
                let fixed = [user, &email.join(" "), host, set, &created.to_string()].map(String::from);
                let codes: Vec<_> = new.codes.iter().map(Code::for_sheet).collect();
                write_row(
                    &mut rows,
                    fixed.iter().map(String::as_str).chain(codes.iter().map(|code| code.as_str())),
                )?;
                rows.flush()
            }
        })
    }
}

/// A whole document with one sheet.
fn document(layout: Layout, new: &NewSet, host: &str) -> Zeroizing<String> {
    if layout == Layout::Text {
        return text(new, host);
    }
    let section = section(new, host);
    let parts = [sheet::HTML_HEAD, &section, sheet::HTML_TAIL];
    // All at once: a string that grows leaves copies behind.
    let mut document = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| document.push_str(part));
    document
}

fn text(new: &NewSet, host: &str) -> Zeroizing<String> {
    let Label { set, user, created, .. } = &new.label;
    sheet::text(host, user, set, *created, &new.codes)
}

fn section(new: &NewSet, host: &str) -> Zeroizing<String> {
    let Label { set, user, created, .. } = &new.label;
    sheet::html(host, user, set, *created, &new.codes)
}

fn file_name(layout: Layout, new: &NewSet) -> String {
    let ending = if layout == Layout::Html { "html" } else { "txt" };
    format!("{}.{ending}", file_name::escaped(&new.label.user, usize::MAX))
}

/// One set for programs.
#[derive(Serialize)]
struct Json<'a> {
    user: &'a str,
    set: &'a str,
    created: String,
    codes: Vec<&'a str>,
}

/// A directory in which only this user can create or remove files.
struct Folder {
    path: PathBuf,
    fd: OwnedFd,
}

impl Folder {
    /// Creates it if it does not exist. A link is not followed, because its owner could send sheets elsewhere.
    fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |found: String| Failure::Sheets { path: path.into(), found };
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error.to_string()));
            }
            _ => {}
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::ENOTDIR | Errno::ELOOP => failed("no directory, or a link to one".into()),
            errno => failed(errno.to_string()),
        })?;
        let data = metadata(&fd).map_err(|error| failed(error.to_string()))?;
        let is_ours = data.uid() == geteuid().as_raw() || data.uid() == 0;
        if is_ours && data.mode() & 0o022 == 0 {
            return Ok(Self { path: path.into(), fd });
        }
        Err(failed(format!("a directory of uid {} with mode {:04o}", data.uid(), data.mode() & 0o7777)))
    }

    /// Writes a new file with mode 0600 to stable storage: the set is saved after it.
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.fd, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        // Not every file system has modes.
        let written = if file.metadata()?.mode() & 0o077 == 0 {
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| Ok(fsync(&self.fd)?))
        } else {
            Err(io::Error::other("others can read files on this file system"))
        };
        // Half a sheet is none.
        written.inspect_err(|_| _ = self.remove(name))
    }

    fn remove(&self, name: &str) -> Result<(), Errno> {
        unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)
    }
}

/// Checks that codes may go to standard output.
fn judge_output() -> Result<(), Failure> {
    let data = metadata(io::stdout()).map_err(Failure::Output)?;
    match SFlag::from_bits_truncate(data.mode() & SFlag::S_IFMT.bits()) {
        // Rust's startup code opens it if standard output was closed.
        SFlag::S_IFCHR if data.rdev() == makedev(1, 3) => Err(Failure::Nowhere),
        SFlag::S_IFREG if data.mode() & 0o077 != 0 => Err(Failure::OpenFile(data.mode() & 0o7777)),
        _ => Ok(()),
    }
}

/// What the system says of an open file, in numbers of 64 bits: those of libc's fstat do not have them everywhere.
fn metadata(fd: impl AsFd) -> io::Result<Metadata> {
    File::from(fd.as_fd().try_clone_to_owned()?).metadata()
}

/// Brings a file to stable storage before its set is saved; a terminal or pipe has none.
fn flush_output() -> io::Result<()> {
    match fdatasync(io::stdout()) {
        Err(Errno::EINVAL | Errno::EROFS | Errno::ENOTSUP) => Ok(()),
        flushed => Ok(flushed?),
    }
}

/// Hands a sheet to lp(1) from memory.
fn print(printer: Option<&str>, text: &str) -> io::Result<()> {
    let mut lp = Command::new("lp");
    // What the queue shows to everybody does not say whose sheet it is.
    lp.args(["-t", "Backup codes"]);
    if let Some(printer) = printer {
        lp.args(["-d", printer]);
    }
    // Ctrl-C is for us: lp may have handed over the sheet already.
    lp.process_group(0);
    let mut child =
        lp.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| {
            io::Error::other(format!("lp cannot be started: {error}; install CUPS (Debian: cups-client)"))
        })?;
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    if output.status.success() {
        return written;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default();
    Err(io::Error::other(format!("lp: {}: {said}; to list the printers: lpstat -p", output.status)))
}
