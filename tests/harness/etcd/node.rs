//! One node: its process, its disk, its log.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::Pid;

use super::certificates::{Authority, Certificate};
use super::network::{address, name};
use crate::background::Background;
use crate::patience::wait_until;
use crate::text;

/// Where its process is, it ends with this value.
pub(super) struct Node {
    number: usize,
    program: PathBuf,
    /// For clients.
    certificate: Certificate,
    /// For the other nodes.
    peer: Certificate,
    /// A tmpfs: a stall of a busy disk would look like a fault.
    disk: PathBuf,
    /// In bytes; 0: what etcd has where nothing is said.
    quota: u64,
    log: PathBuf,
    process: Mutex<Option<Background>>,
}

impl Node {
    pub(super) fn new(
        number: usize,
        (size, quota): (&str, u64),
        programs: &Path,
        folder: &Path,
        (clients, peers): (&Authority, &Authority),
    ) -> Self {
        let disk = folder.join(format!("node{number}"));
        fs::create_dir(&disk).unwrap();
        let options = format!("size={size},mode=0700");
        mount(Some("tmpfs"), &disk, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        Self {
            number,
            program: programs.join("etcd"),
            certificate: clients.server(&format!("node{number}"), &address(number)),
            peer: peers.server(&format!("node{number}"), &address(number)),
            disk,
            quota,
            log: folder.join(format!("node{number}.log")),
            process: Mutex::new(None),
        }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("https://{}:2379", address(self.number))
    }

    /// Starts it, and waits until it listens.
    pub(super) fn start(&self, token: &str) {
        let mut process = self.process.lock().unwrap();
        *process = Some(Background::start(self.command(token)));
        wait_until("etcd's ports", || {
            let last = process.as_ref().unwrap();
            // One that was killed may hold them for a moment.
            if last.has_ended() {
                *process = Some(Background::start(self.command(token)));
                return false;
            }
            listens(last.id())
        });
    }

    pub(super) fn kill(&self) {
        *self.process.lock().unwrap() = None;
    }

    pub(super) fn runs(&self) -> bool {
        self.process.lock().unwrap().as_ref().is_some_and(|process| !process.has_ended())
    }

    pub(super) fn id(&self) -> Pid {
        self.process.lock().unwrap().as_ref().expect("a node that runs").id()
    }

    pub(super) fn stop(&self) {
        self.process.lock().unwrap().as_ref().expect("a node that runs").stop();
    }

    pub(super) fn go_on(&self) {
        self.process.lock().unwrap().as_ref().expect("a node that runs").go_on();
    }

    pub(super) fn fill_disk(&self) {
        let mut filler = File::create(self.disk.join(FILLER)).unwrap();
        let error = io::copy(&mut io::repeat(7), &mut filler).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    pub(super) fn make_room(&self) {
        fs::remove_file(self.disk.join(FILLER)).unwrap();
    }

    /// Kills it, and removes its data.
    pub(super) fn lose(&self) {
        self.kill();
        let _ = fs::remove_dir_all(self.data());
    }

    /// What `etcdctl snapshot restore` needs to know of it. Its data are removed.
    pub(super) fn restore<'a>(&self, command: &'a mut Command, token: &str) -> &'a mut Command {
        self.lose();
        command.arg("--data-dir").arg(self.data()).args(self.place(token))
    }

    pub(super) fn log(&self) -> String {
        text(&fs::read(&self.log).unwrap_or_default())
    }

    fn data(&self) -> PathBuf {
        self.disk.join("data")
    }

    /// Its place among the nodes.
    fn place(&self, token: &str) -> Vec<String> {
        let all = [0, 1, 2].map(|number| format!("node{number}={}", peer(number)));
        vec![
            format!("--name=node{}", self.number),
            format!("--initial-cluster={}", all.join(",")),
            format!("--initial-cluster-token={token}"),
            format!("--initial-advertise-peer-urls={}", peer(self.number)),
        ]
    }

    fn command(&self, token: &str) -> Command {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        // It does not outlive the tests, whatever ends them.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "nsenter"])
            .arg(format!("--net=/run/netns/{}", name(self.number)));
        command.arg(&self.program).args(self.place(token)).args(["--initial-cluster-state", "new"]);
        command.arg("--data-dir").arg(self.data()).args(["--logger", "zap"]);
        command.args(["--listen-peer-urls", &peer(self.number)]);
        command.args(["--listen-client-urls", &self.endpoint(), "--advertise-client-urls", &self.endpoint()]);
        command.args(["--auto-compaction-mode", "periodic", "--auto-compaction-retention", "1h"]);
        command.arg(format!("--quota-backend-bytes={}", self.quota));
        for (side, Certificate { ca, certificate, key }) in
            [("--", &self.certificate), ("--peer-", &self.peer)]
        {
            command.arg(format!("{side}client-cert-auth"));
            for (option, file) in [("trusted-ca-file", ca), ("cert-file", certificate), ("key-file", key)] {
                command.arg(format!("{side}{option}")).arg(file);
            }
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.process.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let _ = umount2(&self.disk, MntFlags::MNT_DETACH);
    }
}

const FILLER: &str = "filler";

fn peer(number: usize) -> String {
    format!("https://{}:2380", address(number))
}

/// Whether the process listens on both ports, in the network that it is in.
fn listens(id: Pid) -> bool {
    let sockets = fs::read_to_string(format!("/proc/{id}/net/tcp")).unwrap_or_default();
    let listens = |port: u16| {
        let port = format!(":{port:04X}");
        // The second field is the address, the fourth the state, where 0A is a socket that listens.
        sockets.lines().any(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            fields.len() > 3 && fields[1].ends_with(&port) && fields[3] == "0A"
        })
    };
    listens(2379) && listens(2380)
}
