//! One connection, in a process of its own. What comes is bounded in size and time before any of it is looked at.

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

/// The first call must be there so soon: nobody who connects has anything else to do.
const FIRST: Patience = Patience { whole: Duration::from_secs(10), silence: Duration::from_secs(10) };
/// Later ones wait for somebody who types, and fetches the sheet for it, and gives signs of life.
const LATER: Patience = Patience { whole: Duration::MAX, silence: Duration::from_secs(300) };
/// Nobody waits longer for us to write.
const WRITE: Duration = Duration::from_secs(10);
/// No connection lasts longer, whatever it does. In seconds.
pub(crate) const WHOLE: u32 = 600;

/// How long a message is waited for.
#[derive(Clone, Copy)]
struct Patience {
    /// Until it is there.
    whole: Duration,
    /// Without a byte of it.
    silence: Duration,
}

/// Answers calls until the other end is closed.
///
/// # Errors
/// It said nothing in time, or too much, or what is no call.
pub(crate) fn serve(config: Config, conf: Option<PathBuf>, mut stream: UnixStream) -> io::Result<()> {
    nix::unistd::alarm::set(WHOLE);
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

/// What has been said on a connection.
pub struct Connection(VarlinkService);

impl Connection {
    /// One of `caller`, with the configuration, and the file that it is from where that is not the usual one.
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

    /// Writes the reply to one message, which ends with its NUL.
    ///
    /// # Errors
    /// It is no call, or the reply cannot be written.
    pub fn reply(&self, mut message: &[u8], to: &mut impl Write) -> io::Result<()> {
        self.0.handle(&mut message, to, None).map(drop).map_err(io::Error::other)
    }
}

/// One message, with the NUL at its end. `None`: the other end is closed.
fn receive(stream: &mut UnixStream, patience: Patience) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let start = Instant::now();
    let mut message = Zeroizing::new(Vec::with_capacity(LARGEST));
    // Byte by byte: what is behind the NUL is of the next call. A call is short, and has a process for itself.
    let mut byte = [0];
    loop {
        let left = patience.whole.checked_sub(start.elapsed()).filter(|left| !left.is_zero());
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

    /// What comes of a message whose bytes come at this distance.
    fn dripped(bytes: &'static [u8], distance: Duration, patience: Patience) -> io::Result<Option<Vec<u8>>> {
        let (mut ours, mut theirs) = UnixStream::pair()?;
        let drip = std::thread::spawn(move || {
            for byte in bytes {
                wait(distance);
                // Where nobody reads any more, nothing is left to do.
                let _ = theirs.write_all(&[*byte]);
            }
            wait(distance);
        });
        let received = receive(&mut ours, patience).map(|message| message.map(|message| message.to_vec()));
        drop(ours);
        drip.join().unwrap();
        received
    }

    #[test]
    fn silence_counts_from_the_last_byte_and_the_whole_from_the_beginning() {
        let ms = Duration::from_millis;
        let later = Patience { whole: Duration::MAX, silence: ms(400) };
        let message = dripped(b"{       }\0", ms(80), later).unwrap();
        assert_eq!(message.as_deref(), Some(&b"{       }\0"[..]), "800 ms, and none of silence for 400");
        // The other end is still open then.
        let is_late = |message: &'static [u8], distance| {
            let error = dripped(message, distance, later).unwrap_err();
            [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind())
        };
        assert!(is_late(b"{", ms(800)), "silent from the beginning");
        assert!(is_late(b"{}", ms(800)), "silent in the middle");
        let first = Patience { whole: ms(400), silence: ms(400) };
        assert!(dripped(b"{       }\0", ms(80), first).is_err(), "not there in time");
        assert!(dripped(b"{}\0", ms(10), first).unwrap().is_some());
        assert!(LATER.silence == Duration::from_secs(300) && WHOLE == 600, "as the manual says");
    }
}
