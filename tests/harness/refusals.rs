//! The kinds of refusals that nobody may tell apart, each of which a test can bring about.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::{Answer, Attempt, Sheet, World, built, feed, me, pam, sheet, text};

/// Why a response is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    UnknownUser,
    NoSet,
    AllSpent,
    WrongNumber,
    SpentNumber,
    WrongSecret,
    Malformed,
    Throttled,
    SpendingFailed,
}

/// Whose attempts, by which service, from where and with which configuration.
pub struct Ground {
    /// Another configuration than the system's.
    pub conf: Option<PathBuf>,
    pub directory: PathBuf,
    pub runtime: PathBuf,
    /// Without answers.
    pub attempt: Attempt,
}

/// An attempt that is refused.
pub struct Refusal {
    pub attempt: Attempt,
    /// Where its failures are counted.
    counter: PathBuf,
    failures: usize,
    _read_only: Option<ReadOnly>,
}

/// A code by its shape, of no set: the first and the tenth of README's sheet, and the first with a typing error.
const NOBODYS: &str = "1XRXE-SJZCN-06BT7";
const TENTH: &str = "A0HPR-3SC51-Z3WPT";
const MISTYPED: &str = "1XRXE-SJZCN-06BT8";

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::UnknownUser,
        Self::NoSet,
        Self::AllSpent,
        Self::WrongNumber,
        Self::SpentNumber,
        Self::WrongSecret,
        Self::Malformed,
        Self::Throttled,
        Self::SpendingFailed,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown user",
            Self::NoSet => "no set",
            Self::AllSpent => "all spent",
            Self::WrongNumber => "no such number",
            Self::SpentNumber => "spent number",
            Self::WrongSecret => "wrong secret",
            Self::Malformed => "malformed",
            Self::Throttled => "throttled",
            Self::SpendingFailed => "right, not spent",
        }
    }

    /// What libpam returns, as pam_backupcodes(8) says.
    pub const fn code(self) -> i32 {
        if matches!(self, Self::UnknownUser) { pam::USER_UNKNOWN } else { pam::AUTH_ERR }
    }

    /// What is in the log alone.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::UnknownUser => "no such user",
            Self::NoSet => "the user has no backup codes",
            Self::AllSpent | Self::SpentNumber => "code 1 was used before",
            Self::WrongNumber => "code 10 does not exist in the set",
            Self::WrongSecret => "wrong code for number 1",
            Self::Malformed => "the response is not a backup code",
            Self::Throttled => "failures in a row; the response was not examined",
            Self::SpendingFailed => "code 1 was right but could not be spent",
        }
    }

    /// Brings about what it takes. The user must exist and have no set, but for the kind whose user does not exist.
    pub fn make_ready(self, ground: &Ground) -> Refusal {
        let answer = match self {
            Self::UnknownUser | Self::NoSet => NOBODYS.into(),
            Self::AllSpent => ground.spend(&ground.generate(10).codes),
            Self::WrongNumber => {
                ground.generate(3);
                TENTH.into()
            }
            Self::SpentNumber => ground.spend(&ground.generate(10).codes[..1]),
            Self::WrongSecret => {
                ground.generate(10);
                NOBODYS.into()
            }
            Self::Malformed => {
                ground.generate(10);
                MISTYPED.into()
            }
            Self::Throttled | Self::SpendingFailed => ground.generate(10).codes.swap_remove(0),
        };
        // Makes the counter, which a second attempt finds.
        assert_eq!(ground.answered(NOBODYS).run().codes, [self.code()], "{}", self.name());
        let refusal = Refusal {
            attempt: ground.answered(&answer),
            counter: ground.counter(self),
            failures: if self == Self::Throttled { 100 } else { 1 },
            _read_only: (self == Self::SpendingFailed).then(|| ReadOnly::new(&ground.file())),
        };
        refusal.reset();
        refusal
    }
}

impl Ground {
    /// Of the user who runs the tests, or of nobody, where the kind wants that.
    pub fn of_world(world: &World, kind: Kind) -> Self {
        let user = if kind == Kind::UnknownUser { "no-such-user".into() } else { me() };
        Self {
            conf: Some(world.path("conf")),
            directory: world.store(),
            runtime: world.path("run"),
            attempt: Attempt { user: user.into(), ..world.attempt(&[]) },
        }
    }

    /// Of a user at a real sshd on loopback, with the system's configuration.
    pub fn of_sshd(user: &str) -> Self {
        Self {
            conf: None,
            directory: "/var/lib/backupcodes".into(),
            runtime: "/run/backupcodes".into(),
            attempt: Attempt::new(Path::new("/etc/pam.d"), "sshd", user, Some("127.0.0.1")),
        }
    }

    fn user(&self) -> &str {
        std::str::from_utf8(&self.attempt.user).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.directory.join(format!("{}.toml", self.user()))
    }

    fn counter(&self, kind: Kind) -> PathBuf {
        let user = if kind == Kind::UnknownUser { "%unknown" } else { self.user() };
        let Attempt { service, rhost, user: typed, .. } = &self.attempt;
        // What keeps names apart that are no user's: docs/design/README.md.
        let sum = |sum: u16, byte: &u8| sum.wrapping_mul(31).wrapping_add((*byte).into());
        let bucket = format!("%7E{:04x}", typed.iter().fold(0, sum));
        let bucket = if kind == Kind::UnknownUser { bucket.as_bytes() } else { b"" };
        let key = [service, bucket, b"@", rhost.as_deref().unwrap_or(b"%local")].concat();
        self.runtime.join("throttle").join(user).join(text(&key))
    }

    fn answered(&self, answer: &str) -> Attempt {
        Attempt { answers: vec![Answer::from(answer)], ..self.attempt.clone() }
    }

    fn generate(&self, count: u8) -> Sheet {
        let mut admin = Command::new(built("backupcodes-admin"));
        if let Some(conf) = &self.conf {
            admin.arg("--config").arg(conf);
        }
        admin.args(["generate", "--format", "json", "--count", &count.to_string(), self.user()]);
        sheet(feed(&mut admin, ""))
    }

    /// Spends these codes, and returns the first.
    fn spend(&self, codes: &[String]) -> String {
        for code in codes {
            assert_eq!(self.answered(code).run().codes, [pam::SUCCESS]);
        }
        codes[0].clone()
    }
}

impl Refusal {
    /// What came before: one failure, or so many that no response is examined for a minute.
    pub fn reset(&self) {
        assert!(self.counter.exists(), "{}", self.counter.display());
        fs::write(&self.counter, "x".repeat(self.failures)).unwrap();
    }

    pub fn answer(&self) -> &str {
        match &self.attempt.answers[0] {
            Answer::Text(text) => text,
            _ => unreachable!("only texts are answered here"),
        }
    }
}

/// A file that cannot be written until this is dropped.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn new(file: &Path) -> Self {
        let remount = |flags| mount(Some(file), file, None::<&str>, flags, None::<&str>).unwrap();
        remount(MsFlags::MS_BIND);
        remount(MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
        Self(file.into())
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
