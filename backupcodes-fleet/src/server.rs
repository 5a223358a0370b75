//! Serves connections. Their calls wait for the store without keeping each other waiting.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use backupcodes_core::log::log;
use backupcodes_core::protocol::LARGEST;
use backupcodes_core::verify::Level;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use varlink::{ConnectionHandler, VarlinkService};

use crate::etcd::at;
use crate::interface::Methods;
use crate::sets::Sets;

/// What each connection needs.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) sets: Arc<Sets>,
    /// How long a call may take, from the moment at which all of it has come.
    pub(crate) patience: Duration,
}

impl Server {
    /// Serves all who connect: the mode of the socket lets only root.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub(crate) async fn serve(self, listener: std::os::unix::net::UnixListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = server.serve_one(stream).await {
                            log(Level::Debug, &format!("a connection ended: {error}"));
                        }
                    });
                }
                Err(error) => {
                    log(Level::Error, &format!("a connection cannot be accepted: {error}"));
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn serve_one(self, stream: UnixStream) -> io::Result<()> {
        let (from, mut to) = stream.into_split();
        let mut from = BufReader::new(from);
        loop {
            let mut message = Vec::new();
            let most = u64::try_from(LARGEST).unwrap_or_default();
            (&mut from).take(most).read_until(0, &mut message).await?;
            match message.last() {
                None => return Ok(()),
                Some(0) => {}
                Some(_) if message.len() >= LARGEST => return Err(io::ErrorKind::FileTooLarge.into()),
                Some(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
            // A call may have to wait for a thread: its time runs.
            let service = self.service();
            let replied = tokio::task::spawn_blocking(move || {
                let mut reply = Vec::new();
                service.handle(&mut &*message, &mut reply, None).map(|_| reply).map_err(io::Error::other)
            });
            to.write_all(&replied.await.map_err(io::Error::other)??).await?;
        }
    }

    /// That for one call, which begins now.
    fn service(&self) -> VarlinkService {
        let methods =
            Methods { sets: Arc::clone(&self.sets), runtime: Handle::current(), deadline: at(self.patience) };
        let version = env!("CARGO_PKG_VERSION");
        VarlinkService::new("pam_backupcodes", "backupcodes-fleet", version, "", vec![Box::new(methods)])
    }
}
