//! Hash permits limit the simultaneous hashes on the machine, so that a storm of logins does not exhaust its memory.
//!
//! A permit is a file `hash-permits/<number>` in the runtime directory, held by its `flock`. Permits are advisory: a process that
//! has waited for 5 s or cannot reach them goes on without one, so that no stopped process can lock users out. A storm that
//! lasts longer exceeds the limit, since locking users out would be worse.

use std::path::PathBuf;
use std::time::Duration;

use argon2::Block;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{SysconfVar, getpid, sysconf};

use crate::config::{Config, MOST_PERMITS};
use crate::files::directory::Directory;
use crate::files::lock::{Deadline, Locked, PATIENCE, try_lock};
use crate::hash::{Memory, OutOfMemory};

/// The pause between two attempts to take a permit: a hash takes tens of milliseconds. It grows, since attempts cost time too.
const FIRST_PAUSE: Duration = Duration::from_millis(8);
const LONGEST_PAUSE: Duration = Duration::from_millis(64);
const FOLDER: &str = "hash-permits";

/// Memory for a hash, allocated once a permit is held. Both are released when this is dropped.
pub struct WithPermit {
    memory: Box<dyn Memory>,
    runtime: PathBuf,
    /// How many there are.
    permits: u32,
    held: Option<Locked>,
}

impl WithPermit {
    /// `memory`, for as many simultaneous runs as the configuration allows.
    pub fn new(config: &Config, memory: Box<dyn Memory>) -> Self {
        let permits = count(config.hash.concurrent);
        Self { memory, runtime: config.runtime_directory.clone(), permits, held: None }
    }

    /// A permit, if one is free before the deadline.
    fn take(&self) -> Option<Locked> {
        let deadline = Deadline::after(PATIENCE);
        let directory = Directory::runtime(&self.runtime).ok()?.inner(FOLDER).ok()?;
        // Processes begin at different permits.
        let first = getpid().as_raw().unsigned_abs();
        let mut pause = FIRST_PAUSE;
        loop {
            for at in 0..self.permits {
                let number = first.wrapping_add(at).checked_rem(self.permits)?;
                let name = number.to_string();
                let fd = match directory.file(&name, OFlag::O_RDWR) {
                    Err(Errno::ENOENT) => directory.make_file(&name, OFlag::O_RDWR).ok()?,
                    opened => opened.ok()?,
                };
                if let Ok(permit) = try_lock(fd).ok()? {
                    return Some(permit);
                }
            }
            if !deadline.wait(pause) {
                return None;
            }
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }
}

impl Memory for WithPermit {
    fn blocks(&mut self, count: usize) -> Result<&mut [Block], OutOfMemory> {
        if self.held.is_none() {
            self.held = self.take();
        }
        self.memory.blocks(count)
    }
}

/// The number of permits; 0 means twice the processors, at least 4.
fn count(concurrent: u32) -> u32 {
    if concurrent > 0 {
        return concurrent;
    }
    // The processors of the machine: the caller may have limited those of this process.
    let processors =
        sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten().and_then(|n| u32::try_from(n).ok());
    processors.map_or(4, |processors| processors.saturating_mul(2).clamp(4, MOST_PERMITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::HeapMemory;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    fn config(concurrent: u32) -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { runtime_directory: folder.path().join("run"), ..Config::default() };
        config.hash.concurrent = concurrent;
        (folder, config)
    }

    #[test]
    fn simultaneous_hashes_are_limited_to_the_permits() {
        let (_folder, config) = config(3);
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..24 {
                scope.spawn(|| {
                    let mut memory = WithPermit::new(&config, Box::<HeapMemory>::default());
                    memory.blocks(8).unwrap();
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    Deadline::after(PATIENCE).wait(Duration::from_millis(30));
                    running.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn a_process_continues_without_a_permit_after_a_maximum_wait() {
        let (_folder, config) = config(1);
        let mut first = WithPermit::new(&config, Box::<HeapMemory>::default());
        first.blocks(8).unwrap();
        first.blocks(16).unwrap();
        let start = Instant::now();
        let mut second = WithPermit::new(&config, Box::<HeapMemory>::default());
        second.blocks(8).unwrap();
        assert!(second.held.is_none() && (5..60).contains(&start.elapsed().as_secs()));
        drop(first);
        second.blocks(8).unwrap();
        assert!(second.held.is_some());
    }

    #[test]
    fn without_permits_that_can_be_reached_a_hash_is_computed() {
        let (folder, config) = config(1);
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        std::fs::write(folder.path().join("run"), "").unwrap();
        let start = Instant::now();
        let mut memory = WithPermit::new(&config, Box::<HeapMemory>::default());
        assert!(memory.blocks(8).is_ok() && memory.held.is_none() && start.elapsed() < PATIENCE);
    }

    #[test]
    fn the_default_is_twice_the_processors_and_at_least_four() {
        assert_eq!(count(7), 7);
        assert!(count(0) >= 4 && count(0) % 2 == 0);
    }
}
