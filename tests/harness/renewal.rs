//! A user who renews their own codes through the broker, on a machine of the sandbox.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use nix::sys::signal::{Signal, kill};

use crate::machine::{Account, Machine};
use crate::patience::wait_until;
use crate::terminal::Terminal;
use crate::{broker, built, feed, readme};

pub const SOCKET: &str = "/run/backupcodes/broker";
pub const SERVICE: &str = "/etc/pam.d/backupcodes";
pub const SHIPPED: &str = include_str!("../../packaging/pam/backupcodes");
pub const PASSWORD: &str = "Password: ";
pub const CODE: &str = "Backup code: ";
pub const DONE: &str = "These codes work from now on";

/// A machine with a broker, the PAM service as it is shipped, and a user.
pub struct Renewal {
    pub machine: Machine,
    pub broker: Child,
    pub user: Account,
}

impl Renewal {
    pub fn new() -> Option<Self> {
        let machine = Machine::new()?;
        fs::write(SERVICE, SHIPPED).unwrap();
        let user = machine.account();
        let broker = start(&[]);
        Some(Self { machine, broker, user })
    }

    /// Kills the broker, and starts another with these arguments.
    pub fn restart(&mut self, arguments: &[&str]) {
        self.broker.kill().unwrap();
        self.broker.wait().unwrap();
        self.broker = start(arguments);
    }

    /// Kills the processes of all connections.
    pub fn end_connections(&self) {
        let pids = broker::connections(&self.broker);
        assert!(!pids.is_empty());
        pids.iter().for_each(|pid| kill(*pid, Signal::SIGKILL).unwrap());
        self.wait_until_idle();
    }

    /// `backupcodes`, as the user runs it.
    pub fn command(&self, command: &str) -> Command {
        let mut own = self.user.command();
        own.arg(built("backupcodes")).arg(command);
        own
    }

    pub fn output(&self, command: &str, input: &str) -> Output {
        feed(&mut self.command(command), input)
    }

    /// A renewal at a terminal, where these prompts are answered so: its exit status, and all that was on the screen.
    pub fn renew(&self, answers: &[(&str, &str)]) -> (i32, String) {
        let mut terminal = Terminal::start(&mut self.command("renew"));
        for (prompt, answer) in answers {
            terminal.expect(prompt);
            terminal.send(answer);
        }
        (terminal.end(), terminal.screen.clone())
    }

    /// Replaces the `auth` lines of the service by the guide's block.
    pub fn ask_as(&self, block: &str) {
        let rest = SHIPPED.lines().filter(|line| !line.starts_with("auth")).map(|line| format!("{line}\n"));
        fs::write(SERVICE, readme::block(block) + &rest.collect::<String>()).unwrap();
    }

    /// Has a service that lets everybody renew.
    pub fn ask_nothing(&self) {
        fs::write(SERVICE, "auth required pam_permit.so\naccount required pam_permit.so\n").unwrap();
    }

    /// Whether the code would be accepted.
    pub fn takes(&self, code: &str) -> bool {
        let output = self.machine.admin_with_input(&["verify", &self.user.name], code);
        output.status.success()
    }

    pub fn set(&self) -> String {
        self.machine.status(&self.user)["set"].as_str().unwrap().into()
    }

    pub fn left(&self) -> u64 {
        self.machine.status(&self.user)["left"].as_u64().unwrap()
    }

    /// The file of the set; empty where there is none.
    pub fn file(&self) -> Vec<u8> {
        fs::read(self.user.file()).unwrap_or_default()
    }

    /// The subjects of this user's notices in the outbox.
    pub fn subjects(&self) -> Vec<String> {
        let outbox = Path::new("/var/lib/backupcodes/outbox");
        let notices = fs::read_dir(outbox).into_iter().flatten().map(|entry| entry.unwrap().path());
        let own = |path: &PathBuf| path.to_str().unwrap().contains(&format!("{}@", self.user.name));
        let notices = notices.filter(own).map(|path| fs::read_to_string(path).unwrap());
        notices
            .flat_map(|notice| {
                notice
                    .lines()
                    .filter(|line| line.starts_with("Subject: "))
                    .map(String::from)
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Waits until no connection is served any more.
    pub fn wait_until_idle(&self) {
        wait_until("the end of all connections", || broker::connections(&self.broker).is_empty());
    }

    /// The last line of the broker's log.
    pub fn last_line(&self) -> String {
        let log = self.machine.log();
        log.iter().rfind(|line| line.text.contains("backupcodes-broker")).expect("a line").text.clone()
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        let _ = self.broker.kill();
        let _ = self.broker.wait();
        let _ = fs::remove_file(SOCKET);
        let _ = fs::remove_file(SERVICE);
        let _ = fs::remove_file("/etc/security/backupcodes.conf");
    }
}

/// A broker at the usual socket.
pub fn start(arguments: &[&str]) -> Child {
    let arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
    broker::start(Path::new(SOCKET), &arguments)
}

/// The codes on a screen or in an output, in their order.
pub fn codes(screen: &str) -> Vec<String> {
    let is_code = |word: &&str| word.len() == 17 && word.split('-').map(str::len).eq([5, 5, 5]);
    let mut codes: Vec<_> = screen.split_whitespace().filter(is_code).map(String::from).collect();
    codes.sort_unstable();
    codes
}
