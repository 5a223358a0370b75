//! One connection, in a process of its own. What comes is bounded in size and time before any of it is looked at.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use backupcodes_core::broker::LARGEST;
use backupcodes_core::config::Config;
use varlink::{ConnectionHandler, VarlinkService};
use zeroize::Zeroizing;

use crate::caller::Caller;
use crate::interface::Methods;

/// The first call must be there so soon: nobody who connects has anything else to do.
const FIRST: Duration = Duration::from_secs(10);
/// Later ones wait for somebody who types.
const LATER: Duration = Duration::from_secs(120);
/// Nobody waits longer for us to write.
const WRITE: Duration = Duration::from_secs(10);
/// No connection lasts longer, whatever it does. In seconds.
const WHOLE: u32 = 600;

/// Answers calls until the other end is closed.
///
/// # Errors
/// It said nothing in time, or too much, or what is no call.
pub(crate) fn serve(config: Config, conf: Option<PathBuf>, mut stream: UnixStream) -> io::Result<()> {
    nix::unistd::alarm::set(WHOLE);
    stream.set_write_timeout(Some(WRITE))?;
    let caller = Caller::of(&stream)?;
    let service = VarlinkService::new(
        "pam_backupcodes",
        "backupcodes-broker",
        env!("CARGO_PKG_VERSION"),
        "",
        vec![Box::new(Methods::new(config, conf, caller))],
    );
    let mut patience = FIRST;
    while let Some(message) = receive(&mut stream, patience)? {
        patience = LATER;
        service.handle(&mut message.as_slice(), &mut stream, None).map_err(io::Error::other)?;
    }
    Ok(())
}

/// One message, with the NUL at its end. `None`: the other end is closed.
fn receive(stream: &mut UnixStream, patience: Duration) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let start = Instant::now();
    let mut message = Zeroizing::new(Vec::with_capacity(LARGEST));
    // Byte by byte: what is behind the NUL is of the next call. A call is short, and has a process for itself.
    let mut byte = [0];
    loop {
        let left = patience.checked_sub(start.elapsed()).filter(|left| !left.is_zero());
        stream.set_read_timeout(Some(left.ok_or(io::ErrorKind::TimedOut)?))?;
        match stream.read(&mut byte) {
            Ok(0) if message.is_empty() => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) if message.len() >= LARGEST => return Err(io::ErrorKind::FileTooLarge.into()),
            Ok(_) => message.extend_from_slice(&byte),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if byte == [0] {
            return Ok(Some(message));
        }
    }
}
