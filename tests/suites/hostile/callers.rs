//! An ordinary user runs the real su, and stops, kills and limits it: the target can still log in elsewhere, and the user cannot
//! tell a right code from a wrong one without spending it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backupcodes_tests::machine::{Account, Machine};
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::traced::Traced;
use backupcodes_tests::{Attempt, CHEAP, Sheet, World, feed, pam, sheet, text};

/// What the target may wait for a lock or a hash permit of a stopped process.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a busy machine may take beside.
const SLACK: Duration = Duration::from_secs(4);

/// A caller, and the target of their su, whose stack is the module alone.
struct Scene {
    world: World,
    caller: Account,
    target: Account,
    old: Sheet,
    _machine: Machine,
}

const STACK: &str = "/etc/pam.d/su";

impl Scene {
    fn new() -> Option<Self> {
        let (machine, world) = World::on_machine("")?;
        // Debian's file comes back when the scene ends: other tests change it as the guide says.
        fs::copy(STACK, world.path("su")).unwrap();
        let ours = fs::read_to_string(world.path("pam.d").join(&world.service)).unwrap();
        let auth = ours.lines().find(|line| line.starts_with("auth ")).unwrap();
        let rest = "account required pam_permit.so\nsession required pam_permit.so\n";
        fs::write(STACK, format!("{auth}\n{rest}")).unwrap();
        let (caller, target) = (machine.account(), machine.account());
        let old = generate(&world, &target);
        Some(Self { world, caller, target, old, _machine: machine })
    }

    fn generate(&self) -> Sheet {
        generate(&self.world, &self.target)
    }

    /// What becomes of the target's own login elsewhere.
    fn login(&self, code: &String) -> i32 {
        let attempt = self.world.attempt(&[code.into()]);
        Attempt { user: self.target.name.clone().into(), ..attempt }.run().codes[0]
    }

    /// su, started by the caller's shell after this command.
    fn su(&self, command: &str) -> Terminal {
        let script = format!("{command} exec su {} -c 'echo got in'", self.target.name);
        Terminal::start(self.caller.command().args(["sh", "-c", &script]))
    }

    /// What the caller sees of an attempt: the exit status and the screen.
    fn sees(&self, command: &str, code: &str) -> (i32, String) {
        let mut su = self.su(command);
        if su.find(PROMPT) {
            su.send(code);
        }
        (su.end(), su.screen.clone())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::copy(self.world.path("su"), STACK);
    }
}

fn generate(world: &World, user: &Account) -> Sheet {
    sheet(world.admin(&["generate", "--yes", "--count", "31", "--format", "json", &user.name]))
}

const PROMPT: &str = "Backup code: ";

/// What the caller does to su.
struct Blow {
    signal: &'static str,
    /// Whether the code that is typed is a right one.
    is_right: bool,
}

/// What came of blows at every system call from the answer to the end of the authentication.
#[derive(Debug, Default)]
struct Sweep {
    calls: usize,
    /// How many of them were refused by the kernel.
    refused: usize,
    longest: Duration,
}

/// Strikes su at each of its system calls, and looks each time what becomes of the target.
fn sweep(scene: &Scene, blow: &Blow) -> Sweep {
    let mut result = Sweep::default();
    let mut codes = Vec::new();
    loop {
        if codes.len() < 2 {
            codes = scene.generate().codes;
        }
        let typed = if blow.is_right { codes.remove(0) } else { scene.old.codes[0].clone() };
        let mut su = scene.su("");
        su.expect(PROMPT);
        let mut traced = Traced::seize(su.id());
        su.send(&typed);
        let is_over =
            |call: libc::c_long| [libc::SYS_exit_group, libc::SYS_clone, libc::SYS_fork].contains(&call);
        if !(0..=result.calls).all(|_| traced.next_call().is_some_and(|call| !is_over(call))) {
            return result;
        }
        let kill = format!("kill -{} {}", blow.signal, su.id());
        let may = feed(scene.caller.command().args(["sh", "-c", &kill]), "").status.success();
        traced.release();
        result.calls += 1;
        result.refused += usize::from(!may);
        let start = Instant::now();
        let at = result.calls;
        let code = scene.login(&codes.remove(0));
        assert_eq!(code, pam::SUCCESS, "call {at}: {:?}", scene.world.last_line());
        result.longest = result.longest.max(start.elapsed());
        assert!(result.longest < PATIENCE + SLACK, "call {at} kept the target out for {:?}", result.longest);
        if blow.signal == "STOP" {
            drop(su);
        } else {
            su.end();
            let got_in = su.screen.contains("got in");
            assert!(!got_in || !may && blow.is_right, "call {at}: {}", su.screen);
            let again = [(); 2].map(|()| scene.login(&typed));
            assert!(
                again[1] == pam::AUTH_ERR && (again[0] == pam::AUTH_ERR || blow.is_right && !got_in),
                "{again:?}"
            );
        }
    }
}

/// With one permit for all hashes, whoever is stopped in it is in everybody's way.
fn one_permit(scene: &Scene) {
    scene.world.configure(&CHEAP.replace("[throttle]", "concurrent = 1\n[throttle]"));
}

#[test]
fn su_with_a_wrong_code_that_is_stopped_at_any_call_keeps_nobody_out_for_more_than_5_s() {
    let Some(scene) = Scene::new() else { return };
    one_permit(&scene);
    let result = sweep(&scene, &Blow { signal: "STOP", is_right: false });
    assert!(result.calls > 40 && result.refused > 0, "{result:?}");
    assert!(result.longest >= PATIENCE, "none was stopped with the permit: {result:?}");
}

#[test]
fn su_with_a_right_code_that_is_stopped_at_any_call_keeps_nobody_out_for_more_than_5_s() {
    let Some(scene) = Scene::new() else { return };
    let result = sweep(&scene, &Blow { signal: "STOP", is_right: true });
    assert!(result.calls > 40 && result.refused > 8, "{result:?}");
}

#[test]
fn su_that_is_killed_at_any_call_spends_its_code_at_most_once_and_no_other() {
    let Some(scene) = Scene::new() else { return };
    let result = sweep(&scene, &Blow { signal: "KILL", is_right: true });
    assert!(result.calls > 40 && result.refused > 8, "{result:?}");
}

/// Under each of these limits of the caller's, a right code that does not get in is answered like a wrong one, and is
/// not lost. How many right ones got in comes back.
fn tells_nothing(scene: &Scene, limits: &[String]) -> usize {
    let mut got_in = 0;
    for limits in limits.chunks(30) {
        let codes = scene.generate().codes;
        let seen: Vec<_> = std::thread::scope(|scope| {
            let start = |(limit, code)| {
                let both = [code, &scene.old.codes[0]].map(String::clone);
                scope.spawn(move || both.map(|code| scene.sees(&format!("ulimit {limit} &&"), &code)))
            };
            let threads: Vec<_> = limits.iter().zip(&codes).map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for ((limit, code), [right, wrong]) in limits.iter().zip(&codes).zip(seen) {
            let again = scene.login(code);
            assert!(!wrong.1.contains("got in") && wrong.0 != 0, "{limit}: {wrong:?}");
            if right.1.contains("got in") {
                got_in += 1;
                assert_eq!(again, pam::AUTH_ERR, "{limit}: {right:?}");
            } else {
                assert_eq!((&right, again), (&wrong, pam::SUCCESS), "{limit}");
            }
        }
    }
    got_in
}

#[test]
fn su_with_no_file_size_left_tells_nothing() {
    let Some(scene) = Scene::new() else { return };
    tells_nothing(&scene, &["-f 0".into()]);
    // A counter that is full is not written to, so that the first write is the one that spends.
    let counter = scene.world.path("run/throttle").join(&scene.target.name).join("su@%local");
    let file = fs::File::options().write(true).open(&counter).expect("the attempts above were counted");
    file.set_len(4096).unwrap();
    tells_nothing(&scene, &["-f 0".into(), "-S -f 0".into()]);
}

#[test]
fn su_with_few_descriptors_tells_nothing() {
    let Some(scene) = Scene::new() else { return };
    let limits: Vec<_> = (3..28).map(|count| format!("-n {count}")).collect();
    let got_in = tells_nothing(&scene, &limits);
    assert!(got_in > 2 && got_in < limits.len(), "{got_in} of {}", limits.len());
}

#[test]
fn su_with_little_memory_tells_nothing() {
    let Some(scene) = Scene::new() else { return };
    let limits: Vec<_> = (4000..10_000).step_by(50).map(|kib| format!("-v {kib}")).collect();
    let got_in = tells_nothing(&scene, &limits);
    assert!(got_in > 2 && got_in < limits.len(), "{got_in} of {}", limits.len());
}

#[test]
fn su_whose_input_is_at_its_end_is_refused_at_once() {
    let Some(scene) = Scene::new() else { return };
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(scene.caller.command().get_program());
    command.args(scene.caller.command().get_args()).args(["su", &scene.target.name, "-c", "echo got in"]);
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success() && !text(&output.stdout).contains("got in"), "{output:?}");
    assert!(start.elapsed() < Duration::from_secs(60), "not after minutes");
    let log = backupcodes_tests::caught(Path::new(&backupcodes_tests::sandbox().unwrap()));
    let line = log.iter().rev().find(|line| line.text.contains("pam_backupcodes(su:auth)")).expect("a line");
    assert!(line.text.contains("did not ask") || line.text.contains("not a backup code"), "{line:?}");
}
