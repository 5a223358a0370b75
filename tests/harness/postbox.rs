//! A sendmail that delivers into a folder, and the messages in there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::machine::run;
use crate::patience::PATIENCE;
use crate::{Sheet, World, set_mode, text};

/// What the header of a notice has, and nothing else.
pub const HEADERS: [&str; 9] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];

/// How a run is held: see [`Postbox::hold`].
const HOLD: &str = r#"
if [ -e hold ] && mv hold "held.$$" 2>/dev/null; then
    read -r name <"held.$$"
    echo "$PPID $$" >"$name"
    while [ ! -e "$name.go" ]; do sleep 0.02; done
fi"#;

/// A Maildir, and beside it the program that delivers into it.
pub struct Postbox(PathBuf);

/// A message that was handed over.
#[derive(Clone, Debug)]
pub struct Handed {
    /// The arguments behind the configured ones.
    pub arguments: Vec<String>,
    pub message: String,
}

/// A message as Python's library reads it, which knows nothing of how it was written.
#[derive(Clone, Debug, Deserialize)]
pub struct Message {
    pub headers: Vec<(String, String)>,
    pub to: Vec<String>,
    pub from: Vec<(String, String)>,
    /// That of its header, as `status` writes times.
    pub time: String,
    #[serde(rename = "type")]
    pub kind: (String, Option<String>),
    pub text: String,
    pub raw: String,
}

impl Postbox {
    /// All of the world's notices go into it, whenever they are delivered.
    pub fn of(world: &World) -> Self {
        let postbox = Self::new(&world.path("postbox"));
        world.notify(&postbox.settings());
        postbox
    }

    /// The same, with a new set whose notice is out.
    pub fn with_set(world: &World) -> (Self, Sheet) {
        let postbox = Self::of(world);
        let sheet = world.generate();
        world.deliver();
        postbox.empty();
        (postbox, sheet)
    }

    pub fn new(folder: &Path) -> Self {
        for part in ["tmp", "new", "cur", "arguments"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        let postbox = Self(folder.into());
        postbox.before("");
        postbox
    }

    /// The lines of `[notify]` that make it this host's.
    pub fn settings(&self) -> String {
        format!("sendmail = [{:?}, \"-i\"]", self.sendmail())
    }

    /// The program.
    pub fn sendmail(&self) -> PathBuf {
        self.0.join("sendmail")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// From here on it runs these lines of a shell before it takes a message. The recipient is `$3`.
    pub fn before(&self, lines: &str) {
        let script = format!(
            "#!/bin/sh\ncd {:?} || exit 75\n{HOLD}\n{lines}\nfile=$(mktemp tmp/XXXXXXXXXXXX) && cat >\"$file\" &&\n\
             printf '%s\\0' \"$@\" >\"arguments/${{file#tmp/}}\" && mv \"$file\" new/ || exit 75\n",
            self.0
        );
        let new = self.path("sendmail.new");
        fs::write(&new, script).unwrap();
        set_mode(&new, 0o755);
        // One that runs goes on as it was.
        fs::rename(new, self.sendmail()).unwrap();
    }

    /// All messages so far.
    pub fn handed(&self) -> Vec<Handed> {
        let read = |name: &str, folder: &str| text(&fs::read(self.path(folder).join(name)).unwrap());
        let message = |name: String| Handed {
            arguments: read(&name, "arguments").split_terminator('\0').skip(1).map(Into::into).collect(),
            message: read(&name, "new"),
        };
        self.names().into_iter().map(message).collect()
    }

    /// Their subjects, sorted.
    pub fn subjects(&self) -> Vec<String> {
        let mut subjects: Vec<_> = self.handed().iter().map(Handed::subject).collect();
        subjects.sort_unstable();
        subjects
    }

    /// Waits for so many messages; there are no more.
    pub fn expect(&self, count: usize) {
        self.wait_for("messages", || self.names().len() >= count);
        assert_eq!(self.names().len(), count, "{:#?}", self.subjects());
    }

    /// The next run stands still under this name, before it takes its message, until it is released.
    pub fn hold(&self, name: &str) {
        let hold = self.path("hold.new");
        fs::write(&hold, format!("{name}\n")).unwrap();
        fs::rename(hold, self.path("hold")).unwrap();
    }

    /// Waits for it: the process ids of the delivery and of itself come back.
    pub fn held(&self, name: &str) -> [i32; 2] {
        let file = self.path(name);
        self.wait_for(name, || fs::metadata(&file).is_ok_and(|file| file.len() > 0));
        let ids = fs::read_to_string(file).unwrap();
        let (delivery, sendmail) = ids.trim().split_once(' ').unwrap();
        [delivery, sendmail].map(|id| id.parse().unwrap())
    }

    pub fn release(&self, name: &str) {
        fs::write(self.path(&format!("{name}.go")), "").unwrap();
    }

    fn wait_for(&self, what: &str, is_there: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_there() {
            assert!(start.elapsed() < PATIENCE, "no {what}: {:#?}", self.subjects());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// All messages, read by Python. Whatever it finds wrong with one is an error.
    pub fn read(&self) -> Vec<Message> {
        let mut reader = Command::new("python3");
        reader.args(["-c", include_str!("read_mailbox.py")]).arg(&self.0);
        serde_json::from_str(&run(&mut reader, "")).expect("messages as JSON")
    }

    /// Takes all messages away.
    pub fn empty(&self) {
        for name in self.names() {
            fs::remove_file(self.path("new").join(name)).unwrap();
        }
    }

    fn names(&self) -> Vec<String> {
        let files = fs::read_dir(self.path("new")).unwrap();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Handed {
    /// That of a message whose names are plain.
    pub fn subject(&self) -> String {
        let unfolded = self.message.replace("\n ", " ");
        let line = unfolded.lines().find_map(|line| line.strip_prefix("Subject: "));
        line.unwrap_or_else(|| panic!("no subject: {}", self.message)).into()
    }
}
