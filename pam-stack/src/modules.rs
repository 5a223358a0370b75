//! The possible results of well-known modules for `pam_authenticate`, and what they ask for.

use crate::Entry;

/// Possible results of a module, by their names in controls.
pub type Results = &'static [&'static str];

/// The results of a factor.
const FACTOR: Results =
    &["success", "auth_err", "user_unknown", "authinfo_unavail", "perm_denied", "maxtries"];
/// The results of other modules.
const ANY: Results =
    &["success", "ignore", "auth_err", "user_unknown", "authinfo_unavail", "perm_denied", "maxtries"];

/// The role of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Asks for the password or an equivalent.
    FirstFactor,
    /// Asks, or may ask, for something else: includes all unknown modules.
    OtherFactor,
    /// Asks for nothing.
    Silent,
}

/// The role of an entry's module.
#[must_use]
pub fn role(entry: &Entry) -> Role {
    let name = name(entry);
    if FIRST_FACTORS.contains(&name) {
        Role::FirstFactor
    } else if name.is_empty() || SILENT.contains(&name) || WITHOUT_SUCCESS.contains(&name) {
        Role::Silent
    } else {
        Role::OtherFactor
    }
}

/// All possible results of a module for a user other than root. Modules are independent here: this includes combinations of
/// results that never occur together.
#[must_use]
pub fn results(entry: &Entry) -> Results {
    let has = |option: &str| entry.arguments().iter().any(|argument| argument == option);
    match name(entry) {
        "pam_permit" => &["success"],
        // It runs after a right password; a locked-out user does not matter here.
        "pam_faillock" if has("authsucc") => &["success"],
        // Root does not matter here.
        "pam_deny" | "pam_rootok" => &["auth_err"],
        "pam_nologin" if has("successok") => &["success", "auth_err"],
        name if WITHOUT_SUCCESS.contains(&name) => &["ignore", "perm_denied"],
        _ if role(entry) == Role::Silent || passes_over(entry) => ANY,
        _ => FACTOR,
    }
}

/// Whether a factor ignores users who have not set it up. To `pam_unix.so`, `nullok` means an empty password.
fn passes_over(entry: &Entry) -> bool {
    let is_set = |argument: &String| {
        argument.starts_with("ignore_")
            || role(entry) == Role::OtherFactor && ["nullok", "nouserok"].contains(&argument.as_str())
    };
    entry.arguments().iter().any(is_set)
}

/// Whether a module asks for nothing and makes no exception by name, such as for a group.
#[must_use]
pub fn is_no_exception(entry: &Entry) -> bool {
    ["pam_localuser", "pam_shells", "pam_usertype", "pam_exec"].contains(&name(entry))
}

/// Whether a factor asks for a typed code, and for nothing else.
#[must_use]
pub fn is_code(entry: &Entry) -> bool {
    let is_asked_with_password = entry.arguments().iter().any(|argument| argument == "forward_pass");
    ["pam_google_authenticator", "pam_oath"].contains(&name(entry)) && !is_asked_with_password
}

/// Whether a factor always asks for something.
#[must_use]
pub fn asks(entry: &Entry) -> bool {
    role(entry) == Role::FirstFactor || is_code(entry)
}

/// Whether a module may leave the user's response for later modules (`PAM_AUTHTOK`).
#[must_use]
pub fn may_leave_authtok(entry: &Entry) -> bool {
    let has = |option: &str| entry.arguments().iter().any(|argument| argument == option);
    let is_asking = match role(entry) {
        Role::FirstFactor => !WITHOUT_AUTHTOK.contains(&name(entry)),
        Role::OtherFactor => !is_code(entry),
        Role::Silent => match name(entry) {
            "pam_exec" => has("expose_authtok"),
            silent => SILENT_WITH_PASSWORD.contains(&silent),
        },
    };
    is_asking && !has("use_first_pass")
}

/// Whether a factor takes an existing `PAM_AUTHTOK`, and then asks for nothing.
#[must_use]
pub fn takes_authtok(entry: &Entry) -> bool {
    // pam_get_authtok(3) asks only if PAM_AUTHTOK is not set.
    name(entry) == "pam_unix" || entry.arguments().iter().any(|argument| argument.ends_with("_first_pass"))
}

/// The name of the module without `.so`; empty if the entry has no module.
#[must_use]
pub fn name(entry: &Entry) -> &str {
    let module = entry.module().unwrap_or_default();
    module.strip_suffix(".so").unwrap_or(module)
}

const FIRST_FACTORS: [&str; 24] = [
    "pam_aad",
    "pam_authd",
    "pam_authd_exec",
    "pam_fprintd",
    "pam_fprintd_grosshack",
    "pam_himmelblau",
    "pam_howdy",
    "pam_kanidm",
    "pam_krb5",
    "pam_ldap",
    "pam_mysql",
    "pam_p11",
    "pam_pgsql",
    "pam_pkcs11",
    "pam_radius_auth",
    "pam_sss",
    "pam_sss_gss",
    "pam_systemd_home",
    "pam_tacplus",
    "pam_tcb",
    "pam_unix",
    "pam_unix_auth",
    "pam_userdb",
    "pam_winbind",
];

/// First factors that need no typed response.
const WITHOUT_AUTHTOK: [&str; 3] = ["pam_fprintd", "pam_howdy", "pam_sss_gss"];

/// Modules that may ask for the password if no other module has: they need it for another purpose.
const SILENT_WITH_PASSWORD: [&str; 8] = [
    "pam_ecryptfs",
    "pam_fscrypt",
    "pam_gdm",
    "pam_gnome_keyring",
    "pam_kwallet",
    "pam_kwallet5",
    "pam_mount",
    "pam_script",
];

/// Modules that ask for nothing, and succeed or fail.
const SILENT: [&str; 37] = [
    "pam_abl",
    "pam_access",
    "pam_deny",
    "pam_ecryptfs",
    "pam_exec",
    "pam_faillock",
    "pam_fscrypt",
    "pam_gdm",
    "pam_geoip",
    "pam_gnome_keyring",
    "pam_kwallet",
    "pam_kwallet5",
    "pam_lastlog",
    "pam_limits",
    "pam_listfile",
    "pam_localuser",
    "pam_loginuid",
    "pam_mount",
    "pam_namespace",
    "pam_permit",
    "pam_pwhistory",
    "pam_rhosts",
    "pam_rootok",
    "pam_script",
    "pam_securetty",
    "pam_selinux",
    "pam_selinux_permit",
    "pam_sepermit",
    "pam_shells",
    "pam_slurm",
    "pam_succeed_if",
    "pam_systemd",
    "pam_tally2",
    "pam_time",
    "pam_umask",
    "pam_usertype",
    "pam_wheel",
];

/// Modules that ask for nothing and never return success, but `PAM_IGNORE`.
const WITHOUT_SUCCESS: [&str; 10] = [
    "pam_cap",
    "pam_echo",
    "pam_env",
    "pam_faildelay",
    "pam_group",
    "pam_keyinit",
    "pam_mail",
    "pam_motd",
    "pam_nologin",
    "pam_warn",
];
