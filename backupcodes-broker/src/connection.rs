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
pub(crate) fn serve(config: Config, conf: Option<PathBuf>, stream: UnixStream) -> io::Result<()> {
    nix::unistd::alarm::set(LONGEST_CONNECTION);
    stream.set_write_timeout(Some(WRITE))?;
    let caller = Caller::of(&stream)?;
    let connection = Connection::new(config, conf, caller);
    let mut patience = FIRST;
    let mut messages = Messages::of(&stream);
    while let Some(message) = messages.receive(patience)? {
        patience = LATER;
        connection.reply(&message, &mut &stream)?;
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

/// The messages that come on a connection.
struct Messages<'a> {
    stream: &'a UnixStream,
    /// Received bytes after the last message. Reserved in full, so that growing leaves no copy in memory.
    rest: Zeroizing<Vec<u8>>,
}

impl<'a> Messages<'a> {
    fn of(stream: &'a UnixStream) -> Self {
        Self { stream, rest: Zeroizing::new(Vec::with_capacity(LARGEST)) }
    }

    /// Receives one message, including its NUL. `None`: the client has closed the connection.
    fn receive(&mut self, patience: Patience) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let start = Instant::now();
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == 0) {
                let message = Zeroizing::new(self.rest.get(..=end).unwrap_or_default().to_vec());
                self.rest.drain(..=end);
                return Ok(Some(message));
            }
            let left = patience.total.checked_sub(start.elapsed()).filter(|left| !left.is_zero());
            let left = left.ok_or(io::ErrorKind::TimedOut)?.min(patience.silence);
            self.stream.set_read_timeout(Some(left))?;
            let mut piece = Zeroizing::new([0; 4096]);
            let room = LARGEST.saturating_sub(self.rest.len()).min(piece.len());
            if room == 0 {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            match self.stream.read(piece.get_mut(..room).unwrap_or_default()) {
                Ok(0) if self.rest.is_empty() => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.rest.extend_from_slice(piece.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::wait;

    /// Receives a message whose bytes arrive with this delay.
    fn dripped(bytes: &'static [u8], distance: Duration, patience: Patience) -> io::Result<Option<Vec<u8>>> {
        let (broker, mut client) = UnixStream::pair()?;
        let drip = std::thread::spawn(move || {
            for byte in bytes {
                wait(distance);
                // The broker may have closed the connection.
                let _ = client.write_all(&[*byte]);
            }
            wait(distance);
        });
        let received = Messages::of(&broker).receive(patience);
        let received = received.map(|message| message.map(|message| message.to_vec()));
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
        let (broker, mut client) = UnixStream::pair().unwrap();
        client.write_all(b"{}\0{ }\0{").unwrap();
        drop(client);
        let mut messages = Messages::of(&broker);
        let mut next = || messages.receive(first).map(|message| message.map(|message| message.to_vec()));
        assert_eq!([next().unwrap(), next().unwrap()], [Some(b"{}\0".to_vec()), Some(b"{ }\0".to_vec())]);
        assert_eq!(next().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(LATER.silence == Duration::from_secs(300) && LONGEST_CONNECTION == 600, "as in the manual");
    }
}
