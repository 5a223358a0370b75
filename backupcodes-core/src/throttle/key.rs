//! Names and files of keys. None can leave its place, and there are not many.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::directory::Directory;
use crate::name::{escaped, unescaped};
use crate::store::StoreError;
use crate::trust::Kind;

/// What is counted together.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The account's name; all that do not exist are counted together.
    pub user: Option<&'a str>,
    /// The PAM service.
    pub service: &'a str,
    /// The remote host, or `local`.
    pub source: &'a str,
}

/// The source of attempts that come from this host itself.
pub const LOCAL: &str = "local";

/// The most keys of a user. Attempts from further places share one, so that nobody can fill /run.
const MOST_KEYS: usize = 64;

/// The folder of the users that do not exist. No escaped name is this one, or one of the next two.
const UNKNOWN: &str = "%unknown";
/// The key of the further places. Those of this host have one of their own: whoever can come from many addresses shall
/// not reach the console.
const OTHER: &str = "%other";
const OTHER_LOCAL: &str = "%local";

/// The most bytes of a folder, and of both parts of a key: with the `@`, a file name of at most 255.
const USER: usize = 250;
const SERVICE: usize = 64;
const SOURCE: usize = 190;

/// The name of a user's folder.
pub(super) fn folder_name(user: Option<&str>) -> String {
    user.map_or_else(|| UNKNOWN.into(), |user| escaped(user, USER))
}

/// The service and source that a key stands for.
pub(super) fn place_of(name: &str) -> (String, String) {
    let any = || "*".into();
    let own = |(service, source)| Some((unescaped(service)?, unescaped(source)?));
    let shared = || (any(), if name == OTHER_LOCAL { LOCAL.into() } else { any() });
    name.split_once('@').and_then(own).unwrap_or_else(shared)
}

/// Opens the key's file, or makes it, or opens the one that is shared where there are too many.
pub(super) fn open_key(folder: &Directory, key: Key<'_>) -> Result<(OwnedFd, String), StoreError> {
    let name = format!("{}@{}", escaped(key.service, SERVICE), escaped(key.source, SOURCE));
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND;
    match folder.file(&name, flags) {
        Err(Errno::ENOENT) => {}
        opened => return named(folder, opened, name),
    }
    let name = match folder.names()?.len() {
        keys if keys < MOST_KEYS => name,
        _ if key.source == LOCAL => OTHER_LOCAL.into(),
        _ => OTHER.into(),
    };
    named(folder, folder.file(&name, flags | OFlag::O_CREAT), name)
}

fn named(
    folder: &Directory,
    opened: Result<OwnedFd, Errno>,
    name: String,
) -> Result<(OwnedFd, String), StoreError> {
    match opened {
        Ok(fd) => Ok((fd, name)),
        Err(Errno::ELOOP) => Err(Kind::Counter.refuse(&folder.path_of(&name), "a symbolic link").into()),
        Err(errno) => Err(StoreError::system(&folder.path_of(&name), "open")(errno)),
    }
}
