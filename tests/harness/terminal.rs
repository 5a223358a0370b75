//! A terminal with a program, and a person who reads and types.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;

use crate::patience::PATIENCE;

pub struct Terminal {
    master: File,
    child: Child,
    /// All that was on the screen.
    pub screen: String,
    read: usize,
}

impl Terminal {
    /// Starts `command` as the leader of a session of its own at a new terminal.
    pub fn start(command: &mut Command) -> Self {
        let pty = openpty(None, None).expect("a pseudo-terminal");
        let slave = || pty.slave.try_clone().unwrap();
        command.stdin(slave()).stdout(slave()).stderr(slave());
        // SAFETY: all these calls may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                // What other threads have open at the moment is not the program's.
                libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
                if libc::ioctl(0, libc::TIOCSCTTY, 0) == -1 {
                    Err(std::io::Error::last_os_error())
                } else {
                    Ok(())
                }
            });
        }
        let child = command.spawn().expect("a program to start");
        // The command lives on with the caller: it must not keep the terminal open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let master: OwnedFd = pty.master;
        Self { master: master.into(), child, screen: String::new(), read: 0 }
    }

    /// Waits until `text` appears behind what was expected before.
    pub fn expect(&mut self, text: &str) {
        self.expect_one_of(&[text]);
    }

    /// Whether `text` appears behind what was found before. The program may end without it.
    pub fn find(&mut self, text: &str) -> bool {
        self.find_one_of(&[text]).is_some()
    }

    /// Waits until one of `texts` appears behind what was found before; which one, comes back.
    pub fn expect_one_of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        self.find_one_of(texts).unwrap_or_else(|| panic!("none of {texts:?} on the screen:\n{}", self.screen))
    }

    fn find_one_of<'a>(&mut self, texts: &[&'a str]) -> Option<&'a str> {
        let start = Instant::now();
        loop {
            let unread = &self.screen[self.read..];
            let found = texts.iter().filter_map(|&text| Some((unread.find(text)?, text))).min();
            if let Some((at, text)) = found {
                self.read += at + text.len();
                return Some(text);
            }
            if start.elapsed() > PATIENCE || !self.read_more() {
                return None;
            }
        }
    }

    /// Where another thread may type meanwhile.
    pub fn keys(&self) -> File {
        self.master.try_clone().unwrap()
    }

    /// The process id of the program.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Types a line.
    pub fn send(&mut self, line: &str) {
        self.master.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Reads until the program has ended; its exit status (128 + signal, if one ended it) comes back.
    pub fn end(&mut self) -> i32 {
        let start = Instant::now();
        while self.read_more() {
            assert!(start.elapsed() < PATIENCE, "the program does not end:\n{}", self.screen);
        }
        let status = self.child.wait().unwrap();
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
    }

    /// Whether there may be more to come.
    fn read_more(&mut self) -> bool {
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(100_u8)).unwrap() == 0 {
            return true;
        }
        let mut bytes = [0; 4096];
        match self.master.read(&mut bytes) {
            // A terminal without a program gives EIO. Debian 13's login leaves it for a moment, and comes back.
            Ok(0) | Err(_) => {
                let lives_on = self.child.try_wait().unwrap().is_none();
                if lives_on {
                    std::thread::sleep(Duration::from_millis(10));
                }
                lives_on
            }
            Ok(count) => {
                self.screen.push_str(&String::from_utf8_lossy(&bytes[..count]));
                true
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
