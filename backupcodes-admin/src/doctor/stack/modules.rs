//! What modules can say to `pam_authenticate`.

use std::ffi::CString;

use backupcodes_core::config::module_options::Options;
use pam_stack::{Entry, RESULTS};

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
    let name = name(entry);
    match module {
        OURS => Role::Ours,
        _ if FIRST_FACTORS.contains(&name) => Role::FirstFactor,
        _ if SILENT.contains(&name) || WITHOUT_YES.contains(&name) => Role::Silent,
        _ => Role::OtherFactor,
    }
}

/// All that a module may return to somebody who is not root. What it does depends on nothing here: a path on which the
/// modules say what they never say together is looked at as well.
pub(crate) fn results(entry: &Entry) -> Vec<&'static str> {
    if role(entry) == Role::Ours {
        let passed_over = options(entry).nullok.then_some("ignore");
        return failures().chain(["success"]).chain(passed_over).collect();
    }
    let results = match name(entry) {
        "pam_permit" => &["success"],
        // Said behind a password that was right; who is locked out has no way that matters here.
        "pam_faillock" if entry.arguments().iter().any(|argument| argument == "authsucc") => &["success"],
        // Root needs no way in.
        "pam_deny" | "pam_rootok" => NO,
        "pam_nologin" if entry.arguments().iter().any(|argument| argument == "successok") => {
            &["success", "auth_err"]
        }
        name if WITHOUT_YES.contains(&name) => &["ignore", "perm_denied"],
        _ if role(entry) == Role::Silent || passes_over(entry) => ANY,
        _ => FACTOR,
    };
    results.to_vec()
}

/// What libpam may make of ours where it gives no yes, by itself as well: a module that cannot be loaded is `module_unknown`, as
/// where the caller of su leaves it no memory.
pub(crate) fn failures() -> impl Iterator<Item = &'static str> {
    // At `incomplete` libpam returns to the program, whatever the control says.
    RESULTS.iter().copied().filter(|result| !["success", "ignore", "incomplete"].contains(result))
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

/// Whether a module asks for nothing of the user, and is no exception that was made by name, as for a group.
pub(crate) fn is_no_exception(entry: &Entry) -> bool {
    ["pam_localuser", "pam_shells", "pam_usertype", "pam_exec"].contains(&name(entry))
}

/// Whether a factor other than ours asks for a code that is typed, and for nothing else with it.
pub(crate) fn is_other_code(entry: &Entry) -> bool {
    let is_asked_with_password = entry.arguments().iter().any(|argument| argument == "forward_pass");
    ["pam_google_authenticator", "pam_oath"].contains(&name(entry)) && !is_asked_with_password
}

/// Whether a factor other than ours surely asks for something.
pub(crate) fn asks(entry: &Entry) -> bool {
    role(entry) == Role::FirstFactor || is_other_code(entry)
}

/// Whether a module may leave what was typed for those behind it (PAM_AUTHTOK).
pub(crate) fn may_leave_answer(entry: &Entry) -> bool {
    let has = |option: &str| entry.arguments().iter().any(|argument| argument == option);
    let is_asking = match role(entry) {
        Role::Ours => options(entry).forward_pass,
        Role::FirstFactor => !WITHOUT_ANSWER.contains(&name(entry)),
        Role::OtherFactor => !is_other_code(entry) && entry.module().is_some(),
        Role::Silent => match name(entry) {
            "pam_exec" => has("expose_authtok"),
            silent => ASKING_SILENT.contains(&silent),
        },
    };
    is_asking && !has("use_first_pass")
}

/// Whether a factor takes what another one left, and asks for nothing then.
pub(crate) fn takes_answer(entry: &Entry) -> bool {
    // pam_get_authtok(3) asks only where nothing is there.
    name(entry) == "pam_unix" || entry.arguments().iter().any(|argument| argument.ends_with("_first_pass"))
}

pub(crate) fn name(entry: &Entry) -> &str {
    let module = entry.module().unwrap_or_default();
    module.strip_suffix(".so").unwrap_or(module)
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

/// These of them are answered by no text.
const WITHOUT_ANSWER: [&str; 3] = ["pam_fprintd", "pam_howdy", "pam_sss_gss"];

/// These may ask for the password where nobody has: they want it for something else.
const ASKING_SILENT: [&str; 8] = [
    "pam_ecryptfs",
    "pam_fscrypt",
    "pam_gdm",
    "pam_gnome_keyring",
    "pam_kwallet",
    "pam_kwallet5",
    "pam_mount",
    "pam_script",
];

/// These ask for nothing, and say yes or no.
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
