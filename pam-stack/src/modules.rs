//! What well-known modules can return to `pam_authenticate`, and what they ask for.

use crate::Entry;

/// What a module may return, as controls name it.
pub type Results = &'static [&'static str];

/// Factors succeed or fail …
const FACTOR: Results =
    &["success", "auth_err", "user_unknown", "authinfo_unavail", "perm_denied", "maxtries"];
/// … and others may have no opinion.
const ANY: Results =
    &["success", "ignore", "auth_err", "user_unknown", "authinfo_unavail", "perm_denied", "maxtries"];

/// What a module is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Asks for the password, or what stands for it.
    FirstFactor,
    /// Asks for something, or may: each module that is not known.
    OtherFactor,
    /// Asks for nothing.
    Silent,
}

/// What the module of a line is for.
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

/// All that a module may return to somebody who is not root. What it does depends on nothing here: a path on which the
/// modules return what they never return together is looked at as well.
#[must_use]
pub fn results(entry: &Entry) -> Results {
    let has = |option: &str| entry.arguments().iter().any(|argument| argument == option);
    match name(entry) {
        "pam_permit" => &["success"],
        // Called after a password that was right; who is locked out has no way that matters here.
        "pam_faillock" if has("authsucc") => &["success"],
        // Root needs no way in.
        "pam_deny" | "pam_rootok" => &["auth_err"],
        "pam_nologin" if has("successok") => &["success", "auth_err"],
        name if WITHOUT_SUCCESS.contains(&name) => &["ignore", "perm_denied"],
        _ if role(entry) == Role::Silent || passes_over(entry) => ANY,
        _ => FACTOR,
    }
}

/// Whether a factor passes over users who have none. To `pam_unix.so`, `nullok` is an empty password.
fn passes_over(entry: &Entry) -> bool {
    let is_set = |argument: &String| {
        argument.starts_with("ignore_")
            || role(entry) == Role::OtherFactor && ["nullok", "nouserok"].contains(&argument.as_str())
    };
    entry.arguments().iter().any(is_set)
}

/// Whether a module asks for nothing of the user, and is no exception that was made by name, as for a group.
#[must_use]
pub fn is_no_exception(entry: &Entry) -> bool {
    ["pam_localuser", "pam_shells", "pam_usertype", "pam_exec"].contains(&name(entry))
}

/// Whether a factor asks for a code that is typed, and for nothing else with it.
#[must_use]
pub fn is_code(entry: &Entry) -> bool {
    let is_asked_with_password = entry.arguments().iter().any(|argument| argument == "forward_pass");
    ["pam_google_authenticator", "pam_oath"].contains(&name(entry)) && !is_asked_with_password
}

/// Whether a factor surely asks for something.
#[must_use]
pub fn asks(entry: &Entry) -> bool {
    role(entry) == Role::FirstFactor || is_code(entry)
}

/// Whether a module may leave what was typed for those after it (`PAM_AUTHTOK`).
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

/// Whether a factor takes what another one left in `PAM_AUTHTOK`, and asks for nothing then.
#[must_use]
pub fn takes_authtok(entry: &Entry) -> bool {
    // pam_get_authtok(3) asks only where nothing is there.
    name(entry) == "pam_unix" || entry.arguments().iter().any(|argument| argument.ends_with("_first_pass"))
}

/// The name of the module, without `.so`; empty where a line has none.
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

/// These of them are answered by no text.
const WITHOUT_AUTHTOK: [&str; 3] = ["pam_fprintd", "pam_howdy", "pam_sss_gss"];

/// These may ask for the password where nobody has: they want it for something else.
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

/// These ask for nothing, and succeed or fail.
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

/// These ask for nothing, and never succeed: what they do well is `PAM_IGNORE`.
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
