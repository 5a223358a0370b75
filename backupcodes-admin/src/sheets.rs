//! Where new sheets go: standard output, files, or a printer.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backupcodes_core::code::Code;
use backupcodes_core::issue::NewSet;
use backupcodes_core::name;
use backupcodes_core::set::Label;
use clap::ValueEnum;
use nix::unistd::geteuid;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::output;
use crate::sheet;

/// How a sheet looks.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    Text,
    Html,
    Json,
    Csv,
}

/// Where sheets go.
pub(crate) enum Destination {
    /// Standard output.
    Stream(Layout),
    /// A file for each user in this directory.
    Directory(PathBuf, Layout),
    /// This printer, or the default one.
    Printer(Option<String>),
}

/// Shows one new set after the other.
pub(crate) struct Sheets {
    destination: Destination,
    pub(crate) host: String,
    /// Codes of a set: as many columns as a table has.
    columns: u8,
    shown: usize,
}

impl Sheets {
    /// `columns` is the most codes that a set has.
    ///
    /// # Errors
    /// The directory is not one in which nobody else can put or take away files.
    pub(crate) fn open(destination: Destination, host: String, columns: u8) -> Result<Self, Failure> {
        if let Destination::Directory(path, _) = &destination {
            open_directory(path)?;
        }
        Ok(Self { destination, host, columns, shown: 0 })
    }

    /// Shows a set that is not in place yet. On return its codes are where they were to go.
    ///
    /// # Errors
    /// What was to be shown is not, or not whole.
    pub(crate) fn show(&mut self, new: &NewSet) -> io::Result<()> {
        match &self.destination {
            Destination::Stream(layout) => self.stream(*layout, new)?,
            Destination::Directory(directory, layout) => {
                let path = self.file(directory, *layout, new);
                write_file(directory, &path, &self.document(*layout, new)).map_err(|error| {
                    let hint = if error.kind() == io::ErrorKind::AlreadyExists {
                        "; it is not overwritten: see whether its codes are used, and remove it"
                    } else {
                        ""
                    };
                    io::Error::other(format!("{}: {error}{hint}", path.display()))
                })?;
            }
            Destination::Printer(printer) => print(printer.as_deref(), &self.document(Layout::Text, new))?,
        }
        self.shown = self.shown.saturating_add(1);
        Ok(())
    }

    /// Takes back what was shown of a set that is not in place after all, where that can be done; else says where the worthless
    /// sheet is.
    pub(crate) fn withdraw(&self, new: &NewSet) -> Option<String> {
        match &self.destination {
            Destination::Stream(_) => Some("THE SHEET ABOVE".into()),
            Destination::Printer(_) => Some("THE SHEET THAT WAS PRINTED".into()),
            Destination::Directory(directory, layout) => {
                let path = self.file(directory, *layout, new);
                std::fs::remove_file(&path).err().map(|_| format!("THE SHEET {}", path.display()))
            }
        }
    }

    /// What follows behind the last one.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        match (&self.destination, self.shown) {
            (Destination::Stream(Layout::Json), 0) => output::print("[]\n"),
            (Destination::Stream(Layout::Json), _) => output::print("\n]\n"),
            (Destination::Stream(Layout::Html), 1..) => output::print(sheet::HTML_TAIL),
            _ => Ok(()),
        }
    }

    fn stream(&self, layout: Layout, new: &NewSet) -> io::Result<()> {
        let is_first = self.shown == 0;
        output::write(|out| match layout {
            Layout::Text => {
                let gap = if is_first { "" } else { "\n\n" };
                out.write_all(gap.as_bytes())?;
                out.write_all(self.text(new).as_bytes())
            }
            Layout::Html => {
                out.write_all(if is_first { sheet::HTML_HEAD } else { "" }.as_bytes())?;
                out.write_all(self.section(new).as_bytes())
            }
            Layout::Json => {
                out.write_all(if is_first { "[\n" } else { ",\n" }.as_bytes())?;
                serde_json::to_writer(
                    out,
                    &Json::of(new, &new.codes.iter().map(Code::for_sheet).collect::<Vec<_>>()),
                )?;
                Ok(())
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
                let fixed = [user, &email.join(" "), &self.host, set, &created.to_string()].map(String::from);
                let codes: Vec<_> = new.codes.iter().map(Code::for_sheet).collect();
                rows.write_record(
                    fixed.iter().map(String::as_str).chain(codes.iter().map(|code| code.as_str())),
                )?;
                rows.flush()
            }
        })
    }

    /// A whole document with one sheet.
    fn document(&self, layout: Layout, new: &NewSet) -> Zeroizing<String> {
        if layout == Layout::Text {
            return self.text(new);
        }
        let section = self.section(new);
        let parts = [sheet::HTML_HEAD, &section, sheet::HTML_TAIL];
        // All at once: a string that grows leaves copies behind.
        let mut document = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
        parts.iter().for_each(|part| document.push_str(part));
        document
    }

    fn text(&self, new: &NewSet) -> Zeroizing<String> {
        let Label { set, user, created, .. } = &new.label;
        sheet::text(&self.host, user, set, *created, &new.codes)
    }

    fn section(&self, new: &NewSet) -> Zeroizing<String> {
        let Label { set, user, created, .. } = &new.label;
        sheet::html(&self.host, user, set, *created, &new.codes)
    }

    fn file(&self, directory: &Path, layout: Layout, new: &NewSet) -> PathBuf {
        let ending = if layout == Layout::Html { "html" } else { "txt" };
        directory.join(format!("{}.{ending}", name::escaped(&new.label.user, usize::MAX)))
    }
}

/// One set for programs.
#[derive(Serialize)]
struct Json<'a> {
    user: &'a str,
    set: &'a str,
    created: String,
    codes: Vec<&'a str>,
}

impl<'a> Json<'a> {
    fn of(new: &'a NewSet, codes: &'a [Zeroizing<String>]) -> Self {
        let Label { user, set, created, .. } = &new.label;
        Self {
            user,
            set,
            created: created.to_string(),
            codes: codes.iter().map(|code| code.as_str()).collect(),
        }
    }
}

/// Sees that only this user can put files into the directory, or take them away. One that is not there is made.
fn open_directory(path: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Sheets { path: path.into(), found: error.to_string() };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let found = File::open(path).and_then(|file| file.metadata()).map_err(failed)?;
    let is_ours = found.uid() == geteuid().as_raw() || found.uid() == 0;
    if found.is_dir() && is_ours && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    let kind = if found.is_dir() { "a directory" } else { "no directory, but a file" };
    let found = format!("{kind} of uid {} with mode {:04o}", found.uid(), found.mode() & 0o7777);
    Err(Failure::Sheets { path: path.into(), found })
}

/// A new file of mode 0600, on stable storage: the set comes after it, and must not outlive it.
fn write_file(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let written = written.and_then(|()| File::open(directory)?.sync_all());
    // Half a sheet is none.
    written.inspect_err(|_| _ = std::fs::remove_file(path))
}

/// Hands a sheet to lp(1) from memory.
fn print(printer: Option<&str>, text: &str) -> io::Result<()> {
    let mut lp = Command::new("lp");
    // What the queue shows to everybody does not say whose sheet it is.
    lp.args(["-t", "Backup codes"]);
    if let Some(printer) = printer {
        lp.args(["-d", printer]);
    }
    let mut child =
        lp.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| {
            io::Error::other(format!(
                "lp cannot be started: {error}; it comes with CUPS (Debian: cups-client)"
            ))
        })?;
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    if output.status.success() {
        return written;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default().replace(char::is_control, " ");
    Err(io::Error::other(format!("lp: {}: {said}; to see what printers there are: lpstat -p", output.status)))
}
