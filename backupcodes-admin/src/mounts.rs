//! What is mounted where, as /proc/self/mountinfo has it: proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::O_PATH;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    id: String,
    /// `MAJOR:MINOR`; the former is 0 where it is no disk's.
    pub(crate) device: String,
    /// What of the file system is mounted.
    pub(crate) root: PathBuf,
    pub(crate) point: PathBuf,
    /// The type of the file system.
    pub(crate) kind: String,
    pub(crate) source: PathBuf,
    /// The file system's own, not those of this mount.
    pub(crate) options: Vec<String>,
}

impl Mount {
    /// All of them; none where the kernel does not tell.
    pub(crate) fn all() -> Vec<Self> {
        let lines = fs::read("/proc/self/mountinfo").unwrap_or_default();
        String::from_utf8_lossy(&lines).lines().filter_map(Self::parse).collect()
    }

    /// The one that a file lies on. Its device does not tell on btrfs and overlays, the number of the mount does.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).custom_flags(O_PATH).open(path)?;
        let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
        let id = about.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
        let mount = id.and_then(|id| Self::all().into_iter().find(|mount| mount.id == id));
        mount.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (place, disk) = line.split_once(" - ")?;
        let mut place = place.split(' ');
        let (id, device) = (place.next()?.into(), place.nth(1)?.into());
        let (root, point) = (unescaped(place.next()?), unescaped(place.next()?));
        let mut disk = disk.split(' ');
        let (kind, source) = (disk.next()?.into(), unescaped(disk.next()?));
        let options = disk.next()?.split(',').map(str::to_owned).collect();
        Some(Self { id, device, root, point, kind, source, options })
    }

    pub(crate) fn has_option(&self, option: &str) -> bool {
        self.options.iter().any(|other| other == option)
    }
}

/// Spaces, commas and the like stand as `\` and three octal digits.
pub(crate) fn unescaped(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, behind)) = rest.split_first() {
        let octal = behind.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = octal.filter(|_| first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { behind.get(3..).unwrap_or_default() } else { behind };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_is_read() {
        let line = r"30 28 0:31 /a /var\040x rw,relatime shared:5 master:1 - overlay over\040lay rw,lowerdir=/a,upperdir=/b\040c\054d";
        let mount = Mount::parse(line).unwrap();
        assert_eq!(
            (mount.id.as_str(), mount.device.as_str(), mount.kind.as_str()),
            ("30", "0:31", "overlay")
        );
        let paths = [&mount.root, &mount.point, &mount.source].map(|path| path.to_str().unwrap());
        assert_eq!(paths, ["/a", "/var x", "over lay"]);
        assert_eq!(unescaped(mount.options[2].strip_prefix("upperdir=").unwrap()), Path::new("/b c,d"));
        assert!(mount.has_option("rw") && !mount.has_option("ro"));
        assert_eq!(unescaped(r"\"), Path::new(r"\"));
        assert_eq!(unescaped(r"a\13"), Path::new(r"a\13"));
        assert_eq!(unescaped(r"a\999"), Path::new(r"a\999"));
        for short in ["36 35 98:0 / /home rw", "36 35 98:0 / /home rw - ext4 /dev/sda1", ""] {
            assert_eq!(Mount::parse(short), None, "{short}");
        }
    }
}
