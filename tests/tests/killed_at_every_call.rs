//! Whatever works with sets is killed at one of its system calls, before or behind it: no code works twice, every other one
//! goes on working, no set is lost, each use is told, and the next run cleans up.
//!
//! The short form kills behind each call in which something changes that others see; the long one at every call.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use backupcodes_tests::hosts::run;
use backupcodes_tests::postbox::Postbox;
use backupcodes_tests::traced::{Stop, Victim, killed_at};
use backupcodes_tests::{Sheet, World, built, me, pam, text};

/// A call in which something changes, behind it.
fn changes(stop: &Stop) -> bool {
    const CREATES: u64 = libc::O_CREAT as u64;
    let changes = match stop.call {
        libc::SYS_openat => stop.arguments[2] & CREATES != 0,
        libc::SYS_write
        | libc::SYS_pwrite64
        | libc::SYS_ftruncate
        | libc::SYS_fsync
        | libc::SYS_fdatasync => true,
        libc::SYS_mkdirat
        | libc::SYS_unlinkat
        | libc::SYS_renameat
        | libc::SYS_renameat2
        | libc::SYS_fchmod => true,
        libc::SYS_flock | libc::SYS_setresuid | libc::SYS_rt_sigprocmask | libc::SYS_wait4 => true,
        _ => false,
    };
    changes && !stop.is_entry
}

/// Any call, before and behind it.
fn all(_: &Stop) -> bool {
    true
}

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
        let world = World::new("")?;
        let postbox = Postbox::of(&world, false);
        let sheet = world.generate();
        world.deliver();
        assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
        let scene = Self { kept: world.path("kept"), world, postbox, sheet };
        scene.keep();
        Some(scene)
    }

    /// Each blow meets the store as it is now.
    fn keep(&self) {
        copy(&self.world.store(), &self.kept);
    }

    /// Kills `backupcodes-admin` with these arguments at every stop that counts, and looks each time what has become of all.
    fn sweep(&self, arguments: &[&str], counts: fn(&Stop) -> bool, look: impl Fn(&Output)) {
        let mut stops = 0;
        loop {
            copy(&self.kept, &self.world.store());
            self.postbox.empty();
            let mut command = self.world.admin_command();
            let Some(output) = killed_at(command.args(arguments), "", Victim::Itself, counts, stops) else {
                break;
            };
            self.world.wait_until_idle();
            look(&output);
            stops += 1;
        }
        println!("{arguments:?}: killed at {stops} stops");
        assert!(stops > 10, "{stops} stops");
    }

    /// The set that is there now, which must be whole. `None`: there is none.
    fn set(&self) -> Option<String> {
        let output = self.world.admin(&["status", "--format", "json", &me()]);
        if output.status.code() == Some(1) && output.stdout == b"[]\n" {
            return None;
        }
        assert!(output.status.success(), "{output:?}");
        Some(self.world.status()["set"].as_str().unwrap().into())
    }

    /// The set is the old one: its first code stays spent, and another one gets in.
    fn assert_old_set_works(&self) {
        assert_eq!(self.world.try_answer(&self.sheet.codes[0]), pam::AUTH_ERR, "it is spent");
        assert_eq!(self.world.try_answer(&self.sheet.codes[1]), pam::SUCCESS, "{:?}", self.world.last_line());
    }

    fn assert_old_set_is_dead(&self) {
        for code in &self.sheet.codes[..2] {
            assert_eq!(self.world.try_answer(code), pam::AUTH_ERR);
        }
    }

    /// One more run of the same command leaves nothing behind, and then all that had to be told is.
    fn assert_next_run_ends_well(&self, arguments: &[&str], status: &[i32], told: &[&str]) {
        let old = SystemTime::now() - Duration::from_secs(3601);
        for name in self.leftovers() {
            // Until then somebody may be writing it.
            File::open(&name).unwrap().set_modified(old).unwrap();
        }
        let output = self.world.admin(arguments);
        assert!(status.contains(&output.status.code().unwrap()), "{output:?}");
        assert!(self.leftovers().is_empty(), "{:?}", self.leftovers());
        self.world.deliver();
        let subjects = self.postbox.subjects();
        for subject in told {
            assert!(
                subjects.iter().any(|told| told.starts_with(subject)),
                "not told: {subject}; {subjects:#?}"
            );
        }
        assert!(self.world.other_files().is_empty(), "{:?}", self.world.other_files());
    }

    /// Files that are no sets and no letters.
    fn leftovers(&self) -> Vec<PathBuf> {
        let folders = [self.world.store(), self.world.store().join("outbox")];
        let files = folders.into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        let files = files.map(|file| file.unwrap().path());
        files.filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with('.')).collect()
    }
}

fn copy(from: &PathBuf, to: &PathBuf) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    run(Command::new("cp").arg("-a").args([from, to]), "");
}

fn use_of_code_1() -> String {
    format!("Backup code 1 of {} was used", me())
}

/// Kills an attempt with the next code of a set at each stop. Half of a set goes by this; of the other half every code must work.
fn sweep_attempts(counts: fn(&Stop) -> bool) {
    let Some(world) = World::new("") else { return };
    let (mut stops, mut spent) = (0, 0);
    let mut sheet: Option<Sheet> = None;
    loop {
        let set = sheet.get_or_insert_with(|| {
            let arguments = ["generate", "--yes", "--count", "31", "--format", "json", &me()];
            backupcodes_tests::sheet(world.admin(&arguments))
        });
        let code = set.codes.remove(0);
        let slot = 30 - set.codes.len();
        let attempt = serde_json::to_string(&[world.attempt(&[(&code).into()])]).unwrap();
        let mut host = Command::new(built("pamhost"));
        let killed = killed_at(&mut host, &attempt, Victim::ItsChild, counts, stops);
        if let Some(output) = &killed {
            stops += 1;
            let is_spent = world.status()["codes"][slot]["state"] == "spent";
            assert!(is_spent || text(&output.stdout) == "[null]", "let in, and not spent: {output:?}");
            spent += usize::from(is_spent);
            let again = world.try_answer(&code);
            assert_eq!(again, if is_spent { pam::AUTH_ERR } else { pam::SUCCESS }, "stop {stops}");
            assert_eq!(world.try_answer(&code), pam::AUTH_ERR, "a second time, stop {stops}");
            let due = world.status()["due"].as_u64().unwrap();
            assert!(due > slot as u64, "each use stays due: {due}");
        }
        if killed.is_none() || set.codes.len() == 15 {
            for code in &sheet.take().unwrap().codes {
                assert_eq!(world.try_answer(code), pam::SUCCESS, "stop {stops}: {:?}", world.last_line());
            }
            let counters = world.path("run/throttle").join(me());
            assert_eq!(fs::read_dir(counters).unwrap().count(), 0, "failures that are still counted");
        }
        if killed.is_none() {
            break;
        }
    }
    println!("an attempt: killed at {stops} stops, at {spent} of them it was spent");
    assert!(stops > 10 && spent > 3 && spent < stops, "{stops} stops, {spent} spent");
}

fn sweep_replacing(counts: fn(&Stop) -> bool) {
    let Some(scene) = Scene::new() else { return };
    let generate = ["generate", "--yes", "--format", "json", &me()];
    scene.sweep(&generate, counts, |output| {
        if scene.set().as_ref() == Some(&scene.sheet.set) {
            scene.assert_old_set_works();
        } else {
            assert_new_set_is_shown_and_works(&scene, output);
            scene.assert_old_set_is_dead();
        }
        let replaced = format!("Backup codes of {} on ", me());
        scene.assert_next_run_ends_well(&generate, &[0], &[&use_of_code_1(), &replaced]);
    });
}

/// Who has no set, but a new one of which nobody has seen the codes, is locked out.
fn assert_new_set_is_shown_and_works(scene: &Scene, output: &Output) {
    // The list may not have come to its end, but the sheet has.
    let list = text(&output.stdout);
    let mut sheets = serde_json::Deserializer::from_str(list.trim_start_matches('[')).into_iter::<Sheet>();
    let sheet = sheets.next().and_then(Result::ok).expect("a sheet that was shown before it was good");
    assert_eq!(scene.set().as_ref(), Some(&sheet.set));
    assert_eq!(scene.world.try_answer(&sheet.codes[0]), pam::SUCCESS);
}

fn sweep_first_generate(counts: fn(&Stop) -> bool) {
    let Some(scene) = Scene::new() else { return };
    fs::remove_dir_all(scene.world.store()).unwrap();
    fs::create_dir(scene.world.store()).unwrap();
    backupcodes_tests::set_mode(&scene.world.store(), 0o700);
    scene.keep();
    let generate = ["generate", "--yes", "--format", "json", &me()];
    scene.sweep(&generate, counts, |output| {
        if scene.set().is_some() {
            assert_new_set_is_shown_and_works(&scene, output);
        }
        scene.assert_next_run_ends_well(&generate, &[0], &[&format!("New backup codes for {}", me())]);
    });
}

fn sweep_revoke(counts: fn(&Stop) -> bool) {
    let Some(scene) = Scene::new() else { return };
    scene.sweep(&["revoke", &me()], counts, |_| {
        match scene.set() {
            Some(set) => {
                assert_eq!(set, scene.sheet.set);
                scene.assert_old_set_works();
            }
            None => scene.assert_old_set_is_dead(),
        }
        let revoked = format!("Backup codes of {} on ", me());
        scene.assert_next_run_ends_well(&["revoke", &me()], &[0, 1], &[&use_of_code_1(), &revoked]);
    });
}

fn sweep_email(counts: fn(&Stop) -> bool) {
    let Some(scene) = Scene::new() else { return };
    let email = ["email", &me(), "one@example.org", "two@example.org"];
    scene.sweep(&email, counts, |_| {
        let addresses = &scene.world.status()["email"];
        assert!(
            addresses == &serde_json::json!([]) || addresses == &serde_json::json!(email[2..]),
            "{addresses}"
        );
        scene.assert_old_set_works();
        let changed = format!("Notices about backup codes of {} on ", me());
        scene.assert_next_run_ends_well(&email, &[0], &[&use_of_code_1(), &changed]);
    });
}

fn sweep_notify(counts: fn(&Stop) -> bool) {
    let Some(scene) = Scene::new() else { return };
    assert!(scene.world.admin(&["email", &me(), "one@example.org", "two@example.org"]).status.success());
    scene.keep();
    scene.sweep(&["notify"], counts, |_| {
        scene.assert_old_set_works();
        let changed = format!("Notices about backup codes of {} on ", me());
        scene.assert_next_run_ends_well(&["notify"], &[0], &[&use_of_code_1(), &changed]);
        assert_eq!(scene.world.status()["due"], 0);
    });
}

macro_rules! short_and_long {
    ($sweep:ident, $short:ident, $long:ident) => {
        #[test]
        fn $short() {
            $sweep(changes);
        }

        #[test]
        #[ignore = "over a minute: tests/long"]
        fn $long() {
            $sweep(all);
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
    sweep_notify,
    a_delivery_that_is_killed_where_something_changes,
    a_delivery_that_is_killed_at_any_call
);
