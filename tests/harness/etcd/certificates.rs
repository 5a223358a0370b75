//! A certificate authority, whose keys are quickly made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::run;
use crate::set_mode;

/// What a client or a server needs to prove who it is.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate of the authority.
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

pub(super) struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// A new one, whose files are in this folder.
    pub(super) fn new(folder: &Path) -> Self {
        let authority = Self { folder: folder.join("certificates") };
        fs::create_dir(&authority.folder).unwrap();
        fs::write(authority.folder.join("openssl.conf"), include_str!("openssl.conf")).unwrap();
        authority.make("ca", "/O=backupcodes tests", &["-extensions", "authority"]);
        authority
    }

    /// A certificate whose CN is this name.
    pub(super) fn client(&self, name: &str) -> Certificate {
        let certificate = self.paths(name);
        if !certificate.certificate.exists() {
            self.make(
                name,
                &format!("/CN={name}"),
                &[&["-extensions", "client"], &self.signer()[..]].concat(),
            );
        }
        certificate
    }

    /// A certificate without a CN for the node with this address: etcd's gateway refuses one with a CN.
    pub(super) fn server(&self, name: &str, address: &str) -> Certificate {
        let address = format!("subjectAltName=IP:{address},IP:127.0.0.1");
        let extensions = ["-extensions", "server", "-addext", &address];
        self.make(name, "/O=backupcodes", &[&extensions, &self.signer()[..]].concat());
        self.paths(name)
    }

    fn signer(&self) -> [&str; 4] {
        ["-CA", "ca.crt", "-CAkey", "ca.key"]
    }

    fn make(&self, name: &str, subject: &str, arguments: &[&str]) {
        let Certificate { certificate, key, .. } = self.paths(name);
        let mut command = Command::new("openssl");
        command.current_dir(&self.folder).args(["req", "-x509", "-config", "openssl.conf", "-days", "90"]);
        command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-subj", subject]);
        run(command.arg("-keyout").arg(&key).arg("-out").arg(certificate).args(arguments), "");
        set_mode(&key, 0o600);
    }

    fn paths(&self, name: &str) -> Certificate {
        let path = |name: String| self.folder.join(name);
        Certificate {
            ca: path("ca.crt".into()),
            certificate: path(format!("{name}.crt")),
            key: path(format!("{name}.key")),
        }
    }
}
