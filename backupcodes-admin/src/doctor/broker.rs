//! Whether non-root programs find the broker.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::finding::{Finding, Level};

/// `service` is of such a program, and `socket` where the module looks for the broker.
pub(super) fn check(service: &str, socket: &Path) -> Option<Finding> {
    let is_socket = socket.metadata().is_ok_and(|file| file.file_type().is_socket());
    (!is_socket).then(|| {
        let message = format!(
            "the program does not run as root, and no broker listens at {}: it accepts no code",
            socket.display()
        );
        let remedy = "systemctl enable --now backupcodes-broker.socket";
        Finding::new(Level::Error, "broker-missing", service, message, remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_broker_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("broker");
        let found = check("swaylock", &socket).unwrap();
        assert_eq!((found.check, found.level, &*found.subject), ("broker-missing", Level::Error, "swaylock"));
        std::fs::write(&socket, "").unwrap();
        assert!(check("swaylock", &socket).is_some(), "no socket");
        std::fs::remove_file(&socket).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(check("swaylock", &socket), None);
    }
}
