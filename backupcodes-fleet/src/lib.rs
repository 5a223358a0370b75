//! `backupcodes-fleet`: keeps the sets of a fleet of hosts in etcd, for the programs of this host.
#![forbid(unsafe_code)]

mod authority;
mod etcd;
mod interface;
mod keys;
mod seen;
mod server;
mod sets;
mod setup;

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backupcodes_core::config::{Config, ConfigError, Fleet};
use backupcodes_core::log::log;
use backupcodes_core::protocol::fleet::Certificate;
use backupcodes_core::verify::Level;
use backupcodes_core::visible::shown;
use clap::{Parser, Subcommand};

use crate::authority::Authority;
use crate::etcd::{Etcd, EtcdError, Tls, with_causes};
use crate::keys::Prefix;
use crate::seen::Seen;
use crate::server::Server;
use crate::sets::Sets;

/// The part of the configured time that is for the way between the programs of this host.
const WITHIN: Duration = Duration::from_millis(500);
/// The file in the state directory.
const SEEN: &str = "seen";

/// Keeps the sets of a fleet of hosts in etcd, for the programs of this host.
#[derive(Parser)]
#[command(name = "backupcodes-fleet", version, max_term_width = 100)]
struct Cli {
    /// Configuration file instead of /etc/security/backupcodes.conf.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Listens on this socket, instead of on the socket from systemd.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Directory for what this host has seen of the store, instead of systemd's.
    #[arg(long, value_name = "DIR", env = "STATE_DIRECTORY", default_value = "/var/lib/backupcodes-fleet")]
    state: PathBuf,

    /// Certificate instead of the configuration's.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,

    /// Its key, instead of the configuration's.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    #[command(subcommand)]
    setup: Option<Setup>,
}

/// What `backupcodes-admin fleet` lets this program do instead of serving.
#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
enum Setup {
    /// Makes users, roles and permissions in etcd, and turns its authentication on.
    #[command(hide = true)]
    Init,
    /// Lets a host in, by the name in its certificate.
    #[command(hide = true)]
    AddHost { name: String },
    /// Keeps a host out, at once.
    #[command(hide = true)]
    RemoveHost { name: String },
    /// Lists the hosts.
    #[command(hide = true)]
    ListHosts,
}

/// Runs the service with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    let Err(failure) = run(&Cli::parse()) else { return ExitCode::SUCCESS };
    log(Level::Error, &failure.to_string());
    complain(&failure);
    ExitCode::from(3)
}

/// Why the service ends.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "this host shares no sets: fleet.endpoints is empty; expected the URLs of the nodes of etcd; see backupcodes.conf(5)"
    )]
    NotUsed,
    #[error(
        "{path}: cannot be read ({error}); expected a PEM file that the user backupcodes-fleet can read (a key: owner backupcodes-fleet, mode 0400)"
    )]
    File { path: PathBuf, error: io::Error },
    #[error(
        "the certificates cannot be used ({0}); expected PEM files: fleet.ca, fleet.certificate and its fleet.key"
    )]
    Tls(String),
    #[error(
        "{path}: cannot be used ({error}); free disk space; delete the file only if the store was not restored meanwhile"
    )]
    Seen { path: PathBuf, error: io::Error },
    #[error(
        "{path}: cannot listen on it ({error}); expected a directory owned by root, without a file of that name"
    )]
    Listen { path: PathBuf, error: io::Error },
    #[error("no socket to listen on; expected one from systemd, or --socket PATH")]
    NoSocket,
    #[error("etcd: {0}; {hint}", hint = hint(.0))]
    Etcd(#[from] EtcdError),
    #[error("{0} is a user of etcd that is no host; expected the name in the certificate of a host")]
    NoHost(String),
    #[error("the socket failed: {0}")]
    Serve(#[from] io::Error),
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let mut config = Config::load(cli.config.as_deref())?;
    config.fleet.certificate = cli.certificate.clone().unwrap_or(config.fleet.certificate);
    config.fleet.key = cli.key.clone().unwrap_or(config.fleet.key);
    if let Some(setup) = &cli.setup {
        return set_up(&config.fleet, setup);
    }
    let listener = match &cli.socket {
        Some(path) => listen(path).map_err(|error| Failure::Listen { path: path.clone(), error })?,
        None => inherited().ok_or(Failure::NoSocket)?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // What remains of the configured time is for the way between the programs of this host.
        let patience = config.fleet.timeout.saturating_sub(WITHIN);
        let sets = Arc::new(sets(&config.fleet, &cli.state)?);
        Ok(Server { sets, patience }.serve(listener).await?)
    })
}

/// With the certificate of etcd's root, which the configuration that was named has.
fn set_up(fleet: &Fleet, setup: &Setup) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (etcd, prefix) = (etcd(fleet, &tls(fleet)?)?, Prefix(fleet.prefix.clone()));
        let done = match setup {
            Setup::Init => setup::init(&etcd, &prefix).await,
            Setup::AddHost { name } => setup::add_host(&etcd, name).await,
            Setup::RemoveHost { name } => setup::remove_host(&etcd, name).await,
            Setup::ListHosts => setup::hosts(&etcd).await,
        };
        for line in done? {
            tell(&line);
        }
        Ok(())
    })
}

/// The store of the configuration.
fn etcd(fleet: &Fleet, tls: &Tls) -> Result<Etcd, Failure> {
    Etcd::new(&fleet.endpoints, tls).map_err(|error| Failure::Tls(with_causes(&error)))
}

/// Its certificates and this host's.
fn tls(fleet: &Fleet) -> Result<Tls, Failure> {
    if !fleet.is_used() {
        return Err(Failure::NotUsed);
    }
    Ok(Tls { ca: read(&fleet.ca)?, certificate: read(&fleet.certificate)?, key: read(&fleet.key)? })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::File { path: path.into(), error })
}

/// The sets in it.
fn sets(fleet: &Fleet, state: &Path) -> Result<Sets, Failure> {
    let tls = tls(fleet)?;
    let etcd = etcd(fleet, &tls)?;
    let authority = Authority::new(&tls).map_err(Failure::Tls)?;
    let path = state.join(SEEN);
    let seen = Seen::open(&path).map_err(|error| Failure::Seen { path, error })?;
    let host = nix::unistd::gethostname().map_err(io::Error::from)?.to_string_lossy().into_owned();
    let certificate = |path: &Path, pem: &[u8], of_chain: fn(u64, u64) -> u64| {
        Some(Certificate { path: path.display().to_string(), expires: expires(pem, of_chain)? })
    };
    let certificates = [
        certificate(&fleet.ca, &tls.ca, u64::max),
        certificate(&fleet.certificate, &tls.certificate, u64::min),
    ];
    let prefix = Prefix(fleet.prefix.clone());
    Ok(Sets {
        etcd,
        authority,
        prefix,
        seen,
        last_restored: Mutex::default(),
        host,
        certificates: certificates.into_iter().flatten().collect(),
    })
}

/// When the certificates in a file expire, in seconds since 1970: of authorities any one is enough, of a host's all are needed.
/// `None`: none can be read so; TLS judges that.
fn expires(pem: &[u8], of_chain: fn(u64, u64) -> u64) -> Option<u64> {
    let chain = x509_cert::Certificate::load_pem_chain(pem).ok()?;
    let ends =
        chain.iter().map(|one| one.tbs_certificate().validity().not_after.to_unix_duration().as_secs());
    ends.reduce(of_chain)
}

fn inherited() -> Option<UnixListener> {
    listenfd::ListenFd::from_env().take_unix_listener(0).ok().flatten()
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    // A killed service may have left its socket. That of a running one is not replaced.
    if path.exists() && UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// What may be wrong.
fn hint(error: &EtcdError) -> &'static str {
    match error {
        EtcdError::Refused { .. } => {
            "check the name, and that --certificate and --key are those of etcd's user root"
        }
        EtcdError::NoReply { .. } => "check etcd's log on the nodes, and fleet.endpoints",
    }
}

fn tell(line: &str) {
    use std::io::Write;
    let _ = writeln!(io::stdout(), "{}", shown(line));
}

/// Reports the failure on standard error as well, for a service that was started by hand.
fn complain(failure: &Failure) {
    use std::io::Write;
    let _ = writeln!(io::stderr(), "backupcodes-fleet: {}", shown(&failure.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_manual_documents_exactly_the_options() {
        manual_pages::assert_documented(Cli::command(), include_str!("../../man/backupcodes-fleet.8"));
    }
}
