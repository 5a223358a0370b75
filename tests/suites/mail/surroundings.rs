//! sendmail finds nothing of whoever started the delivery.

use std::fs;
use std::process::{Child, Command, Stdio};

use backupcodes_tests::control_groups::ControlGroups;
use backupcodes_tests::patience::wait_until;
use backupcodes_tests::{World, built, feed, me, sandbox_of_root, set_mode};
use nix::sys::stat::Mode;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\0";

/// A starter of the delivery that is as odd as may be: open descriptors, limits that could be lifted again, an
/// environment, a folder, a umask, and signals that are ignored and blocked.
const STARTER: &str = "cd /tmp; umask 777; exec 5</etc/passwd 9>/dev/null 77</etc/passwd
    ulimit -S -f 1 -t 1000 -v 3000000 -d 1500000 -s 8000 -n 30 || exit 9
    exec env --block-signal --ignore-signal=TERM,CHLD,HUP,INT,QUIT,USR1,USR2,PIPE,ALRM,XFSZ,XCPU,WINCH,RTMIN,RTMAX \
    EVIL=1 TZ=UTC \"$@\"";

/// A sendmail that stands still, having done nothing: cat, in front of a pipe without a writer.
struct Standing {
    delivery: Child,
    id: String,
}

impl Standing {
    fn start(world: &World, starter: &mut Command) -> Self {
        let fifo = world.path("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        world.notify(&format!("spawn = false\nsendmail = ['/usr/bin/cat', {fifo:?}]"));
        let delivery =
            starter.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut standing = Self { delivery, id: String::new() };
        let children = format!("/proc/{0}/task/{0}/children", standing.delivery.id());
        // It has become cat, and waits.
        wait_until("a sendmail that stands still", || {
            standing.id = fs::read_to_string(&children).unwrap_or_default().trim().to_string();
            !standing.id.is_empty() && standing.read("wchan").contains("wait_for_partner")
        });
        standing
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.id)).unwrap()
    }

    fn link(&self, name: &str) -> String {
        fs::read_link(format!("/proc/{}/{name}", self.id)).unwrap().into_os_string().into_string().unwrap()
    }

    /// What stands behind `name` in its status, or in that of its delivery.
    fn status(&self, id: &str, name: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of status");
        line.trim_start_matches(':').split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Nothing is anybody's but root's, or whose the tests are.
    fn assert_own(&self, world: &World) {
        assert_eq!(self.read("environ"), PATH);
        assert_eq!(self.link("cwd"), "/");
        let fifo = world.path("fifo").display().to_string();
        assert_eq!(self.read("cmdline"), ["/usr/bin/cat", &fifo, "--", &me(), ""].join("\0"));
        self.assert_descriptors();
        for name in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"] {
            let signals = u64::from_str_radix(&self.status(&self.id, name), 16).unwrap();
            // Two are the C library's own: its posix_spawn has them ignored in whatever it starts, as in this test.
            assert_eq!(signals & !(0b11 << 31), 0, "{name}: {signals:x}");
        }
        let stat = self.read("stat");
        let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        assert_eq!(fields[2..5], [&self.id, &self.id, "0"], "process group, session, terminal");
        let delivery = self.delivery.id().to_string();
        for id in [&self.id, &delivery] {
            let [uid, gid] = [nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()];
            assert_eq!(self.status(id, "Uid"), format!("{uid} {uid} {uid} {uid}"));
            assert_eq!(self.status(id, "Gid"), format!("{gid} {gid} {gid} {gid}"));
            if uid == 0 {
                assert_eq!(self.status(id, "Groups"), "");
            }
            assert_eq!(self.status(id, "Umask"), "0077");
        }
        self.assert_limits();
    }

    fn assert_descriptors(&self) {
        let files = fs::read_dir(format!("/proc/{}/fd", self.id)).unwrap();
        let mut numbers: Vec<_> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, ["0", "1", "2"]);
        assert_eq!(
            (self.link("fd/0").as_str(), self.link("fd/1").as_str()),
            ("/memfd:notice (deleted)", "/dev/null")
        );
        assert!(self.link("fd/2").starts_with("pipe:["), "{}", self.link("fd/2"));
        assert!(self.read("fd/0").starts_with("From: "), "the message");
        assert!(self.read("fdinfo/0").starts_with("pos:\t0\n"), "and all of it");
    }

    fn assert_limits(&self) {
        let limits = self.read("limits");
        for name in ["Max cpu time", "Max file size", "Max data size", "Max address space"] {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let words: Vec<_> = line.split_whitespace().collect();
            assert_eq!(words[0], words[1], "{name}: soft and hard");
        }
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let soft: u64 = files.split_whitespace().next().unwrap().parse().unwrap();
        assert!(soft >= 1024, "{limits}");
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let _ = self.delivery.kill();
        let _ = self.delivery.wait();
        // A session of its own: it does not end with the delivery.
        let _ = feed(Command::new("kill").args(["-KILL", &self.id]), "");
    }
}

fn start_by(shell: &mut Command, world: &World, program: &std::path::Path) -> Standing {
    shell.args(["bash", "-c", STARTER, "bash"]).arg(program);
    shell.args(world.admin_command().get_args()).arg("notify");
    Standing::start(world, shell)
}

#[test]
fn sendmail_finds_nothing_of_whoever_started_the_delivery() {
    let Some(world) = World::new("") else { return };
    world.generate();
    start_by(&mut Command::new("env"), &world, &built("backupcodes-admin")).assert_own(&world);
}

#[test]
fn a_delivery_that_an_ordinary_user_has_started_is_roots_and_so_is_its_sendmail() {
    let Some(world) = World::new("") else { return };
    let Some(sandbox) = sandbox_of_root() else { return };
    world.generate();
    // As a delivery that su started would be, if su did not prevent that.
    let program = sandbox.join(format!("setuid-admin-{}", world.service));
    fs::copy(built("backupcodes-admin"), &program).unwrap();
    set_mode(&program, 0o4755);
    let mut user = Command::new("setpriv");
    user.args(["--reuid", "nobody", "--regid", "nogroup", "--groups", "nogroup,games"]);
    let standing = start_by(&mut user, &world, &program);
    standing.assert_own(&world);
    for id in [standing.id.clone(), standing.delivery.id().to_string()] {
        for signal in ["-STOP", "-TERM", "-KILL"] {
            let mut kill = Command::new("setpriv");
            kill.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "kill", signal, &id]);
            assert!(!feed(&mut kill, "").status.success(), "{signal}");
        }
    }
}

#[test]
fn a_delivery_is_in_the_control_groups_of_init_whichever_it_was_started_in() {
    let Some(world) = World::of_root("") else { return };
    world.generate();
    let groups = ControlGroups::of(65_534);
    let mut notify = world.admin_command();
    notify.arg("notify");
    let standing = Standing::start(&world, &mut groups.start(&notify));
    let of_init = fs::read_to_string("/proc/1/cgroup").unwrap();
    let delivery = fs::read_to_string(format!("/proc/{}/cgroup", standing.delivery.id())).unwrap();
    assert_eq!([delivery, standing.read("cgroup")], [of_init.clone(), of_init]);
}
