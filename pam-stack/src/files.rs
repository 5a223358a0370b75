//! Builds a stack from the files in `/etc/pam.d`, with all includes, as libpam does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::control::Control;
use crate::line::{Fault, Line, Lines, is_invisible, lines, words};
use crate::{Entry, Kind, Location, Stack};

/// The administrator's files, and the distribution's for other services.
const FOLDERS: [&str; 2] = ["etc/pam.d", "usr/lib/pam.d"];

/// The type of lines for `pam_authenticate`.
const AUTH: &str = "auth";

/// Words before the name of another file.
const INCLUDING: [&str; 3] = ["@include", "include", "substack"];

/// The service that replaces one without `auth` lines.
const OTHER: &str = "other";

/// The deepest include (libpam's `PAM_SUBSTACK_MAX_LEVEL`).
const DEEPEST: usize = 16;

/// More lines than any working stack has: two files that include each other twice would grow to 2^16.
const LONGEST: usize = 2048;

/// Name endings of files from editors and package managers: no program uses a service of such a name.
const LEFT_BEHIND: [&str; 9] =
    ["~", ".bak", ".old", ".orig", ".swp", ".rpmnew", ".rpmsave", ".rpmorig", ".pacnew"];

/// The PAM files below a root.
pub struct Files<'a> {
    root: &'a Path,
    /// The type of the lines to read.
    wanted: &'static str,
}

impl<'a> Files<'a> {
    /// Reads `auth` lines.
    #[must_use]
    pub const fn below(root: &'a Path) -> Self {
        Self { root, wanted: AUTH }
    }

    /// Reads `session` lines.
    #[must_use]
    pub const fn of_sessions(root: &'a Path) -> Self {
        Self { root, wanted: "session" }
    }

    /// Reads `account` lines.
    #[must_use]
    pub const fn of_accounts(root: &'a Path) -> Self {
        Self { root, wanted: "account" }
    }

    /// All services. Files that others include and that include none themselves, such as `common-auth` and `system-auth`, do not
    /// count.
    #[must_use]
    pub fn services(&self) -> Vec<String> {
        let names: Vec<String> = self.names().into_iter().collect();
        let includes = |name: &String| self.find(name).map_or_else(Vec::new, |file| file.includes());
        let is_part = |name: &String| {
            includes(name).is_empty() && names.iter().any(|other| includes(other).contains(name))
        };
        names.iter().filter(|name| !is_part(name)).cloned().collect()
    }

    /// The stack of a service's own file, or `None` without one.
    #[must_use]
    pub fn stack(&self, service: &str) -> Option<Stack> {
        let mut stack = Stack::default();
        let file = self.find(service)?;
        stack.is_refused = !self.take(&mut stack, &file, Requested::Any, Depth::default());
        Some(stack)
    }

    /// The stack that libpam uses for a service: its own, or that of `other` if it has no lines.
    #[must_use]
    pub fn effective(&self, service: &str) -> Stack {
        match self.stack(service) {
            Some(stack) if stack.is_refused || !stack.entries.is_empty() => stack,
            _ => self.stack(OTHER).unwrap_or_default(),
        }
    }

    /// The faults in all files that name a module or include such a file, even in a lost line.
    #[must_use]
    pub fn faults_around(&self, module: &str) -> Vec<(Location, Fault)> {
        let names = self.names();
        let mut files: BTreeMap<&String, File> =
            names.iter().filter_map(|name| Some((name, self.find(name)?))).collect();
        let mut found = Vec::new();
        let mut names_it: Vec<String> = Vec::new();
        loop {
            let leads_there = |file: &File| {
                let includes = file.seeming_includes();
                file.said().any(|line| line.contains(module))
                    || includes.iter().any(|name| names_it.contains(name))
            };
            let next: Vec<&String> =
                files.iter().filter(|(_, file)| leads_there(file)).map(|(name, _)| *name).collect();
            if next.is_empty() {
                return found;
            }
            for (name, file) in next.into_iter().filter_map(|name| Some((name, files.remove(name)?))) {
                found.extend(file.faults());
                names_it.extend([name.clone(), file.shown]);
            }
        }
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = FOLDERS.iter().filter_map(|folder| fs::read_dir(self.root.join(folder)).ok()).flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let is_left_behind = |name: &String| {
            name.starts_with(['.', '#'])
                || LEFT_BEHIND.iter().any(|end| name.ends_with(end))
                || [".dpkg-", ".ucf-"].iter().any(|part| name.contains(part))
        };
        names.filter(|name| !is_left_behind(name)).collect()
    }

    /// The file of a service, or of an include.
    fn find(&self, name: &str) -> Option<File> {
        let relative = name.trim_start_matches('/');
        let candidates: Vec<PathBuf> = match name.starts_with('/') {
            true => vec![relative.into()],
            false => FOLDERS.iter().map(|folder| Path::new(folder).join(relative)).collect(),
        };
        candidates.into_iter().find_map(|path| {
            let bytes = read(&self.root.join(&path)).ok()?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Some(File { shown: format!("/{}", path.display()), text })
        })
    }

    /// Adds the lines of a file. False: libpam rejects the file.
    fn take(&self, stack: &mut Stack, file: &File, requested: Requested, depth: Depth) -> bool {
        let Lines { lines, is_whole, .. } = lines(&file.text);
        stack.faults.extend(file.faults());
        for line in &lines {
            let location = Location { file: file.shown.clone(), line: line.number };
            if !self.take_line(stack, location, &line.text, requested, depth) {
                return false;
            }
        }
        is_whole
    }

    fn take_line(
        &self,
        stack: &mut Stack,
        location: Location,
        text: &str,
        requested: Requested,
        depth: Depth,
    ) -> bool {
        let mut words = words(text).into_iter();
        let first = words.next().unwrap_or_default();
        let level = depth.substacks;
        let must_fail = |location, control| Entry { location, level, control, kind: Kind::MustFail };
        let Some(kind) = Type::of(&first, self.wanted) else {
            // libpam treats an unknown type as `auth`, where a failure matters most.
            let control = words.next().map_or_else(Control::bad, |word| Control::parse(&word));
            stack.entries.push(must_fail(location, control));
            return true;
        };
        let (name, inner, is_wanted) = match kind {
            Type::Include => (words.next(), depth.included(), requested),
            Type::Other => return true,
            Type::Wanted => {
                let Some(word) = words.next() else {
                    stack.entries.push(must_fail(location, Control::bad()));
                    return true;
                };
                let inner = match word.to_ascii_lowercase().as_str() {
                    "include" => depth.included(),
                    "substack" => depth.in_substack(),
                    _ => {
                        let control = Control::parse(&word);
                        let kind = words
                            .next()
                            .map(|path| Kind::Module { path, arguments: words.collect() })
                            .unwrap_or(Kind::MustFail);
                        stack.entries.push(Entry { location, level, control, kind });
                        return true;
                    }
                };
                (words.next(), inner, Requested::Wanted)
            }
        };
        if inner.substacks > level {
            let kind = Kind::Substack;
            stack.entries.push(Entry { location: location.clone(), level, control: Control::bad(), kind });
        }
        let is_near = inner.files < DEEPEST && stack.entries.len() < LONGEST;
        let included = name.as_deref().filter(|_| is_near).and_then(|name| self.find(name));
        if included.is_none() {
            stack.missing.push((location.clone(), name.unwrap_or_default()));
        }
        if included.is_some_and(|file| self.take(stack, &file, is_wanted, inner)) {
            return true;
        }
        if matches!((kind, requested), (Type::Include, Requested::Any)) {
            // Debian's `@include` has no type for a failing line.
            return false;
        }
        stack.entries.push(must_fail(location, Control::bad()));
        true
    }
}

/// The lines that an include takes: `@include` all types, `auth include` only its own type.
#[derive(Clone, Copy)]
enum Requested {
    Any,
    Wanted,
}

/// The numbers of files and substacks around a line.
#[derive(Clone, Copy, Default)]
struct Depth {
    files: usize,
    substacks: usize,
}

impl Depth {
    const fn included(self) -> Self {
        Self { files: self.files.saturating_add(1), ..self }
    }

    const fn in_substack(self) -> Self {
        Self { substacks: self.substacks.saturating_add(1), ..self.included() }
    }
}

/// The first word of a line.
#[derive(Clone, Copy)]
enum Type {
    Wanted,
    /// Another type, which is skipped.
    Other,
    /// Debian's `@include`
    Include,
}

impl Type {
    fn of(word: &str, wanted: &str) -> Option<Self> {
        match word.strip_prefix('-').unwrap_or(word).to_ascii_lowercase().as_str() {
            known if known == wanted => Some(Self::Wanted),
            AUTH | "account" | "password" | "session" => Some(Self::Other),
            "@include" => Some(Self::Include),
            _ => None,
        }
    }
}

/// The content of a regular file, up to 1 MiB.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    const MOST: u64 = 1 << 20;
    // Opening a FIFO would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

struct File {
    shown: String,
    text: String,
}

impl File {
    /// The names of its includes, for all types.
    fn includes(&self) -> Vec<String> {
        let of_line = |line: &Line| match words(&line.text).as_slice() {
            [first, name, ..] if matches!(Type::of(first, AUTH), Some(Type::Include)) => Some(name.clone()),
            [_, word, name, ..] if ["include", "substack"].contains(&word.to_ascii_lowercase().as_str()) => {
                Some(name.clone())
            }
            _ => None,
        };
        lines(&self.text).lines.iter().filter_map(of_line).collect()
    }

    /// Its lines as a person reads them, without comments.
    fn said(&self) -> impl Iterator<Item = &str> {
        self.text.split(['\n', '\r']).map(|line| line.split('#').next().unwrap_or_default())
    }

    /// The names of its includes as a person reads them.
    fn seeming_includes(&self) -> Vec<String> {
        let is_edge = |char: char| char == '\\' || char == '[' || char == ']' || is_invisible(char);
        let mut found = Vec::new();
        for said in self.said() {
            let words: Vec<&str> = said.split_whitespace().map(|word| word.trim_matches(is_edge)).collect();
            let pairs = words.iter().zip(words.iter().skip(1));
            let is_include = |word: &str| INCLUDING.contains(&word.to_ascii_lowercase().as_str());
            found.extend(pairs.filter(|(word, _)| is_include(word)).map(|(_, name)| (*name).to_owned()));
        }
        found
    }

    /// Its faults. A backslash before a line that is a mere continuation is no fault.
    fn faults(&self) -> Vec<(Location, Fault)> {
        let is_lost = |fault: &Fault| match fault {
            Fault::Joins(Some((_, text))) => {
                words(text).first().is_some_and(|word| Type::of(word, AUTH).is_some())
            }
            _ => true,
        };
        let faults = lines(&self.text).faults.into_iter().filter(|(_, fault)| is_lost(fault));
        faults.map(|(line, fault)| (Location { file: self.shown.clone(), line }, fault)).collect()
    }
}
