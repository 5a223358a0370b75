//! Machines of a fleet with a real sshd each: mounts, hostname and configuration are their own.

use std::fs;
use std::path::PathBuf;
use std::process::Child;

use backupcodes_tests::broker;
use backupcodes_tests::etcd::Cluster;
use backupcodes_tests::fleet::{self, ADMIN, Host};
use backupcodes_tests::machine::{Account, Machine, Sshd};
use backupcodes_tests::renewal::{CODE, DONE, PASSWORD, SERVICE, SHIPPED, SOCKET, codes};
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{Sheet, built};

/// A fleet, and a user with a key and an account on each of its machines.
struct Scene {
    // Their servers end before the machine does.
    one: Sshd,
    two: Sshd,
    hosts: [Host; 3],
    cluster: Cluster,
    user: Account,
    key: PathBuf,
    machine: Machine,
}

impl Scene {
    fn new() -> Option<Self> {
        let machine = Machine::new()?;
        let cluster = Cluster::new()?;
        fleet::set_up(&cluster, &["host1", "host2"]);
        // Refused codes are what some tests count.
        let unthrottled = "[throttle]\nfree = 1000\n";
        let hosts = [ADMIN, "host1", "host2"].map(|name| Host::with(&cluster, name, unthrottled));
        machine.stack("sshd", "ssh-key");
        let user = machine.account();
        let key = machine.key(&user);
        let [_, one, two] = hosts.each_ref().map(|host| host.as_machine(|| machine.sshd("sshd-key")));
        Some(Self { one, two, hosts, cluster, user, key, machine })
    }

    /// A new set for the user, made on a machine with these options.
    fn generate(&self, host: &Host, options: &[&str]) -> Sheet {
        let arguments =
            [&["generate", "--yes", "--format", "json"], options, &[self.user.name.as_str()]].concat();
        backupcodes_tests::sheet(host.as_machine(|| self.machine.admin(&arguments)))
    }

    /// A connection that is asked for a code.
    fn connect(&self, sshd: &Sshd) -> Terminal {
        let mut terminal =
            Terminal::start(&mut sshd.client_once(&self.user, Some(&self.key), "echo logged in as $USER"));
        terminal.expect(CODE);
        terminal
    }

    fn is_let_in(&self, sshd: &Sshd, code: &str) -> bool {
        let mut terminal = self.connect(sshd);
        terminal.send(code);
        self.is_in(&mut terminal)
    }

    fn is_in(&self, terminal: &mut Terminal) -> bool {
        let welcome = format!("logged in as {}", self.user.name);
        terminal.expect_one_of(&[&welcome, "Permission denied"]) == welcome
    }

    /// `backupcodes renew` by the user, on a machine.
    fn renew(&self, host: &Host) -> Terminal {
        let mut command = self.user.command();
        host.as_machine(|| Terminal::start(command.arg(built("backupcodes")).arg("renew")))
    }
}

#[test]
fn of_two_simultaneous_ssh_logins_on_two_machines_with_one_code_one_gets_in() {
    let Some(scene) = Scene::new() else { return };
    let codes = scene.generate(&scene.hosts[0], &[]).codes;
    for code in &codes[..5] {
        let mut terminals = [&scene.one, &scene.two].map(|sshd| scene.connect(sshd));
        terminals.iter_mut().for_each(|terminal| terminal.send(code));
        let accepted = terminals.iter_mut().filter_map(|terminal| scene.is_in(terminal).then_some(()));
        assert_eq!(accepted.count(), 1);
        for sshd in [&scene.one, &scene.two] {
            assert!(!scene.is_let_in(sshd, code), "used before");
        }
    }
    assert!(scene.is_let_in(&scene.one, &codes[5]) && scene.is_let_in(&scene.two, &codes[6]));
}

#[test]
fn a_set_on_a_machine_lets_its_user_in_by_ssh_with_all_nodes_down() {
    let Some(scene) = Scene::new() else { return };
    let shared = scene.generate(&scene.hosts[0], &[]).codes;
    let own = scene.generate(&scene.hosts[1], &["--host"]).codes;
    (0..3).for_each(|node| scene.cluster.kill(node));
    assert!(!scene.is_let_in(&scene.two, &shared[0]));
    assert!(scene.is_let_in(&scene.one, &own[0]));
    assert!(!scene.is_let_in(&scene.one, &own[0]), "used before");
    (0..2).for_each(|node| scene.cluster.restart(node));
    assert!(scene.is_let_in(&scene.two, &shared[0]));
}

#[test]
fn a_renewal_on_the_admin_host_ends_the_old_sheet_on_the_others_and_no_other_host_asks_for_anything() {
    let Some(scene) = Scene::new() else { return };
    let [admin, one, _] = &scene.hosts;
    fs::write(SERVICE, SHIPPED).unwrap();
    let old = scene.generate(admin, &[]).codes;

    let broker = Broker::on(one);
    let mut terminal = scene.renew(one);
    assert_ne!(terminal.end(), 0);
    assert!(
        terminal.screen.contains("This host may not make new codes for all hosts"),
        "{}",
        terminal.screen
    );
    assert!(!terminal.screen.contains(PASSWORD) && !terminal.screen.contains(CODE), "{}", terminal.screen);
    drop(broker);

    let _broker = Broker::on(admin);
    let mut terminal = scene.renew(admin);
    for (prompt, answer) in [(PASSWORD, &scene.user.password), (CODE, &old[0])] {
        terminal.expect(prompt);
        terminal.send(answer);
    }
    assert_eq!(terminal.end(), 0, "{}", terminal.screen);
    assert!(terminal.screen.contains(DONE), "{}", terminal.screen);
    assert!(terminal.screen.contains("Host  backupcodes-admin and its fleet"), "{}", terminal.screen);
    let new = codes(&terminal.screen);
    for sshd in [&scene.one, &scene.two] {
        assert!(!scene.is_let_in(sshd, &old[1]), "of the old sheet");
    }
    assert!(scene.is_let_in(&scene.one, &new[0]) && scene.is_let_in(&scene.two, &new[1]));
    assert!(!scene.is_let_in(&scene.one, &new[1]), "used on the other machine");
}

/// The broker of a machine at the usual socket, until this value ends.
struct Broker(Child);

impl Broker {
    fn on(host: &Host) -> Self {
        Self(host.as_machine(|| broker::start(SOCKET.as_ref(), &[])))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = fs::remove_file(SOCKET);
    }
}
