//! With a clock at 1970 or 2106 no code works twice, and nobody waits until then. A use or a refused notice of such a time is neither
//! held back until then nor lost.

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

    /// Delivers, and counts how many notices are refused.
    fn refused(&self) -> usize {
        let output = self.world.admin(&["notify"]);
        let count = text(&output.stderr).matches(" is refused and stays due").count();
        assert_eq!(output.status.code(), Some(if count == 0 { 0 } else { 3 }), "{output:?}");
        count
    }

    /// As if old notices had been tried last then.
    fn tried_at(&self, time: SystemTime) {
        set_time(&self.world.path("run/notify/daily"), time);
    }
}

fn set_time(letter: &PathBuf, time: SystemTime) {
    File::open(letter).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_notice_with_a_wrong_date_is_tried_once_a_day_until_it_is_delivered() {
    for date in [IN_1970, IN_2106] {
        let Some(scene) = Scene::new() else { return };
        scene.date(date);
        assert_eq!(scene.refused(), 2, "at first");
        for _ in 0..3 {
            assert_eq!(scene.refused(), 0, "no day has passed");
        }
        // Whatever the clock says: a day later, and where it stood elsewhere meanwhile.
        for time in [SystemTime::now() - DAY, IN_1970.time(), IN_2106.time()] {
            scene.tried_at(time);
            assert_eq!((scene.refused(), scene.refused()), (2, 0), "{date:?}, {time:?}");
        }
        // Addresses that are set again are tried at once.
        assert!(scene.world.admin(&["email", &me(), &me()]).status.success());
        assert!(scene.refused() >= 2);
        assert_eq!(scene.refused(), 0);
        scene.postbox.before("");
        scene.tried_at(SystemTime::now() - DAY);
        scene.world.deliver();
        assert!(scene.world.status()["due"] == 0 && scene.letters().is_empty(), "{date:?}");
    }
}

#[test]
fn each_delivery_retries_a_notice_that_was_refused_on_its_first_day() {
    let Some(scene) = Scene::new() else { return };
    for _ in 0..3 {
        assert_eq!(scene.refused(), 2);
    }
    scene.postbox.before("");
    scene.world.deliver();
    scene.postbox.expect(2);
    assert_eq!(scene.world.other_files(), [] as [&str; 0]);
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
