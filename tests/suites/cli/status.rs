//! `status` of all sets, and what all commands share: help, completions, and a reader that goes away.

use std::fs;
use std::process::{Command, Stdio};

use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{World, feed, me, pam, set_mode, text};

/// Users of this world, all with sets of four codes; the set of `old` was made in 2001, and `none` has no code left.
const USERS: [&str; 3] = ["old", "none", "a-user-with-quite-a-long-name"];

/// Sets of accounts that need not exist: copies of one that does.
fn world() -> Option<World> {
    let world = World::new("")?;
    world.configure("[codes]\ncount = 4\n[hash]\nmemory_kib = 64\npasses = 1\n[throttle]\nfree = 1\n");
    world.generate();
    let set = fs::read_to_string(world.file()).unwrap();
    for user in USERS {
        let mut set = set.replace(&format!("user = \"{}\"", me()), &format!("user = \"{user}\""));
        if user == "old" {
            let at = set.find("created = ").unwrap() + "created = ".len();
            set.replace_range(at..at + 10, "2001-02-03");
        }
        if user == "none" {
            set = set.replace("$argon2id", "$argon2iX");
        }
        let file = world.store().join(format!("{user}.toml"));
        fs::write(&file, set).unwrap();
        set_mode(&file, 0o600);
    }
    Some(world)
}

fn status(world: &World, options: &[&str]) -> String {
    let output = world.admin(&[&["status"], options].concat());
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

fn users(table: &str) -> Vec<&str> {
    table.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect()
}

#[test]
fn the_table_is_sorted_and_says_what_is_left_and_where_the_last_code_was_used() {
    let Some(world) = world() else { return };
    let sheet = world.generate();
    assert_eq!(world.try_answer(&sheet.codes[1]), pam::SUCCESS);
    let table = status(&world, &[]);
    let mut sorted: Vec<_> = USERS.iter().map(ToString::to_string).chain([me()]).collect();
    sorted.sort_unstable();
    assert_eq!(users(&table), sorted);
    let mut lines = table.lines();
    let header: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["USER", "SET", "AGE", "LEFT", "LAST", "USE"]);
    let line = |user: &str| table.lines().find(|line| line.starts_with(&format!("{user} "))).unwrap();
    let today = &sheet.created[..10];
    let mine = line(&me());
    assert!(mine.contains(&sheet.set) && mine.contains(" 0 d ") && mine.contains("3 of 4 LOW"), "{mine}");
    assert!(mine.contains(today) && mine.ends_with(&format!("Z {} 192.0.2.7", world.service)), "{mine}");
    assert!(line("none").contains("0 of 4 NONE") && line("none").contains("4 DAMAGED;"), "{table}");
    assert!(line("old").contains("4 of 4 ") && line("old").ends_with("never"), "{table}");
    // All columns begin where their names do.
    let at = table.find("LEFT").unwrap();
    assert!(
        table.lines().skip(1).all(|line| line[at..].contains(" of 4") && line.as_bytes()[at - 1] == b' '),
        "{table}"
    );
}

#[test]
fn filters_show_only_what_they_name_and_all_of_them_hold() {
    let Some(world) = world() else { return };
    let sheet = world.generate();
    assert_eq!(world.try_answer(&sheet.codes[1]), pam::SUCCESS);
    let me = me();
    let mut few = ["none", &me];
    few.sort_unstable();
    assert_eq!(users(&status(&world, &["--low"])), few);
    assert_eq!(users(&status(&world, &["--none"])), ["none"]);
    assert_eq!(users(&status(&world, &["--unused-since", "2001-02-05"])), ["old"]);
    let nobody = |options: &[&str]| {
        let output = world.admin(&[&["status"], options].concat());
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
        assert!(text(&output.stderr).contains("no set matches; to show all: backupcodes-admin status"));
    };
    nobody(&["--unused-since", "2001-02-02"]);
    nobody(&["--throttled"]);
    // A use counts as well as the making of the set.
    let set = fs::read_to_string(world.file()).unwrap();
    let at = set.find("created = ").unwrap() + "created = ".len();
    let mut used = set;
    used.replace_range(at..at + 10, "2001-02-03");
    fs::write(world.file(), used).unwrap();
    assert_eq!(users(&status(&world, &["--unused-since", "2001-02-05"])), ["old"]);
    let wrong = world.generate().codes[0].clone();
    world.generate();
    for _ in 0..3 {
        assert_eq!(world.try_answer(wrong.as_str()), pam::AUTH_ERR);
    }
    assert_eq!(users(&status(&world, &["--throttled"])), [me.as_str()]);
    assert!(status(&world, &[]).contains("THROTTLED; never"), "{}", status(&world, &[]));
    nobody(&["--throttled", "--none"]);
    for wrong in ["yesterday", "2001-13-01", "2001-02-30"] {
        assert_eq!(world.admin(&["status", "--unused-since", wrong]).status.code(), Some(2));
    }
    assert_eq!(status(&world, &["--throttled", "--format", "csv"]).lines().count(), 2);
    let json: serde_json::Value =
        serde_json::from_str(&status(&world, &["--none", "--format", "json"])).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 1);
}

#[test]
fn csv_has_a_row_for_each_set() {
    let Some(world) = world() else { return };
    let sheet = world.generate();
    assert_eq!(world.try_answer(&sheet.codes[1]), pam::SUCCESS);
    let csv = status(&world, &["--format", "csv"]);
    let mut rows = csv.lines();
    assert_eq!(rows.next(), Some("user,set,created,total,left,low,last_use,service,source,throttled,due"));
    let mine = rows.clone().find(|row| row.starts_with(&format!("{},", me()))).unwrap();
    let mine: Vec<_> = mine.split(',').collect();
    assert_eq!(mine[1..6], [sheet.set.as_str(), &sheet.created, "4", "3", "true"]);
    assert_eq!(mine[7..], [world.service.as_str(), "192.0.2.7", "0", "3"]);
    assert!(rows.any(|row| row.starts_with("none,") && row.contains(",4,0,true,,,,0,")), "{csv}");
}

/// What a terminal of so many columns shows, as it comes.
fn at_a_terminal(world: &World, columns: usize, variables: &[(&str, &str)]) -> String {
    let tool = world.admin_command();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("stty cols {columns} rows 24; exec \"$@\""), "sh"]).arg(tool.get_program());
    shell
        .args(tool.get_args())
        .arg("status")
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .envs(variables.iter().copied());
    let mut terminal = Terminal::start(&mut shell);
    assert_eq!(terminal.end(), 0);
    terminal.screen.clone()
}

#[test]
fn the_table_fits_the_terminal_and_says_in_words_what_colours_say() {
    let Some(world) = world() else { return };
    let sheet = world.generate();
    assert_eq!(world.try_answer(&sheet.codes[1]), pam::SUCCESS);
    for columns in [200, 80, 60, 40, 20] {
        let plain = at_a_terminal(&world, columns, &[("NO_COLOR", "1")]);
        assert!(!plain.contains('\u{1b}'), "{plain:?}");
        assert_eq!(plain.lines().count(), 5, "{plain}");
        let widest = plain.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= columns, "{widest} of {columns}: {plain}");
        assert!(columns < 60 || (plain.contains("0 of 4 NONE") && plain.contains("3 of 4 LOW")), "{plain}");
    }
    let coloured = at_a_terminal(&world, 120, &[]);
    assert!(coloured.contains("\u{1b}[") && coloured.contains("0 of 4 NONE"), "{coloured:?}");
    assert!(!status(&world, &[]).contains('\u{1b}'), "no colours in a file");
}

#[test]
fn a_reader_of_only_the_first_lines_causes_no_error() {
    let Some(world) = world() else { return };
    let set = fs::read(world.file()).unwrap();
    for at in 0..3000 {
        let file = world.store().join(format!("user{at}.toml"));
        fs::write(&file, &set).unwrap();
        set_mode(&file, 0o600);
    }
    let tool = world.admin_command();
    let mut shell = Command::new("bash");
    shell.args(["-c", "\"$@\" status | head -n 1", "bash"]).arg(tool.get_program()).args(tool.get_args());
    let output = feed(&mut shell, "");
    assert!(text(&output.stdout).starts_with("USER") && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn without_any_set_the_next_command_is_named() {
    let Some(world) = World::new("") else { return };
    let output = world.admin(&["status"]);
    assert!(output.status.success() && output.stdout.is_empty());
    assert!(text(&output.stderr).contains("backupcodes-admin generate USER"), "{output:?}");
    // One without an account can have none made.
    for command in ["status", "email"] {
        let complaint = |user: &str| {
            let output = world.admin(&[command, user]);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            text(&output.stderr)
        };
        assert!(complaint(&me()).contains(&format!("to make some: backupcodes-admin generate {}", me())));
        assert!(complaint("nobody-of-that-name").contains("and no account: check the name"));
    }
}

const COMMANDS: [&str; 12] = [
    "generate",
    "status",
    "verify",
    "email",
    "rename",
    "revoke",
    "unlock",
    "purge",
    "fleet",
    "notify",
    "doctor",
    "completions",
];

#[test]
fn the_help_of_each_command_fits_a_screen_and_has_an_example_that_can_be_run() {
    let Some(world) = World::new("") else { return };
    let help = |arguments: &[&str]| {
        let output = world.admin(&[arguments, &["--help"]].concat());
        assert!(output.status.success(), "{output:?}");
        let help = text(&output.stdout);
        assert!(help.lines().count() <= 24 && help.lines().all(|line| line.len() < 80), "{help}");
        help
    };
    let all = help(&[]);
    for command in COMMANDS {
        assert!(all.contains(&format!("\n  {command} ")), "{command}: {all}");
        let help = help(&[command]);
        let example = format!("  backupcodes-admin {command}");
        let example_of_one = format!("Example: backupcodes-admin {command}");
        assert!(help.contains(&example) || help.contains(&example_of_one), "{help}");
    }
}

#[test]
fn completions_know_all_commands() {
    let Some(world) = World::new("") else { return };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = world.admin(&["completions", shell]);
        let script = text(&output.stdout);
        assert!(
            output.status.success() && COMMANDS.iter().all(|command| script.contains(command)),
            "{shell}"
        );
    }
    // In a real bash.
    fs::write(world.path("completion"), world.admin(&["completions", "bash"]).stdout).unwrap();
    let script = "source \"$0\"; COMP_WORDS=(backupcodes-admin generate --mis); COMP_CWORD=2; \
                  _backupcodes-admin backupcodes-admin --mis generate; echo \"${COMPREPLY[@]}\"";
    let output =
        Command::new("bash").args(["-c", script]).arg(world.path("completion")).stdin(Stdio::null()).output();
    assert_eq!(text(&output.unwrap().stdout), "--missing\n");
}
