//! Control groups: whoever owns one may end, freeze or starve all that is in it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::mounts::Mount;

/// Joins the groups of init, which are nobody's but root's, in each hierarchy. A unit of systemd that sees them read-only, as that
/// of the delivery itself (ProtectControlGroups), stays in its own, which is root's as well.
pub(super) fn join_those_of_init() {
    let [own, of_init] =
        ["self", "1"].map(|process| fs::read_to_string(Path::new("/proc").join(process).join("cgroup")));
    let (Ok(own), Ok(of_init)) = (own, of_init) else { return };
    let mounts = Mount::all();
    for group in of_init.lines().filter(|group| !own.lines().any(|own| own == *group)) {
        // One may be mounted read-only as well.
        mounts.iter().filter_map(|mount| directory(group, mount)).any(|directory| join(&directory).is_ok());
    }
}

fn join(directory: &Path) -> std::io::Result<()> {
    OpenOptions::new().write(true).open(directory.join("cgroup.procs"))?.write_all(b"0")
}

/// Where a group, as a line of cgroups(7) has it, lies in what is mounted there.
fn directory(group: &str, mount: &Mount) -> Option<PathBuf> {
    let mut group = group.splitn(3, ':').skip(1);
    let (controllers, path) = (group.next()?, group.next()?);
    let is_here = match mount.kind.as_str() {
        "cgroup2" => controllers.is_empty(),
        "cgroup" => controllers.split(',').all(|controller| mount.has_option(controller)),
        _ => false,
    };
    let below = Path::new(path).strip_prefix(&mount.root).ok()?;
    is_here.then(|| mount.point.join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
    const BOUND: &str = "30 23 0:26 /docker/f00 /sys/fs/cgroup rw - cgroup2 cgroup rw";
    const FIRST: &str = "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct";
    const NAMED: &str = "40 31 0:37 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,release_agent=/a,name=systemd";

    #[test]
    fn a_group_is_found_where_its_hierarchy_is_mounted() {
        for (group, mount, found) in [
            ("0::/init.scope", SECOND, Some("/sys/fs/cgroup/init.scope")),
            ("0::/", SECOND, Some("/sys/fs/cgroup")),
            ("0::/docker/f00/init", BOUND, Some("/sys/fs/cgroup/init")),
            ("0::/docker/f00", BOUND, Some("/sys/fs/cgroup")),
            ("0::/elsewhere", BOUND, None),
            ("4:cpu,cpuacct:/a:b", FIRST, Some("/sys/fs/cgroup/cpu,cpuacct/a:b")),
            ("4:cpu:/", FIRST, Some("/sys/fs/cgroup/cpu,cpuacct")),
            ("6:freezer:/", FIRST, None),
            ("1:name=systemd:/init.scope", NAMED, Some("/sys/fs/cgroup/systemd/init.scope")),
            ("0::/", FIRST, None),
            ("4:cpu:/", SECOND, None),
            ("0::/", "22 28 0:21 / /sys rw - sysfs sysfs rw", None),
            ("0::", SECOND, None),
            ("", SECOND, None),
        ] {
            let mount = Mount::parse(mount).unwrap();
            assert_eq!(directory(group, &mount), found.map(PathBuf::from), "{group} {mount:?}");
        }
    }
}
