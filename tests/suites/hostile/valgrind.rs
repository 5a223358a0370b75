//! Valgrind finds no error and no leak in any row of the table of return codes.

use std::fs;
use std::panic::catch_unwind;
use std::process::Command;
use std::slice;

use backupcodes_tests::{
    Answer, Attempt, Outcome, World, built, feed, me, mistyped, pam, race_in, set_mode, sheet, text,
};
use nix::fcntl::{Flock, FlockArg};

/// The application of the tests under memcheck.
fn valgrind(options: &[&str]) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--leak-check=full", "--show-leak-kinds=definite,possible"]);
    command.arg("--errors-for-leak-kinds=definite,possible").args(options).arg(built("pam-application"));
    command
}

/// A row of the table: a world of its own, what is tried in it, and what comes of it.
struct Row {
    world: World,
    attempt: Attempt,
    code: i32,
}

impl Row {
    /// Answers of the codes of a set, as many as there are, or of others that `answer` makes of them.
    fn new(options: &str, code: i32, answer: impl Fn(&String) -> Answer) -> Option<Self> {
        let world = World::new(options)?;
        let answers: Vec<_> = world.generate().codes.iter().map(answer).collect();
        let attempt = world.attempt(&answers);
        Some(Self { world, attempt, code })
    }

    /// Codes that are good when they are tried.
    fn right(options: &str, code: i32) -> Option<Self> {
        Self::new(options, code, |code| code.into())
    }

    fn with(mut self, change: impl FnOnce(&World, &mut Attempt)) -> Self {
        change(&self.world, &mut self.attempt);
        self
    }
}

/// All rows but those that need a limit of memory, which would be valgrind's, and the panic, whose message is given up on
/// purpose.
fn table() -> Option<Vec<Row>> {
    let configure = |text: &'static str| move |world: &World, _: &mut Attempt| world.configure(text);
    let throttled = "[hash]\nmemory_kib = 64\npasses = 1\n[throttle]\nfree = 1\nfirst_delay = 60\n";
    Some(vec![
        Row::right("", pam::SUCCESS)?,
        Row::right("debug", pam::SUCCESS)?,
        Row::right("", pam::SUCCESS)?.with(|world, _| world.configure("")),
        Row::right("", pam::AUTH_ERR)?.with(|world, _| drop(world.generate())),
        Row::right("", pam::AUTH_ERR)?.with(|world, attempt| {
            let spent = attempt.answers[0].clone();
            assert_eq!(world.try_answer(spent.clone()), pam::SUCCESS);
            attempt.answers.fill(spent);
        }),
        Row::right("", pam::AUTH_ERR)?.with(|world, attempt| {
            sheet(world.admin(&["generate", "--yes", "--count", "3", "--format", "json", &me()]));
            attempt.answers = vec![attempt.answers[9].clone(); 10];
        }),
        Row::new("", pam::AUTH_ERR, |code| Answer::Text(mistyped(code)))?,
        Row::new("", pam::AUTH_ERR, |_| "".into())?,
        Row::new("", pam::AUTH_ERR, |_| "correct horse battery staple".into())?,
        Row::new("", pam::AUTH_ERR, |_| Answer::Bytes(b"1\xff\xfe".repeat(170)))?,
        Row::new("", pam::AUTH_ERR, |_| Answer::Null)?,
        Row::right("", pam::AUTH_ERR)?.with(configure(throttled)).with(|world, _| {
            (0..2).for_each(|_| assert_eq!(world.try_answer("not a code"), pam::AUTH_ERR));
            let old = world.generate();
            world.generate();
            (0..2).for_each(|_| assert_eq!(world.try_answer(&old.codes[0]), pam::AUTH_ERR));
        }),
        Row::right("", pam::AUTH_ERR)?.with(|world, _| fs::remove_file(world.file()).unwrap()),
        Row::right("nullok", pam::PERM_DENIED)?.with(|world, _| fs::remove_file(world.file()).unwrap()),
        Row::right("", pam::USER_UNKNOWN)?.with(|_, attempt| attempt.user = b"no-such-user".into()),
        Row::right("", pam::USER_UNKNOWN)?.with(|_, attempt| attempt.user = b"\xff".into()),
        Row::right("", pam::AUTHINFO_UNAVAIL)?.with(|world, _| set_mode(&world.store(), 0o777)),
        Row::right("", pam::AUTHINFO_UNAVAIL)?.with(|world, _| fs::write(world.file(), "no set").unwrap()),
        Row::right("", pam::AUTHINFO_UNAVAIL)?.with(|world, _| fs::remove_dir_all(world.store()).unwrap()),
        Row::right("no-such-option", pam::SERVICE_ERR)?,
        Row::right("", pam::SERVICE_ERR)?.with(configure("[codes]\ncuont = 10\n")),
        Row::new("", pam::CONV_ERR, |_| Answer::Fail)?,
        Row::new("", pam::INCOMPLETE, |_| Answer::Again)?,
        Row::new("forward_pass", pam::AUTH_ERR, |_| "123456".into())?,
        Row::right("forward_pass", pam::SUCCESS)?,
        Row::right("", pam::AUTH_ERR)?.with(|world, _| world.stack("use_first_pass")),
        Row::right("", pam::SUCCESS)?.with(|_, attempt| {
            let calls =
                ["authenticate", "setcred", "open_session", "close_session", "acct_mgmt", "chauthtok"];
            attempt.calls = calls.map(Into::into).into();
        }),
    ])
}

#[test]
fn no_row_of_the_table_of_return_codes_has_an_error_of_memory_or_a_leak() {
    let Some(rows) = table() else { return };
    let mut attempts: Vec<_> = rows.iter().map(|row| row.attempt.clone()).collect();
    // And one that is right but cannot be spent.
    let locked = Row::right("", pam::AUTH_ERR).unwrap();
    attempts.push(locked.attempt.clone());
    let lock = Flock::lock(fs::File::open(locked.world.file()).unwrap(), FlockArg::LockExclusive).unwrap();
    // What is wrong is written to standard error, where nothing may be.
    let outcomes = race_in(&mut valgrind(&["--quiet"]), &attempts);
    drop(lock);
    for (row, outcome) in rows.iter().chain([&locked]).zip(outcomes) {
        assert_eq!(outcome.expect("the application lives on").codes[0], row.code, "{:#?}", row.world.log());
    }
}

#[test]
fn twice_as_many_attempts_in_one_process_leave_no_more_memory_in_use() {
    leaves_as_much(|| {
        Some(vec![
            Row::right("", pam::SUCCESS)?,
            Row::new("", pam::AUTH_ERR, |_| "correct horse battery staple".into())?,
            Row::right("no-such-option", pam::SERVICE_ERR)?,
        ])
    });
}

#[test]
#[ignore = "over a minute: tests/long valgrind"]
fn twice_as_many_attempts_of_any_row_leave_no_more_memory_in_use() {
    leaves_as_much(table);
}

/// Whether each of these rows leaves as much memory in use when it is tried four times as when it is tried eight times.
fn leaves_as_much(rows: impl Fn() -> Option<Vec<Row>>) {
    let [Some(four), Some(eight)] = [rows(), rows()] else { return };
    assert_eq!(in_use(4, &four), in_use(8, &eight));
}

/// What each of these rows leaves in use when it is tried so many times.
fn in_use(times: usize, rows: &[Row]) -> Vec<String> {
    let attempts: Vec<_> = rows.iter().map(|row| Attempt { times, ..row.attempt.clone() }).collect();
    let output = feed(&mut valgrind(&[]), &serde_json::to_string(&attempts).unwrap());
    let outcomes: Vec<Option<Outcome>> = serde_json::from_slice(&output.stdout).unwrap();
    for (row, outcome) in rows.iter().zip(outcomes) {
        assert_eq!(outcome.expect("the application lives on").codes[0], row.code, "{:#?}", row.world.log());
    }
    let report = text(&output.stderr);
    let in_use = report.lines().filter_map(|line| line.split_once("in use at exit: "));
    let mut in_use: Vec<_> = in_use.map(|(_, blocks)| blocks.to_owned()).collect();
    assert_eq!(in_use.len(), rows.len() + 1, "{report}");
    in_use.sort_unstable();
    in_use
}

#[test]
fn valgrind_detects_a_use_after_free_and_a_leak_of_a_faulty_module() {
    let Some(row) = Row::right("", pam::PERM_DENIED) else { return };
    let line = format!("auth required {}\n", built("examples/libbad_memory.so").display());
    fs::write(row.world.path("pam.d").join(&row.world.service), line).unwrap();
    let complaint = catch_unwind(|| race_in(&mut valgrind(&["--quiet"]), slice::from_ref(&row.attempt)));
    let complaint = complaint.unwrap_err().downcast::<String>().unwrap();
    assert!(complaint.contains("Invalid read of size 1"), "{complaint}");
    assert!(complaint.contains(" are definitely lost"), "{complaint}");
    let rows = [row];
    assert_ne!(in_use(4, &rows), in_use(8, &rows));
}
