//! Every program that works with sets is killed at one of its system calls, before or after it: no code works twice, all other codes
//! go on working, no set is lost, each use is told, and the next run cleans up.
//!
//! The short form kills after each call that changes something others see; the long form kills at every call.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use backupcodes_tests::machine::{append, run};
use backupcodes_tests::postbox::Postbox;
use backupcodes_tests::traced::{Stop, Victim, killed_at, report};
use backupcodes_tests::{Attempt, Sheet, World, built, me, pam, sandbox_of_root, text};
use serde_json::{Value, json};

/// At which stops something is killed.
type Counts = fn(&Stop) -> bool;

/// A store with a set, of whose codes the first one is used and not told yet.
struct Scene {
    world: World,
    postbox: Postbox,
    sheet: Sheet,
    /// The store as it is before each blow.
    kept: PathBuf,
}

impl Scene {
    fn new() -> Option<Self> {
        let scene = Self::with_addresses(&[])?;
        scene.world.deliver();
        scene.use_first_code();
        scene.world.notify(&scene.postbox.settings());
        Some(scene)
    }

    /// The notices of the set are due, and no code is used.
    fn with_addresses(addresses: &[&str]) -> Option<Self> {
        let world = World::new("")?;
        let postbox = Postbox::of(&world);
        let mut arguments = vec!["generate", "--yes", "--format", "json"];
        arguments.extend(addresses.iter().flat_map(|address| ["--email", address]));
        let me = me();
        arguments.push(&me);
        let sheet = backupcodes_tests::sheet(world.admin(&arguments));
        Some(Self { kept: world.path("kept"), world, postbox, sheet })
    }

    /// And each blow meets the store as it is then.
    fn use_first_code(&self) {
        assert_eq!(self.world.try_answer(&self.sheet.codes[0]), pam::SUCCESS);
        self.keep();
    }

    /// Each blow meets the store as it is now.
    fn keep(&self) {
        copy(&self.world.store(), &self.kept);
    }

    /// Kills `backupcodes-admin` with these arguments at every stop that counts, and looks each time what has become of all.
    /// Where nothing is left to kill, it has ended with this status.
    fn sweep(&self, arguments: &[&str], counts: Counts, status: i32, look: impl Fn(&Output)) -> Vec<Stop> {
        let mut killed = Vec::new();
        loop {
            copy(&self.kept, &self.world.store());
            remove(&self.world.path("run"));
            self.postbox.empty();
            let mut command = self.world.admin_command();
            let (stop, output) = killed_at(command.args(arguments), "", Victim::Itself, counts, killed.len());
            self.world.wait_until_idle();
            let Some(stop) = stop else {
                assert_eq!(output.status.code(), Some(status), "{output:?}");
                return killed;
            };
            look(&output);
            killed.push(stop);
        }
    }

    /// What is known of the set that is there now, which must be whole. `None`: there is none.
    fn status(&self) -> Option<Value> {
        let output = self.world.admin(&["status", "--format", "json", &me()]);
        if output.status.code() == Some(1) && output.stdout == b"[]\n" {
            return None;
        }
        Some(backupcodes_tests::status(&output))
    }

    /// The set is the old one: its first code stays spent, all others are as they were, and the next one gets in.
    fn assert_old_set_works(&self) {
        let status = self.world.status();
        assert_eq!(status["set"], self.sheet.set);
        assert_codes(&status, |place| place == 0);
        assert_eq!(hashes(&self.world.store()), hashes(&self.kept));
        assert_eq!(self.world.try_answer(&self.sheet.codes[0]), pam::AUTH_ERR, "it is spent");
        assert_eq!(self.world.try_answer(&self.sheet.codes[1]), pam::SUCCESS, "{:?}", self.world.last_line());
        assert_codes(&self.world.status(), |place| place < 2);
        assert_eq!(hashes(&self.world.store()), hashes(&self.kept)[1..]);
    }

    fn assert_old_set_is_dead(&self) {
        for code in &self.sheet.codes[..2] {
            assert_eq!(self.world.try_answer(code), pam::AUTH_ERR);
        }
    }

    /// Who has no set, but a new one of which nobody has seen the codes, is locked out.
    fn assert_new_set_is_shown_and_works(&self, status: &Value, output: &Output) {
        // The list may not have come to its end, but the sheet has.
        let list = text(&output.stdout);
        let mut sheets =
            serde_json::Deserializer::from_str(list.trim_start_matches('[')).into_iter::<Sheet>();
        let sheet = sheets.next().and_then(Result::ok).expect("a sheet that was shown before it was good");
        assert_eq!(status["set"], sheet.set);
        assert_codes(status, |_| false);
        assert_eq!(self.world.try_answer(&sheet.codes[0]), pam::SUCCESS);
        assert_codes(&self.world.status(), |place| place == 0);
    }

    /// One more run of the same command leaves nothing behind, and then all that had to be told is: beginnings of subjects, and
    /// for each a recipient.
    fn assert_next_run_ends_well(&self, arguments: &[&str], status: &[i32], told: &[Told]) {
        let old = SystemTime::now() - Duration::from_secs(3601);
        for name in self.leftovers() {
            // Until then somebody may be writing it.
            File::open(&name).unwrap().set_modified(old).unwrap();
        }
        let output = self.world.admin(arguments);
        assert!(status.contains(&output.status.code().unwrap()), "{output:?}");
        assert!(self.leftovers().is_empty(), "{:?}", self.leftovers());
        self.world.deliver();
        let handed = self.postbox.handed();
        let handed: Vec<_> = handed.iter().map(|one| (one.subject(), &one.arguments[1])).collect();
        for Told { subject, to } in told {
            let is_it = |(told, recipient): &(String, &String)| told.starts_with(subject) && *recipient == to;
            assert!(handed.iter().any(is_it), "not told to {to}: {subject}; {handed:#?}");
        }
        assert!(self.world.other_files().is_empty(), "{:?}", self.world.other_files());
    }

    /// Files that are no sets and no queued notices.
    fn leftovers(&self) -> Vec<PathBuf> {
        let folders = [self.world.store(), self.world.store().join("outbox")];
        let files = folders.into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        let files = files.map(|file| file.unwrap().path());
        files.filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with('.')).collect()
    }
}

/// What somebody was told: how the subject begins, and the address.
#[derive(Clone)]
struct Told {
    subject: String,
    to: String,
}

/// All of these subjects, to each of these addresses.
fn told(subjects: &[String], addresses: &[&str]) -> Vec<Told> {
    let to_all = |subject: &String| {
        let subject = subject.clone();
        addresses.iter().map(move |&to| Told { subject: subject.clone(), to: to.into() })
    };
    subjects.iter().flat_map(to_all).collect()
}

/// Each code is there, and is spent or not; none is damaged.
fn assert_codes(status: &Value, is_spent: impl Fn(usize) -> bool) {
    let codes = status["codes"].as_array().unwrap();
    let found: Vec<_> = codes.iter().map(|code| (&code["number"], &code["state"])).collect();
    let expected: Vec<_> = (0..codes.len())
        .map(|place| (json!(place + 1), json!(if is_spent(place) { "spent" } else { "unspent" })))
        .collect();
    assert!(found.iter().copied().eq(expected.iter().map(|(place, state)| (place, state))), "{status:#}");
    let left = (0..codes.len()).filter(|&place| !is_spent(place)).count();
    assert_eq!((&status["total"], &status["left"]), (&json!(codes.len()), &json!(left)), "{status:#}");
}

/// What stands in the file of the set for each code that is not spent: as long as that stays, the code works.
fn hashes(store: &Path) -> Vec<String> {
    let file = fs::read_to_string(store.join(format!("{}.toml", me()))).unwrap();
    file.split('"').filter(|entry| entry.starts_with('$')).map(Into::into).collect()
}

fn copy(from: &Path, to: &Path) {
    remove(to);
    run(Command::new("cp").arg("-a").args([from, to]), "");
}

fn remove(folder: &Path) {
    while let Err(error) = fs::remove_dir_all(folder) {
        match error.kind() {
            ErrorKind::NotFound => break,
            // A delivery that is about to become one is not waited for.
            ErrorKind::DirectoryNotEmpty => {}
            _ => panic!("{}: {error}", folder.display()),
        }
    }
}

fn use_of_code(number: usize) -> String {
    format!("Backup code {number} of {} was used", me())
}

/// As su is, where the tests run as root: its caller is an ordinary user.
fn application(setuid: Option<&Path>) -> Command {
    let Some(application) = setuid else { return Command::new(built("pam-application")) };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534"]).arg(application);
    command
}

/// Kills an attempt with the next code of a set at each stop, after which one of the last codes gets in: so all get their turn
/// but the one in the middle.
fn sweep_attempts(counts: Counts) {
    let Some(world) = World::new("") else { return };
    let postbox = Postbox::of(&world);
    let setuid = world.setuid_application();
    let (mut killed, mut spent) = (Vec::new(), 0);
    let mut is_over = false;
    while !is_over {
        let arguments = ["generate", "--yes", "--count", "31", "--format", "json", &me()];
        let codes = backupcodes_tests::sheet(world.admin(&arguments)).codes;
        let mut uses = Vec::new();
        for place in 0..15 {
            let (code, other) = (&codes[place], 30 - place);
            let before = hashes(&world.store());
            remove(&world.path("run"));
            let attempt = serde_json::to_string(&[world.attempt(&[code.into()])]).unwrap();
            let (stop, output) = killed_at(
                &mut application(setuid.as_deref()),
                &attempt,
                Victim::ItsChild,
                counts,
                killed.len(),
            );
            let Some(stop) = stop else {
                is_over = true;
                break;
            };
            let status = world.status();
            let is_spent = status["codes"][place]["state"] == "spent";
            assert!(is_spent || text(&output.stdout) == "[null]", "accepted, and not spent: {output:?}");
            spent += usize::from(is_spent);
            assert_codes(&status, |at| uses.contains(&at) || at == place && is_spent);
            assert_eq!(hashes(&world.store()), before[usize::from(is_spent)..]);
            let at = killed.len();
            let again = world.try_answer(code);
            assert_eq!(again, if is_spent { pam::AUTH_ERR } else { pam::SUCCESS }, "stop {at}");
            assert_eq!(world.try_answer(code), pam::AUTH_ERR, "a second time, stop {at}");
            assert_eq!(world.try_answer(&codes[other]), pam::SUCCESS, "stop {at}: {:?}", world.last_line());
            uses.extend([place, other]);
            assert_codes(&world.status(), |at| uses.contains(&at));
            let counters = world.path("run/throttle").join(me());
            assert_eq!(fs::read_dir(counters).unwrap().count(), 0, "failures that are still counted");
            killed.push(stop);
        }
        world.deliver();
        let subjects = postbox.subjects();
        for number in uses.into_iter().map(|place| place + 1) {
            let told = subjects.iter().any(|told| told.starts_with(&use_of_code(number)));
            assert!(told, "not told: code {number}; {subjects:#?}");
        }
        postbox.empty();
    }
    let mut calls =
        vec![libc::SYS_mkdirat, libc::SYS_fchmod, libc::SYS_openat, libc::SYS_pwrite64, libc::SYS_fdatasync];
    calls.extend(setuid.map(|_| libc::SYS_setresuid));
    report("an attempt", &killed, &calls);
    assert!(spent > 3 && spent < killed.len(), "{spent} of {} spent", killed.len());
}

/// Calls of whatever makes a new file.
const REPLACES: [libc::c_long; 5] =
    [libc::SYS_openat, libc::SYS_fchmod, libc::SYS_write, libc::SYS_fsync, libc::SYS_renameat];

fn sweep_replacing(counts: Counts) {
    let Some(scene) = Scene::new() else { return };
    let generate = ["generate", "--yes", "--format", "json", &me()];
    let killed = scene.sweep(&generate, counts, 0, |output| {
        let status = scene.world.status();
        if status["set"] == scene.sheet.set {
            scene.assert_old_set_works();
        } else {
            scene.assert_new_set_is_shown_and_works(&status, output);
            scene.assert_old_set_is_dead();
        }
        let replaced = format!("Backup codes of {} on ", me());
        scene.assert_next_run_ends_well(&generate, &[0], &told(&[use_of_code(1), replaced], &[&me()]));
    });
    report("generate", &killed, &REPLACES);
}

fn sweep_first_generate(counts: Counts) {
    let Some(scene) = Scene::new() else { return };
    fs::remove_dir_all(scene.world.store()).unwrap();
    fs::create_dir(scene.world.store()).unwrap();
    backupcodes_tests::set_mode(&scene.world.store(), 0o700);
    scene.keep();
    let generate = ["generate", "--yes", "--format", "json", &me()];
    let killed = scene.sweep(&generate, counts, 0, |output| {
        if let Some(status) = scene.status() {
            scene.assert_new_set_is_shown_and_works(&status, output);
        }
        let new = format!("New backup codes for {}", me());
        scene.assert_next_run_ends_well(&generate, &[0], &told(&[new], &[&me()]));
    });
    let mut calls = REPLACES.to_vec();
    calls.push(libc::SYS_mkdirat);
    report("a first generate", &killed, &calls);
}

fn sweep_revoke(counts: Counts) {
    let Some(scene) = Scene::new() else { return };
    let killed = scene.sweep(&["revoke", &me()], counts, 0, |_| {
        match scene.status() {
            Some(_) => scene.assert_old_set_works(),
            None => scene.assert_old_set_is_dead(),
        }
        let revoked = format!("Backup codes of {} on ", me());
        let told = told(&[use_of_code(1), revoked], &[&me()]);
        scene.assert_next_run_ends_well(&["revoke", &me()], &[0, 1], &told);
    });
    report("revoke", &killed, &[&REPLACES[..], &[libc::SYS_unlinkat]].concat());
}

const ONE: &str = "one@example.org";
const TWO: &str = "two@example.org";

fn readdressed() -> String {
    format!("Notices about backup codes of {} on ", me())
}

fn sweep_email(counts: Counts) {
    let Some(scene) = Scene::new() else { return };
    let email = ["email", &me(), ONE, TWO];
    let killed = scene.sweep(&email, counts, 0, |_| {
        let addresses = &scene.world.status()["email"];
        assert!(addresses == &json!([]) || addresses == &json!([ONE, TWO]), "{addresses}");
        scene.assert_old_set_works();
        let told = [told(&[use_of_code(1), readdressed()], &[&me()]), told(&[readdressed()], &[ONE, TWO])];
        scene.assert_next_run_ends_well(&email, &[0], &told.concat());
    });
    report("email", &killed, &REPLACES);
}

/// At each moment its codes work under one of both names at most, and the same command goes on.
fn sweep_rename(counts: Counts) {
    const OTHER: &str = "another-name-of-root";
    if sandbox_of_root().is_none() {
        return;
    }
    let Some(scene) = Scene::new() else { return };
    if !fs::read_to_string("/etc/passwd").unwrap().contains(OTHER) {
        append("/etc/passwd", &format!("{OTHER}:x:0:0::/root:/bin/sh\n"));
    }
    let me = me();
    let rename = ["rename", &me, OTHER];
    let answer = |user: &str, place: usize| {
        let attempt = scene.world.attempt(&[(&scene.sheet.codes[place]).into()]);
        Attempt { user: user.into(), ..attempt }.run().codes[0]
    };
    let killed = scene.sweep(&rename, counts, 0, |_| {
        let before: Vec<_> =
            [&me, OTHER].into_iter().filter(|user| answer(user, 1) == pam::SUCCESS).collect();
        assert!(before.len() < 2, "one code works under both names");
        let again = scene.world.admin(&rename);
        assert_eq!(answer(OTHER, 2), pam::SUCCESS, "{again:?}");
        assert_ne!(answer(&me, 3), pam::SUCCESS);
        let second = if before.is_empty() { pam::SUCCESS } else { pam::AUTH_ERR };
        assert_eq!(answer(OTHER, 1), second, "{before:?}");
        let left = scene.world.other_files().into_iter().filter(|name| name.starts_with('.'));
        assert_eq!(left.collect::<Vec<_>>(), [""; 0]);
    });
    report("rename", &killed, &[libc::SYS_openat, libc::SYS_write, libc::SYS_fsync, libc::SYS_renameat]);
}

/// What a delivery does, whatever becomes of what it delivers.
const DELIVERS: [libc::c_long; 4] = [libc::SYS_mkdirat, libc::SYS_openat, libc::SYS_flock, libc::SYS_clone];

fn sweep_notify(counts: Counts) {
    let Some(scene) = Scene::new() else { return };
    assert!(scene.world.admin(&["email", &me(), ONE, TWO]).status.success());
    scene.keep();
    let killed = scene.sweep(&["notify"], counts, 0, |_| {
        scene.assert_old_set_works();
        let all = [use_of_code(1), use_of_code(2), readdressed()];
        let told = [told(&all, &[ONE, TWO]), told(&[use_of_code(1), readdressed()], &[&me()])];
        scene.assert_next_run_ends_well(&["notify"], &[0], &told.concat());
        assert_eq!(scene.world.status()["due"], 0);
    });
    let marks = [libc::SYS_pwrite64, libc::SYS_fdatasync, libc::SYS_unlinkat];
    report("a delivery", &killed, &[&DELIVERS[..], &marks].concat());
}

/// One address cannot be reached now, and the other one never; queued notices and a use are due to both.
fn sweep_refusals(counts: Counts) {
    const REFUSES: &str = "case $3 in one@*) exit 75 ;; *) exit 67 ;; esac";
    let Some(scene) = Scene::with_addresses(&[ONE, TWO]) else { return };
    scene.use_first_code();
    scene.postbox.before(REFUSES);
    let killed = scene.sweep(&["notify"], counts, 3, |_| {
        scene.assert_old_set_works();
        let before = scene.world.admin(&["notify"]);
        assert_eq!(before.status.code(), Some(3), "{before:?}");
        let status = scene.world.status();
        assert!(scene.postbox.subjects().is_empty(), "nobody takes any");
        assert_eq!(status["refused"]["address"], TWO, "{status:#}");
        assert!(status["due"].as_u64() >= Some(3), "those to the other one: {status:#}");
        assert_mailed(&status, &[json!(false), json!(false)]);
        scene.postbox.before("");
        let all = [use_of_code(1), use_of_code(2), format!("New backup codes for {}", me())];
        scene.assert_next_run_ends_well(&["notify"], &[0], &told(&all, &[ONE, TWO]));
        assert_eq!(scene.world.status()["due"], 0);
        scene.postbox.before(REFUSES);
    });
    let refuses = [libc::SYS_renameat, libc::SYS_utimensat, libc::SYS_fsync, libc::SYS_fchmod];
    report("a delivery that is refused", &killed, &[&DELIVERS[..], &refuses].concat());
}

/// What `status` says of the first codes: whether a notice of each use is out.
fn assert_mailed(status: &Value, mailed: &[Value]) {
    let codes = status["codes"].as_array().unwrap();
    assert!(codes.iter().zip(mailed).all(|(code, mailed)| code["mailed"] == *mailed), "{status:#}");
}

#[test]
fn a_delivery_with_nothing_due_removes_what_crashes_left_but_not_what_somebody_may_be_writing() {
    let Some(scene) = Scene::new() else { return };
    scene.world.deliver();
    let [old, new] = [(".old@0000000001-00", 3700), (".new@0000000001-00", 3500)].map(|(name, age)| {
        let path = scene.world.store().join("outbox").join(name);
        File::create(&path).unwrap().set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        path
    });
    scene.world.deliver();
    assert!(!old.exists() && new.exists());
}

macro_rules! short_and_long {
    ($sweep:ident, $short:ident, $long:ident) => {
        #[test]
        fn $short() {
            $sweep(Stop::changes);
        }

        #[test]
        #[ignore = "over a minute: tests/long kills"]
        fn $long() {
            $sweep(Stop::does_something);
        }
    };
}

short_and_long!(
    sweep_attempts,
    an_attempt_that_is_killed_where_something_changes,
    an_attempt_that_is_killed_at_any_call
);
short_and_long!(
    sweep_replacing,
    a_generate_that_is_killed_where_something_changes,
    a_generate_that_is_killed_at_any_call
);
short_and_long!(
    sweep_first_generate,
    a_first_generate_that_is_killed_where_something_changes,
    a_first_generate_that_is_killed_at_any_call
);
short_and_long!(
    sweep_revoke,
    a_revoke_that_is_killed_where_something_changes,
    a_revoke_that_is_killed_at_any_call
);
short_and_long!(
    sweep_email,
    an_email_that_is_killed_where_something_changes,
    an_email_that_is_killed_at_any_call
);
short_and_long!(
    sweep_rename,
    a_rename_that_is_killed_where_something_changes,
    a_rename_that_is_killed_at_any_call
);
short_and_long!(
    sweep_notify,
    a_delivery_that_is_killed_where_something_changes,
    a_delivery_that_is_killed_at_any_call
);
short_and_long!(
    sweep_refusals,
    a_delivery_to_addresses_that_refuse_that_is_killed_where_something_changes,
    a_delivery_to_addresses_that_refuse_that_is_killed_at_any_call
);
