//! Hostile names change no message: Python's strict library reads each as it reads one with plain names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use backupcodes_tests::machine::{Machine, append, with_own_hostname};
use backupcodes_tests::postbox::{HEADERS, Message, Postbox};
use backupcodes_tests::{Attempt, Sheet, World, me, pam, sandbox_of_root, sheet, text};

/// What a name may be where it holds no NUL.
fn names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "a\r\nBcc: evil@example.org\r\n\r\nbody",
        "a\nBcc: evil@example.org\n\nbody",
        "a\rBcc: evil@example.org",
        "\n.\n",
        "tab\tand\tspace ",
        "\"quoted\" 'single' `back` \\slash\\",
        "%s%n%d%x 100%",
        "<evil@example.org>, other@example.org; (comment)",
        "=?utf-8?q?Bcc=3A?= =?utf-8?b?ZXZpbA==?=",
        "$(touch /tmp/evil); rm -rf / #",
        "right \u{202e}to left\u{202c} \u{200f}\u{2066}",
        "zoë müller 漢字 \u{1f511}",
        "\u{1b}[2J\u{7}\u{8}\u{7f}\u{85}\u{2028}\u{2029}\u{feff}",
    ]
    .map(|name| name.as_bytes().to_vec())
    .into();
    names.push(b"not \xff\xfe UTF-8 \xc3".into());
    names.push(vec![b'l'; 1000]);
    names.push("ö".repeat(1000).into());
    names
}

/// What must hold of every notice to this address: `lines` are those of the text where all names are plain.
fn check(message: &Message, to: &str, lines: usize) {
    assert_eq!(names_of(message), HEADERS, "{message:#?}");
    assert_eq!(message.to, [to], "{message:#?}");
    assert_eq!(message.kind, ("text/plain".into(), Some("utf-8".into())));
    let header = |name: &str| &message.headers.iter().find(|(other, _)| other == name).unwrap().1;
    assert_eq!(header("Auto-Submitted"), "auto-generated");
    let id = header("Message-ID");
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-@".contains(c);
    assert!(
        id.strip_prefix('<').and_then(|id| id.strip_suffix('>')).is_some_and(|id| id.chars().all(plain)),
        "{id}"
    );
    for (name, value) in &message.headers {
        assert!(!value.contains(hidden), "{name}: {value:?}");
    }
    assert!(!message.text.contains(|c| c != '\n' && hidden(c)), "{:?}", message.text);
    assert_eq!(message.text.lines().count(), lines, "{}", message.text);
    let raw = &message.raw;
    assert!(!raw.contains(['\r', '\0']) && raw.lines().all(|line| line.len() < 998), "{raw:?}");
    assert!(!raw.contains("\n.\n"), "a line that ends the message for a sendmail without -i: {raw}");
}

/// Of its headers.
fn names_of(message: &Message) -> Vec<&str> {
    message.headers.iter().map(|(name, _)| name.as_str()).collect()
}

/// Ends a line, turns its direction, or is not seen.
fn hidden(c: char) -> bool {
    c.is_control() || "\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{200e}\u{200f}\u{2028}\u{2029}\u{2066}\u{2067}\u{2068}\u{2069}\u{feff}".contains(c)
}

/// A world with a postbox, where a use by plain names has been told of.
struct Scene {
    world: World,
    postbox: Postbox,
    /// The set file, where the notice of that use is due again.
    due: String,
    /// Of its text.
    lines: usize,
}

const TO: &str = "a@example.org";

impl Scene {
    fn new() -> Option<Self> {
        let world = World::new("")?;
        // A service of any name.
        fs::copy(world.path("pam.d").join(&world.service), world.path("pam.d/other")).unwrap();
        let postbox = Postbox::of(&world);
        let mut scene = Self { world, postbox, due: String::new(), lines: 0 };
        let code = scene.generate(&me(), 31).codes.remove(0);
        scene.log_in(&scene.world.attempt(&[(&code).into()]));
        scene.due = fs::read_to_string(scene.world.file()).unwrap();
        scene.world.deliver();
        let message = scene.messages(1).remove(0);
        scene.lines = message.text.lines().count();
        check(&message, TO, scene.lines);
        Some(scene)
    }

    /// A new set, which has been told of.
    fn generate(&self, user: &str, count: usize) -> Sheet {
        let count = count.to_string();
        let options = ["generate", "--yes", "--format", "json", "--count", &count, "--email", TO, "--", user];
        let sheet = sheet(self.world.admin(&options));
        self.world.deliver();
        self.postbox.empty();
        sheet
    }

    fn log_in(&self, attempt: &Attempt) {
        assert_eq!(attempt.run().codes, [pam::SUCCESS], "{:?}", self.world.last_line());
    }

    /// All that has come, which is so much; each went to the one that it names.
    fn messages(&self, count: usize) -> Vec<Message> {
        let messages = self.postbox.read();
        assert_eq!(messages.len(), count, "{messages:#?}");
        let sorted = |mut names: Vec<String>| {
            names.sort_unstable();
            names
        };
        let handed = self.postbox.handed().into_iter().map(|handed| {
            assert_eq!((handed.arguments.len(), handed.arguments[0].as_str()), (2, "--"));
            handed.arguments[1].clone()
        });
        let named = messages.iter().map(|message| {
            assert_eq!(message.to.len(), 1, "{message:#?}");
            message.to[0].clone()
        });
        let (handed, named) = (sorted(handed.collect()), sorted(named.collect()));
        assert!(handed == named || handed.iter().any(|to| to.contains('"')), "{handed:?} {named:?}");
        self.postbox.empty();
        messages
    }

    /// The same, of uses that are told as the plain one was.
    fn check(&self, count: usize) {
        self.messages(count).iter().for_each(|message| check(message, TO, self.lines));
    }

    /// The set is as it was before the plain use was told, but for the value of this key.
    fn rewrite(&self, key: &str, value: &str) {
        let lines = self.due.lines().map(|line| match line.split_once(" = ") {
            Some((other, _)) if other == key => format!("{key} = {value}\n"),
            _ => format!("{line}\n"),
        });
        fs::write(self.world.file(), lines.collect::<String>()).unwrap();
    }
}

#[test]
fn host_terminal_and_service_as_the_application_tells_them() {
    let Some(scene) = Scene::new() else { return };
    let place: [fn(&mut Attempt, Vec<u8>); 3] = [
        |attempt, name| attempt.rhost = Some(name),
        |attempt, name| attempt.tty = Some(name),
        |attempt, name| attempt.service = name,
    ];
    for names in names().chunks(10) {
        let mut codes = scene.generate(&me(), 31).codes.into_iter();
        for name in names {
            for put in place {
                let mut attempt = scene.world.attempt(&[(&codes.next().unwrap()).into()]);
                put(&mut attempt, name.clone());
                scene.log_in(&attempt);
            }
        }
        scene.world.deliver();
        scene.check(names.len() * place.len());
    }
}

#[test]
fn the_name_of_the_host() {
    with_own_hostname(|| {
        let Some(scene) = Scene::new() else { return };
        if sandbox_of_root().is_none() {
            return;
        }
        let mut codes = scene.generate(&me(), 31).codes.into_iter();
        let mut told_on = |name: &[u8]| {
            nix::unistd::sethostname(OsStr::from_bytes(&name[..name.len().min(64)])).unwrap();
            scene.log_in(&scene.world.attempt(&[(&codes.next().unwrap()).into()]));
            scene.world.deliver();
        };
        told_on(b"web1");
        let message = scene.postbox.handed().remove(0).message;
        assert!(message.contains("@web1>\n") && message.contains("  Host:      web1\n"), "{message}");
        let names: Vec<_> = names().into_iter().chain([vec![], b"a\0b".into(), b".".into()]).collect();
        names.iter().for_each(|name| told_on(name));
        scene.check(1 + names.len());
    });
}

#[test]
fn names_of_users_in_every_notice() {
    let Some(_machine) = Machine::new() else { return };
    let Some(scene) = Scene::new() else { return };
    // What a line of the file of accounts can hold as a name, and the name of a set's file.
    let fits = |name: &String| !name.contains(['\n', ':']) && name.len() < 80;
    let mut users: Vec<_> = texts().into_iter().filter(|name| fits(name) && !name.contains('\0')).collect();
    let more = ["|/bin/sh", "a@b.example", "a@b, c@d", "carriage\rreturn", "..", "a..b", "ends.", "n\u{300}"];
    users.extend(more.map(Into::into));
    users.push("l".repeat(240));
    let line = |(user, uid): (&String, u32)| {
        format!("{user}:x:{uid}:{uid}:g\r%s\u{202e}\"<evil@example.org>,room:/:/bin/sh\n")
    };
    append("/etc/passwd", &users.iter().zip(50_000..).map(line).collect::<String>());
    assert!(scene.world.admin(&["revoke", "--", &me()]).status.success());
    scene.world.deliver();
    scene.postbox.empty();
    // The same for all as for a plain name, which comes first.
    let mut expected = None;
    for user in [&me()].into_iter().chain(&users) {
        let admin = |arguments: &[&str]| {
            let output = scene.world.admin(arguments);
            assert!(output.status.success(), "{user:?}: {}", text(&output.stderr));
            output
        };
        let options = ["generate", "--yes", "--format", "json", "--count", "2", "--email", TO, "--", user];
        let code = sheet(admin(&options)).codes.remove(0);
        let attempt = scene.world.attempt(&[(&code).into()]);
        scene.log_in(&Attempt { user: user.clone().into(), ..attempt });
        admin(&options);
        admin(&["email", "--", user, "b@example.org"]);
        admin(&["revoke", "--", user]);
        scene.world.deliver();
        let messages = scene.messages(6);
        let mut lines = Vec::new();
        for message in &messages {
            assert!(!message.text.contains("room"), "no GECOS: {}", message.text);
            lines.push((message.to[0].clone(), message.text.lines().count()));
            check(message, &message.to[0], message.text.lines().count());
        }
        lines.sort_unstable();
        assert_eq!(&lines, expected.get_or_insert_with(|| lines.clone()), "{user:?}");
    }
}

/// A TOML string of any characters.
fn quoted(text: &str) -> String {
    let escaped = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}

/// The names that are text, and some with a NUL.
fn texts() -> Vec<String> {
    let nul = ["a\0b", "\0", "a\nBcc: evil@example.org\0"].map(Into::into);
    names().into_iter().filter_map(|name| String::from_utf8(name).ok()).chain(nul).collect()
}

#[test]
fn names_and_addresses_in_a_set_that_was_made_by_hand() {
    let Some(scene) = Scene::new() else { return };
    let texts = texts();
    for key in ["user", "set"] {
        for name in &texts {
            scene.rewrite(key, &quoted(name));
            scene.world.deliver();
        }
        scene.check(texts.len());
    }
    // Without an address the name is one, and in quotes where it is not plain.
    for name in &texts {
        scene.rewrite("user", &format!("{}\nemail = []", quoted(name)));
        let set = fs::read_to_string(scene.world.file()).unwrap();
        fs::write(scene.world.file(), set.replace(&format!("email = [\"{TO}\"]\n"), "")).unwrap();
        scene.world.deliver();
    }
    for message in scene.messages(texts.len()) {
        assert_eq!(names_of(&message), HEADERS, "{message:#?}");
        assert!(
            message.to[0].starts_with('"')
                || message.to[0].chars().all(|c| c.is_alphanumeric() || "?.".contains(c)),
            "{message:#?}"
        );
    }
    for name in &texts {
        scene.rewrite("email", &format!("[{}, \"{TO}\"]", quoted(name)));
        scene.world.deliver();
        // None of these is an address.
        let messages = scene.postbox.read();
        assert_eq!(messages.len(), 1, "{name:?}");
        assert!(messages.iter().all(|message| names_of(message) == HEADERS), "{messages:#?}");
        assert!(messages.iter().any(|message| message.to == [TO]), "{messages:#?}");
        scene.postbox.empty();
    }
}

#[test]
fn what_the_configuration_says() {
    let Some(scene) = Scene::new() else { return };
    let notify = |lines: &str| {
        scene.world.notify(&format!("{}\n{lines}", scene.postbox.settings()));
        scene.world.admin(&["notify"])
    };
    let mut sent = 0;
    for name in texts() {
        for key in ["contact", "from", "domain", "copy_to"] {
            fs::write(scene.world.file(), &scene.due).unwrap();
            let value = if key == "copy_to" { format!("[{}]", quoted(&name)) } else { quoted(&name) };
            let output = notify(&format!("{key} = {value}"));
            if output.status.success() {
                sent += 1;
            } else {
                assert_ne!(key, "contact", "{name:?}: {output:?}");
                assert!(text(&output.stderr).contains(&format!("notify.{key}: ")), "{output:?}");
            }
        }
    }
    // What cannot be an address is refused; whom to turn to may be anybody.
    assert_eq!(sent, texts().len());
    scene.check(sent);
    for (from, domain, to) in [
        ("jürgen@exämple.org", "", "zoë@exämple.org"),
        ("%s%n@example.org", "exämple.org", "%s%n@example.org"),
        ("root", "exämple.org", "漢字@例え.jp"),
        ("o'hara+tag=x@example.org", "", "o'hara+tag=x@[192.0.2.7]"),
    ] {
        scene.rewrite("email", &format!("[\"{to}\"]"));
        assert!(notify(&format!("from = \"{from}\"\ndomain = \"{domain}\"")).status.success());
        let message = scene.messages(1).remove(0);
        check(&message, to, scene.lines);
        let from = if from.contains('@') { from.into() } else { format!("{from}@{domain}") };
        assert_eq!(message.from, [("Backup codes".to_owned(), from)]);
    }
}
