//! Running deliveries.

use std::fs;

use nix::unistd::Pid;

use crate::patience::wait_until;
use crate::{World, text};

impl World {
    /// What runs of this world's deliveries, by the paths on the command lines, and whether it is sendmail.
    pub fn deliveries(&self) -> Vec<(Pid, bool)> {
        let folder = self.folder.path().to_str().unwrap();
        let look = |entry: fs::DirEntry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let arguments = text(&fs::read(entry.path().join("cmdline")).ok()?);
            let is_sendmail = arguments.contains("/postbox/sendmail");
            let is_ours = arguments.contains(folder) && (is_sendmail || arguments.ends_with("notify\0"));
            is_ours.then(|| (Pid::from_raw(id), is_sendmail))
        };
        fs::read_dir("/proc").unwrap().filter_map(|entry| look(entry.ok()?)).collect()
    }

    /// Waits until neither a delivery nor a sendmail runs, which may outlive a delivery that was killed.
    pub fn wait_until_idle(&self) {
        wait_until("the end of all deliveries", || self.deliveries().is_empty());
    }
}
