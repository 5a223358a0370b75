//! No output commands a terminal or forges a line, whatever names and texts are in it.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use backupcodes_tests::disk::must;
use backupcodes_tests::machine::{alone, append, with_own_hostname};
use backupcodes_tests::postbox::Postbox;
use backupcodes_tests::renewal::{DONE, Renewal, SERVICE};
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{Answer, Attempt, World, built, feed, me, pam, set_mode, sheet, text};
use serde_json::Value;

/// The window's title, colours, a line that looks like ours, C1 control characters, DEL, directions, and other ends of a line.
const HOSTILE: &str = "a\u{1b}]0;title\u{7}\u{1b}[31mred\nforged: 10 codes left\r\u{7f}\u{85}\u{9b}2J\u{202e}\u{2066}\u{2028}\u{2029}b";
/// The same without what cannot stand in a line of the file of accounts.
const NAME: &str = "a\u{1b}]0;title\u{7}\u{1b}[31mred\r\u{7f}\u{85}\u{9b}2J\u{202e}\u{2066}\u{2028}\u{2029}b";
/// As text shows both.
const SHOWN: &str = "a?]0;title??[31mred?";

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// What was written, which has so many lines.
fn plain(text: &str, lines: usize) -> &str {
    assert!(!text.contains(|c| c != '\n' && is_hidden(c)), "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("forged")), "a forged line: {text}");
    assert_eq!(text.lines().count(), lines, "{text}");
    text
}

/// All that a command wrote, which has so many lines on both outputs.
fn check(output: &Output, lines: [usize; 2]) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| text(bytes));
    plain(&out, lines[0]).to_owned() + plain(&err, lines[1])
}

/// JSON that holds no hidden character, and means what it should.
fn json(output: &Output) -> Value {
    let written = text(&output.stdout);
    assert!(!written.contains(|c| c != '\n' && is_hidden(c)), "{written:?}");
    serde_json::from_str(&written).unwrap()
}

/// What a terminal shows when all that a program of ours may send it is taken away: colours, and what makes progress bars.
fn check_screen(screen: &str, lines: usize) {
    let mut rest = screen.replace("\r\n", "\n");
    while let Some((before, code)) = rest.split_once("\u{1b}[") {
        let (digits, behind) = code.split_at(code.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap());
        assert!(behind.starts_with('m') && !digits.starts_with("31mred"), "{screen:?}");
        rest = before.to_owned() + &behind[1..];
    }
    plain(&rest, lines);
}

fn at_a_terminal(command: &mut Command) -> (i32, String) {
    let mut terminal = Terminal::start(command.env("TERM", "xterm").env_remove("NO_COLOR"));
    (terminal.end(), terminal.screen.clone())
}

/// A TOML string, in which stands raw what may.
fn quoted(text: &str) -> String {
    let escaped = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c < ' ' || c == '\u{7f}' => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}

/// Has a set with a value of this key that was written by hand.
fn rewrite(file: &Path, key: &str, value: &str) {
    let set = fs::read_to_string(file).unwrap();
    let lines = set.lines().map(|line| match line.split_once(" = ") {
        Some((other, _)) if other == key => format!("{key} = {value}\n"),
        _ => format!("{line}\n"),
    });
    fs::write(file, lines.collect::<String>()).unwrap();
}

/// A world whose user has used codes from hostile places, and has to wait at others.
fn world() -> Option<World> {
    let world = World::new("")?;
    world.configure("[hash]\nmemory_kib = 64\npasses = 1\n[throttle]\nfree = 1\nfirst_delay = 50\n");
    // A service of any name.
    fs::copy(world.path("pam.d").join(&world.service), world.path("pam.d/other")).unwrap();
    let put: [fn(&mut Attempt); 3] = [
        |attempt| attempt.rhost = Some(HOSTILE.into()),
        |attempt| attempt.service = HOSTILE.into(),
        |attempt| attempt.tty = Some(HOSTILE.into()),
    ];
    let wrong = world.generate().codes.remove(0);
    let codes = world.generate().codes;
    let attempt = |code: &str, put: fn(&mut Attempt)| {
        let mut attempt = world.attempt(&[Answer::from(code)]);
        put(&mut attempt);
        attempt.run().codes[0]
    };
    for (put, code) in put.iter().zip(&codes) {
        assert_eq!(attempt(code, *put), pam::SUCCESS);
    }
    for put in put {
        for _ in 0..3 {
            assert_eq!(attempt(&wrong, put), pam::AUTH_ERR);
        }
    }
    Some(world)
}

#[test]
fn host_service_and_terminal_of_attempts() {
    let Some(world) = world() else { return };
    let me = me();
    let details = check(&world.admin(&["status", &me]), [9, 0]);
    assert!(details.contains("THROTTLED") && details.contains(SHOWN), "{details}");
    check(&world.admin(&["status"]), [2, 0]);
    check(&world.admin(&["status", "--format", "csv"]), [2, 0]);
    let found = json(&world.admin(&["status", "--format", "json"]));
    let throttled = found[0]["throttled"].as_array().unwrap();
    assert!(throttled.iter().any(|key| key["source"] == HOSTILE), "JSON loses nothing: {throttled:?}");
    assert!(
        throttled.iter().any(|key| HOSTILE.starts_with(key["service"].as_str().unwrap())),
        "{throttled:?}"
    );
    let command = |arguments: &[&str]| {
        let mut command = world.admin_command();
        command.args(arguments);
        at_a_terminal(&mut command).1
    };
    check_screen(&command(&["status", &me]), 9);
    check_screen(&command(&["status"]), 2);
    // Nor does the log.
    for line in world.log() {
        assert!(!line.text.contains(is_hidden), "{line:?}");
    }
}

#[test]
fn texts_in_a_set_that_was_made_by_hand() {
    // No stack of this host changes between two looks of doctor.
    let _alone = alone();
    let Some(world) = world() else { return };
    for (key, value) in [
        ("set", quoted(HOSTILE)),
        ("email", format!("[{}, \"a@example.org\"]", quoted(HOSTILE))),
        ("user", quoted(HOSTILE)),
    ] {
        let before = fs::read(world.file()).unwrap();
        rewrite(&world.file(), key, &value);
        let me = me();
        for arguments in [
            &["status", &me][..],
            &["status"],
            &["status", "--format", "csv"],
            &["email", &me],
            &["doctor"],
            &["verify", &me],
            &["purge"],
        ] {
            let output = world.admin_with_input(arguments, "no code\n");
            let lines = [&output.stdout, &output.stderr].map(|bytes| text(bytes).lines().count());
            let all = check(&output, lines);
            // As many lines as with a plain text.
            let hostile = fs::read(world.file()).unwrap();
            rewrite(&world.file(), key, &value.replace(&quoted(HOSTILE), "\"plain\""));
            let other = world.admin_with_input(arguments, "no code\n");
            let other_lines = [&other.stdout, &other.stderr].map(|bytes| text(bytes).lines().count());
            assert_eq!(lines, other_lines, "{arguments:?}: {all}");
            fs::write(world.file(), hostile).unwrap();
        }
        for command in [
            &["status", "--format", "json"][..],
            &["email", &me, "--format", "json"],
            &["doctor", "--format", "json"],
        ] {
            json(&world.admin(command));
        }
        fs::write(world.file(), before).unwrap();
    }
    // A record that is no attempt's.
    let set = fs::read_to_string(world.file()).unwrap();
    let at = set.find(" a??0").unwrap();
    let (before, behind) = set.split_at(at);
    fs::write(world.file(), format!("{before} a\u{9b}]{}", &behind[5..])).unwrap();
    check(&world.admin(&["status", &me()]), [9, 0]);
    check(&world.admin(&["status"]), [2, 0]);
}

#[test]
fn what_sendmail_says() {
    let Some(world) = World::new("") else { return };
    let script = world.path("sendmail");
    fs::write(&script, format!("#!/bin/sh\ncat >/dev/null\nprintf '%s' '{HOSTILE}' >&2\nexit 69\n")).unwrap();
    set_mode(&script, 0o755);
    world.notify(&format!("sendmail = [{script:?}]"));
    world.generate();
    let output = world.admin(&["notify"]);
    let lines = text(&output.stderr).lines().count();
    check(&output, [0, lines]);
    check(&world.admin(&["status", &me()]), [4, 0]);
    json(&world.admin(&["status", "--format", "json"]));
    check(&world.admin(&["status"]), [2, 0]);
    let output = world.admin(&["doctor"]);
    check(&output, [text(&output.stdout).lines().count(), 0]);
    drop(Postbox::of(&world));
}

#[test]
fn names_of_accounts_and_of_the_host() {
    with_own_hostname(|| {
        let Some((_machine, world)) = World::on_machine("") else { return };
        nix::unistd::sethostname(OsStr::new(&HOSTILE[..40])).unwrap();
        let hostile = NAME.replace(':', "");
        append(
            "/etc/passwd",
            &format!("plain-name:x:50100:50100::/:/bin/sh\n{hostile}:x:50101:50101::/:/bin/sh\n"),
        );
        // The same for both, but for the name.
        let [plain_ones, hostile_ones] = ["plain-name", &hostile].map(|user| {
            let admin = |arguments: &[&str]| {
                world.admin_with_input(&[arguments, &["--", user]].concat(), "no code\n")
            };
            let outputs = [
                admin(&["status"]),
                admin(&["generate"]),
                admin(&["generate"]),
                admin(&["generate", "--yes", "--format", "html"]),
                admin(&["generate", "--yes", "--format", "csv"]),
                admin(&["status"]),
                world.admin(&["status"]),
                admin(&["email"]),
                admin(&["verify"]),
                admin(&["unlock"]),
                world.admin(&["doctor"]),
                admin(&["revoke"]),
                admin(&["revoke"]),
            ];
            sheet(admin(&["generate", "--format", "json"]));
            json(&admin(&["generate", "--yes", "--format", "json"]));
            json(&admin(&["status", "--format", "json"]));
            // The question, and the prompt.
            let mut command = world.admin_command();
            let mut terminal = Terminal::start(command.args(["generate", "--", user]));
            terminal.expect("[y/N]");
            terminal.send("n");
            terminal.end();
            check_screen(&terminal.screen, 1);
            let mut command = world.admin_command();
            let mut terminal = Terminal::start(command.args(["verify", "--", user]));
            terminal.expect("(it will not be spent):");
            terminal.send("no code");
            terminal.end();
            check_screen(&terminal.screen, 2);
            // One that is gone.
            let file = fs::read_dir(world.store()).unwrap().map(|file| file.unwrap().path());
            let file = file
                .into_iter()
                .find(|path| path.extension().is_some_and(|ending| ending == "toml"))
                .unwrap();
            let gone = file
                .with_file_name(file.file_name().unwrap().to_str().unwrap().replace(".toml", "%0Agone.toml"));
            fs::rename(file, gone).unwrap();
            let more = [world.admin(&["purge"]), world.admin(&["status"]), world.admin(&["doctor"])];
            fs::remove_dir_all(world.store()).unwrap();
            fs::create_dir(world.store()).unwrap();
            set_mode(&world.store(), 0o700);
            outputs.into_iter().chain(more).collect::<Vec<_>>()
        });
        for (one, other) in hostile_ones.iter().zip(&plain_ones) {
            check(one, [&other.stdout, &other.stderr].map(|bytes| text(bytes).lines().count()));
            assert_eq!(one.status.code(), other.status.code());
        }
        let sheet = text(&hostile_ones[1].stdout);
        assert!(sheet.contains("  User  a?]0;title??[31mred?"), "{sheet}");
    });
}

#[test]
fn what_was_typed_into_the_command_line() {
    let Some(world) = World::new("") else { return };
    let option = format!("--{HOSTILE}");
    for arguments in [
        &["status", HOSTILE][..],
        &["generate", HOSTILE],
        &["email", HOSTILE],
        &["revoke", HOSTILE],
        &["unlock", HOSTILE],
        &[HOSTILE],
        &["status", &option],
        &["status", "--unused-since", HOSTILE],
        &["generate", "x", "--count", HOSTILE],
        &["generate", "x", "--format", HOSTILE],
        &["generate", "x", "--email", HOSTILE],
        &["generate", &me(), "--output", &format!("/no/{HOSTILE}")],
        &["--config", HOSTILE, "status"],
    ] {
        let word = "x x".repeat(HOSTILE.chars().count() / 3);
        let others: Vec<_> = arguments.iter().map(|argument| argument.replace(HOSTILE, &word)).collect();
        let other = world.admin(&others.iter().map(String::as_str).collect::<Vec<_>>());
        let output = world.admin(arguments);
        let lines =
            |output: &Output| [&output.stdout, &output.stderr].map(|bytes| text(bytes).lines().count());
        check(&output, lines(&output));
        // Tips are left out.
        assert!(lines(&output).iter().zip(lines(&other)).all(|(one, other)| *one <= other), "{output:?}");
    }
    let script = format!("[notify]\nsendmail = [{}]\n", quoted(&format!("/no/{HOSTILE}")));
    fs::write(world.path("conf.d/z.conf"), script).unwrap();
    let output = world.admin(&["doctor"]);
    check(&output, [text(&output.stdout).lines().count(), 0]);
}

#[test]
fn what_pam_modules_say_to_users_who_renew() {
    let Some(scene) = Renewal::new() else { return };
    let said = "/etc/said";
    fs::write(said, format!("{HOSTILE}\ttab\n")).unwrap();
    let lines = format!("auth optional pam_echo.so file={said}\n");
    fs::write(SERVICE, lines + "auth required pam_permit.so\naccount required pam_permit.so\n").unwrap();
    let (status, screen) = scene.renew(&[(DONE, "")]);
    assert_eq!(status, 0, "{screen}");
    let screen = screen.replace("\r\n", "\n");
    assert!(screen.contains("a?]0;title??[31mred\n") && screen.contains(" tab\n"), "{screen:?}");
    assert!(!screen.contains(|c| c != '\n' && is_hidden(c)), "{screen:?}");
    let output = scene.output("status", "");
    check(&output, [2, 0]);
    let mut own = scene.user.command();
    own.arg(built("backupcodes")).arg(HOSTILE);
    let output = feed(&mut own, "");
    assert!(!text(&output.stderr).contains(|c| c != '\n' && is_hidden(c)), "{output:?}");
    must("rm", &[said, SERVICE]);
}
