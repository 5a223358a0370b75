//! `catch-log SOCKET FILE`: takes what programs send to syslog at SOCKET and appends it to FILE, a line a message.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(socket), Some(file)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: catch-log SOCKET FILE");
        std::process::exit(2);
    };
    let listener = UnixDatagram::bind(&socket)?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666))?;
    let mut log = std::fs::OpenOptions::new().create(true).append(true).open(file)?;
    let mut message = vec![0; 65_536];
    loop {
        let length = listener.recv(&mut message)?;
        // One write a line, so that a reader never sees half of one.
        let mut line = message[..length].to_vec();
        line.push(b'\n');
        log.write_all(&line)?;
    }
}
