//! Serves connections. Their calls wait for the store without keeping each other waiting.

use std::io;
use std::sync::Arc;

use backupcodes_core::log::log;
use backupcodes_core::protocol::LARGEST;
use backupcodes_core::verify::Level;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use varlink::{ConnectionHandler, VarlinkService};

/// Serves all who connect: the mode of the socket lets only root.
///
/// # Errors
/// The socket cannot be used.
pub(crate) async fn serve(
    listener: std::os::unix::net::UnixListener,
    service: Arc<VarlinkService>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = Arc::clone(&service);
                tokio::spawn(async move {
                    if let Err(error) = serve_one(stream, service).await {
                        log(Level::Debug, &format!("a connection ended: {error}"));
                    }
                });
            }
            Err(error) => {
                log(Level::Error, &format!("a connection cannot be accepted: {error}"));
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve_one(stream: UnixStream, service: Arc<VarlinkService>) -> io::Result<()> {
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
        let service = Arc::clone(&service);
        let replied = tokio::task::spawn_blocking(move || {
            let mut reply = Vec::new();
            service.handle(&mut &*message, &mut reply, None).map(|_| reply).map_err(io::Error::other)
        });
        to.write_all(&replied.await.map_err(io::Error::other)??).await?;
    }
}
