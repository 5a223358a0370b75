//! libpam-google-authenticator, whose emergency codes are what is nearest to ours.

use std::path::Path;

use super::{machine, write_private};

/// Debian's package.
pub const PACKAGE: &str = "libpam-google-authenticator";

pub fn is_installed() -> bool {
    machine::pam_modules().join("pam_google_authenticator.so").exists()
}

/// The module as it stands in a stack, with the secrets of all users in this private folder.
pub fn module(directory: &Path, user: &str) -> String {
    format!("pam_google_authenticator.so secret={}/${{USER}} user={user}", directory.display())
}

/// Writes a user's secret with ten emergency codes, and returns the last of them.
pub fn write_secret(file: &Path) -> String {
    let codes: Vec<_> = (10_000_001..=10_000_010).map(|code: u32| code.to_string()).collect();
    write_private(file, &format!("JBSWY3DPEHPK3PXP\n\" TOTP_AUTH\n{}\n", codes.join("\n")));
    codes.last().unwrap().clone()
}
