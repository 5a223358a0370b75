//! Mistakes and attacks of a client in a renewal: the user has the old set or the new one, whole, and PAM has allowed each new set.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use backupcodes_tests::machine::run;
use backupcodes_tests::patience::wait_until;
use backupcodes_tests::renewal::{DONE, PASSWORD, Renewal, SERVICE, SHIPPED, SOCKET};
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::traced::{Stop, killed_at_serving, report};
use backupcodes_tests::{CHEAP, broker, built, feed, text};
use serde_json::{Value, json};

/// A connection of root's, who may act for any account.
struct Client(UnixStream);

impl Client {
    fn connect() -> Self {
        Self::of(UnixStream::connect(SOCKET).unwrap())
    }

    fn of(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(stream)
    }

    fn send(&mut self, method: &str, parameters: Value) {
        let call = json!({ "method": format!("org.backupcodes.Broker.{method}"), "parameters": parameters });
        // Where nobody reads any more, there is no reply either.
        let _ = self.0.write_all(format!("{call}\0").as_bytes());
    }

    /// `None`: the connection has ended.
    fn receive(&mut self) -> Option<Value> {
        let mut reply = Vec::new();
        let mut byte = [0];
        loop {
            match self.0.read(&mut byte) {
                Ok(1) if byte == [0] => return Some(serde_json::from_slice(&reply).unwrap()),
                Ok(1) => reply.push(byte[0]),
                Ok(_) => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error} after {reply:?}"),
            }
        }
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.send(method, parameters);
        self.receive().expect("a reply")
    }

    fn error(&mut self, method: &str, parameters: Value) -> String {
        let reply = self.call(method, parameters);
        reply["error"].as_str().unwrap_or_else(|| panic!("{reply}")).rsplit('.').next().unwrap().into()
    }

    fn renew(&mut self, user: &str) -> Value {
        self.call("Renew", json!({ "user": user }))
    }

    fn respond(&mut self, response: &str) -> Value {
        self.call("Respond", json!({ "responses": [response] }))
    }
}

/// The codes of a sheet in a reply.
fn codes(reply: &Value) -> Vec<String> {
    serde_json::from_value(reply["parameters"]["sheet"]["codes"].clone())
        .unwrap_or_else(|_| panic!("{reply}"))
}

/// Nothing else may decide here.
fn no_throttle() {
    fs::write("/etc/security/backupcodes.conf", "[throttle]\nfree = 1000\n").unwrap();
}

#[test]
fn unsolicited_responses_end_a_renewal_and_make_no_set() {
    let Some(scene) = Renewal::new() else { return };
    no_throttle();
    let sheet = scene.machine.generate(&scene.user);
    let before = scene.file();
    let user = scene.user.name.as_str();
    let password = scene.user.password.clone();
    let responses = |responses: &[&str]| json!({ "responses": responses });
    let begun = || {
        let mut client = Client::connect();
        assert_eq!(client.renew(user)["parameters"]["messages"][0]["text"], "Password: ");
        client
    };
    // Nothing was asked.
    let mut client = Client::connect();
    assert_eq!(client.error("Respond", responses(&[&password])), "OutOfTurn");
    assert_eq!(client.error("Keep", json!({})), "OutOfTurn");
    // One was asked for.
    for wrong in [&[][..], &[password.as_str(), &sheet.codes[0]], &["", "", ""]] {
        let mut client = begun();
        assert_eq!(client.error("Respond", responses(wrong)), "OutOfTurn");
        assert_eq!(client.error("Respond", responses(&[&password])), "OutOfTurn");
        assert_eq!(client.error("Renew", json!({ "user": user })), "OutOfTurn", "one for a connection");
    }
    let mut client = begun();
    assert_eq!(client.error("Keep", json!({})), "OutOfTurn");
    assert_eq!(client.error("Keep", json!({})), "OutOfTurn");
    for bad in [json!(["a\0b"]), json!(["x".repeat(512)]), json!([7]), json!("x"), json!([null]), json!([[]])]
    {
        assert_eq!(begun().error("Respond", json!({ "responses": bad })), "InvalidParameter", "{bad}");
    }
    // Two at one time: the first one goes on.
    let mut client = begun();
    assert_eq!(client.error("Renew", json!({ "user": user })), "OutOfTurn");
    assert_eq!(client.respond(&password)["parameters"]["messages"][0]["text"], "Backup code: ");
    // Keep instead of the code, and the code then.
    assert_eq!(client.error("Keep", json!({})), "OutOfTurn");
    assert_eq!(client.error("Respond", responses(&[&sheet.codes[0]])), "OutOfTurn");
    // The password instead of the code, and the other way round.
    for (first, second) in [(&password, Some(&password)), (&sheet.codes[0], None)] {
        let mut client = begun();
        let reply = client.respond(first);
        assert_eq!(reply["error"].is_null(), second.is_some(), "{reply}");
        if let Some(second) = second {
            assert_eq!(client.error("Respond", responses(&[second])), "Denied");
        }
        assert_eq!(client.error("Keep", json!({})), "OutOfTurn");
    }
    // A prompt of one connection accepts no response on another.
    let (_asked, mut other) = (begun(), Client::connect());
    assert_eq!(other.error("Respond", responses(&[&password])), "OutOfTurn");
    assert_eq!(scene.file(), before);
    // A response after the sheet discards the sheet.
    let mut client = begun();
    client.respond(&password);
    let new = codes(&client.respond(&sheet.codes[0]));
    assert_eq!(client.error("Respond", responses(&["x"])), "OutOfTurn");
    assert_eq!(client.error("Keep", json!({})), "OutOfTurn");
    assert!(!scene.takes(&new[0]) && scene.takes(&sheet.codes[1]));
    assert_eq!((scene.set(), scene.left()), (sheet.set, 9));
}

#[test]
fn nobody_renews_for_another() {
    let Some(scene) = Renewal::new() else { return };
    no_throttle();
    let (other, sheet) = scene.machine.user();
    let before = fs::read(other.file()).unwrap();
    for user in [&other.name, "root", "no-such-user", ""] {
        let call = json!({ "method": "org.backupcodes.Broker.Renew", "parameters": { "user": user } });
        let client = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);\
            c = sys.stdin.buffer.read(); s.sendall(c); s.recv(65536); s.sendall(c); print(s.recv(65536).decode())";
        let mut command = scene.user.command();
        command.args(["/usr/bin/python3", "-c", client, SOCKET]);
        let output = feed(&mut command, &format!("{call}\0"));
        assert!(text(&output.stdout).contains("NotYours"), "{user}: {output:?}");
    }
    assert_eq!(fs::read(other.file()).unwrap(), before);
    let log = scene.machine.log();
    let uid = run(Command::new("id").args(["-u", &scene.user.name]), "");
    let warning = format!("uid {} asked for another account", uid.trim());
    let warnings = log.iter().filter(|line| line.text.contains(&warning));
    assert_eq!(warnings.count(), 4, "once a connection, or the log could be filled");
    let throttled = scene.machine.status(&other)["throttled"].clone();
    assert_eq!(throttled, json!([]));
    let verified = scene.machine.admin_with_input(&["verify", &other.name], &sheet.codes[0]);
    assert!(verified.status.success(), "{verified:?}");
}

/// As authd did, CVE-2024-9313.
#[test]
fn a_pam_module_that_changes_the_user_renews_for_nobody() {
    let Some(scene) = Renewal::new() else { return };
    let other = scene.machine.account();
    let renames = built("examples/librenames.so");
    let stack =
        |user: &str| format!("auth required {} {user}\naccount required pam_permit.so\n", renames.display());
    fs::write(SERVICE, stack(&other.name)).unwrap();
    let reply = Client::connect().renew(&scene.user.name);
    assert_eq!(reply["error"], "org.backupcodes.Broker.Denied", "{reply}");
    fs::write(SERVICE, stack(&scene.user.name)).unwrap();
    assert_eq!(codes(&Client::connect().renew(&scene.user.name)).len(), 10);
}

/// The broker is root, but its modules must take nobody for root who is not: with `pam_rootok` everybody renewed for nothing.
#[test]
fn pam_takes_no_caller_for_root_but_root() {
    let Some(scene) = Renewal::new() else { return };
    no_throttle();
    let rest = "auth required pam_deny.so\naccount required pam_permit.so\n";
    fs::write(SERVICE, format!("auth sufficient pam_rootok.so\n{rest}")).unwrap();
    let (status, screen) = scene.renew(&[]);
    assert!(status == 1 && screen.contains("refused") && scene.file().is_empty(), "{screen}");
    assert_eq!(codes(&Client::connect().renew(&scene.user.name)).len(), 10, "root, as in su");
    fs::write(SERVICE, format!("auth sufficient pam_rootok.so\n{SHIPPED}")).unwrap();
    assert_eq!(scene.renew(&[(PASSWORD, "not the password")]).0, 1);
    assert_eq!(scene.renew(&[(PASSWORD, &scene.user.password), (DONE, "")]).0, 0);
}

/// Real, effective and saved uid of each thread of the one connection that there is; the first is what the process is known by.
fn uids(scene: &Renewal) -> Vec<String> {
    let process = broker::connections(&scene.broker)[0];
    let mut tasks: Vec<_> =
        fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|task| task.unwrap().path()).collect();
    tasks.sort_unstable();
    let uids = |task: &PathBuf| {
        let status = fs::read_to_string(task.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
        line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
    };
    tasks.iter().map(uids).collect()
}

#[test]
fn only_the_thread_of_pam_has_the_callers_uid_and_only_until_its_end() {
    let Some(scene) = Renewal::new() else { return };
    let uid = run(Command::new("id").args(["-u", &scene.user.name]), "");
    let mut terminal = Terminal::start(&mut scene.command("renew"));
    terminal.expect(PASSWORD);
    assert_eq!(uids(&scene), ["0 0 0".into(), format!("{} 0 0", uid.trim())]);
    // By its id the process is root's: nobody else stops it.
    let process = broker::connections(&scene.broker)[0].to_string();
    let mut kill = scene.user.command();
    let stopped = feed(kill.args(["/bin/kill", "-STOP", &process]), "");
    assert!(!stopped.status.success() && text(&stopped.stderr).contains("not permitted"), "{stopped:?}");
    drop(terminal);
    scene.wait_until_idle();
    scene.ask_nothing();
    const WAITS: &str = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);\
        s.sendall(sys.argv[2].encode() + b'\\0'); print(s.recv(65536).decode(), flush=True); sys.stdin.read()";
    let call = json!({ "method": "org.backupcodes.Broker.Renew", "parameters": { "user": scene.user.name } });
    let mut client = scene.user.command();
    client.args(["/usr/bin/python3", "-c", WAITS, SOCKET, &call.to_string()]);
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut reply = String::new();
    BufReader::new(client.stdout.take().unwrap()).read_line(&mut reply).unwrap();
    assert!(reply.contains("sheet"), "{reply}");
    assert!(uids(&scene).iter().all(|uids| uids == "0 0 0"), "{:?}", uids(&scene));
    drop(client.stdin.take());
    client.wait().unwrap();
}

#[test]
fn a_broker_that_may_not_have_the_callers_uid_renews_nothing() {
    let Some(mut scene) = Renewal::new() else { return };
    scene.ask_nothing();
    scene.broker.kill().unwrap();
    scene.broker.wait().unwrap();
    let mut broker = Command::new("setpriv");
    broker.arg("--bounding-set=-setuid").arg(built("backupcodes-broker")).args(["--socket", SOCKET]);
    scene.broker = broker.spawn().unwrap();
    wait_until("the broker", || scene.output("status", "").status.code() != Some(3));
    let (status, screen) = scene.renew(&[]);
    assert!(status == 1 && screen.contains("refused") && scene.file().is_empty(), "{screen}");
    let line = scene.last_line();
    assert!(line.contains("cannot have the real uid of its caller") && line.contains("CAP_SETUID"), "{line}");
}

/// Whoever is gone after the sheet, but before `Keep`, has the old set; whoever is gone after that, the new one.
#[test]
fn a_client_that_goes_away_at_any_step_leaves_the_old_set_or_the_new_one_whole() {
    let Some(scene) = Renewal::new() else { return };
    no_throttle();
    let user = scene.user.name.clone();
    let password = scene.user.password.clone();
    let sheet = scene.machine.generate(&scene.user);
    // What is sent, in its order; of each, whether the reply is waited for.
    let steps = |code: &str| {
        [
            ("Renew", json!({ "user": user })),
            ("Respond", json!({ "responses": [password] })),
            ("Respond", json!({ "responses": [code] })),
            ("Keep", json!({})),
        ]
    };
    let mut spent = 0;
    for count in 0..4 {
        for waits in [false, true] {
            let mut client = Client::connect();
            let code = &sheet.codes[spent];
            for (number, (method, parameters)) in steps(code).into_iter().enumerate().take(count) {
                client.send(method, parameters);
                if waits || number + 1 < count {
                    client.receive().unwrap();
                }
            }
            drop(client);
            scene.wait_until_idle();
            let status = scene.machine.status(&scene.user);
            assert_eq!(status["set"], sheet.set, "{count} steps");
            // Its code is spent where PAM has come to it.
            spent = 10 - usize::try_from(status["left"].as_u64().unwrap()).unwrap();
            assert!(spent <= 2 && scene.takes(&sheet.codes[spent]), "{count} steps: {status}");
        }
    }
    assert!(spent >= 1);
    for waits in [false, true] {
        let sheet = scene.machine.generate(&scene.user);
        let mut client = Client::connect();
        client.renew(&user);
        client.respond(&password);
        let new = codes(&client.respond(&sheet.codes[0]));
        assert!(!scene.takes(&new[0]) && scene.takes(&sheet.codes[1]), "not before Keep");
        client.send("Keep", json!({}));
        if waits {
            assert_eq!(client.receive().unwrap(), json!({ "parameters": {} }));
        }
        drop(client);
        scene.wait_until_idle();
        assert!(scene.takes(&new[0]) && scene.takes(&new[9]) && !scene.takes(&sheet.codes[1]));
        assert_eq!(scene.left(), 10);
    }
}

/// Kills the process of a connection at each stop that counts, while a client goes through a renewal. PAM's own thread works with
/// the set as every application does, which the suite `crash` kills.
fn sweep(counts: fn(&Stop) -> bool) {
    let Some(scene) = Renewal::new() else { return };
    let module = "auth required pam_backupcodes.so\naccount required pam_permit.so\n";
    fs::write(SERVICE, module).unwrap();
    fs::write("/etc/security/backupcodes.conf", CHEAP).unwrap();
    let outbox = Path::new("/var/lib/backupcodes/outbox");
    let user = scene.user.name.clone();
    let (mut killed, mut kept) = (Vec::new(), 0);
    loop {
        let sheet = scene.machine.generate(&scene.user);
        let _ = fs::remove_dir_all(outbox);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut broker = Command::new(built("backupcodes-broker"));
        broker.arg("--connection");
        let (stop, (shown, is_kept)) = std::thread::scope(|scope| {
            let client = scope.spawn(|| renew_until_it_ends(Client::of(ours), &user, &sheet.codes[0]));
            (killed_at_serving(broker, theirs, counts, killed.len()), client.join().unwrap())
        });
        let Some(stop) = stop else {
            assert!(is_kept);
            break;
        };
        let at = killed.len();
        let set = scene.set();
        if set == sheet.set {
            assert!(!is_kept, "the broker said that the new set is in place, stop {at}");
            assert!(scene.takes(&sheet.codes[1]) && scene.left() >= 9, "stop {at}");
        } else {
            kept += 1;
            let (shown_set, codes) = shown.unwrap_or_else(|| panic!("a set that nobody has seen, stop {at}"));
            assert_eq!((set, scene.left()), (shown_set, 10), "stop {at}");
            assert!(
                scene.takes(&codes[0]) && scene.takes(&codes[9]) && !scene.takes(&sheet.codes[1]),
                "stop {at}"
            );
            let subjects = scene.subjects();
            assert!(
                subjects.iter().any(|told| told.contains("Backup codes of ")),
                "stop {at}: {subjects:#?}"
            );
        }
        killed.push(stop);
    }
    report("a renewal", &killed, &[libc::SYS_renameat, libc::SYS_fsync, libc::SYS_flock, libc::SYS_write]);
    assert!(kept > 0 && kept < killed.len(), "{kept} of {} kept", killed.len());
}

/// The set and codes that came, if they came, and whether the broker said that they are in place.
fn renew_until_it_ends(mut client: Client, user: &str, code: &str) -> (Option<(String, Vec<String>)>, bool) {
    client.send("Renew", json!({ "user": user }));
    let Some(_) = client.receive() else { return (None, false) };
    client.send("Respond", json!({ "responses": [code] }));
    let Some(reply) = client.receive() else { return (None, false) };
    let set = reply["parameters"]["sheet"]["set"].as_str().unwrap_or_else(|| panic!("{reply}")).into();
    let shown = Some((set, codes(&reply)));
    client.send("Keep", json!({}));
    let kept = client.receive();
    (shown, kept.is_some_and(|reply| reply == json!({ "parameters": {} })))
}

#[test]
fn a_broker_that_is_killed_in_a_renewal_leaves_the_old_set_or_the_new_one_whole() {
    sweep(Stop::changes);
}

#[test]
#[ignore = "over a minute: tests/long kills"]
fn a_broker_that_is_killed_at_any_call_of_a_renewal_leaves_the_old_set_or_the_new_one_whole() {
    sweep(Stop::does_something);
}
