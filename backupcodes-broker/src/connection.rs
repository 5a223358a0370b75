//! One connection, in its own process. Messages are limited in size and time before they are parsed.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use backupcodes_core::config::Config;
use backupcodes_core::protocol::LARGEST;
use varlink::{ConnectionHandler, VarlinkService};
use zeroize::Zeroizing;

use crate::caller::Caller;
use crate::interface::Methods;

/// The limits of the first call, which a client sends at once.
const FIRST: Patience = Patience { total: Duration::from_secs(10), silence: Duration::from_secs(10) };
/// The limits of later calls, for which a user may have to fetch the sheet and type.
const LATER: Patience = Patience { total: Duration::MAX, silence: Duration::from_secs(300) };
/// The longest wait for a client that does not read.
const WRITE: Duration = Duration::from_secs(10);
/// The longest time of a connection, in seconds.
pub(crate) const LONGEST_CONNECTION: u32 = 600;

/// The longest waits for a message.
#[derive(Clone, Copy)]
struct Patience {
    /// For the whole message.
    total: Duration,
    /// Between two bytes.
    silence: Duration,
}

/// Replies to calls until the client closes the connection.
///
/// # Errors
/// A message is late, too long, or not a call.
pub(crate) fn serve(config: Config, conf: Option<PathBuf>, mut stream: UnixStream) -> io::Result<()> {
    nix::unistd::alarm::set(LONGEST_CONNECTION);
    stream.set_write_timeout(Some(WRITE))?;
    let caller = Caller::of(&stream)?;
    let connection = Connection::new(config, conf, caller);
    let mut patience = FIRST;
    while let Some(message) = receive(&mut stream, patience)? {
        patience = LATER;
        connection.reply(&message, &mut stream)?;
    }
    Ok(())
}

/// The state of a connection.
pub struct Connection(VarlinkService);

impl Connection {
    /// A connection of `caller`. `conf` is the file of the configuration, unless it is the system's.
    #[must_use]
    pub fn new(config: Config, conf: Option<PathBuf>, caller: Caller) -> Self {
        Self(VarlinkService::new(
            "pam_backupcodes",
            "backupcodes-broker",
            env!("CARGO_PKG_VERSION"),
            "",
            vec![Box::new(Methods::new(config, conf, caller))],
        ))
    }

    /// Writes the reply to one message, which includes its NUL.
    ///
    /// # Errors
    /// The message is not a call, or the reply cannot be written.
    pub fn reply(&self, mut message: &[u8], to: &mut impl Write) -> io::Result<()> {
        self.0.handle(&mut message, to, None).map(drop).map_err(io::Error::other)
    }
}

/// Receives one message, including its NUL. `None`: the client has closed the connection.
fn receive(stream: &mut UnixStream, patience: Patience) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let start = Instant::now();
    let mut message = Zeroizing::new(Vec::with_capacity(LARGEST));
    // Byte by byte, since bytes after the NUL belong to the next call. A call is short.
    let mut byte = [0];
    loop {
        let left = patience.total.checked_sub(start.elapsed()).filter(|left| !left.is_zero());
        let left = left.ok_or(io::ErrorKind::TimedOut)?.min(patience.silence);
        stream.set_read_timeout(Some(left))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::wait;

    /// Receives a message whose bytes arrive with this delay.
    fn dripped(bytes: &'static [u8], distance: Duration, patience: Patience) -> io::Result<Option<Vec<u8>>> {
        let (mut broker, mut client) = UnixStream::pair()?;
        let drip = std::thread::spawn(move || {
            for byte in bytes {
                wait(distance);
                // The broker may have closed the connection.
                let _ = client.write_all(&[*byte]);
            }
            wait(distance);
        });
        let received = receive(&mut broker, patience).map(|message| message.map(|message| message.to_vec()));
        drop(broker);
        drip.join().unwrap();
        received
    }

    #[test]
    fn silence_counts_from_the_last_byte_and_the_total_from_the_beginning() {
        let ms = Duration::from_millis;
        let later = Patience { total: Duration::MAX, silence: ms(400) };
        let message = dripped(b"{       }\0", ms(80), later).unwrap();
        assert_eq!(
            message.as_deref(),
            Some(&b"{       }\0"[..]),
            "800 ms in all, but never 400 ms of silence"
        );
        // The client's end is still open.
        let is_late = |message: &'static [u8], distance| {
            let error = dripped(message, distance, later).unwrap_err();
            [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind())
        };
        assert!(is_late(b"{", ms(800)), "silent from the beginning");
        assert!(is_late(b"{}", ms(800)), "silent in the middle");
        let first = Patience { total: ms(400), silence: ms(400) };
        assert!(dripped(b"{       }\0", ms(80), first).is_err(), "late");
        assert!(dripped(b"{}\0", ms(10), first).unwrap().is_some());
        assert!(LATER.silence == Duration::from_secs(300) && LONGEST_CONNECTION == 600, "as in the manual");
    }
}
