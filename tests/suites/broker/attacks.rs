//! Attacks of ordinary users on the running broker, to act for others or to make them wait.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use backupcodes_tests::broker::connections;
use backupcodes_tests::patience::wait_until;
use backupcodes_tests::scene::{Scene, USER};
use backupcodes_tests::{feed, pam, sheet, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use serde_json::{Value, json};

/// The user whose login must not suffer, who is [`USER`].
const VICTIM: u32 = 65534;
/// The one who attacks, who exists on every host too.
const ATTACKER: u32 = 2;
/// So long the module waits for the broker at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// What an attack begins with, in Python.
const BEGINNING: &str = "\
import json, os, pwd, select, socket, sys, time

def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    return s

def message(method, **parameters):
    if method in ('HasSet', 'Check'):
        parameters['directory'] = sys.argv[2]
    return json.dumps({'method': 'org.backupcodes.Broker.' + method, 'parameters': parameters}).encode() + b'\\0'

def call(s, method, **parameters):
    s.sendall(message(method, **parameters))
    reply = b''
    while not reply.endswith(b'\\0'):
        piece = s.recv(65536)
        if not piece:
            raise EOFError
        reply += piece
    return json.loads(reply[:-1])

def name(uid):
    return pwd.getpwuid(uid).pw_name

# The uids for which the broker lets this connection act.
def acts_for(s):
    is_others = lambda uid: call(s, 'HasSet', user=name(uid)) == {'error': 'org.backupcodes.Broker.NotYours'}
    return [uid for uid in (0, 2, 65534) if not is_others(uid)]

def become(uid):
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)

# What comes of it in a process of this uid.
def as_uid(uid, action):
    reader, writer = os.pipe()
    if not os.fork():
        become(uid)
        os.write(writer, json.dumps(action()).encode())
        os._exit(0)
    os.close(writer)
    told = b''.join(iter(lambda: os.read(reader, 65536), b''))
    os.wait()
    return json.loads(told)

";

/// An attack that `start` starts: a program, or what leads to it.
fn python(start: &[&str], scene: &Scene, attack: &str) -> Command {
    let mut command = Command::new("timeout");
    command.arg("60").args(start).args(["/usr/bin/python3", "-c"]);
    command.arg(format!("{BEGINNING}{attack}")).arg(scene.socket()).arg(scene.world.store());
    command
}

/// What an attack prints.
fn attack(scene: &Scene, start: &[&str], attack: &str) -> Value {
    let output = feed(&mut python(start, scene, attack), "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

const AS_ATTACKER: [&str; 5] = ["setpriv", "--reuid", "2", "--clear-groups", "--"];

/// Attacks that go on until this is dropped.
struct Attackers(Vec<Child>);

impl Attackers {
    fn start(scene: &Scene, count: usize, start: &[&str], attack: &str) -> Self {
        let one = |_| python(start, scene, attack).stdin(Stdio::null()).spawn().unwrap();
        Self((0..count).map(one).collect())
    }

    fn assert_at_it(&mut self) {
        assert!(self.0.iter_mut().all(|one| one.try_wait().unwrap().is_none()), "an attack has ended");
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        for one in &mut self.0 {
            // timeout hands it on, as it does not SIGKILL.
            let _ = kill(pid(one), Signal::SIGTERM);
            let _ = one.wait();
        }
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap())
}

/// Logins of the victim's through the module, each within this time.
fn assert_victim_gets_in(scene: &Scene, codes: &[String], limit: Duration) {
    for code in codes {
        let start = Instant::now();
        assert_eq!(scene.try_as_user(code).0, pam::SUCCESS, "after {:?}", start.elapsed());
        assert!(start.elapsed() < limit, "it took {:?}", start.elapsed());
    }
}

#[test]
fn root_of_a_user_namespace_acts_for_whom_it_is_outside() {
    let Some(scene) = Scene::new("") else { return };
    let namespace = [&AS_ATTACKER[..], &["unshare", "--user", "--map-root-user"]].concat();
    let told = attack(&scene, &namespace, "print(json.dumps([os.getuid(), acts_for(connect())]))");
    assert_eq!(told, json!([0, [ATTACKER]]));
}

#[test]
fn what_a_message_says_of_its_sender_does_not_count() {
    // Root may claim what it likes, and others what they are.
    const CLAIMS: &str = "
import struct

def send(s, pid, uid):
    credentials = struct.pack('3i', pid, uid, uid)
    data = message('HasSet', user=name(0))
    try:
        s.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])
    except PermissionError:
        return 'not sent'
    return json.loads(s.recv(65536)[:-1]).get('error', 'done').split('.')[-1]

s = as_socket_of(2)
print(json.dumps([
    as_uid(2, lambda: send(connect(), os.getpid(), 0)),
    as_uid(2, lambda: send(connect(), 1, 2)),
    as_uid(2, lambda: send(connect(), os.getpid(), 2)),
    [send(s, os.getpid(), 0), send(s, 1, 0), acts_for(s)],
]))
";
    let Some(scene) = Scene::new("") else { return };
    let told = attack(&scene, &[], &format!("{OPENED_BY}{CLAIMS}"));
    assert_eq!(
        told,
        json!(["not sent", "not sent", "NotYours", ["NotYours", "NotYours", [ATTACKER]]]),
        "uid 2 of itself; root on a connection of uid 2's"
    );
}

/// A connection that a process of another uid has opened and sent here.
const OPENED_BY: &str = "
def as_socket_of(uid):
    here, there = socket.socketpair()
    def open():
        s = connect()
        socket.send_fds(there, [b'x'], [s.fileno()])
    as_uid(uid, open)
    return socket.socket(fileno=socket.recv_fds(here, 1, 1)[1][0])
";

#[test]
fn a_connection_stays_its_openers_whoever_it_is_handed_to() {
    const HANDED: &str = "
print(json.dumps([[opener, user, as_uid(user, lambda: acts_for(s))]
    for opener in (0, 2, 65534) for user in (0, 2, 65534) for s in [as_socket_of(opener)]]))
";
    let Some(scene) = Scene::new("") else { return };
    for handed in attack(&scene, &[], &format!("{OPENED_BY}{HANDED}")).as_array().unwrap() {
        let opener = handed[0].as_u64().unwrap();
        let all = [0, u64::from(ATTACKER), u64::from(VICTIM)];
        let expected = if opener == 0 { all.to_vec() } else { vec![opener] };
        assert_eq!(handed[2], json!(expected), "opened by {opener} and used by {}", handed[1]);
    }
}

#[test]
fn a_connection_stays_its_openers_when_a_process_of_roots_has_their_pid() {
    // The connection is kept by a child of the opener's, which has ended.
    const REUSED: &str = "
def attempt():
    (done, finish), (go, start), (told, tell) = os.pipe(), os.pipe(), os.pipe()
    opener = os.fork()
    if not opener:
        become(2)
        s = connect()
        if not os.fork():
            os.read(go, 1)
            os.write(tell, json.dumps(acts_for(s)).encode())
        os._exit(0)
    os.waitpid(opener, 0)
    heir = 0
    for _ in range(100):
        with open('/proc/sys/kernel/ns_last_pid', 'w') as last:
            last.write(str(opener - 1))
        heir = os.fork()
        if not heir:
            os.close(finish)
            os.read(done, 1)
            os._exit(0)
        if heir == opener:
            break
        os.kill(heir, 9)
        os.waitpid(heir, 0)
    os.write(start, b'x')
    acted = json.loads(os.read(told, 65536))
    os.close(finish)
    if heir != opener:
        return None
    os.waitpid(heir, 0)
    return acted

# Another process may have got the pid first.
acted = None
while acted is None:
    acted = attempt()
print(json.dumps(acted))
";
    let Some(scene) = Scene::new("") else { return };
    assert_eq!(attack(&scene, &[], REUSED), json!([ATTACKER]));
}

#[test]
fn of_a_message_of_1_gb_16_kib_are_read_and_others_log_in_meanwhile() {
    // Prints how much of it was taken: what stood in the socket counts too.
    const SENDS: &str = "
def send(beginning):
    s, taken = connect(), 0
    try:
        s.sendall(beginning)
        while taken < 1 << 30:
            taken += s.send(b'x' * 65536)
        s.sendall(b'\"}}\\0')
    except (BrokenPipeError, ConnectionResetError):
        pass
    return taken
";
    const FLOODS: &str = "
while True:
    send(message('Check', service='x', user=name(2), response='x')[:-4])
";
    const MOST_MEMORY: u64 = 32 << 20;
    let Some(mut scene) = Scene::new("") else { return };
    let kinds = "print(json.dumps([send(b''), send(message('Check', service='x', user=name(2), response='x')[:-4])]))";
    for taken in attack(&scene, &AS_ATTACKER, &format!("{SENDS}{kinds}")).as_array().unwrap() {
        assert!((16 << 10..2 << 20).contains(&taken.as_u64().unwrap()), "{taken} bytes are taken");
    }
    let attackers = Attackers::start(&scene, 8, &AS_ATTACKER, &format!("{SENDS}{FLOODS}"));
    wait_until("a flood", || !connections(&scene.broker).is_empty());
    assert_victim_gets_in(&scene, &scene.sheet.codes[..3], PATIENCE);
    drop(attackers);
    wait_until("no connection left", || connections(&scene.broker).is_empty());
    let peak = peak_memory(&mut scene.broker);
    // The one that ended is waited for already.
    drop(scene.restart());
    assert!(peak < MOST_MEMORY, "{peak} bytes");
}

/// The most memory that a broker or one of its connections has had, and this process until it started it; that is its end.
fn peak_memory(broker: &mut Child) -> u64 {
    broker.kill().unwrap();
    // SAFETY: numbers alone, for which all zeros are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let pid = pid(broker).as_raw();
    // SAFETY: both pointers are null or lead to what lives as long as the call.
    assert_eq!(unsafe { libc::wait4(pid, std::ptr::null_mut(), 0, &raw mut usage) }, pid);
    u64::try_from(usage.ru_maxrss).unwrap() << 10
}

/// Those of an attack that opens connections, while the victim logs in.
fn flood(start: &[&str], attack: &str) {
    let Some(scene) = Scene::new("") else { return };
    let mut attackers = Attackers::start(&scene, 4, start, attack);
    // Until as many wait as there is room for.
    std::thread::sleep(Duration::from_secs(1));
    // Half of the time that the module waits for a connection.
    assert_victim_gets_in(&scene, &scene.sheet.codes[..5], Duration::from_millis(2500));
    attackers.assert_at_it();
    drop(attackers);
    // Those that still come out of the queue need the configuration.
    wait_until("no connection left", || connections(&scene.broker).is_empty());
}

/// With what is no call, at which the process of a connection ends at once.
#[test]
fn a_caller_that_holds_10000_connections_and_renews_the_oldest_delays_nobody_else() {
    flood(
        &AS_ATTACKER,
        "
import collections, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (2600, 2600))
flood = collections.deque()
while True:
    if len(flood) == 2500:
        flood.popleft().close()
    s = connect()
    try:
        s.send(b'\\0')
    except BrokenPipeError:
        pass
    flood.append(s)
",
    );
}

/// So the queue is full of connections that are closed and that nobody counts any more.
#[test]
fn a_caller_that_opens_and_closes_connections_quickly_delays_nobody_else() {
    flood(
        &AS_ATTACKER,
        "
while True:
    connect().close()
",
    );
}

#[test]
fn many_accounts_that_open_and_close_connections_quickly_delay_nobody_else() {
    flood(
        &[],
        "
for _ in range(8):
    if os.fork():
        break
become(20000 + os.getpid())
while True:
    connect().close()
",
    );
}

/// A user has 65,536 more uids in user namespaces, subuid(5), but they are nobody's accounts.
#[test]
fn connections_of_many_uids_without_an_account_lock_nobody_out() {
    const HOLDS: &str = "
for uid in range(100000, 100016):
    if not os.fork():
        become(uid)
        held = [connect() for _ in range(16)]
        for s in held:
            try:
                s.sendall(message('HasSet', user=name(2)))
            except BrokenPipeError:
                pass
        time.sleep(60)
        os._exit(0)
time.sleep(60)
";
    let Some(scene) = Scene::new("") else { return };
    let mut attackers = Attackers::start(&scene, 1, &[], HOLDS);
    std::thread::sleep(Duration::from_secs(1));
    assert_victim_gets_in(&scene, &scene.sheet.codes[..3], PATIENCE);
    attackers.assert_at_it();
}

#[test]
fn a_caller_that_checks_as_many_codes_as_it_can_stops_no_login_of_other_users() {
    let Some(scene) = Scene::new("") else { return };
    // Hashes at their usual cost, and none is spared for failures.
    let socket = scene.socket();
    scene.world.configure(&format!("broker = {socket:?}\n[throttle]\nfree = 1000000\n"));
    let attacker = User::from_uid(Uid::from_raw(ATTACKER)).unwrap().unwrap().name;
    let generate = |user: &str| sheet(scene.world.admin(&["generate", "--yes", "--format", "json", user]));
    // Well-formed, of a set that is gone.
    let wrong = generate(&attacker).codes[0].clone();
    generate(&attacker);
    let codes = generate(USER).codes;
    let checks = format!(
        "
s = connect()
while True:
    assert call(s, 'Check', user=name(2), response='{wrong}', service='x')['parameters'] == {{'verdict': 'refused'}}
"
    );
    let mut attackers = Attackers::start(&scene, 16, &AS_ATTACKER, &checks);
    wait_until("16 connections", || connections(&scene.broker).len() == 16);
    assert_victim_gets_in(&scene, &codes[..5], PATIENCE);
    attackers.assert_at_it();
}

#[test]
fn a_caller_that_reads_no_reply_is_dropped_and_blocks_nothing() {
    // Its calls are checks and large replies, until nothing more goes in; then it waits for the end.
    const READS_NOTHING: &str = "
s = connect()
s.setblocking(False)
calls = message('Check', user=name(65534), response='CODE', service='x') + message('Status', user=name(65534))
start, stopped = time.monotonic(), None
while True:
    try:
        s.send(calls)
    except BlockingIOError:
        time.sleep(0.01)
    except (BrokenPipeError, ConnectionResetError):
        break
print(json.dumps(time.monotonic() - start))
";
    let Some(scene) = Scene::new("") else { return };
    let code = |user: &str| sheet(scene.world.admin(&["generate", "--yes", "--format", "json", user])).codes;
    let old = code(USER)[0].clone();
    let codes = code(USER);
    let as_victim = ["setpriv", "--reuid", "65534", "--clear-groups", "--"];
    let attack = READS_NOTHING.replace("CODE", &old);
    std::thread::scope(|scope| {
        let silent = scope.spawn(|| self::attack(&scene, &as_victim, &attack));
        // All that it may do is done: it waits to write.
        let stands = |pid: Pid| {
            std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default().contains("sock_alloc")
        };
        let blocked = || connections(&scene.broker).into_iter().find(|&pid| stands(pid));
        wait_until("a connection that waits to write", || blocked().is_some());
        let blocked = blocked().unwrap();
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        let is_its = |lock: &&str| lock.split_whitespace().any(|word| word == blocked.to_string());
        assert!(!locks.lines().any(|lock| is_its(&lock)), "{locks}");
        let start = Instant::now();
        assert_eq!(scene.try_as_user(&codes[0]).0, pam::SUCCESS);
        assert!(start.elapsed() < Duration::from_secs(3), "it took {:?}", start.elapsed());
        assert!(connections(&scene.broker).contains(&blocked), "it has waited all the time");
        let seconds = silent.join().unwrap().as_f64().unwrap();
        assert!(seconds < 25.0, "given up after {seconds} s");
    });
}

#[test]
fn connections_that_are_killed_leave_the_broker_its_places_and_others_alone() {
    let Some(scene) = Scene::new("") else { return };
    const WAITS: &str = "
flood = [connect() for _ in range(16)]
for s in flood:
    assert s.recv(1) == b''
";
    for _ in 0..2 {
        // All the places that one account has.
        let mut waits = python(&AS_ATTACKER, &scene, WAITS).spawn().unwrap();
        wait_until("16 connections", || connections(&scene.broker).len() == 16);
        for connection in connections(&scene.broker) {
            kill(connection, Signal::SIGKILL).unwrap();
        }
        assert!(waits.wait().unwrap().success(), "each of them is closed");
        // A place is kept for so long at least.
        std::thread::sleep(Duration::from_millis(150));
    }
    assert_victim_gets_in(&scene, &scene.sheet.codes[..1], PATIENCE);
}

#[test]
fn a_broker_that_is_killed_leaves_its_connections_and_the_next_one_serves() {
    const GOES_ON: &str = "
s = connect()
before = acts_for(s)
broker = int(sys.stdin.readline())
os.kill(broker, 9)
while os.path.exists(f'/proc/{broker}/fd/0'):
    time.sleep(0.01)
verdict = call(s, 'Check', user=name(65534), response=sys.stdin.readline().strip(), service='x')
print(json.dumps(verdict['parameters']['verdict']))
";
    let Some(mut scene) = Scene::new("") else { return };
    let [first, second] = [scene.sheet.codes[0].clone(), scene.sheet.codes[1].clone()];
    let mut goes_on = python(&[], &scene, GOES_ON);
    let output = feed(&mut goes_on, &format!("{}\n{first}\n", scene.broker.id()));
    assert_eq!(text(&output.stdout), "\"accepted\"\n", "{}", text(&output.stderr));
    assert_eq!(scene.try_as_user(&second).0, pam::AUTHINFO_UNAVAIL, "nobody listens");
    scene.restart().wait().unwrap();
    assert_eq!(scene.try_as_user(&first).0, pam::AUTH_ERR);
    assert_eq!(scene.try_as_user(&second).0, pam::SUCCESS);
}
