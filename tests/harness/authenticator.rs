//! Codes of an authenticator app, and the real modules that check them.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;

use crate::machine::{Account, append, run};
use crate::set_mode;

/// A module that checks verification codes.
#[derive(Clone, Copy, Debug)]
pub enum Verifier {
    /// `pam_google_authenticator.so`
    Google,
    /// `pam_oath.so` with the guide's file of users
    Oath,
}

/// What a user's phone knows.
pub struct Authenticator {
    /// The secret, in hexadecimal digits.
    secret: String,
}

impl Verifier {
    /// A new secret, which the account's phone and the module share.
    pub fn enroll(self, account: &Account) -> Authenticator {
        let mut random = [0_u8; 20];
        File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
        let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Google => {
                let file = PathBuf::from("/home").join(&account.name).join(".google_authenticator");
                fs::write(&file, format!("{}\n\" TOTP_AUTH\n", base32(&secret))).unwrap();
                run(Command::new("chown").arg(&account.name).arg(&file), "");
                set_mode(&file, 0o400);
            }
            Self::Oath => {
                let file = PathBuf::from("/etc/users.oath");
                append(&file, &format!("HOTP/T30/6 {} - {secret}\n", account.name));
                set_mode(&file, 0o600);
            }
        }
        Authenticator { secret }
    }
}

impl Authenticator {
    /// The verification code of this moment.
    pub fn code(&self) -> String {
        self.codes(&[]).remove(0)
    }

    /// A verification code of no moment near this one.
    pub fn wrong_code(&self) -> String {
        let right = self.codes(&["--now=1 hour ago", "--window=240"]);
        assert_eq!(right.len(), 241);
        (0..).map(|number| format!("{number:06}")).find(|code| !right.contains(code)).unwrap()
    }

    fn codes(&self, options: &[&str]) -> Vec<String> {
        let codes = run(Command::new("oathtool").arg("--totp").args(options).arg(&self.secret), "");
        codes.lines().map(Into::into).collect()
    }
}

/// The secret as libpam-google-authenticator keeps it.
fn base32(secret: &str) -> String {
    let told = run(Command::new("oathtool").args(["--totp", "--verbose", secret]), "");
    let line = told.lines().find_map(|line| line.strip_prefix("Base32 secret: "));
    line.expect("oathtool tells the secret in base32").into()
}
