//! What modules can say to `pam_authenticate`.

use backupcodes_core::options::Options;
use std::ffi::CString;

use crate::doctor::pam::Entry;

/// Ours, by its file name.
pub(crate) const OURS: &str = "pam_backupcodes.so";

/// What a module may return, as controls name it.
pub(crate) type Results = &'static [&'static str];

/// Factors say yes or no …
const FACTOR: Results =
    &["success", "auth_err", "user_unknown", "authinfo_unavail", "perm_denied", "maxtries"];
/// … and others may have no opinion.
const ANY: Results =
    &["success", "ignore", "auth_err", "user_unknown", "authinfo_unavail", "perm_denied", "maxtries"];
const NO: Results = &["auth_err"];
const NO_OR_PASSED_OVER: Results = &["auth_err", "authinfo_unavail", "service_err", "ignore"];
const YES_OR_NO: Results = &["success", "auth_err", "authinfo_unavail", "service_err"];
const YES_NO_OR_PASSED_OVER: Results = &["success", "auth_err", "authinfo_unavail", "service_err", "ignore"];

/// What a module is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Ours,
    /// Asks for the password, or what stands for it.
    FirstFactor,
    /// Asks for something, or may: each module that is not known.
    OtherFactor,
    /// Asks for nothing.
    Silent,
}

pub(crate) fn role(entry: &Entry) -> Role {
    let Some(module) = entry.module() else { return Role::Silent };
    let name = module.strip_suffix(".so").unwrap_or(module);
    match module {
        OURS => Role::Ours,
        _ if FIRST_FACTORS.contains(&name) => Role::FirstFactor,
        _ if SILENT.contains(&name) || WITHOUT_YES.contains(&name) => Role::Silent,
        _ => Role::OtherFactor,
    }
}

/// All that a module may return to somebody who is not root. What it does depends on nothing here: a path on which the
/// modules say what they never say together is looked at as well.
pub(crate) fn results(entry: &Entry) -> Results {
    let module = entry.module().unwrap_or_default();
    match module.strip_suffix(".so").unwrap_or(module) {
        "pam_permit" => &["success"],
        // Said behind a password that was right; who is locked out has no way that matters here.
        "pam_faillock" if entry.arguments().iter().any(|argument| argument == "authsucc") => &["success"],
        // Root needs no way in.
        "pam_deny" | "pam_rootok" => NO,
        _ if module == OURS => match options(entry).nullok {
            true => YES_NO_OR_PASSED_OVER,
            false => YES_OR_NO,
        },
        name if WITHOUT_YES.contains(&name) => &["ignore", "perm_denied"],
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

/// What ours returns to somebody without a set.
pub(crate) fn results_without_set(entry: &Entry) -> Results {
    // With `forward_pass`, what is short is refused before anybody looks for a set.
    if options(entry).nullok { NO_OR_PASSED_OVER } else { NO }
}

/// The module's options in a line, but those that it does not know.
pub(crate) fn options(entry: &Entry) -> Options {
    Options::parse(&arguments(entry)).0
}

/// Arguments that the module does not know, each with what it would log.
pub(crate) fn unknown_options(entry: &Entry) -> Vec<(String, String)> {
    let judged = arguments(entry).into_iter().zip(entry.arguments());
    judged.filter_map(|(c, text)| Some((text.clone(), Options::parse(&[c]).1.err()?))).collect()
}

fn arguments(entry: &Entry) -> Vec<CString> {
    // C ends a line at a NUL.
    let until_nul = |text: &String| text.split('\0').next().and_then(|text| CString::new(text).ok());
    entry.arguments().iter().map(|text| until_nul(text).unwrap_or_default()).collect()
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

/// These ask for nothing, and say yes or no.
const SILENT: [&str; 36] = [
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

/// These ask for nothing, and never say yes: what they do well is `PAM_IGNORE`.
const WITHOUT_YES: [&str; 10] = [
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
