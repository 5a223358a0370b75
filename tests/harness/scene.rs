//! A store of root's, and the broker that serves it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::{Value, json};

use crate::{
    Attempt, CHEAP, Line, Sheet, World, as_nobody, broker, built, caught, feed, race_in, sandbox_of_root,
    set_mode, sheet, status, text,
};

/// An account that exists on every host, and is not root's.
pub const USER: &str = "nobody";

/// A store of root's, its broker, and a set of an ordinary user's.
pub struct Scene {
    pub world: World,
    pub broker: Child,
    pub sheet: Sheet,
}

impl Scene {
    pub fn new(options: &str) -> Option<Self> {
        let sandbox = sandbox_of_root()?;
        let world = World::new(options)?;
        set_mode(world.folder.path(), 0o755);
        // Where no umask and no folder of the test's is in the way.
        let socket = sandbox.join(format!("broker-{}", world.service));
        world.configure(&format!("broker = {socket:?}\n{CHEAP}"));
        let sheet = sheet(world.admin(&["generate", "--yes", "--format", "json", USER]));
        Some(Self { broker: start(&world, &socket), world, sheet })
    }

    /// Where the broker has ended, another one in its place. The one that has ended comes back.
    pub fn restart(&mut self) -> Child {
        let broker = start(&self.world, &self.socket());
        std::mem::replace(&mut self.broker, broker)
    }

    /// Replaces the broker by one with this configuration.
    pub fn restart_with(&mut self, conf: &Path) {
        self.broker.kill().unwrap();
        self.broker.wait().unwrap();
        self.broker = broker::start(&self.socket(), &["--config".as_ref(), conf.as_ref()]);
    }

    pub fn socket(&self) -> PathBuf {
        sandbox_of_root().unwrap().join(format!("broker-{}", self.world.service))
    }

    /// An attempt of the user's, on this host.
    pub fn attempt(&self, code: &str) -> Attempt {
        let attempt = Attempt::new(&self.world.path("pam.d"), &self.world.service, USER, None);
        Attempt { answers: vec![code.into()], ..attempt }
    }

    /// What libpam returns in an application of the user's, and how much was said.
    pub fn try_as_user(&self, code: &str) -> (i32, usize) {
        let outcome =
            race_in(as_nobody().arg(built("pam-application")), &[self.attempt(code)]).pop().unwrap();
        let outcome = outcome.expect("the application lives on");
        assert_eq!(outcome.state[0].uids, [65534; 4]);
        (outcome.codes[0], outcome.said.len())
    }

    pub fn status(&self) -> Value {
        status(&self.world.admin(&["status", "--format", "json", USER]))
    }

    /// What the broker has logged of this scene.
    pub fn log(&self) -> Vec<Line> {
        let service = format!("service={} ", self.world.service);
        let is_it = |line: &Line| line.text.contains("backupcodes-broker") && line.text.contains(&service);
        caught(&sandbox_of_root().unwrap()).into_iter().filter(is_it).collect()
    }

    /// What the broker replies to one call of this uid's.
    pub fn call(&self, uid: u32, method: &str, parameters: Value) -> Value {
        let call = json!({ "method": format!("org.backupcodes.Broker.{method}"), "parameters": parameters });
        let reply = self.send(uid, &format!("{call}\0"));
        serde_json::from_str(reply.trim_end_matches('\0')).unwrap_or_else(|error| panic!("{error}: {reply}"))
    }

    /// What comes back for these bytes of this uid's, until there is a NUL or the end.
    pub fn send(&self, uid: u32, bytes: &str) -> String {
        const CLIENT: &str = "import socket, sys\n\
            s = socket.socket(socket.AF_UNIX)\n\
            s.connect(sys.argv[1])\n\
            reply = b''\n\
            try:\n    s.sendall(sys.stdin.buffer.read())\nexcept BrokenPipeError:\n    pass\n\
            while not reply.endswith(b'\\0'):\n    \
                try:\n        piece = s.recv(65536)\n    except ConnectionResetError:\n        break\n    \
                if not piece:\n        break\n    reply += piece\n\
            sys.stdout.buffer.write(reply)\n";
        let mut client = Command::new("setpriv");
        client.args(["--reuid", &uid.to_string(), "--clear-groups", "/usr/bin/python3", "-c", CLIENT]);
        let output = feed(client.arg(self.socket()), bytes);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }
}

fn start(world: &World, socket: &Path) -> Child {
    broker::start(socket, &["--config".as_ref(), world.path("conf").as_ref()])
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.broker.kill();
        let _ = self.broker.wait();
        let _ = std::fs::remove_file(self.socket());
    }
}
