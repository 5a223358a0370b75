//! What a delivery makes of sendmail's exit status, output and time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use backupcodes_tests::level::ERROR;
use backupcodes_tests::patience::wait_until;
use backupcodes_tests::postbox::{Handed, Postbox};
use backupcodes_tests::{Line, Sheet, World, caught, me, pam, sandbox, set_mode, sheet, text};
use serde_json::{Value, json};

/// How long sendmail may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a busy machine may take beside.
const SLACK: Duration = Duration::from_secs(15);

/// A set whose notices go to two addresses of this scene alone, `one@…` and `two@…`, and have gone out so far.
struct Scene {
    world: World,
    postbox: Postbox,
    sheet: Sheet,
}

impl Scene {
    fn new() -> Option<Self> {
        let world = World::new("")?;
        let postbox = Postbox::of(&world);
        let sheet = generate(&world);
        let scene = Self { world, postbox, sheet };
        scene.delivers(2);
        Some(scene)
    }

    /// The notices of a use are due, which its mark holds, and those of a new set, which are letters: two of each.
    fn with_four_due() -> Option<Self> {
        let mut scene = Self::new()?;
        scene.sheet = generate(&scene.world);
        scene.use_code(0);
        Some(scene)
    }

    fn address(&self, name: &str) -> String {
        address(&self.world, name)
    }

    fn use_code(&self, at: usize) {
        assert_eq!(self.world.try_answer(&self.sheet.codes[at]), pam::SUCCESS);
    }

    fn notify(&self) -> Output {
        self.world.admin(&["notify"])
    }

    /// A delivery that cannot deliver all: what it says.
    fn fails(&self) -> String {
        let output = self.notify();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        text(&output.stderr)
    }

    /// A delivery that delivers so many, which are all that is due: the recipients, sorted.
    fn delivers(&self, count: usize) -> Vec<String> {
        let output = self.notify();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert_eq!(self.due(), 0);
        let told = self.told();
        assert_eq!(told.len(), count, "{told:?}");
        told
    }

    /// The recipients of all that sendmail took since this was asked last, without what is the scene's.
    fn told(&self) -> Vec<String> {
        let handed = self.postbox.handed();
        self.postbox.empty();
        let name = |to: &String| to.split('@').next().unwrap().to_owned();
        let mut told: Vec<_> = handed.iter().map(|handed| name(&handed.arguments[1])).collect();
        told.sort_unstable();
        told
    }

    fn due(&self) -> u64 {
        self.world.status()["due"].as_u64().unwrap()
    }

    /// The word of each mark in the set.
    fn marks(&self) -> Vec<String> {
        let file = fs::read_to_string(self.world.file()).unwrap();
        let marks = file.split("mail=").skip(1);
        marks.map(|mark| mark.split(' ').next().unwrap().to_owned()).collect()
    }

    /// The letters that wait, which are named after their user and their time.
    fn letters(&self) -> usize {
        self.world.other_files().iter().filter(|name| !name.ends_with("@refused")).count()
    }

    fn status_text(&self) -> String {
        text(&self.world.admin(&["status", &me()]).stdout)
    }

    /// The lines of the log that tell of notices for this address.
    fn log_of(&self, name: &str) -> Vec<Line> {
        let address = self.address(name);
        caught(&sandbox().unwrap()).into_iter().filter(|line| line.text.contains(&address)).collect()
    }

    /// The last of them says that and why.
    fn assert_logged(&self, name: &str, parts: &[&str]) {
        let line = self.log_of(name).pop().expect("a line in the log");
        assert_eq!(line.level, ERROR, "{line:?}");
        for part in parts {
            assert!(line.text.contains(part), "{part}: {line:?}");
        }
    }
}

fn address(world: &World, name: &str) -> String {
    format!("{name}@{}.example", world.service)
}

fn generate(world: &World) -> Sheet {
    let [one, two] = ["one", "two"].map(|name| address(world, name));
    let options = ["--yes", "--format", "json", "--email", &one, "--email", &two, &me()];
    sheet(world.admin(&[&["generate"], &options[..]].concat()))
}

/// All four stay due, for this reason, and nothing else happened.
fn assert_stays_due(scene: &Scene, reason: &str) {
    let said = scene.fails();
    assert!(said.contains("4 notices were not delivered"), "{reason}: {said}");
    assert_eq!(said.matches(reason).count(), 4, "{reason}: {said}");
    assert_eq!((scene.told(), scene.marks(), scene.letters()), (vec![], vec!["due".into()], 2), "{reason}");
    let status = scene.world.status();
    assert_eq!((&status["due"], &status["refused"]), (&json!(3), &Value::Null), "two letters and a use");
    assert_eq!(status["codes"][0]["mailed"], json!(false));
    let shown = scene.status_text();
    assert!(shown.contains("NOTICES DUE: 3;") && shown.contains(", notice due\n"), "{shown}");
    for name in ["one", "two"] {
        scene.assert_logged(name, &[&format!("the codes of {} for", me()), "stays due", reason]);
    }
}

/// All four go out once sendmail takes them.
fn assert_goes_out(scene: &Scene) {
    assert_eq!(scene.delivers(4), ["one", "one", "two", "two"]);
    assert_eq!((scene.marks(), scene.letters()), (vec!["ok".into()], 0));
    assert!(!scene.status_text().to_lowercase().contains("notice due"), "{}", scene.status_text());
}

#[test]
fn a_notice_that_sendmail_does_not_accept_stays_due_until_it_does() {
    for (does, reason) in [
        (
            "echo 'queue   file:' >&2; echo no space >&2; exit 75",
            "(exit status 75); it said: queue file: no space",
        ),
        ("exit 75", "it said nothing"),
        ("kill -TERM $$", "ended by signal 15; it said nothing"),
        ("echo oops >&2; kill -KILL $$", "ended by signal 9; it said: oops"),
        ("ulimit -c 0; kill -SEGV $$", "ended by signal 11"),
    ] {
        let Some(scene) = Scene::with_four_due() else { return };
        scene.postbox.before(does);
        assert_stays_due(&scene, reason);
        assert_stays_due(&scene, reason);
        scene.postbox.before("");
        assert_goes_out(&scene);
    }
}

#[test]
fn a_sendmail_that_cannot_run_leaves_all_notices_due() {
    type Spoil = fn(&Path);
    let spoils: [(Spoil, &str); 5] = [
        (|program| fs::remove_file(program).unwrap(), "No such file or directory"),
        (|program| set_mode(program, 0o644), "Permission denied"),
        (|program| write(program, "no program\n"), "Exec format error"),
        (|program| write(program, "#!/nonexistent/interpreter\n"), "No such file or directory"),
        (
            |program| {
                fs::remove_file(program).unwrap();
                fs::create_dir(program).unwrap();
            },
            "Is a directory",
        ),
    ];
    for (spoil, reason) in spoils {
        let Some(scene) = Scene::with_four_due() else { return };
        let program = scene.postbox.sendmail();
        spoil(&program);
        assert_stays_due(&scene, reason);
        scene.assert_logged(
            "one",
            &[program.to_str().unwrap(), "cannot be run", "[notify] in backupcodes.conf"],
        );
        if program.is_dir() {
            fs::remove_dir(program).unwrap();
        }
        scene.postbox.before("");
        assert_goes_out(&scene);
    }
}

fn write(program: &Path, text: &str) {
    fs::write(program, text).unwrap();
}

#[test]
fn a_notice_that_sendmail_refuses_stays_due_and_is_reported_to_root() {
    for (status, said) in
        [(1, "bad\taddress\\n  syntax"), (64, ""), (67, "no such user"), (70, "not here"), (255, "x")]
    {
        let Some(scene) = Scene::with_four_due() else { return };
        scene.postbox.before(&format!("printf '{said}' >&2; exit {status}"));
        let heard = match said {
            "" => "it said nothing".into(),
            said => format!("it said: {}", said.replace("\\n ", "").replace('\t', " ")),
        };
        let reason = format!("exit status {status} of sendmail; {heard}");
        let complaint = scene.fails();
        assert_eq!(complaint.matches(&reason).count(), 4, "{reason}: {complaint}");
        assert_eq!((scene.told(), scene.marks(), scene.letters()), (vec![], vec!["due".into()], 2));
        for name in ["one", "two"] {
            scene.assert_logged(name, &["is refused and stays due", "backupcodes-admin email", &reason]);
        }
        let refused = scene.world.status();
        let two = scene.address("two");
        assert_eq!((&refused["due"], &refused["codes"][0]["mailed"]), (&json!(3), &json!(false)));
        let Value::Object(mut refusal) = refused["refused"].clone() else { panic!("{refused}") };
        assert!(refusal.remove("time").unwrap().as_str().unwrap().starts_with("20"));
        assert_eq!(Value::Object(refusal), json!({"address": two, "said": reason}), "the last one");
        let shown = scene.status_text();
        assert!(
            shown.contains(&format!(" for {two}: {reason}\n")) && shown.contains(", notice due\n"),
            "{shown}"
        );
        // The next delivery tries all of it, and clears the address.
        scene.postbox.before("");
        assert_eq!(scene.delivers(4), ["one", "one", "two", "two"]);
        assert_eq!(
            (scene.marks(), scene.world.status()["refused"].clone()),
            (vec!["ok".into()], Value::Null)
        );
    }
}

#[test]
fn an_address_that_was_refused_is_told_all_once_it_is_set_again() {
    let Some(scene) = Scene::with_four_due() else { return };
    scene.postbox.before("exit 67");
    scene.fails();
    scene.postbox.before("");
    let three = scene.address("three");
    assert!(scene.world.admin(&["email", &me(), &three]).status.success());
    assert_eq!(scene.world.status()["refused"], Value::Null);
    // What waited for the last one that was refused goes to the new one, which is told of the use and the addresses as well.
    // The other one takes by now what waited for it.
    assert_eq!(scene.delivers(7), ["one", "one", "one", "three", "three", "three", "two"]);
    assert_eq!(scene.letters(), 0);
}

/// As a spam filter that takes all notices but one.
#[test]
fn a_refused_notice_of_a_use_reaches_the_new_address_although_others_were_taken_by_the_old_one() {
    let Some(world) = World::new("") else { return };
    let postbox = Postbox::of(&world);
    let [old, new] = ["old", "new"].map(|name| address(&world, name));
    let generate = || sheet(world.admin(&["generate", "--yes", "--format", "json", "--email", &old, &me()]));
    let sheet = generate();
    world.deliver();
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    postbox.before(
        "cat >message; grep -q '^Subject: Backup code 1' message && case $3 in old@*) exit 67 ;; esac; exec <message",
    );
    assert_eq!(world.admin(&["notify"]).status.code(), Some(3));
    // The notice waits in the outbox from here on, and the address takes that of the new set.
    generate();
    assert_eq!(world.admin(&["notify"]).status.code(), Some(3));
    assert!(world.status()["refused"].is_object(), "{:#}", world.status());
    assert!(world.admin(&["email", &me(), &new]).status.success());
    world.admin(&["notify"]);
    let told = |message: &Handed| {
        message.subject().starts_with("Backup code 1 of ") && message.arguments.last() == Some(&new)
    };
    assert!(postbox.handed().iter().any(told), "{:#?}", postbox.subjects());
    assert_eq!((world.status()["due"].as_u64(), &world.status()["refused"]), (Some(0), &Value::Null));
}

#[test]
fn a_notice_that_only_an_earlier_address_refuses_reaches_the_new_one() {
    let Some(world) = World::new("") else { return };
    let postbox = Postbox::of(&world);
    let [first, second, new] = ["first", "second", "new"].map(|name| address(&world, name));
    let generate = ["generate", "--format", "json", "--email", &first, "--email", &second, &me()];
    let sheet = sheet(world.admin(&generate));
    world.deliver();
    postbox.before(
        "cat >message; case $3 in first@*) bad=2 ;; second@*) bad=1 ;; *) bad=0 ;; esac\n\
         ! grep -q \"^Subject: Backup code $bad \" message || exit 67; exec <message",
    );
    // Each address refuses another notice, and `status` shows the last refusal alone.
    for code in &sheet.codes[..2] {
        assert_eq!(world.try_answer(code), pam::SUCCESS);
        assert_eq!(world.admin(&["notify"]).status.code(), Some(3));
    }
    assert_eq!(world.status()["refused"]["address"], first.as_str());
    assert!(world.admin(&["email", &me(), &new]).status.success());
    world.admin(&["notify"]);
    for code in ["Backup code 1 of ", "Backup code 2 of "] {
        let told =
            |message: &Handed| message.subject().starts_with(code) && message.arguments.last() == Some(&new);
        assert!(postbox.handed().iter().any(told), "{code}: {:#?}", postbox.subjects());
    }
}

#[test]
fn of_two_recipients_each_is_told_once_when_sendmail_takes_it() {
    let Some(scene) = Scene::with_four_due() else { return };
    scene.postbox.before("case $3 in one@*) exit 75 ;; esac");
    scene.fails();
    assert_eq!(scene.told(), ["two", "two"]);
    // The use is told, but to one of them: that is a letter now.
    assert_eq!((scene.marks(), scene.letters(), scene.due()), (vec!["ok".into()], 2, 2));
    scene.fails();
    assert_eq!((scene.told(), scene.due()), (vec![], 2));
    scene.postbox.before("");
    assert_eq!(scene.delivers(2), ["one", "one"]);

    // Where the one is refused, it is the same.
    scene.use_code(1);
    scene.postbox.before("case $3 in one@*) exit 70 ;; esac");
    scene.fails();
    assert_eq!(scene.told(), ["two"]);
    assert_eq!((scene.marks(), scene.letters()), (vec!["ok".into(), "ok".into()], 1));
    scene.postbox.before("");
    assert_eq!(scene.delivers(1), ["one"]);
}

#[test]
fn a_failure_of_one_notice_delays_no_other() {
    for status in [70, 75] {
        let Some(scene) = Scene::with_four_due() else { return };
        // Files that cannot be read, in front of the others and behind them.
        for name in ["0@0000000001-0000", "zz@0000000001-0000"] {
            fs::write(scene.world.store().join("outbox").join(name), "no letter").unwrap();
        }
        for name in ["0.toml", "zz.toml"] {
            fs::write(scene.world.store().join(name), "no set").unwrap();
            set_mode(&scene.world.store().join(name), 0o600);
        }
        scene.postbox.before(&format!("case $3 in one@*) exit {status} ;; esac"));
        let said = scene.fails();
        assert_eq!(scene.told(), ["two", "two"]);
        assert!(said.contains("6 notices were not delivered or could not be read"), "{said}");
        for part in ["0@0000000001-0000: ", "zz@0000000001-0000: ", "0.toml: not a set", "zz.toml: not a set"]
        {
            assert_eq!(said.matches(part).count(), 1, "{part}: {said}");
        }
    }
}

#[test]
fn a_sendmail_that_hangs_is_ended_after_30_s_with_all_that_came_from_it() {
    let Some(scene) = Scene::with_four_due() else { return };
    // Only one notice hangs: each takes its time.
    scene.postbox.before(
        "case $3 in one@*) ;; *) exit 0 ;; esac
         mkdir hung 2>/dev/null || exit 75
         trap '' TERM HUP INT
         echo 'waiting for godot' >&2
         sleep 1000 & echo $! >hung/child
         bash -c 'set -m; sleep 1000 & echo $! >hung/group; wait' & echo $! >hung/shell
         setsid sleep 1000 & echo $! >hung/session
         setsid sh -c 'sleep 1000 & echo $! >hung/grandchild; wait' & echo $! >hung/session2
         sh -c 'kill -STOP $$' & echo $! >hung/stopped
         echo $$ >hung/self
         wait; sleep 1000",
    );
    let start = Instant::now();
    let said = scene.fails();
    let took = start.elapsed();
    assert!(took >= PATIENCE && took < PATIENCE + SLACK, "{took:?}");
    assert!(said.contains("stays due: sendmail was ended after 30 s; it said: waiting for godot"), "{said}");
    let folder = scene.world.path("postbox/hung");
    let hung: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(hung.len(), 8, "{hung:?}");
    for file in hung {
        let id = fs::read_to_string(&file).unwrap();
        wait_until(&format!("the end of {}", file.display()), || !lives(id.trim()));
    }
    assert_eq!(scene.due(), 2, "the letter that hung, and the use that the same sendmail did not take");
}

/// Whether this process is there, and is not only waited for.
fn lives(id: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

#[test]
fn a_sendmail_that_reads_nothing_and_says_too_much_keeps_nobody_waiting() {
    let Some(scene) = Scene::new() else { return };
    let start = Instant::now();
    for (at, (does, marks)) in [
        // It closes its input; it reads a bit of it; it leaves it alone.
        ("exec <&-; exit 0", "ok"),
        ("head -c 1 >/dev/null; exit 0", "ok"),
        ("exit 0", "ok"),
        ("exec 2>&-; exit 0", "ok"),
        ("head -c 10000000 /dev/zero; exit 0", "ok"),
        ("head -c 10000000 /dev/zero | tr '\\0' x >&2; exit 70", "due"),
    ]
    .into_iter()
    .enumerate()
    {
        scene.use_code(at);
        scene.postbox.before(does);
        let output = scene.notify();
        assert_eq!(output.status.success(), marks == "ok", "{does}");
        assert_eq!(scene.marks()[at], marks, "{does}");
        assert!(output.stdout.is_empty());
    }
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
    // Of 10 MB, 4 KiB.
    let status = scene.world.status();
    let said = status["refused"]["said"].as_str().unwrap();
    let most = "x".repeat(4096);
    assert_eq!(said, format!("exit status 70 of sendmail; it said: {most}"));
    let log = scene.log_of("one");
    let refused = log.iter().find(|line| line.level == ERROR).expect("a line in the log");
    assert!(refused.text.ends_with(&format!("it said: {most}")), "{} bytes", refused.text.len());
}

#[test]
fn background_processes_of_sendmail_continue_and_delay_no_delivery() {
    let Some(scene) = Scene::new() else { return };
    // As exim does, which says 0 before it delivers. It keeps all that it was given open.
    scene.postbox.before("(while [ ! -e go ]; do sleep 0.1; done; echo done >>background) & exit 0");
    scene.use_code(0);
    assert!(scene.notify().status.success());
    assert_eq!(scene.marks(), ["ok"]);
    let file = scene.world.path("postbox/background");
    assert!(!file.exists());
    fs::write(scene.world.path("postbox/go"), "").unwrap();
    // It is neither ended with sendmail, nor by what it was left.
    wait_until("the background", || fs::read_to_string(&file).unwrap_or_default() == "done\ndone\n");
}
