//! A real etcd cluster of three nodes, each in a network of its own, with mutual TLS; and what can happen to one.
//!
//! Nodes have the numbers 0 to 2, and the addresses 10.77.0.1 to 10.77.0.3. The sandbox has 10.77.0.100.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::unistd::Pid;
use serde_json::Value;

use self::certificates::Authority;
pub use self::certificates::Certificate;
use self::network::Network;
use self::node::Node;
use crate::machine::run;
use crate::patience::wait_until;
use crate::{feed, sandbox_of_root, skip, text};

mod certificates;
mod network;
mod node;

/// The cluster of one test at a time: its addresses are fixed. It ends with this value.
///
/// A test with a [`Machine`](crate::machine::Machine) makes that first.
pub struct Cluster {
    nodes: [Node; 3],
    network: Network,
    authority: Authority,
    peers: Authority,
    /// How often it has started from nothing.
    starts: Mutex<usize>,
    programs: PathBuf,
    // After all that uses the addresses or the folder.
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    /// A new, healthy cluster, where everyone with a certificate may do everything.
    ///
    /// The programs etcd and etcdctl are those in /usr/bin, or in the folder `BACKUPCODES_ETCD`.
    pub fn new() -> Option<Self> {
        // etcd makes each file of its log with 64 MB, and the next one ahead.
        Self::with("192m", 0)
    }

    /// The same, each with a disk of this size.
    pub fn with_disks(size: &str) -> Option<Self> {
        Self::with(size, 0)
    }

    /// The same, with a quota in bytes.
    pub fn with_quota(quota: u64) -> Option<Self> {
        Self::with("192m", quota)
    }

    fn with(size: &str, quota: u64) -> Option<Self> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        sandbox_of_root()?;
        let programs = std::env::var_os("BACKUPCODES_ETCD").map_or_else(|| "/usr/bin".into(), PathBuf::from);
        if !programs.join("etcd").exists() || !programs.join("etcdctl").exists() {
            return skip(&format!("this test needs etcd and etcdctl in {}", programs.display()));
        }
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::Builder::new().prefix("backupcodes-etcd.").tempdir().unwrap();
        let authority = Authority::new(folder.path());
        // Whoever has a certificate of this one is a node, which etcd lets do everything.
        let peers = folder.path().join("peers");
        std::fs::create_dir(&peers).unwrap();
        let peers = Authority::new(&peers);
        let cluster = Self {
            nodes: [0, 1, 2].map(|number| {
                Node::new(number, (size, quota), &programs, folder.path(), (&authority, &peers))
            }),
            network: Network::new(),
            authority,
            peers,
            starts: Mutex::new(1),
            programs,
            folder,
            _alone: alone,
        };
        cluster.nodes.iter().for_each(|node| node.start("backupcodes-1"));
        cluster.wait_healthy();
        Some(cluster)
    }

    /// The users, roles and permissions of a fleet with the hosts host1 and host2. From now on all need one.
    pub fn enable_roles(&self) {
        let root = self.root();
        for command in include_str!("etcd/roles").lines() {
            self.must_ctl(&root, &command.split(' ').collect::<Vec<_>>());
        }
    }

    /// The certificate of the client with this name, which is that of its user. Made when it is first asked for.
    pub fn certificate(&self, name: &str) -> Certificate {
        self.authority.client(name)
    }

    /// One with this name of an authority that no node trusts.
    pub fn forged_certificate(&self, name: &str) -> Certificate {
        let forger = Authority::new(&tempfile::tempdir_in(self.folder.path()).unwrap().keep());
        Certificate { ca: self.root().ca, ..forger.client(name) }
    }

    /// That of the user who may do everything.
    pub fn root(&self) -> Certificate {
        self.certificate("root")
    }

    /// One with this name of the authority that nodes know each other by.
    pub fn certificate_of_peer(&self, name: &str) -> Certificate {
        self.peers.client(name)
    }

    /// What a node says to a request of another node, with this certificate.
    pub fn ask_as_node(&self, node: usize, certificate: &Certificate) -> String {
        // It does not end by itself.
        let mut client = Command::new("timeout");
        client.args([
            "1",
            "openssl",
            "s_client",
            "-quiet",
            "-connect",
            &format!("{}:2380", network::address(node)),
        ]);
        client.arg("-CAfile").arg(&certificate.ca);
        client.arg("-cert").arg(&certificate.certificate).arg("-key").arg(&certificate.key);
        let request = "GET /members HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
        let output = feed(&mut client, request);
        text(&output.stdout) + &text(&output.stderr)
    }

    pub fn endpoints(&self) -> [String; 3] {
        self.nodes.each_ref().map(Node::endpoint)
    }

    /// What etcdctl does with all endpoints. It gives up after 5 s; `--command-timeout=1s` among the arguments makes that shorter.
    pub fn ctl(&self, certificate: &Certificate, arguments: &[&str]) -> Output {
        feed(self.ctl_command(&self.endpoints().join(","), certificate).args(arguments), "")
    }

    /// The same, which must succeed. Returns what it prints.
    pub fn must_ctl(&self, certificate: &Certificate, arguments: &[&str]) -> String {
        let output = self.ctl(certificate, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    }

    /// [`ctl`](Self::ctl) with the endpoint of one node.
    pub fn ctl_at(&self, node: usize, certificate: &Certificate, arguments: &[&str]) -> Output {
        feed(self.ctl_command(&self.endpoints()[node], certificate).args(arguments), "")
    }

    fn ctl_command(&self, endpoints: &str, certificate: &Certificate) -> Command {
        let mut command = Command::new(self.programs.join("etcdctl"));
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(endpoints);
        command.arg("--cacert").arg(&certificate.ca);
        command.arg("--cert").arg(&certificate.certificate).arg("--key").arg(&certificate.key);
        command
    }

    /// What the node says of itself, as `etcdctl endpoint status` shows it. `None`: it does not answer.
    pub fn status(&self, node: usize) -> Option<Value> {
        status_in(&self.ctl_at(node, &self.root(), &STATUS))
    }

    /// The node that leads; waits until there is one. Of two that say so, it is the later one: a leader that is cut off does not
    /// notice at once.
    pub fn leader(&self) -> usize {
        let mut leader = None;
        wait_until("a leader", || {
            leader = self.find_leader();
            leader.is_some()
        });
        leader.unwrap()
    }

    fn find_leader(&self) -> Option<usize> {
        let root = self.root();
        let ask = |endpoint: String| {
            let mut command = self.ctl_command(&endpoint, &root);
            command.args(["--dial-timeout=1s", "--command-timeout=1s"]).args(STATUS);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        // All at the same time: for one that does not answer this takes a second.
        let asked = self.endpoints().map(ask);
        let answers = asked.map(|process| status_in(&process.wait_with_output().unwrap()));
        let leads = |status: &Value| status["leader"] == status["header"]["member_id"];
        let terms =
            answers.iter().map(|status| status.as_ref().filter(|status| leads(status))?["raftTerm"].as_u64());
        terms
            .enumerate()
            .filter(|(_, term)| term.is_some())
            .max_by_key(|&(_, term)| term)
            .map(|(node, _)| node)
    }

    /// Waits until all three answer a linearizable read.
    pub fn wait_healthy(&self) {
        let root = self.root();
        wait_until("three healthy nodes", || {
            self.ctl(&root, &["--dial-timeout=1s", "--command-timeout=2s", "endpoint", "health"])
                .status
                .success()
        });
    }

    /// Kills a node at once.
    pub fn kill(&self, node: usize) {
        self.nodes[node].kill();
    }

    /// Starts a node again, with its data. One that runs is killed before.
    pub fn restart(&self, node: usize) {
        self.nodes[node].kill();
        self.nodes[node].start(&self.token());
    }

    /// The process of a node that runs.
    pub fn id(&self, node: usize) -> Pid {
        self.nodes[node].id()
    }

    /// Whether the process of the node is alive.
    pub fn runs(&self, node: usize) -> bool {
        self.nodes[node].runs()
    }

    /// Stops a node in the middle of its work: it keeps its connections, and does nothing.
    pub fn stop(&self, node: usize) {
        self.nodes[node].stop();
    }

    /// Lets it go on.
    pub fn go_on(&self, node: usize) {
        self.nodes[node].go_on();
    }

    /// Cuts a node off from the other nodes and from all clients: packets are lost, without an answer.
    pub fn cut_off(&self, node: usize) {
        self.network.cut_off(node);
    }

    /// Cuts a node off from the other nodes alone: clients still reach it.
    pub fn cut_off_from_nodes(&self, node: usize) {
        self.network.cut_off_from_nodes(node);
    }

    /// Loses all replies of a node to clients: it still performs what they ask for.
    pub fn mute(&self, node: usize) {
        self.network.mute(node);
    }

    /// Connects a node as it was before it was cut off. The others may need some seconds to notice.
    pub fn join(&self, node: usize) {
        self.network.join(node);
    }

    /// Delays all that a node sends. `false`: this kernel has no netem.
    pub fn slow(&self, node: usize, delay: Duration) -> bool {
        self.network.slow(node, &format!("netem delay {}us", delay.as_micros()))
    }

    /// Gives a node a line that takes so many kbit/s of what it sends. With 100 a write by this node takes up to some seconds, with
    /// 30 it may take too long for etcdctl. A leader with such a line can lose its place.
    pub fn narrow(&self, node: usize, kbits: u32) {
        let has_bucket = self.network.slow(node, &format!("tbf rate {kbits}kbit burst 3kb latency 2s"));
        assert!(has_bucket, "the kernel has no sch_tbf");
    }

    /// Undoes both.
    pub fn fast(&self, node: usize) {
        self.network.fast(node);
    }

    /// Leaves no byte free on the disk of a node. It ends with the next writes of some size: small ones find room in its files.
    pub fn fill_disk(&self, node: usize) {
        self.nodes[node].fill_disk();
    }

    /// Removes what filled it. A node that has ended has to be started again.
    pub fn make_room(&self, node: usize) {
        self.nodes[node].make_room();
    }

    /// Saves all data, as an administrator does.
    pub fn snapshot(&self, path: &Path) {
        let output = self.ctl_at(self.leader(), &self.root(), &["snapshot", "save", path.to_str().unwrap()]);
        assert!(output.status.success(), "snapshot: {}", text(&output.stderr));
    }

    /// Stops all nodes, and starts a new cluster with these data, as an administrator does after a loss.
    pub fn restore(&self, path: &Path) {
        *self.starts.lock().unwrap() += 1;
        self.restore_with_the_old_token(path);
    }

    /// The same by an administrator who has not read the guide: the cluster keeps its number.
    pub fn restore_with_the_old_token(&self, path: &Path) {
        self.nodes.iter().for_each(Node::kill);
        let token = self.token();
        for node in &self.nodes {
            let mut command = Command::new(self.programs.join("etcdctl"));
            command.env("ETCDCTL_API", "3").args(["snapshot", "restore"]).arg(path);
            run(node.restore(&mut command, &token), "");
        }
        self.nodes.iter().for_each(|node| node.start(&token));
        self.wait_healthy();
    }

    /// Loses all nodes with their data, and starts a new cluster, as the guide says.
    pub fn start_anew(&self) {
        *self.starts.lock().unwrap() += 1;
        let token = self.token();
        self.nodes.iter().for_each(Node::lose);
        self.nodes.iter().for_each(|node| node.start(&token));
        self.wait_healthy();
    }

    /// What the node has logged.
    pub fn log(&self, node: usize) -> String {
        self.nodes[node].log()
    }

    /// A path for a file that goes with the cluster.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn token(&self) -> String {
        format!("backupcodes-{}", self.starts.lock().unwrap())
    }
}

const STATUS: [&str; 3] = ["endpoint", "status", "--write-out=json"];

fn status_in(output: &Output) -> Option<Value> {
    let mut list: Value = serde_json::from_slice(&output.stdout).ok()?;
    list.get_mut(0).map(|node| node["Status"].take())
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (number, node) in self.nodes.iter().enumerate() {
                let log = node.log();
                let last = log.lines().rev().take(10).collect::<Vec<_>>();
                eprintln!("node {number}, the last lines first:\n{}", last.join("\n"));
            }
        }
    }
}
