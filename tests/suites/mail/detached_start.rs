//! With `spawn`, a login starts the delivery of its notice, and has nothing more to do with it.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backupcodes_tests::condition::Condition;
use backupcodes_tests::control_groups::ControlGroups;
use backupcodes_tests::level::WARNING;
use backupcodes_tests::machine::{Account, Machine};
use backupcodes_tests::patience::wait_until;
use backupcodes_tests::postbox::Postbox;
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{Attempt, Sheet, World, built, feed, pam, race_in, set_mode, text};
use nix::errno::Errno;

const PROMPT: &str = "Backup code: ";

/// A set whose first notice is out, where every use starts a delivery. The program that is started has a fixed place, and
/// only the sandbox of root has it there.
fn world() -> Option<(World, Postbox, Sheet)> {
    let world = World::of_root("")?;
    let postbox = Postbox::of(&world, true);
    // A new set starts a delivery as well.
    let sheet = world.generate();
    postbox.expect(1);
    wait_until_marked(&world);
    postbox.empty();
    Some((world, postbox, sheet))
}

fn due(world: &World) -> u64 {
    world.status()["due"].as_u64().unwrap()
}

#[test]
fn in_any_process_state_the_notice_goes_out_by_itself() {
    let Some((world, postbox, sheet)) = world() else { return };
    let states = [
        vec![],
        vec![Condition::ChildrenIgnored],
        vec![Condition::ChildrenReaped],
        vec![Condition::ChildrenWaitedFor],
        vec![Condition::AllSignalsBlocked, Condition::ChildrenWaitedFor],
        vec![Condition::StandardClosed],
        vec![Condition::SoftLimit(libc::RLIMIT_FSIZE, 0), Condition::DefaultSignals],
        vec![Condition::CwdDeleted, Condition::Umask(0o777)],
        vec![Condition::StandardClosed, Condition::DescriptorsLeft { count: 12, hard: true }],
        vec![Condition::Alarms],
    ];
    for (conditions, code) in states.iter().zip(&sheet.codes) {
        let attempt = Attempt { conditions: conditions.clone(), ..world.attempt(&[code.into()]) };
        let outcome = attempt.run();
        assert_eq!(outcome.codes, [pam::SUCCESS], "{conditions:?}: {:?}", world.last_line());
        if !matches!(conditions[..], [Condition::Alarms]) {
            assert_eq!(outcome.handled, 0, "{conditions:?}: the application saw a child");
        }
        postbox.expect(1);
        postbox.empty();
        wait_until_marked(&world);
    }
    assert!(world.log().iter().all(|line| line.level > WARNING), "{:#?}", world.log());
}

/// sendmail has the message a moment before the record says so.
fn wait_until_marked(world: &World) {
    wait_until("the records of what is delivered", || due(world) == 0);
}

#[test]
fn two_threads_that_log_in_at_once_both_have_their_notice() {
    let Some((world, postbox, sheet)) = world() else { return };
    for codes in sheet.codes.chunks(2) {
        let mut attempt = world.attempt(&[(&codes[0]).into(), (&codes[1]).into()]);
        attempt.threads = 2;
        attempt.conditions =
            vec![Condition::SoftLimit(libc::RLIMIT_FSIZE, 0), Condition::SoftLimit(libc::RLIMIT_NOFILE, 64)];
        assert_eq!(attempt.run().codes, [pam::SUCCESS; 2], "{:?}", world.last_line());
        postbox.expect(2);
        postbox.empty();
        wait_until_marked(&world);
    }
}

#[test]
fn with_few_descriptors_left_who_gets_in_has_a_notice_or_a_warning() {
    let Some((world, postbox, mut sheet)) = world() else { return };
    let [mut sent, mut warned] = [0; 2];
    for hard in [false, true] {
        for count in 0..=14 {
            let code = sheet.codes.pop().unwrap_or_else(|| {
                sheet = world.generate();
                sheet.codes.pop().unwrap()
            });
            world.deliver();
            wait_until_marked(&world);
            postbox.empty();
            let before = world.log().len();
            let conditions = vec![Condition::DescriptorsLeft { count, hard }];
            let attempt = Attempt { conditions, ..world.attempt(&[(&code).into()]) };
            if attempt.run().codes != [pam::SUCCESS] {
                continue;
            }
            let log = world.log();
            if log[before..].iter().any(|line| line.text.contains("the notice of this use stays due")) {
                assert_eq!(due(&world), 1);
                warned += 1;
            } else {
                postbox.expect(1);
                wait_until_marked(&world);
                sent += 1;
            }
        }
    }
    assert!(sent > 10, "{sent} sent, {warned} warnings");
}

#[test]
fn in_a_chroot_without_the_program_one_warning_is_logged_and_the_login_goes_on() {
    let Some((world, postbox, sheet)) = world() else { return };
    let jail = tempfile::tempdir().unwrap();
    set_mode(jail.path(), 0o755);
    let inside = |path: &Path| jail.path().join(path.strip_prefix("/").unwrap());
    fs::create_dir_all(inside(world.folder.path())).unwrap();
    for name in ["conf", "conf.d", "store"] {
        let copy =
            Command::new("cp").arg("-a").arg(world.path(name)).arg(inside(world.folder.path())).status();
        assert!(copy.unwrap().success());
    }
    for folder in ["etc", "dev"] {
        fs::create_dir(jail.path().join(folder)).unwrap();
    }
    fs::copy("/etc/passwd", jail.path().join("etc/passwd")).unwrap();
    let log_in = |code: &String| {
        let before = world.log().len();
        let conditions = vec![Condition::Chroot(jail.path().to_str().unwrap().into())];
        let outcome = Attempt { conditions, ..world.attempt(&[code.into()]) }.run();
        assert_eq!(outcome.codes, [pam::SUCCESS], "{:?}", world.last_line());
        let warnings: Vec<_> = world.log().split_off(before);
        let warnings: Vec<_> = warnings.into_iter().filter(|line| line.level <= WARNING).collect();
        assert_eq!(warnings.len(), 1, "{warnings:#?}");
        assert!(warnings[0].level == WARNING, "{warnings:?}");
        warnings[0].text.clone()
    };
    let stays_due = |warning: &str| {
        let reason =
            "the notice of this use stays due: /usr/sbin/backupcodes-admin cannot be started (ENOENT";
        assert!(warning.contains(reason), "{warning}");
    };
    // First not even /dev/null is there, and then it is.
    stays_due(&log_in(&sheet.codes[0]));
    let null = jail.path().join("dev/null");
    assert!(Command::new("mknod").arg(null).args(["c", "1", "3"]).status().unwrap().success());
    stays_due(&log_in(&sheet.codes[1]));
    fs::copy(inside(&world.file()), world.file()).unwrap();
    assert_eq!(due(&world), 2);
    world.deliver();
    postbox.expect(2);
}

/// su, its caller and its target, all on a machine that delivers into the postbox.
struct Scene {
    machine: Machine,
    postbox: Postbox,
    caller: Account,
    target: Account,
    sheet: Sheet,
    folder: tempfile::TempDir,
}

/// The system's own configuration of mail in the sandbox, where a delivery is not started.
const SETTINGS: &str = "/etc/security/backupcodes.conf.d/notify.conf";

impl Scene {
    fn new() -> Option<Self> {
        let machine = Machine::new()?;
        let folder = tempfile::tempdir().unwrap();
        let postbox = Postbox::new(&folder.path().join("postbox"));
        fs::write(SETTINGS, format!("[notify]\n{}\n", postbox.settings(true))).unwrap();
        let (caller, target) = (machine.account(), machine.account());
        let sheet = machine.generate(&target);
        // It starts a delivery too.
        postbox.expect(1);
        postbox.empty();
        Some(Self { machine, postbox, caller, target, sheet, folder })
    }

    fn log_in_by_su(&self, su: &mut Command, code: &str) {
        let mut terminal = Terminal::start(su.args(["su", &self.target.name, "-c", "echo got in"]));
        terminal.expect("Password: ");
        terminal.send(&self.target.password);
        terminal.expect(PROMPT);
        terminal.send(code);
        terminal.expect("got in");
        assert_eq!(terminal.end(), 0);
    }

    /// The only message is of the use of this code by the target.
    fn check_notice(&self, number: u8, facts: [&str; 2]) {
        self.postbox.expect(1);
        let messages = self.postbox.handed();
        let subject = format!("Backup code {number} of {} was used on ", self.target.name);
        assert!(messages[0].subject().starts_with(&subject), "{messages:?}");
        assert!(facts.iter().all(|fact| messages[0].message.contains(fact)), "{messages:?}");
        assert_eq!(messages[0].arguments, ["--", &self.target.name]);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::write(SETTINGS, "[notify]\nspawn = false\n");
    }
}

#[test]
fn after_a_login_by_su_the_notice_comes_without_anybody_asking_for_it() {
    let Some(scene) = Scene::new() else { return };
    scene.machine.stack("su", "console");
    for (limits, number) in ["", "ulimit -S -f 0; ulimit -S -n 24; "].iter().zip(1..) {
        let mut command = scene.caller.command();
        command.args(["sh", "-c", &format!("{limits}exec \"$@\""), "sh"]);
        scene.log_in_by_su(&mut command, &scene.sheet.codes[usize::from(number) - 1]);
        scene.check_notice(number, ["From:      this host itself\n", "Service:   su\n"]);
        scene.postbox.empty();
    }
}

#[test]
fn after_a_login_by_ssh_the_notice_comes_without_anybody_asking_for_it() {
    let Some(scene) = Scene::new() else { return };
    scene.machine.stack("sshd", "ssh-key");
    let sshd = scene.machine.sshd("sshd-password");
    let mut terminal = Terminal::start(&mut sshd.client(&scene.target, None, "echo got in"));
    terminal.expect(PROMPT);
    terminal.send(&scene.sheet.codes[1]);
    terminal.expect("got in");
    assert_eq!(terminal.end(), 0);
    scene.check_notice(2, ["From:      127.0.0.1\n", "Service:   sshd\n"]);
}

#[test]
fn who_started_su_can_neither_stop_nor_end_the_delivery_and_su_does_not_wait_for_it() {
    let Some(scene) = Scene::new() else { return };
    scene.machine.stack("su", "console");
    scene.postbox.hold("started");
    let mut little = scene.caller.command();
    little.args(["nice", "ionice", "--class", "3", "chrt", "--idle", "0", "taskset", "--cpu-list", "0"]);
    // A timer that may be so late does not come at all.
    let forever: libc::c_ulong = 1 << 60;
    // SAFETY: a system call on the child alone.
    unsafe {
        little.pre_exec(move || Ok(Errno::result(libc::prctl(libc::PR_SET_TIMERSLACK, forever)).map(drop)?));
    }
    scene.log_in_by_su(&mut little, &scene.sheet.codes[0]);
    // The delivery is held until it is released below: su did not wait for it.
    let started = scene.postbox.held("started");
    let processors =
        |status: &str| status.split("Cpus_allowed:").nth(1).unwrap().lines().next().unwrap().to_owned();
    let every_processor = processors(&fs::read_to_string("/proc/self/status").unwrap());
    for process in started {
        let of = |name: &str| text(&fs::read(format!("/proc/{process}/{name}")).unwrap());
        let ids = |line: &str| format!("\n{line}:\t0\t0\t0\t0\n");
        let status = of("status");
        assert!(status.contains(&ids("Uid")) && status.contains(&ids("Gid")), "{status}");
        assert!(status.contains("\nGroups:\t \n"), "{status}");
        assert_eq!(processors(&status), every_processor);
        // Behind the name, which ends with a bracket: the 19th field of all.
        let nice = of("stat")
            .rsplit(')')
            .next()
            .and_then(|fields| fields.split_whitespace().nth(19 - 3).map(str::to_owned));
        assert_eq!(nice.as_deref(), Some("0"));
        let asked = |program: &str| feed(Command::new(program).args(["-p", &process.to_string()]), "");
        let [scheduler, disk] = ["chrt", "ionice"].map(|program| text(&asked(program).stdout));
        assert!(scheduler.contains(": SCHED_OTHER\n"), "{scheduler}");
        assert!(["none", "best-effort"].iter().any(|class| disk.starts_with(class)), "{disk}");
        assert_eq!(of("timerslack_ns"), "50000\n");
        for signal in ["STOP", "TSTP", "TERM", "HUP", "KILL"] {
            let kill = format!("kill -{signal} {process}");
            let kill = feed(scene.caller.command().args(["sh", "-c", &kill]), "");
            assert!(text(&kill.stderr).contains("not permitted"), "{signal}: {kill:?}");
        }
    }
    assert_eq!(fs::read(format!("/proc/{}/environ", started[0])).unwrap(), b"", "its environment");
    scene.postbox.release("started");
    scene.check_notice(1, ["Service:   su\n", "number 1 of the sheet\n"]);
}

/// As systemd lets users have them.
fn groups_of_the_caller(scene: &Scene) -> ControlGroups {
    let caller = nix::unistd::User::from_name(&scene.caller.name).unwrap().unwrap();
    ControlGroups::of(caller.uid.as_raw())
}

#[test]
fn who_owns_the_control_groups_of_su_can_neither_end_nor_freeze_the_delivery() {
    let Some(scene) = Scene::new() else { return };
    scene.machine.stack("su", "console");
    let ways = [("cgroup.kill", "1"), ("cgroup.freeze", "1"), ("freezer.state", "FROZEN")];
    for ((file, word), number) in ways.into_iter().zip(1..) {
        let groups = groups_of_the_caller(&scene);
        // The last one is there where the first version is.
        let Some(file) = groups.file(file) else { continue };
        let held = format!("started-{number}");
        scene.postbox.hold(&held);
        let code = &scene.sheet.codes[usize::from(number) - 1];
        scene.log_in_by_su(&mut groups.start(&scene.caller.command()), code);
        scene.postbox.held(&held);
        let write = format!("echo {word} >{}", file.display());
        let written = feed(scene.caller.command().args(["sh", "-c", &write]), "");
        assert!(written.status.success(), "{written:?}");
        scene.postbox.release(&held);
        scene.check_notice(number, ["Service:   su\n", "the sheet\n"]);
        scene.postbox.empty();
    }
}

/// It would be enough to watch for it, and to kill the group when it comes.
#[test]
fn the_delivery_is_never_in_the_control_group_of_whoever_started_su() {
    let Some(scene) = Scene::new() else { return };
    scene.machine.stack("su", "console");
    let groups = groups_of_the_caller(&scene);
    for (code, number) in scene.sheet.codes.iter().zip(1..) {
        let is_over = AtomicBool::new(false);
        let was_seen = std::thread::scope(|threads| {
            let watcher = threads.spawn(|| {
                let mut was_seen = false;
                while !was_seen && !is_over.load(Ordering::Relaxed) {
                    was_seen = groups.has("backupcodes-adm");
                }
                was_seen
            });
            scene.log_in_by_su(&mut groups.start(&scene.caller.command()), code);
            scene.check_notice(number, ["Service:   su\n", "the sheet\n"]);
            is_over.store(true, Ordering::Relaxed);
            watcher.join().unwrap()
        });
        assert!(!was_seen, "login {number}");
        scene.postbox.empty();
    }
}

#[test]
fn the_delivery_runs_on_the_processors_of_init_and_no_others() {
    let Some((world, postbox, sheet)) = world() else { return };
    postbox.before("grep Cpus_allowed_list: /proc/self/status >allowed");
    let allowed = world.path("postbox/allowed");
    // The shell is init in there, and all that is left ends with it.
    let init = "taskset --cpu-list --pid 0 $$ >/dev/null; taskset --cpu-list 0,1 \"$0\"
                for _ in $(seq 400); do [ -s \"$1\" ] && exit; sleep 0.05; done";
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child", "sh", "-c", init])
        .arg(built("pam-application"))
        .arg(&allowed);
    let outcome = race_in(&mut command, &[world.attempt(&[(&sheet.codes[0]).into()])]).pop().unwrap();
    assert_eq!(outcome.expect("the application lives on").codes, [pam::SUCCESS]);
    assert_eq!(fs::read_to_string(allowed).unwrap(), "Cpus_allowed_list:\t0\n");
}

#[test]
fn ctrl_c_at_the_terminal_of_su_does_not_end_the_delivery() {
    let Some(scene) = Scene::new() else { return };
    scene.machine.stack("su", "console");
    let mut uses = 0;
    for code in &scene.sheet.codes {
        let mut command = scene.caller.command();
        let su = "trap '' INT; exec su \"$0\" -c true";
        let mut terminal = Terminal::start(command.args(["sh", "-c", su, &scene.target.name]));
        terminal.expect("Password: ");
        terminal.send(&scene.target.password);
        terminal.expect(PROMPT);
        terminal.send(code);
        // Until it is read: an interrupt throws away what was typed.
        std::thread::sleep(Duration::from_millis(10));
        for _ in 0..1000 {
            // The terminal may be gone.
            let _ = terminal.keys().write_all(b"\x03");
            std::thread::sleep(Duration::from_micros(300));
        }
        // Where the code was thrown away.
        let _ = terminal.keys().write_all(b"\n");
        terminal.end();
        let left = scene.machine.status(&scene.target)["left"].as_u64().unwrap();
        if left == 10 - 1 - uses {
            uses += 1;
            scene.postbox.expect(1);
            scene.postbox.empty();
        }
    }
    assert!(uses > 3, "{uses} of 10 codes were read");
}

#[test]
fn in_su_the_delivery_starts_with_roots_ids_and_without_an_environment() {
    let Some(scene) = Scene::new() else { return };
    scene.machine.stack("su", "console");
    let trace = scene.folder.path().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-u", &scene.caller.name, "-e", "trace=setresuid,execve,clone,clone3,vfork", "-o"]);
    scene.log_in_by_su(strace.arg(&trace), &scene.sheet.codes[0]);
    scene.postbox.expect(1);
    let trace = fs::read_to_string(trace).unwrap();
    let caller = nix::unistd::User::from_name(&scene.caller.name).unwrap().unwrap().uid;
    let started = "execve(\"/usr/sbin/backupcodes-admin\", [\"/usr/sbin/backupcodes-admin\", \"notify\"], ";
    let (before, after) = trace.split_once(started).unwrap_or_else(|| panic!("not started: {trace}"));
    assert!(after.lines().next().unwrap().contains("/* 0 vars */"), "{after}");
    // The last change of su's real uid before it makes it root's, and the next gives it back.
    let real = |lines: &str| -> Vec<String> {
        let changes = lines.lines().filter(|line| line.contains("setresuid(") && !line.contains("-1"));
        changes
            .map(|line| line.split("setresuid(").nth(1).unwrap().split(')').next().unwrap().into())
            .collect()
    };
    assert_eq!(real(before).last().map(String::as_str), Some("0, 0, 0"), "{before}");
    assert!(real(after).contains(&format!("{caller}, 0, 0")), "{after}");
}

#[test]
fn a_setuid_application_of_an_ordinary_user_gets_its_process_state_back() {
    let Some((world, postbox, sheet)) = world() else { return };
    let Some(application) = world.setuid_application() else { return };
    for (code, capabilities) in sheet.codes.iter().zip(["+all", "-setuid"]) {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--bounding-set", capabilities]).arg(&application);
        let outcome = race_in(&mut command, &[world.attempt(&[code.into()])]).pop().unwrap().unwrap();
        assert_eq!(outcome.codes, [pam::SUCCESS], "{capabilities}");
        postbox.expect(1);
        postbox.empty();
        wait_until_marked(&world);
    }
}
