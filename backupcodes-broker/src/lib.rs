//! `backupcodes-broker`: checks backup codes for processes that cannot reach the store themselves, and renews sets of users.
//!
//! It is started for its socket and ends when nobody needs it. Each connection has a process of its own, so that nobody's
//! connection can stop or see another's.
#![forbid(unsafe_code)]

mod caller;
mod connection;
mod conversation;
mod error;
mod interface;
mod listener;
mod log;
mod renewal;
mod service;

use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use backupcodes_core::config::{Config, ConfigError};
use backupcodes_core::verify::Level;
use backupcodes_core::visible::shown;
use clap::Parser;

pub use crate::caller::Caller;
pub use crate::connection::Connection;

/// A broker that systemd starts for its socket ends when nobody has called for so long.
const IDLE: Duration = Duration::from_secs(30);

/// Checks backup codes for processes that do not run as root, and renews sets of users.
#[derive(Parser)]
#[command(name = "backupcodes-broker", version, max_term_width = 100)]
struct Cli {
    /// Configuration file instead of /etc/security/backupcodes.conf.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Listens here, in the foreground, instead of on the socket that systemd has opened.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Serves the connection on standard input. The broker starts itself so.
    #[arg(long, hide = true, conflicts_with = "socket")]
    connection: bool,
}

/// The broker, with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Any user can cause that.
        Err(failure @ Failure::Connection(_)) => {
            log::log(Level::Debug, &failure.to_string());
            ExitCode::from(3)
        }
        Err(failure) => {
            log::log(Level::Error, &failure.to_string());
            complain(&failure);
            ExitCode::from(3)
        }
    }
}

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "{path}: cannot be listened on ({error}); expected a directory of root's, with nothing of that name in it"
    )]
    Listen { path: PathBuf, error: std::io::Error },
    #[error("there is no socket to listen on; expected one from systemd, or --socket PATH")]
    NoSocket,
    #[error("this process would leave a core dump ({0}); codes pass through here")]
    Dumpable(nix::errno::Errno),
    #[error("the socket does not serve any more: {0}")]
    Serve(std::io::Error),
    #[error("the connection is given up: {0}")]
    Connection(std::io::Error),
}

fn run(cli: &Cli) -> Result<(), Failure> {
    nix::sys::prctl::set_dumpable(false).map_err(Failure::Dumpable)?;
    if cli.connection {
        let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(Failure::Connection)?;
        // What PAM's modules start must not have it.
        let nothing = File::open("/dev/null").map_err(Failure::Connection)?;
        nix::unistd::dup2_stdin(nothing).map_err(|errno| Failure::Connection(errno.into()))?;
        let config = Config::load(cli.config.as_deref())?;
        return connection::serve(config, cli.config.clone(), UnixStream::from(socket))
            .map_err(Failure::Connection);
    }
    // What is wrong with it is said at the start, and not to each caller alone.
    let usable = Config::load(cli.config.as_deref());
    let (listener, idle) = match &cli.socket {
        Some(path) => {
            usable?;
            (listen(path)?, None)
        }
        None => {
            // Who ends here is started for the next one who calls, until systemd gives up, for good.
            if let Err(error) = usable {
                log::log(Level::Error, &error.to_string());
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
        // As /run/backupcodes is after a boot.
        match DirBuilder::new().create(folder) {
            // Whatever the umask is.
            Ok(()) => std::fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(failed)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    // What a broker left that was killed. Where one still listens, it is not taken from it.
    let is_left = |file: Metadata| file.file_type().is_socket() && UnixStream::connect(path).is_err();
    if std::fs::symlink_metadata(path).is_ok_and(is_left) {
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o666)).map_err(failed)?;
    Ok(listener)
}

/// On standard error as well: who starts it by hand looks there.
fn complain(failure: &Failure) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "backupcodes-broker: {}", shown(&failure.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_and_option_is_in_the_manual_and_no_other() {
        manual_pages::assert_documented(Cli::command(), include_str!("../../man/backupcodes-broker.8"));
    }
}
