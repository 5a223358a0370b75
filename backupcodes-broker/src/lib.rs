//! `backupcodes-broker`: checks backup codes for processes without access to the sets, and renews sets.
//!
//! It is socket-activated and ends when it is idle. Each connection has its own process, so that no connection can stop or
//! observe another.
#![forbid(unsafe_code)]

mod caller;
mod connection;
mod conversation;
mod error;
mod interface;
mod listener;
mod renewal;
mod renewal_service;

use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use backupcodes_core::config::{Config, ConfigError};
use backupcodes_core::log::log;
use backupcodes_core::verify::Level;
use backupcodes_core::visible::shown;
use clap::Parser;

pub use crate::caller::Caller;
pub use crate::connection::Connection;

/// A socket-activated broker ends after this time without connections.
const IDLE: Duration = Duration::from_secs(30);

/// Checks backup codes for processes that do not run as root, and renews sets of users.
#[derive(Parser)]
#[command(name = "backupcodes-broker", version, max_term_width = 100)]
struct Cli {
    /// Configuration file instead of /etc/security/backupcodes.conf.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Listens on this socket, in the foreground, instead of on the socket from systemd.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// What the broker starts itself with for a connection: `--connection [CONFIG]`. Clap would add an eighth to the time that a process
/// takes to start, and each login waits for it.
pub(crate) const CONNECTION: &str = "--connection";

/// Runs the broker with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let done = if arguments.next().is_some_and(|first| first == CONNECTION) {
        serve_one(arguments.next().map(PathBuf::from))
    } else {
        run(&Cli::parse())
    };
    let Err(failure) = done else { return ExitCode::SUCCESS };
    if matches!(failure, Failure::Connection(_)) {
        // Any user can cause this.
        log(Level::Debug, &failure.to_string());
    } else {
        log(Level::Error, &failure.to_string());
        complain(&failure);
    }
    ExitCode::from(3)
}

/// Why the broker ends.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "{path}: cannot listen on it ({error}); expected a directory owned by root, without a file of that name"
    )]
    Listen { path: PathBuf, error: std::io::Error },
    #[error("no socket to listen on; expected one from systemd, or --socket PATH")]
    NoSocket,
    #[error("core dumps cannot be disabled ({0}); the memory of this process may contain codes")]
    Dumpable(nix::errno::Errno),
    #[error("the socket failed: {0}")]
    Serve(std::io::Error),
    #[error("the connection failed: {0}")]
    Connection(std::io::Error),
}

/// Serves the connection on standard input.
fn serve_one(config: Option<PathBuf>) -> Result<(), Failure> {
    nix::sys::prctl::set_dumpable(false).map_err(Failure::Dumpable)?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(Failure::Connection)?;
    // Programs that PAM modules start must not inherit the connection.
    let nothing = File::open("/dev/null").map_err(Failure::Connection)?;
    nix::unistd::dup2_stdin(nothing).map_err(|errno| Failure::Connection(errno.into()))?;
    let loaded = Config::load(config.as_deref())?;
    connection::serve(loaded, config, UnixStream::from(socket)).map_err(Failure::Connection)
}

fn run(cli: &Cli) -> Result<(), Failure> {
    nix::sys::prctl::set_dumpable(false).map_err(Failure::Dumpable)?;
    // An error is reported at the start as well, not only to each caller.
    let usable = Config::load(cli.config.as_deref());
    let (listener, idle) = match &cli.socket {
        Some(path) => {
            usable?;
            (listen(path)?, None)
        }
        None => {
            // If the broker ended here, systemd would start it again for each call, and soon give up for good.
            if let Err(error) = usable {
                log(Level::Error, &error.to_string());
            }
            (inherited().ok_or(Failure::NoSocket)?, Some(IDLE))
        }
    };
    listener::serve(&listener, cli.config.as_deref(), idle).map_err(Failure::Serve)
}

fn inherited() -> Option<UnixListener> {
    listenfd::ListenFd::from_env().take_unix_listener(0).ok().flatten()
}

fn listen(path: &Path) -> Result<UnixListener, Failure> {
    let failed = |error| Failure::Listen { path: path.into(), error };
    if let Some(folder) = path.parent() {
        // After a boot, /run/backupcodes does not exist.
        match DirBuilder::new().create(folder) {
            // The umask does not matter.
            Ok(()) => std::fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(failed)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    // A killed broker may have left its socket. The socket of a running broker is not replaced.
    let is_left = |file: Metadata| file.file_type().is_socket() && UnixStream::connect(path).is_err();
    if std::fs::symlink_metadata(path).is_ok_and(is_left) {
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o666)).map_err(failed)?;
    Ok(listener)
}

/// Reports the failure on standard error as well, for a broker that was started by hand.
fn complain(failure: &Failure) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "backupcodes-broker: {}", shown(&failure.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_manual_documents_exactly_the_options() {
        manual_pages::assert_documented(Cli::command(), include_str!("../../man/backupcodes-broker.8"));
    }
}
