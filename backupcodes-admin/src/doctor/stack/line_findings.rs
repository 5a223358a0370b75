//! The findings about a line of a PAM file.

use backupcodes_core::config::module_options::KNOWN;
use pam_stack::{Entry, Fault, Location};

use crate::doctor::finding::Level;
use crate::doctor::stack::report::LineFinding;

/// So many accounts are named.
const NAMED: usize = 5;

/// A line that libpam reads in another way than it looks.
pub(super) fn seeming(location: &Location, fault: &Fault) -> LineFinding {
    let file = &location.file;
    let (check, message, remedy) = match fault {
        Fault::Joins(Some((number, text))) => (
            "backslash",
            format!("ends in a backslash: libpam joins line {number} to it and loses that ({text})"),
            "remove the backslash".into(),
        ),
        Fault::Joins(None) => (
            "backslash",
            "ends in a backslash at the end of the file: libpam uses nothing of the file".into(),
            "remove the backslash".into(),
        ),
        Fault::CarriageReturn => (
            "carriage-return",
            "ends in a carriage return, as in Windows files: libpam takes it as part of the last word, and finds no such module, file or option".into(),
            format!("sed -i 's/\\r$//' {}", resolved(file)),
        ),
        Fault::Invisible('\r') => (
            "carriage-return",
            "contains a carriage return: libpam takes all that follows as the same line".into(),
            format!("sed -i 's/\\r$//; s/\\r/\\n/g' {}", resolved(file)),
        ),
        Fault::Invisible(char) => (
            "invisible-character",
            format!("contains an invisible character (U+{:04X}): libpam takes it as part of a word", u32::from(*char)),
            format!("type the line again; to see it: cat -A {file}"),
        ),
    };
    LineFinding { level: Level::Error, check, message, remedy }
}

/// For `sed -i`, which replaces a link with a file, such as those of authselect. (busybox has no `--follow-symlinks`.)
fn resolved(file: &str) -> String {
    format!("\"$(readlink -f {file})\"")
}

pub(super) fn nobody_logs_in() -> LineFinding {
    let message = "no login succeeds, whatever the user types".into();
    let remedy = "fix the controls of the stack: pam_backupcodes(8) has examples that work".into();
    LineFinding { level: Level::Error, check: "nobody-gets-in", message, remedy }
}

/// `jump`: a line that may jump over the one in question.
pub(super) fn never_asked(jump: Option<&Location>) -> LineFinding {
    let (how, remedy) = match jump {
        Some(location) => (
            "jumps over this line",
            format!(
                "lower the number of the jump in {location} so that it leads to this line (`ok` instead of 0)"
            ),
        ),
        None => (
            "ends before this line",
            "replace what ends the stack with this line and the line for the password".into(),
        ),
    };
    let message = format!("no login needs a code: the stack {how}");
    LineFinding { level: Level::Error, check: "never-asked", message, remedy }
}

pub(super) fn code_alone(first: &Entry) -> LineFinding {
    let (module, location) = (first.module().unwrap_or_default(), &first.location);
    let message = format!(
        "a code alone is accepted: {module} ({location}) is not asked after it, or its result is ignored"
    );
    let remedy = format!("move the line after the one with {module}");
    LineFinding { level: Level::Error, check: "code-alone", message, remedy }
}

pub(super) fn nothing_but_a_code() -> LineFinding {
    let message = "a code alone is accepted: no module for the password has to succeed".into();
    let remedy = "put `auth requisite pam_unix.so` before the line".into();
    LineFinding { level: Level::Error, check: "code-alone", message, remedy }
}

pub(super) fn password_alone() -> LineFinding {
    let message = "a password alone is accepted, without a code".into();
    let remedy = "make the module for the password `requisite`, in this stack itself".into();
    LineFinding { level: Level::Error, check: "password-alone", message, remedy }
}

/// The effect of a line that leads all ordinary users past others.
pub(super) enum Led {
    NobodyLogsIn,
    CodeAlone,
    PasswordAlone,
}

pub(super) fn led_past(what: Led, line: &Entry) -> LineFinding {
    let (check, who) = match what {
        Led::NobodyLogsIn => ("nobody-gets-in", "no ordinary user can log in"),
        Led::CodeAlone => ("code-alone", "a code alone is accepted"),
        Led::PasswordAlone => ("password-alone", "a password alone is accepted, without a code"),
    };
    let (module, location) = (line.module().unwrap_or_default(), &line.location);
    let message = format!(
        "{who}: {module} ({location}) returns the same for every ordinary user of this host, and its control skips other lines"
    );
    let remedy = format!(
        "remove the line at {location}, or test for a group there: `pam_succeed_if.so user ingroup GROUP`"
    );
    LineFinding { level: Level::Error, check, message, remedy }
}

/// `results`: those that are ignored.
pub(super) fn refusal_ignored(results: &[&str]) -> LineFinding {
    let message = if results.contains(&"auth_err") {
        "a login succeeds although the module refused it, without another code".into()
    } else {
        let more = if results.len() > NAMED { " …" } else { "" };
        let named: Vec<&str> = results.iter().take(NAMED).copied().collect();
        format!(
            "a login succeeds without a code if the module fails: the control ignores {}{more}",
            named.join(", ")
        )
    };
    let remedy = "make the line `required`, or put a `required` module for another code after it".into();
    LineFinding { level: Level::Error, check: "refusal-ignored", message, remedy }
}

pub(super) fn wastes_codes() -> LineFinding {
    let message = "the module asks for a code and uses it up although the password was wrong".into();
    let remedy =
        "make the module for the password `requisite`, in this stack itself: a substack does not end it"
            .into();
    LineFinding { level: Level::Warning, check: "wastes-codes", message, remedy }
}

/// `asking`: a line that asks after ours.
pub(super) fn code_first(ours: &Location, asking: &Entry) -> LineFinding {
    let (module, location) = (asking.module().unwrap_or_default(), &asking.location);
    let message = format!(
        "a code is used up before {module} ({location}) asks: a wrong response there wastes the code"
    );
    let file = &location.file;
    let included =
        if *file == ours.file { String::new() } else { format!(", after the line that includes {file}") };
    let remedy = format!(
        "move the line to the end of the auth lines{included}; a wrong password must end the stack before it (`requisite`, or Debian's unchanged `@include common-auth`)"
    );
    LineFinding { level: Level::Warning, check: "code-first", message, remedy }
}

pub(super) fn forward_pass_alone() -> LineFinding {
    let message = "forward_pass, but no module after it accepts anything that it forwards".into();
    let remedy = "put a `required` module with use_first_pass after it, or remove forward_pass".into();
    LineFinding { level: Level::Error, check: "forward-pass-alone", message, remedy }
}

pub(super) fn asks_again() -> LineFinding {
    let message = "forward_pass, but no module after it has use_first_pass or try_first_pass: users have to type a verification code twice".into();
    let remedy = "give the module after it `use_first_pass`".into();
    LineFinding { level: Level::Warning, check: "forward-pass-asks-again", message, remedy }
}

pub(super) fn nothing_to_take() -> LineFinding {
    let message =
        "use_first_pass, but no module before it asks for anything: nobody can enter a code here".into();
    let remedy = "remove use_first_pass, or move the line after the module that asks".into();
    LineFinding { level: Level::Error, check: "nothing-to-take", message, remedy }
}

pub(super) fn one_response() -> LineFinding {
    let message = "needs a password and a code, and the locker responds to both prompts with the same text: users with a set cannot unlock".into();
    let remedy = "give the locker lines of its own, in its own file: `auth sufficient pam_unix.so` and `auth required pam_backupcodes.so use_first_pass`".into();
    LineFinding { level: Level::Error, check: "one-response", message, remedy }
}

const LINES_OF_ITS_OWN: &str = "give the program lines of its own, in its own file, without pam_backupcodes.so; a code needs a program that shows prompts";

/// A fault of a program that responds once: a second prompt would not fix it.
pub(super) fn in_server(finding: LineFinding) -> LineFinding {
    LineFinding { remedy: LINES_OF_ITS_OWN.into(), ..finding }
}

/// Of a program that is no locker: one factor must not be enough there.
pub(super) fn one_password() -> LineFinding {
    let message = "needs a password and a code, and the program responds to both prompts with the same password: users with a set cannot log in".into();
    let remedy = LINES_OF_ITS_OWN.into();
    LineFinding { level: Level::Error, check: "one-password", message, remedy }
}

/// `is_auth`: the line is for authentication, and not for the account.
pub(super) fn root_renews(is_auth: bool) -> LineFinding {
    let what = if is_auth { "nobody has to authenticate" } else { "no account is checked" };
    let message = format!(
        "pam_rootok.so does not belong in a renewal: if the broker's PAM runs as root, {what}; else it succeeds for root alone"
    );
    LineFinding { level: Level::Warning, check: "root-renews", message, remedy: "remove the line".into() }
}

pub(super) fn accepts_unasked(entry: &Entry, is_always_true: bool) -> LineFinding {
    let module = entry.module().unwrap_or_default();
    let (level, whom) = match is_always_true {
        true => (Level::Error, "which is every user of this host"),
        false => (Level::Warning, "whoever that is"),
    };
    let message = format!("{module} accepts everybody for whom it succeeds, {whom}, without a question");
    let remedy = "make the line `required` if it should lock out others, or remove it".into();
    LineFinding { level, check: "let-in-unasked", message, remedy }
}

pub(super) fn unknown_options(level: Level, unknown: &[&str], consequence: &str) -> LineFinding {
    let named: Vec<String> = unknown.iter().map(|argument| format!("{argument:?}")).collect();
    let message = format!("unknown option {}: {consequence}", named.join(", "));
    let remedy = format!("expected {KNOWN}; fix the line");
    LineFinding { level, check: "unknown-option", message, remedy }
}

pub(super) fn missing_include(name: &str) -> LineFinding {
    let message = format!("includes {name:?}, which does not exist, cannot be read, or includes itself");
    let remedy = "create the file or remove the line: until then no login succeeds".into();
    LineFinding { level: Level::Error, check: "missing-include", message, remedy }
}

pub(super) fn missing_module(path: &str) -> LineFinding {
    let message = format!("{path} is not installed: each login that reaches this line is refused");
    let remedy = "install it, or remove the line".into();
    LineFinding { level: Level::Error, check: "missing-module", message, remedy }
}

pub(super) fn not_asked_here(service: &str) -> LineFinding {
    let message = format!("no code is needed here, but {service}, which gives the same rights, needs one");
    let remedy = format!("put the lines of /etc/pam.d/{service} here too");
    LineFinding { level: Level::Warning, check: "not-asked-here", message, remedy }
}

pub(super) fn locked_out(accounts: &[String]) -> LineFinding {
    let count = accounts.len();
    let named: Vec<&str> = accounts.iter().take(NAMED).map(String::as_str).collect();
    let more = if count > NAMED { " …" } else { "" };
    let (who, have) = if count == 1 { ("account", "has") } else { ("accounts", "have") };
    let named = named.join(", ");
    let message = format!("{count} {who} {have} no set and cannot log in here: {named}{more}");
    let remedy =
        "`backupcodes-admin generate --all --missing`, or `nullok` beside another `required` module".into();
    LineFinding { level: Level::Warning, check: "no-set-locked-out", message, remedy }
}
