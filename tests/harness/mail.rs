//! A real mail server that delivers into the mailboxes of this machine, and Python's library as an independent reader of mail.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Once;
use std::time::{Duration, Instant};

use crate::machine::{Account, Machine, append, run};
use crate::patience::{PATIENCE, wait_until};
use crate::postbox::Message;
use crate::{Attempt, CHEAP, pam, set_mode, text};

/// What the server delivers for, and this host.
pub const DOMAIN: &str = "example.org";
/// The same beyond ASCII.
pub const WIDE_DOMAIN: &str = "exämple.org";
pub const HOST: &str = "web1";
/// Who gets root's mail, as bounces are.
const ADMIN: &str = "admin";
const MARK: &str = "the end";
const SERVICE: &str = "mailed";

/// The mail servers that tests/system/mail-servers makes roots for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Postfix,
    Exim,
    OpenSmtpd,
    /// A client, which gives all mail to postfix.
    Msmtp,
}

/// A machine with a mail server.
pub struct PostOffice {
    pub machine: Machine,
    pub server: Server,
}

impl PostOffice {
    /// The whole machine, whose server runs.
    pub fn new() -> Option<Self> {
        let machine = Machine::new()?;
        let office = Self { machine, server: Server::of_environment() };
        static ONCE: Once = Once::new();
        ONCE.call_once(|| office.set_up());
        // Nothing waits that a test before left.
        let store = Path::new("/var/lib/backupcodes");
        fs::remove_dir_all(store).unwrap();
        fs::create_dir(store).unwrap();
        set_mode(store, 0o700);
        fs::write("/proc/sys/kernel/hostname", HOST).unwrap();
        office.notify_settings("");
        Some(office)
    }

    fn set_up(&self) {
        append("/etc/hosts", &format!("127.0.0.1 localhost {HOST}.{DOMAIN}\n"));
        fs::write("/etc/security/backupcodes.conf", CHEAP).unwrap();
        fs::write("/etc/mailname", format!("{DOMAIN}\n")).unwrap();
        self.machine.account_named(ADMIN);
        append("/etc/aliases", &format!("root: {ADMIN}\n"));
        fs::write(Path::new("/etc/pam.d").join(SERVICE), "auth required pam_backupcodes.so\n").unwrap();
        self.server.configure();
        self.server.start();
    }

    /// Writes the configuration's section on mail.
    pub fn notify_settings(&self, lines: &str) {
        let sendmail = self.server.sendmail();
        let section = format!("[notify]\nsendmail = {sendmail:?}\n{lines}\n");
        fs::write("/etc/security/backupcodes.conf.d/notify.conf", section).unwrap();
    }

    /// Logs the account in with a code, from 192.0.2.7.
    pub fn spend(&self, account: &Account, code: &str) {
        let attempt = Attempt::new(Path::new("/etc/pam.d"), SERVICE, &account.name, Some("192.0.2.7"));
        let outcome = Attempt { answers: vec![code.into()], ..attempt }.run();
        assert_eq!(outcome.codes, [pam::SUCCESS]);
    }

    /// Delivers what is due; all of it is handed over.
    pub fn deliver(&self) {
        let output = self.notify();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    }

    /// `backupcodes-admin notify`
    pub fn notify(&self) -> Output {
        self.machine.admin(&["notify"])
    }

    /// All of the account's messages, when there are so many; there are no more.
    pub fn mailbox(&self, account: &Account, count: usize) -> Vec<Message> {
        self.wait_for(account, |messages| messages.len() >= count);
        // What comes behind all that was handed over before.
        self.server.send(&account.address(), MARK);
        let is_mark = |message: &Message| message.subject() == MARK;
        let mut messages = self.wait_for(account, |messages| messages.iter().any(is_mark));
        messages.retain(|message| !is_mark(message));
        assert_eq!(messages.len(), count, "{messages:#?}");
        self.empty(account);
        messages
    }

    /// Waits until the server has told root that it could not deliver to this address.
    pub fn bounce(&self, address: &str) {
        let admin = Account { name: ADMIN.into(), password: String::new() };
        self.wait_for(&admin, |messages| {
            messages
                .iter()
                .any(|message| message.from[0].0 == "Mail Delivery System" && message.raw.contains(address))
        });
        self.empty(&admin);
    }

    fn wait_for(&self, account: &Account, is_enough: impl Fn(&[Message]) -> bool) -> Vec<Message> {
        let start = Instant::now();
        loop {
            let messages = self.read(account);
            if is_enough(&messages) {
                return messages;
            }
            assert!(start.elapsed() < PATIENCE, "in the mailbox of {}: {messages:#?}", account.name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn read(&self, account: &Account) -> Vec<Message> {
        let mut reader = Command::new("python3");
        reader.args(["-c", include_str!("read_mailbox.py")]).arg(self.server.mailbox(account));
        serde_json::from_str(&run(&mut reader, "")).expect("messages as JSON")
    }

    /// Takes all messages away.
    fn empty(&self, account: &Account) {
        let mailbox = self.server.mailbox(account);
        let is_folder = mailbox.is_dir();
        (if is_folder { fs::remove_dir_all(mailbox) } else { fs::remove_file(mailbox) }).unwrap();
    }
}

impl Account {
    /// Its address at [`DOMAIN`].
    pub fn address(&self) -> String {
        format!("{}@{DOMAIN}", self.name)
    }
}

impl Message {
    pub fn header(&self, name: &str) -> &str {
        let mut values = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let value = &values.next().unwrap_or_else(|| panic!("no {name}: {self:#?}")).1;
        assert!(values.next().is_none(), "{name} twice: {self:#?}");
        value
    }

    pub fn subject(&self) -> &str {
        self.header("Subject")
    }

    /// The names of its headers, without those that the server writes into what it delivers.
    pub fn names(&self) -> Vec<&str> {
        const OF_SERVERS: [&str; 6] =
            ["Return-Path", "X-Original-To", "Delivered-To", "Received", "Envelope-to", "Delivery-date"];
        let is_servers = |name: &&str| OF_SERVERS.iter().any(|other| other.eq_ignore_ascii_case(name));
        let mut names: Vec<_> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.retain(|name| !is_servers(name));
        names
    }
}

impl Server {
    fn of_environment() -> Self {
        match std::env::var("MTA").as_deref() {
            Ok("postfix") => Self::Postfix,
            Ok("exim4") => Self::Exim,
            Ok("opensmtpd") => Self::OpenSmtpd,
            Ok("msmtp") => Self::Msmtp,
            other => panic!("MTA is {other:?}: start this with tests/system/mail-servers"),
        }
    }

    fn sendmail(self) -> [&'static str; 2] {
        [if self == Self::Msmtp { "/usr/bin/msmtp" } else { "/usr/sbin/sendmail" }, "-i"]
    }

    fn send(self, to: &str, subject: &str) {
        let [program, option] = self.sendmail();
        let message = format!("From: root\nTo: {to}\nSubject: {subject}\n\n");
        run(Command::new(program).args([option, "--", to]), &message);
    }

    fn mailbox(self, account: &Account) -> PathBuf {
        match self {
            Self::OpenSmtpd => Path::new("/home").join(&account.name).join("Maildir"),
            _ => Path::new("/var/mail").join(&account.name),
        }
    }

    fn configure(self) {
        match self {
            Self::Postfix | Self::Msmtp => {
                let settings = [
                    format!("myhostname={HOST}.{DOMAIN}"),
                    format!("mydestination=localhost, {DOMAIN}, {WIDE_DOMAIN}"),
                    "myorigin=/etc/mailname".into(),
                    "inet_interfaces=loopback-only".into(),
                    "inet_protocols=ipv4".into(),
                ];
                run(Command::new("postconf").arg("-e").args(settings), "");
                run(&mut Command::new("newaliases"), "");
                relay("127.0.0.1");
            }
            Self::Exim => {
                let domains = format!("dc_other_hostnames='{DOMAIN} : {WIDE_DOMAIN}'\n");
                append("/etc/exim4/update-exim4.conf.conf", &domains);
                // A name of the host beyond ASCII would stand in Received as it is.
                let name = format!("MAIN_HARDCODE_PRIMARY_HOSTNAME = {HOST}.{DOMAIN}\n");
                append("/etc/exim4/exim4.conf.localmacros", &name);
                run(&mut Command::new("update-exim4.conf"), "");
            }
            Self::OpenSmtpd => {
                let domain = format!("match from local for domain \"{DOMAIN}\" action \"local\"\n");
                let settings = fs::read_to_string("/etc/smtpd.conf").unwrap();
                let last = "match from local for any";
                fs::write("/etc/smtpd.conf", settings.replace(last, &format!("{domain}{last}"))).unwrap();
            }
        }
    }

    /// Starts the server. Exim needs none: whoever hands a message over delivers it.
    pub fn start(self) {
        self.service("start");
        wait_until("a mail server", || self == Self::Exim || TcpStream::connect("127.0.0.1:25").is_ok());
    }

    pub fn stop(self) {
        self.service("stop");
    }

    /// Lets the server take nothing, as long as the obstacle is there: its disk is full, or, for who has none, the network
    /// is gone.
    pub fn obstruct(self) -> Obstacle {
        let folder = match self {
            Self::Postfix => "/var/spool/postfix/maildrop",
            Self::Exim => "/var/spool/exim4/input",
            Self::OpenSmtpd => "/var/spool/smtpd/incoming",
            Self::Msmtp => {
                relay("nowhere.invalid");
                return Obstacle::NoNetwork;
            }
        };
        let its = fs::metadata(folder).unwrap();
        let size = format!("size=4k,mode={:o},uid={},gid={}", its.mode() & 0o7777, its.uid(), its.gid());
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs", folder]), "");
        fs::write(Path::new(folder).join("full"), [0; 4096]).unwrap();
        Obstacle::Full(folder)
    }

    fn service(self, what: &str) {
        let name = match self {
            Self::Postfix | Self::Msmtp => "postfix",
            Self::Exim => return,
            Self::OpenSmtpd => "opensmtpd",
        };
        // A server that runs on keeps no pipe of ours.
        let mut command = Command::new(Path::new("/etc/init.d").join(name));
        assert!(command.arg(what).stdout(std::process::Stdio::null()).status().unwrap().success());
    }
}

/// What keeps a server from taking mail, until it is dropped.
pub enum Obstacle {
    /// A file system without room over this folder.
    Full(&'static str),
    /// The other server's name has no address.
    NoNetwork,
}

impl Drop for Obstacle {
    fn drop(&mut self) {
        match self {
            Self::Full(folder) => drop(run(Command::new("umount").args(["--lazy", folder]), "")),
            Self::NoNetwork => relay("127.0.0.1"),
        }
    }
}

/// Lets msmtp give all mail to this host.
fn relay(host: &str) {
    let account = format!("account default\nhost {host}\nport 25\ntls off\nfrom root@{DOMAIN}\n");
    fs::write("/etc/msmtprc", account).unwrap();
}
