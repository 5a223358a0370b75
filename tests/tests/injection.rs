//! Names from outside, in whatever place they come, make no other message than plain ones: as Python's library reads it,
//! which is strict.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use backupcodes_tests::hosts::Machine;
use backupcodes_tests::postbox::{Message, Postbox};
use backupcodes_tests::{Attempt, Sheet, World, me, pam, sandbox_of_root, set_mode, sheet, text};
use nix::sched::{CloneFlags, unshare};

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

const HEADERS: [&str; 9] = [
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

/// What must hold of every notice to this address: `lines` are those of the text where all names are plain.
fn check(message: &Message, to: &str, lines: usize) {
    let names: Vec<_> = message.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, HEADERS, "{message:#?}");
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

/// Ends a line, turns its direction, or is not seen.
fn hidden(c: char) -> bool {
    c.is_control() || "\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{200e}\u{200f}\u{2028}\u{2029}\u{2066}\u{2067}\u{2068}\u{2069}\u{feff}".contains(c)
}

fn deliver(world: &World) {
    let output = world.admin(&["notify"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
}

/// What came since the last time.
fn delivered(world: &World, postbox: &Postbox) -> Vec<Message> {
    deliver(world);
    let messages = postbox.read();
    let envelopes: Vec<_> = postbox.handed().into_iter().map(|handed| handed.arguments).collect();
    for message in &messages {
        assert!(envelopes.contains(&vec!["--".into(), message.to[0].clone()]), "{envelopes:?}");
    }
    postbox.empty();
    messages
}

/// A world with a postbox, and a set of 31 codes whose notices go to this address.
fn world(settings: &str) -> Option<(World, Postbox, Sheet)> {
    let world = World::new("")?;
    // A service of any name.
    fs::copy(world.path("pam.d").join(&world.service), world.path("pam.d/other")).unwrap();
    let postbox = Postbox::of(&world, false);
    world.notify(&(postbox.settings(false) + "\n" + settings));
    let sheet = generate(&world, &me(), 31);
    Some((world, postbox, sheet))
}

const TO: &str = "a@example.org";

fn generate(world: &World, user: &str, count: usize) -> Sheet {
    let count = count.to_string();
    let options = ["generate", "--yes", "--format", "json", "--count", &count, "--email", TO, "--", user];
    sheet(world.admin(&options))
}

/// The one message of a use, after this attempt.
fn notice_of(world: &World, postbox: &Postbox, attempt: &Attempt) -> Message {
    assert_eq!(attempt.run().codes, [pam::SUCCESS], "{:?}", world.last_line());
    let mut messages = delivered(world, postbox);
    assert_eq!(messages.len(), 1, "{messages:#?}");
    messages.remove(0)
}

/// As many lines as a plain use has.
fn plain_lines(world: &World, postbox: &Postbox, code: &String) -> usize {
    let message = notice_of(world, postbox, &world.attempt(&[code.into()]));
    let lines = message.text.lines().count();
    check(&message, TO, lines);
    lines
}

#[test]
fn host_terminal_and_service_as_the_application_tells_them() {
    let Some((world, postbox, mut sheet)) = world("") else { return };
    delivered(&world, &postbox);
    let lines = plain_lines(&world, &postbox, &sheet.codes.remove(0));
    let place: [fn(&mut Attempt, Vec<u8>); 3] = [
        |attempt, name| attempt.rhost = Some(name),
        |attempt, name| attempt.tty = Some(name),
        |attempt, name| attempt.service = name,
    ];
    for name in names() {
        if sheet.codes.len() < 3 {
            sheet = generate(&world, &me(), 31);
            delivered(&world, &postbox);
        }
        for put in place {
            let mut attempt = world.attempt(&[(&sheet.codes.pop().unwrap()).into()]);
            put(&mut attempt, name.clone());
            check(&notice_of(&world, &postbox, &attempt), TO, lines);
        }
    }
}

#[test]
fn the_name_of_the_host() {
    let Some((world, postbox, mut sheet)) = world("") else { return };
    if sandbox_of_root().is_none() {
        return;
    }
    delivered(&world, &postbox);
    // Of this thread, and of what it starts.
    unshare(CloneFlags::CLONE_NEWUTS).unwrap();
    let is_plain = |message: &Message| {
        let id = &message.headers.iter().find(|(name, _)| name == "Message-ID").unwrap().1;
        id.ends_with("@web1>")
    };
    nix::unistd::sethostname("web1").unwrap();
    let message = notice_of(&world, &postbox, &world.attempt(&[(&sheet.codes.pop().unwrap()).into()]));
    assert!(is_plain(&message) && message.text.contains("  Host:      web1\n"), "{message:#?}");
    let lines = message.text.lines().count();
    for mut name in names().into_iter().chain([vec![], b"a\0b".into(), b".".into()]) {
        name.truncate(64);
        nix::unistd::sethostname(OsStr::from_bytes(&name)).unwrap();
        let message = notice_of(&world, &postbox, &world.attempt(&[(&sheet.codes.pop().unwrap()).into()]));
        check(&message, TO, lines);
        if sheet.codes.is_empty() {
            sheet = generate(&world, &me(), 31);
            delivered(&world, &postbox);
        }
    }
    sheet = generate(&world, &me(), 31);
    assert_eq!(sheet.codes.len(), 31);
    for message in delivered(&world, &postbox) {
        check(&message, TO, message.text.lines().count());
    }
}

#[test]
fn names_of_users_in_every_notice() {
    let Some(_machine) = Machine::new() else { return };
    let Some((world, postbox, _)) = world("") else { return };
    let uid = 50_000;
    let mut passwd = fs::OpenOptions::new().append(true).open("/etc/passwd").unwrap();
    // What a line of that file can hold as a name. The file of a set must hold it as well.
    let fits = |name: &Vec<u8>| {
        !name.contains(&b'\n')
            && !name.contains(&b':')
            && std::str::from_utf8(name).is_ok()
            && name.len() < 80
    };
    let mut names: Vec<_> =
        names().into_iter().filter(fits).map(|name| String::from_utf8(name).unwrap()).collect();
    names.extend(
        ["|/bin/sh", "a@b.example", "a@b, c@d", "carriage\rreturn", "..", "a..b", "ends.", "n\u{300}"]
            .map(Into::into),
    );
    names.push("l".repeat(240));
    let gecos = "g\r%s\u{202e}\"<evil@example.org>,room";
    for (name, uid) in names.iter().zip(uid..) {
        writeln!(passwd, "{name}:x:{uid}:{uid}:{gecos}:/:/bin/sh").unwrap();
    }
    // The first set of each, then another, and so on.
    assert!(world.admin(&["revoke", &me()]).status.success());
    deliver(&world);
    postbox.empty();
    // Of each event the lines with a plain name; then the same with all others.
    let mut expected = None;
    for name in [&me()].into_iter().chain(&names) {
        let one = |arguments: &[&str]| {
            let output = world.admin(&[arguments, &["--", name]].concat());
            assert!(output.status.success(), "{name:?}: {}", text(&output.stderr));
        };
        let sheet = generate(&world, name, 2);
        let mut messages = delivered(&world, &postbox);
        let attempt = world.attempt(&[(&sheet.codes[0]).into()]);
        messages.push(notice_of(&world, &postbox, &Attempt { user: name.clone().into(), ..attempt }));
        one(&["generate", "--yes"]);
        let email = world.admin(&["email", "--", name, "b@example.org"]);
        assert!(email.status.success(), "{}", text(&email.stderr));
        one(&["revoke"]);
        messages.extend(delivered(&world, &postbox));
        let lines: Vec<_> =
            messages.iter().map(|message| (message.to[0].clone(), message.text.lines().count())).collect();
        let mut sorted = lines.clone();
        sorted.sort_unstable();
        assert_eq!(&sorted, expected.get_or_insert_with(|| sorted.clone()), "{name:?}");
        for (message, (to, lines)) in messages.iter().zip(&lines) {
            check(message, to, *lines);
            assert!(!message.text.contains("room"), "no GECOS: {}", message.text);
        }
    }
}

/// A set made by hand: that of the user who runs the tests, with another value of a key.
fn rewrite(world: &World, key: &str, value: &str) {
    let file = fs::read_to_string(world.file()).unwrap();
    let lines = file.lines().map(|line| match line.split_once(" = ") {
        Some((other, _)) if other == key => format!("{key} = {value}\n"),
        _ => format!("{line}\n"),
    });
    fs::write(world.file(), lines.collect::<String>()).unwrap();
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
    let Some((world, postbox, sheet)) = world("") else { return };
    delivered(&world, &postbox);
    let lines = plain_lines(&world, &postbox, &sheet.codes[0]);
    let file = fs::read_to_string(world.file()).unwrap();
    let due = file.replace("mail=ok ", "mail=due");
    for key in ["user", "set"] {
        for name in texts() {
            fs::write(world.file(), &due).unwrap();
            rewrite(&world, key, &quoted(&name));
            let messages = delivered(&world, &postbox);
            assert_eq!(messages.len(), 1, "{key} {name:?}");
            check(&messages[0], TO, lines);
        }
    }
    // No address: the name is one.
    for name in texts() {
        fs::write(world.file(), &due).unwrap();
        rewrite(&world, "user", &quoted(&name));
        rewrite(&world, "email", "[]");
        deliver(&world);
        let handed = postbox.handed();
        assert_eq!(handed.len(), 1, "{name:?}");
        let messages = postbox.read();
        assert_eq!(messages[0].headers.len(), HEADERS.len(), "{messages:#?}");
        postbox.empty();
    }
    for name in texts() {
        fs::write(world.file(), &due).unwrap();
        rewrite(&world, "email", &format!("[{}, \"{TO}\"]", quoted(&name)));
        let output = world.admin(&["notify"]);
        let messages = postbox.read();
        assert!(messages.iter().any(|message| message.to == [TO]), "{name:?}: {output:?}");
        for message in &messages {
            let names: Vec<_> = message.headers.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, HEADERS, "{name:?}: {message:#?}");
        }
        assert!(messages.len() <= 2, "{messages:#?}");
        postbox.empty();
        for letter in world.other_files() {
            fs::remove_file(world.store().join("outbox").join(letter)).unwrap();
        }
    }
}

#[test]
fn what_the_configuration_says() {
    let Some((world, postbox, sheet)) = world("") else { return };
    delivered(&world, &postbox);
    let lines = plain_lines(&world, &postbox, &sheet.codes[0]);
    let file = fs::read_to_string(world.file()).unwrap();
    let due = file.replace("mail=ok ", "mail=due");
    set_mode(&world.file(), 0o600);
    for name in texts() {
        for key in ["contact", "from", "domain", "copy_to"] {
            fs::write(world.file(), &due).unwrap();
            let value = if key == "copy_to" { format!("[{}]", quoted(&name)) } else { quoted(&name) };
            world.notify(&format!("{}\n{key} = {value}", postbox.settings(false)));
            let output = world.admin(&["notify"]);
            let messages = postbox.read();
            if output.status.success() {
                assert_eq!(messages.len(), 1, "{key} = {name:?}");
                check(&messages[0], TO, lines);
            } else {
                assert_ne!(key, "contact", "{name:?}: {output:?}");
                assert!(
                    messages.is_empty() && text(&output.stderr).contains(&format!("notify.{key}: ")),
                    "{output:?}"
                );
            }
            postbox.empty();
        }
    }
    for (from, domain, to) in [
        ("jürgen@exämple.org", "", "zoë@exämple.org"),
        ("%s%n@example.org", "exämple.org", "%s%n@example.org"),
        ("root", "exämple.org", "漢字@例え.jp"),
        ("o'hara+tag=x@example.org", "", "o'hara+tag=x@[192.0.2.7]"),
    ] {
        world.notify(&format!("{}\nfrom = \"{from}\"\ndomain = \"{domain}\"", postbox.settings(false)));
        fs::write(world.file(), &due).unwrap();
        rewrite(&world, "email", &format!("[\"{to}\"]"));
        let messages = delivered(&world, &postbox);
        assert_eq!(messages.len(), 1, "{messages:#?}");
        check(&messages[0], to, lines);
        let from = if from.contains('@') { from.into() } else { format!("{from}@{domain}") };
        assert_eq!(messages[0].from, [("Backup codes".to_owned(), from)]);
    }
}
