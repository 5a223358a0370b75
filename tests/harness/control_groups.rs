//! Control groups of an ordinary user, as sessions of systemd and containers without root have them.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// One in each hierarchy of this host.
pub struct ControlGroups(Vec<PathBuf>);

impl ControlGroups {
    /// New ones that this user may do everything with.
    pub fn of(owner: u32) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("backupcodes-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let places = mounts.lines().filter(|mount| mount.contains(" - cgroup"));
        let groups =
            Self(places.map(|mount| Path::new(mount.split(' ').nth(4).unwrap()).join(&name)).collect());
        for group in &groups.0 {
            fs::create_dir(group).unwrap_or_else(|error| panic!("{}: {error}", group.display()));
            for file in ["cpuset.cpus", "cpuset.mems"] {
                // Without these nobody can join one of the first version.
                if let Ok(of_parent) = fs::read(group.with_file_name(file)) {
                    fs::write(group.join(file), of_parent).unwrap();
                }
            }
            chown(group, Some(owner), None).unwrap();
            for file in fs::read_dir(group).unwrap() {
                chown(file.unwrap().path(), Some(owner), None).unwrap();
            }
        }
        assert!(groups.file("cgroup.freeze").is_some(), "expected a mount of cgroup2: {mounts}");
        groups
    }

    /// The file of this name, where a group has one.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        self.0.iter().map(|group| group.join(name)).find(|file| file.exists())
    }

    /// Starts the same as `command` in all of them.
    pub fn start(&self, command: &Command) -> Command {
        let join = "while [ \"$1\" != -- ]; do echo $$ >\"$1/cgroup.procs\" || exit 9; shift; done; shift; exec \"$@\"";
        let mut starter = Command::new("sh");
        starter.args(["-c", join, "sh"]).args(&self.0).arg("--");
        starter.arg(command.get_program()).args(command.get_args());
        starter
    }

    /// Whether a program of this name runs in the one that can be killed at a stroke.
    pub fn has(&self, program: &str) -> bool {
        let processes = self.file("cgroup.freeze").unwrap().with_file_name("cgroup.procs");
        fs::read_to_string(processes).unwrap().lines().any(|id| {
            fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.trim_end() == program)
        })
    }
}

impl Drop for ControlGroups {
    fn drop(&mut self) {
        for (file, word) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0"), ("cgroup.kill", "1")] {
            if let Some(file) = self.file(file) {
                let _ = fs::write(file, word);
            }
        }
        let start = Instant::now();
        for group in &self.0 {
            // What was killed takes a moment.
            while fs::remove_dir(group).is_err() && start.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
