//! `generate` for many users at once, and `purge`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use backupcodes_tests::machine::{Machine, run};
use backupcodes_tests::patience::wait_until;
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{CHEAP, World, feed, me, pam, set_mode, sheets, text};

/// Accounts that every host has, the first of them ours.
fn accounts(count: usize) -> Vec<String> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let others = passwd.lines().map(|line| line.split(':').next().unwrap().to_owned());
    let mine = me();
    let mut names = vec![mine.clone()];
    names.extend(others.filter(|name| *name != mine).take(count - 1));
    names
}

fn complaints(output: &Output) -> String {
    text(&output.stderr)
}

fn files(directory: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// The code of this number on a text sheet.
fn code(sheet: &str, number: usize) -> String {
    let words: Vec<_> = sheet.split_whitespace().collect();
    let is_code = |pair: &&[&str]| pair[0] == number.to_string() && pair[1].matches('-').count() == 2;
    words.windows(2).find(is_code).expect("a code")[1].to_owned()
}

fn admin_for(world: &World, options: &[&str], users: &[String]) -> Output {
    let users = users.iter().map(String::as_str);
    world.admin(&options.iter().copied().chain(users).collect::<Vec<_>>())
}

#[test]
fn each_user_gets_a_file_that_nobody_else_can_read_and_none_is_overwritten() {
    let Some(world) = World::new("") else { return };
    let (users, directory) = (accounts(5), world.path("sheets"));
    let to = directory.to_str().unwrap();
    let output = admin_for(&world, &["generate", "--output", to], &users);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(files(&directory), users.iter().map(|user| format!("{user}.txt")).collect());
    for user in &users {
        let stat = fs::metadata(directory.join(format!("{user}.txt"))).unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.uid()), (0o600, nix::unistd::geteuid().as_raw()));
    }
    let mine = directory.join(format!("{}.txt", me()));
    let sheet = fs::read_to_string(&mine).unwrap();
    assert!(sheet.contains(&format!("User  {}\n", me())));
    assert_eq!(world.try_answer(code(&sheet, 1).as_str()), pam::SUCCESS);

    let output = world.admin(&["generate", "--yes", "--output", to, &me()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(complaints(&output).contains("no file is overwritten"), "{output:?}");
    assert_eq!(fs::read_to_string(&mine).unwrap(), sheet);
    assert_eq!(world.try_answer(code(&sheet, 2).as_str()), pam::SUCCESS, "the old set is as it was");

    // Nor is what a link leads to.
    let (target, html) = (world.path("target"), directory.join(format!("{}.html", me())));
    symlink(&target, &html).unwrap();
    let options = ["generate", "--yes", "--format", "html", "--output", to];
    assert_eq!(admin_for(&world, &options, &[me()]).status.code(), Some(3));
    assert!(!target.exists());
    fs::remove_file(&html).unwrap();
    assert_eq!(admin_for(&world, &options, &[me()]).status.code(), Some(0));
    assert!(fs::read_to_string(&html).unwrap().ends_with("</html>\n"));
}

#[test]
fn sheets_go_into_no_directory_that_others_can_write() {
    let Some(world) = World::new("") else { return };
    let directory = world.path("open");
    fs::create_dir(&directory).unwrap();
    let generate = |to: &Path| world.admin(&["generate", "--output", to.to_str().unwrap(), &me()]);
    for mode in [0o770, 0o707, 0o1777] {
        set_mode(&directory, mode);
        let output = generate(&directory);
        assert_eq!(output.status.code(), Some(3));
        let complaint = complaints(&output);
        assert!(
            complaint.contains(&format!("mode {mode:04o}")) && complaint.contains("nobody else can write"),
            "{complaint}"
        );
    }
    fs::write(world.path("file"), "").unwrap();
    assert!(complaints(&generate(&world.path("file"))).contains("no directory, or a link to one"));
    // Where a link leads is for its owner to say.
    fs::create_dir(world.path("private")).unwrap();
    set_mode(&world.path("private"), 0o700);
    symlink(world.path("private"), world.path("link")).unwrap();
    assert!(complaints(&generate(&world.path("link"))).contains("no directory, or a link to one"));
    assert!(files(&world.path("private")).is_empty());
    assert!(!world.file().exists());
}

#[test]
fn a_set_that_could_not_be_put_in_place_leaves_no_sheet() {
    let Some(world) = World::new("") else { return };
    let directory = world.path("sheets");
    // Notices are queued after the sheet.
    fs::write(world.store().join("outbox"), "no directory").unwrap();
    let output = world.admin(&["generate", "--output", directory.to_str().unwrap(), &me()]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(files(&directory).is_empty() && !world.file().exists());
}

#[test]
fn sheets_and_rows_come_in_the_order_that_was_asked_for() {
    let Some(world) = World::new("") else { return };
    let mut users = accounts(12);
    users.reverse();
    let made = sheets(admin_for(&world, &["generate", "--format", "json"], &users));
    assert_eq!(made.iter().map(|sheet| sheet.user.clone()).collect::<Vec<_>>(), users);

    let output = admin_for(
        &world,
        &["generate", "--yes", "--count", "3", "--email", "a@x.org", "--format", "csv"],
        &users,
    );
    let (rows, host) = (text(&output.stdout), nix::unistd::gethostname().unwrap().into_string().unwrap());
    let mut rows = rows.lines();
    assert_eq!(rows.next().unwrap(), "user,email,host,set,created,code1,code2,code3");
    let rows: Vec<Vec<_>> = rows.map(|row| row.split(',').collect()).collect();
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), users);
    assert!(rows.iter().all(|row| row.len() == 8 && row[1] == "a@x.org" && row[2] == host));
    let mine = rows.iter().find(|row| row[0] == me()).unwrap();
    assert_eq!(world.try_answer(mine[7]), pam::SUCCESS);

    // An HTML document for all of them.
    let html = text(&admin_for(&world, &["generate", "--yes", "--format", "html"], &users).stdout);
    assert_eq!((html.matches("<html").count(), html.matches("<section").count()), (1, 12));
    assert!(html.ends_with("</html>\n"));
}

#[test]
fn users_that_fail_stop_no_others_and_are_listed_at_the_end() {
    let Some(world) = World::new("") else { return };
    let mut users = accounts(6);
    users.insert(0, "no-such-user-a".into());
    users.insert(4, "no-such-user-b".into());
    let output = world.admin_with_input(&["generate", "--format", "json", "-"], &(users.join("\n") + "\n\n"));
    assert_eq!(output.status.code(), Some(3));
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(made.as_array().unwrap().len(), 6);
    let complaints = complaints(&output);
    let lines: Vec<_> = complaints.lines().collect();
    assert!(
        lines.len() == 3 && lines[0].contains("no-such-user-a") && lines[1].contains("no-such-user-b"),
        "{lines:?}"
    );
    assert!(lines[2].contains("2 of 8 users failed"), "{lines:?}");
}

#[test]
fn an_interrupted_run_says_where_it_stopped_and_missing_goes_on_from_there() {
    let Some(world) = World::new("") else { return };
    // Half a second a set.
    world.configure("[hash]\nmemory_kib = 65536\npasses = 1\n");
    let (users, directory) = (accounts(15), world.path("sheets"));
    let to = directory.to_str().unwrap();
    let mut command = world.admin_command();
    command.args(["generate", "--missing", "--output", to]).args(&users);
    let mut terminal = Terminal::start(&mut command);
    terminal.expect("of 15 users");
    wait_until("three sheets", || files(&directory).len() >= 3);
    terminal.send("\u{3}");
    terminal.expect("stopped after ");
    terminal.expect("to continue, run the same command again");
    assert_eq!(terminal.end(), 3);
    let sets = || {
        let stored =
            files(&world.store()).into_iter().filter_map(|name| Some(name.strip_suffix(".toml")?.to_owned()));
        stored.collect::<BTreeSet<_>>()
    };
    let first = files(&directory);
    assert!(first.len() >= 3 && first.len() < 15, "{first:?}");
    let named: BTreeSet<_> = first.iter().map(|name| name.strip_suffix(".txt").unwrap().to_owned()).collect();
    assert_eq!(named, sets(), "each set has its sheet, and each sheet its set");
    let last = users.iter().rfind(|user| named.contains(*user)).unwrap();
    let told = format!("after {last}: {} of 15 users", first.len());
    assert!(terminal.screen.contains(&told), "{told}: {}", terminal.screen);
    let before: Vec<_> = first.iter().map(|name| fs::read(directory.join(name)).unwrap()).collect();

    world.configure(CHEAP);
    let output = admin_for(&world, &["generate", "--missing", "--output", to], &users);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!((files(&directory).len(), sets().len()), (15, 15));
    let after: Vec<_> = first.iter().map(|name| fs::read(directory.join(name)).unwrap()).collect();
    assert_eq!(before, after);
    let sheet = fs::read_to_string(directory.join(format!("{}.txt", me()))).unwrap();
    assert_eq!(world.try_answer(code(&sheet, 1).as_str()), pam::SUCCESS);
    // And then there is nothing left to do.
    let output = admin_for(&world, &["generate", "--missing"], &users);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_reader_that_goes_away_ends_the_run_before_the_next_set() {
    let Some(world) = World::new("") else { return };
    let users = accounts(30);
    let tool = world.admin_command();
    let mut shell = Command::new("bash");
    shell.args(["-c", "\"$@\" | head -c 1", "bash"]).arg(tool.get_program()).args(tool.get_args());
    let output = feed(shell.args(["generate", "--format", "json"]).args(&users), "");
    let complaint = complaints(&output);
    assert!(complaint.contains("cannot be printed") && complaint.contains("stopped "), "{complaint}");
    assert_eq!(complaint.lines().count(), 2, "{complaint}");
    let sets = files(&world.store()).iter().filter(|name| name.ends_with(".toml")).count();
    assert!(sets < 30, "{sets}");
}

#[test]
fn codes_go_nowhere_but_to_a_place_that_is_private() {
    let Some(world) = World::new("") else { return };
    let generate = |redirect: &str| {
        let tool = world.admin_command();
        let mut shell = Command::new("bash");
        shell
            .args(["-c", &format!("\"$@\" {redirect}"), "bash"])
            .arg(tool.get_program())
            .args(tool.get_args());
        feed(shell.args(["generate", "--yes", "--format", "csv", &me()]).current_dir(world.folder.path()), "")
    };
    for nowhere in [">&-", ">/dev/null"] {
        let output = generate(nowhere);
        assert!(
            output.status.code() == Some(3) && complaints(&output).contains("standard output is /dev/null"),
            "{output:?}"
        );
    }
    let output = generate(">open.csv");
    assert!(output.status.code() == Some(3) && complaints(&output).contains("umask 077"), "{output:?}");
    assert!(!world.file().exists() && fs::read(world.path("open.csv")).unwrap().is_empty());
    set_mode(&world.path("open.csv"), 0o600);
    assert!(generate(">open.csv").status.success());
    let row = fs::read_to_string(world.path("open.csv")).unwrap();
    let code = row.trim_end().rsplit(',').next().unwrap();
    assert_eq!(world.try_answer(code), pam::SUCCESS);
}

#[test]
fn a_sheet_that_a_crash_left_is_named_with_what_to_do_about_it() {
    let Some(world) = World::new("") else { return };
    let directory = world.path("sheets");
    fs::create_dir(&directory).unwrap();
    set_mode(&directory, 0o700);
    fs::write(directory.join(format!("{}.txt", me())), "of a run that was killed").unwrap();
    let output = world.admin(&["generate", "--missing", "--output", directory.to_str().unwrap(), &me()]);
    let complaint = complaints(&output);
    assert!(output.status.code() == Some(3) && !world.file().exists(), "{output:?}");
    assert!(
        complaint.contains("backupcodes-admin status USER") && complaint.contains("remove it"),
        "{complaint}"
    );
}

#[test]
fn a_run_under_nohup_goes_on_and_a_second_signal_ends_one_that_stands_still() {
    let Some(world) = World::new("") else { return };
    world.configure("[hash]\nmemory_kib = 16384\npasses = 1\n");
    let (users, directory) = (accounts(10), world.path("sheets"));
    let mut command = Command::new("nohup");
    let tool = world.admin_command();
    command
        .arg(tool.get_program())
        .args(tool.get_args())
        .args(["generate", "--output"])
        .arg(&directory)
        .args(&users);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let signal =
        |child: &Child, name: &str| run(Command::new("kill").args(["-s", name, &child.id().to_string()]), "");
    wait_until("a sheet", || directory.exists() && !files(&directory).is_empty());
    signal(&child, "HUP");
    assert!(child.wait().unwrap().success());
    assert_eq!(files(&directory).len(), 10);

    // Nobody reads its pipe, which is full at last.
    world.configure(CHEAP);
    let mut command = world.admin_command();
    command.args(["generate", "--yes", "--count", "31", "--format", "html"]).args(accounts(20));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut reader = child.stdout.take().unwrap();
    let mut some = [0; 1];
    reader.read_exact(&mut some).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    signal(&child, "TERM");
    std::thread::sleep(std::time::Duration::from_millis(200));
    let is_stuck = child.try_wait().unwrap().is_none();
    signal(&child, "TERM");
    let status = child.wait().unwrap();
    assert!(is_stuck && status.code() == Some(128 + 15), "{status:?}");
}

#[test]
fn at_a_terminal_each_is_asked_for_behind_the_sheets_before_and_an_interrupt_at_the_question_ends_the_run() {
    let Some(world) = World::new("") else { return };
    let users = accounts(3);
    let old = world.generate();
    let mut command = world.admin_command();
    command.args(["generate", &users[1], &users[0], &users[2]]);
    let mut terminal = Terminal::start(&mut command);
    terminal.expect(&format!("User  {}", users[1]));
    terminal.expect("10 unspent codes");
    terminal.expect("[y/N] ");
    // No line behind it: the signal alone must end the wait.
    terminal.keys().write_all(b"\x03").unwrap();
    terminal.expect(&format!("stopped after {}: 1 of 3 users", users[1]));
    // With --missing nothing would be renewed.
    terminal.expect(&format!("name the users from {} on", users[0]));
    assert_eq!(terminal.end(), 3);
    assert_eq!(world.try_answer(&old.codes[0]), pam::SUCCESS);
    assert!(!world.store().join(format!("{}.toml", users[2])).exists());
}

#[test]
fn the_bar_is_for_terminals_and_for_many() {
    let Some(world) = World::new("") else { return };
    let users = accounts(8);
    let directory = world.path("sheets");
    let mut command = world.admin_command();
    command.args(["generate", "--output", directory.to_str().unwrap()]).args(&users);
    let mut terminal = Terminal::start(&mut command);
    terminal.expect("of 8 users");
    terminal.expect("left");
    assert_eq!(terminal.end(), 0);
    assert!(terminal.screen.contains("/s"), "the rate: {}", terminal.screen);
    let mut terminal = Terminal::start(world.admin_command().args(["generate", "--yes", &me()]));
    terminal.expect("BACKUP CODES");
    assert!(terminal.end() == 0 && !terminal.screen.contains("users"), "{}", terminal.screen);
    let output = admin_for(&world, &["generate", "--yes"], &users);
    assert!(output.status.success() && output.stderr.is_empty());
    assert!(!text(&output.stdout).contains("users"));
}

/// The program as where a directory service lets nobody list its accounts: getent(1) ends with 3 then.
fn without_listing(world: &World) -> Command {
    let bin = world.path("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("getent"), "#!/bin/sh\nexit 3\n").unwrap();
    set_mode(&bin.join("getent"), 0o755);
    let mut command = world.admin_command();
    command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    command
}

#[test]
fn a_group_is_its_members_and_those_whose_own_group_it_is() {
    let Some(machine) = Machine::new() else { return };
    let [first, second, third] = machine.accounts(3).try_into().ok().unwrap();
    let group = format!("group-{}", first.name);
    run(Command::new("groupadd").args(["--gid", "47110", &group]), "");
    run(Command::new("usermod").args(["--append", "--groups", &group, &first.name]), "");
    run(Command::new("usermod").args(["--gid", "47110", &second.name]), "");
    let Some(world) = World::new("") else { return };
    let output = world.admin(&["generate", "--count", "1", "--format", "json", "--group", &group]);
    let made: Vec<_> = sheets(output).into_iter().map(|sheet| sheet.user).collect();
    assert_eq!(made, [first.name.as_str(), second.name.as_str()]);
    // Whom the group does not list is not known where nobody lists accounts; the others are.
    let mut command = without_listing(&world);
    let output =
        feed(command.args(["generate", "--yes", "--count", "1", "--format", "json", "--group", &group]), "");
    assert!(complaints(&output).contains("are left out; give their names"), "{output:?}");
    let made: Vec<_> = sheets(output).into_iter().map(|sheet| sheet.user).collect();
    assert_eq!(made, [first.name.as_str()]);
    let output = world.admin(&["generate", "--group", "no-such-group"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(complaints(&output).contains("no such group"), "{output:?}");
    drop(third);
}

#[test]
fn all_are_people_and_root_and_a_user_database_that_lists_none_says_so() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let people = machine.accounts(3);
    let output = world.admin(&["generate", "--all", "--count", "1", "--format", "json"]);
    let made: BTreeSet<_> = sheets(output).into_iter().map(|sheet| sheet.user).collect();
    assert!(people.iter().all(|account| made.contains(&account.name)) && made.contains("root"), "{made:?}");
    for service in ["daemon", "nobody", "sshd", "bin"] {
        assert!(!made.contains(service), "{service}");
    }
    let output = feed(without_listing(&world).args(["generate", "--all"]), "");
    assert_eq!(output.status.code(), Some(3));
    assert!(
        complaints(&output).contains("does not list its accounts")
            && complaints(&output).contains("standard input"),
        "{output:?}"
    );
}

#[test]
fn conflicting_options_are_wrong_usage() {
    let Some(world) = World::new("") else { return };
    let me = me();
    for arguments in [
        &["--format", "json", "--output", "x", &me][..],
        &["--format", "csv", "--output", "x", &me],
        &["--format", "html", &me, "--print"],
        &["--output", "x", &me, "--print"],
        &["--print", &me],
        &[],
    ] {
        let output = world.admin(&[&["generate"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
    assert!(!world.file().exists() && !Path::new("x").exists());
}

#[test]
fn purge_removes_what_no_account_can_use_and_nothing_else() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let people = machine.accounts(4);
    let names: Vec<_> = people.iter().map(|account| account.name.clone()).collect();
    assert!(admin_for(&world, &["generate", "--count", "1"], &names).status.success());
    let purge = |options: &[&str]| world.admin(&[&["purge"], options].concat());
    assert_eq!(text(&purge(&[]).stdout), "every set has its account\n");
    let delete = |name: &str| run(Command::new("userdel").arg(name), "");
    let has_set = |name: &String| world.store().join(format!("{name}.toml")).exists();

    delete(&names[0]);
    let output = purge(&[]);
    let complaint = complaints(&output);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        complaint.contains(&format!("1 of 4 sets have no account: {}", names[0]))
            && complaint.contains("--yes"),
        "{complaint}"
    );
    assert!(has_set(&names[0]));
    for (answer, status) in [("n", 1), ("y", 0)] {
        let mut terminal = Terminal::start(world.admin_command().arg("purge"));
        terminal.expect("Remove them? [y/N] ");
        terminal.send(answer);
        assert_eq!(terminal.end(), status);
        assert_eq!(has_set(&names[0]), answer == "n");
    }
    assert!(names[1..].iter().all(has_set));

    // An account that changed is not gone.
    run(Command::new("usermod").args(["--uid", "47222", &names[1]]), "");
    let output = purge(&["--yes"]);
    assert_eq!(text(&output.stdout), "every set has its account\n");
    assert!(
        complaints(&output).contains(&format!("{}: the set is kept: it was made for uid", names[1])),
        "{output:?}"
    );
    assert!(names[1..].iter().all(has_set));

    delete(&names[1]);
    let output = purge(&["--yes", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report, serde_json::json!({ "purged": [names[1]], "kept": [] }));
    assert!(!has_set(&names[1]) && names[2..].iter().all(has_set));

    // More than half: the user database may be out of reach.
    delete(&names[2]);
    delete(&names[3]);
    let output = purge(&["--yes"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(complaints(&output).contains("that is more than half"), "{output:?}");
    assert!(names[2..].iter().all(has_set));

    // So it may where accounts are not of this host, however few are gone.
    assert!(admin_for(&world, &["generate", "--count", "1"], &accounts(5)).status.success());
    fs::write(world.path("nsswitch.conf"), "passwd: files sss\n").unwrap();
    let mut unshare = Command::new("unshare");
    let script =
        format!("mount --bind {} /etc/nsswitch.conf && exec \"$@\"", world.path("nsswitch.conf").display());
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    let tool = world.admin_command();
    let output = feed(unshare.arg(tool.get_program()).args(tool.get_args()).args(["purge", "--yes"]), "");
    assert!(
        output.status.code() == Some(3) && complaints(&output).contains("directory service"),
        "{output:?}"
    );

    // Of two lines of one name the first is the account.
    let (first, lines) = (&accounts(5)[1], fs::read_to_string("/etc/passwd").unwrap());
    fs::write(world.path("passwd"), lines + &format!("{first}:x:49999:49999::/:/bin/sh\n")).unwrap();
    let script = format!("mount --bind {} /etc/passwd && exec \"$@\"", world.path("passwd").display());
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    let output = feed(unshare.arg(tool.get_program()).args(tool.get_args()).args(["purge", "--yes"]), "");
    assert!(output.status.success() && world.store().join(format!("{first}.toml")).exists(), "{output:?}");
    assert!(!has_set(&names[2]) && !has_set(&names[3]));
}
