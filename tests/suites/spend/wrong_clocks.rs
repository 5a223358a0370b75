//! With a clock at 1970 or 2106 no code works twice, and nobody waits until then. A use or a refused notice of such a time is neither
//! held back until then nor dropped before its time.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backupcodes_tests::postbox::Postbox;
use backupcodes_tests::{CHEAP, World, built, me, pam, race_in, text};

const IN_1970: Date = Date("1970-01-01T00:00:00Z", 0);
const IN_2106: Date = Date("2106-02-07T06:28:16Z", 1 << 32);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// As it is written, and in seconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Date(&'static str, u64);

impl Date {
    fn time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.1)
    }
}

/// A set whose first notice is due, as a letter, and the use of its first code. sendmail refuses whatever it gets.
struct Scene {
    world: World,
    postbox: Postbox,
}

impl Scene {
    fn new() -> Option<Self> {
        let world = World::new("")?;
        let postbox = Postbox::of(&world);
        let sheet = world.generate();
        assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
        postbox.before("exit 67");
        Some(Self { world, postbox })
    }

    /// The letters that wait.
    fn letters(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.world.store().join("outbox")).unwrap();
        let files = files.map(|file| file.unwrap().path());
        files.filter(|file| !file.to_str().unwrap().ends_with("@refused")).collect()
    }

    /// As if the clock had stood there at the use and at the notice of the set.
    fn date(&self, date: Date) {
        let Date(written, seconds) = date;
        let file = fs::read_to_string(self.world.file()).unwrap();
        let (before, mark) = file.split_once("\"spent ").unwrap();
        fs::write(self.world.file(), format!("{before}\"spent {written}{}", &mark[written.len()..])).unwrap();
        for letter in self.letters() {
            let name = letter.file_name().unwrap().to_str().unwrap();
            let (_, random) = name.split_once('-').unwrap();
            let dated = letter.with_file_name(format!("{}@{seconds:010x}-{random}", me()));
            fs::rename(letter, &dated).unwrap();
            set_time(&dated, date.time());
        }
    }

    /// Letters are refused, which are as many after it as are said. What the delivery says comes back.
    fn is_refused(&self, letters: usize, when: &str) -> String {
        let output = self.world.admin(&["notify"]);
        assert_eq!(output.status.code(), Some(3), "{when}: {output:?}");
        assert_eq!(self.letters().len(), letters, "{when}: {}", text(&output.stderr));
        text(&output.stderr)
    }

    /// As if the last refusal had been noted then.
    fn refused_at(&self, date: Date) {
        let file = self.world.store().join("outbox").join(format!("{}@refused", me()));
        let refusal = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("{}\n{}", date.0, refusal.split_once('\n').unwrap().1)).unwrap();
    }

    /// As if the letters' last days had begun then, and nothing rested.
    fn counted_at(&self, time: SystemTime) {
        self.letters().iter().for_each(|letter| set_time(letter, time));
        self.refused_at(IN_1970);
    }
}

fn set_time(letter: &PathBuf, time: SystemTime) {
    File::open(letter).unwrap().set_modified(time).unwrap();
}

#[test]
fn what_was_refused_at_a_time_that_is_not_yet_does_not_rest_until_then() {
    for date in [IN_1970, IN_2106] {
        let Some(scene) = Scene::new() else { return };
        scene.is_refused(2, date.0);
        scene.postbox.before("");
        scene.world.deliver();
        scene.postbox.expect(0);
        scene.refused_at(date);
        scene.world.deliver();
        scene.postbox.expect(2);
        assert_eq!(scene.world.other_files(), [] as [&str; 0], "{date:?}");
    }
}

#[test]
fn what_bears_a_wrong_date_is_given_up_after_30_days_of_refusals_and_no_sooner() {
    for date in [IN_1970, IN_2106] {
        let Some(scene) = Scene::new() else { return };
        scene.date(date);
        scene.is_refused(2, "at first");
        // The clock stood elsewhere then, and again.
        scene.counted_at(IN_1970.time());
        scene.is_refused(2, "a day at most has passed");
        for _ in 0..31 {
            scene.counted_at(IN_2106.time());
            scene.is_refused(2, "no day has passed");
        }
        for day in 2..30 {
            scene.counted_at(SystemTime::now() - DAY);
            let said = scene.is_refused(2, &format!("{date:?}, day {day}"));
            assert!(!said.contains("given up"), "{said}");
        }
        scene.counted_at(SystemTime::now() - DAY);
        let said = scene.is_refused(0, "day 30");
        assert_eq!(said.matches(" is given up").count(), 2, "{said}");
    }
}

/// What comes of an answer at that time.
fn answer_at(world: &World, answer: &str, Date(_, seconds): Date) -> i32 {
    let mut application = Command::new(built("pam-application"));
    application
        .env("LD_PRELOAD", built("examples/libbroken_clock.so"))
        .env("CLOCK_SAYS", seconds.to_string());
    let outcome = race_in(&mut application, &[world.attempt(&[answer.into()])]).pop().unwrap();
    outcome.expect("the application lives on").codes[0]
}

#[test]
fn a_code_works_once_whatever_the_clock_says_and_nobody_waits_until_then() {
    let Some(world) = World::new("") else { return };
    world.configure(&CHEAP.replace("free = 1000000", "free = 1\nfirst_delay = 60"));
    let (old, sheet) = (world.generate(), world.generate());
    let dates = [IN_1970, IN_2106];
    for (code, date) in sheet.codes.iter().zip(dates) {
        // It fails just now, by the clock of the file system.
        assert_eq!(world.try_answer(&old.codes[0]), pam::AUTH_ERR);
        assert_eq!(world.try_answer(code), pam::AUTH_ERR, "it has to wait");
        assert_eq!(answer_at(&world, code, date), pam::SUCCESS, "{date:?}: {:?}", world.last_line());
        for again in dates {
            assert_eq!(answer_at(&world, code, again), pam::AUTH_ERR, "{date:?}, {again:?}");
        }
    }
    let spent = world.status()["codes"].clone();
    for (code, date) in spent.as_array().unwrap().iter().zip(dates) {
        assert_eq!(code["time"], date.0);
    }
}
