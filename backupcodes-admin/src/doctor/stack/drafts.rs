//! What is said of a line.

use backupcodes_core::config::module_options::KNOWN;
use pam_stack::{Entry, Fault, Place};

use crate::doctor::finding::Level;
use crate::doctor::stack::report::Draft;

/// So many accounts are named.
const NAMED: usize = 5;

/// A line that is not what it looks like.
pub(super) fn seeming(place: &Place, fault: &Fault) -> Draft {
    let file = &place.file;
    let (check, message, remedy) = match fault {
        Fault::Joins(Some((number, text))) => (
            "backslash",
            format!("ends in a backslash: line {number} is joined to it and lost ({text})"),
            "remove the backslash".into(),
        ),
        Fault::Joins(None) => (
            "backslash",
            "ends in a backslash at the end of the file: libpam takes nothing of the file".into(),
            "remove the backslash".into(),
        ),
        Fault::CarriageReturn => (
            "carriage-return",
            "ends in a carriage return, as lines of Windows do: libpam takes it for a part of the last word, and knows no module, file or option of that name".into(),
            format!("sed -i 's/\\r$//' {}", resolved(file)),
        ),
        Fault::Invisible('\r') => (
            "carriage-return",
            "has a carriage return in it: libpam takes all that follows it for the same line".into(),
            format!("sed -i 's/\\r$//; s/\\r/\\n/g' {}", resolved(file)),
        ),
        Fault::Invisible(char) => (
            "invisible-character",
            format!("has a character that cannot be seen (U+{:04X}), which libpam takes for a part of a word", u32::from(*char)),
            format!("type the line again: `cat -A {file}` shows what is in it"),
        ),
    };
    Draft { level: Level::Error, check, message, remedy }
}

/// For `sed -i`, which puts a file in the place of a link, as authselect's are. (busybox has no `--follow-symlinks`.)
fn resolved(file: &str) -> String {
    format!("\"$(readlink -f {file})\"")
}

pub(super) fn nobody_gets_in() -> Draft {
    let message = "no login succeeds, whatever is answered".into();
    let remedy = "mend the controls of the stack: pam_backupcodes(8) has some that work".into();
    Draft { level: Level::Error, check: "nobody-gets-in", message, remedy }
}

/// `jump`: a line that may jump over the one in question.
pub(super) fn never_asked(jump: Option<&Place>) -> Draft {
    let (how, remedy) = match jump {
        Some(place) => (
            "jumps over it",
            format!(
                "lower the number of the jump in {place} so that it leads to this line (`ok` in the place of 0)"
            ),
        ),
        None => (
            "ends before this line",
            "put the line, and the one with the password, in the place of what ends the stack".into(),
        ),
    };
    let message = format!("no login that succeeds is asked for a code: the stack {how}");
    Draft { level: Level::Error, check: "never-asked", message, remedy }
}

pub(super) fn code_alone(first: &Entry) -> Draft {
    let (module, place) = (first.module().unwrap_or_default(), &first.place);
    let message = format!("a code alone gets in: {module} ({place}) is not asked, or not heard, after it");
    let remedy = format!("put the line behind the one with {module}");
    Draft { level: Level::Error, check: "code-alone", message, remedy }
}

pub(super) fn nothing_but_a_code() -> Draft {
    let message = "a code alone gets in: no module for the password has to say yes".into();
    let remedy = "put `auth requisite pam_unix.so` in front of the line".into();
    Draft { level: Level::Error, check: "code-alone", message, remedy }
}

pub(super) fn password_alone() -> Draft {
    let message = "a password alone gets in, and nobody is asked for a code then".into();
    let remedy = "make the module for the password `requisite`, in this stack itself".into();
    Draft { level: Level::Error, check: "password-alone", message, remedy }
}

/// What comes of a line that leads all ordinary users past others.
pub(super) enum Led {
    NobodyGetsIn,
    CodeAlone,
    PasswordAlone,
}

pub(super) fn led_past(what: Led, line: &Entry) -> Draft {
    let (check, who) = match what {
        Led::NobodyGetsIn => ("nobody-gets-in", "no ordinary user gets in"),
        Led::CodeAlone => ("code-alone", "a code alone gets in"),
        Led::PasswordAlone => {
            ("password-alone", "a password alone gets in, and nobody is asked for a code then")
        }
    };
    let (module, place) = (line.module().unwrap_or_default(), &line.place);
    let message = format!(
        "{who}: {module} ({place}) says the same of every ordinary user of this host, and its control leads past other lines"
    );
    let remedy = format!(
        "remove the line at {place}, or test for a group there: `pam_succeed_if.so user ingroup GROUP`"
    );
    Draft { level: Level::Error, check, message, remedy }
}

/// `results`: those that count for nothing.
pub(super) fn refusal_ignored(results: &[&str]) -> Draft {
    let message = if results.contains(&"auth_err") {
        "a login succeeds although the module has refused it, without another code".into()
    } else {
        let more = if results.len() > NAMED { " …" } else { "" };
        let named: Vec<&str> = results.iter().take(NAMED).copied().collect();
        format!(
            "a login succeeds without a code where the module fails, since the control passes over {}{more}",
            named.join(", ")
        )
    };
    let remedy = "make the line `required`, or put a `required` module for another code behind it".into();
    Draft { level: Level::Error, check: "refusal-ignored", message, remedy }
}

pub(super) fn burns_codes() -> Draft {
    let message = "a code is asked for, and used up, although the password was wrong".into();
    let remedy =
        "make the module for the password `requisite`, and in this stack itself: a substack does not end it"
            .into();
    Draft { level: Level::Warning, check: "burns-codes", message, remedy }
}

/// `asking`: a line that asks after ours.
pub(super) fn code_first(ours: &Place, asking: &Entry) -> Draft {
    let (module, place) = (asking.module().unwrap_or_default(), &asking.place);
    let message =
        format!("a code is used up before {module} ({place}) asks: a wrong answer there wastes the code");
    let file = &place.file;
    let included =
        if *file == ours.file { String::new() } else { format!(", after the line that includes {file}") };
    let remedy = format!(
        "move the line to the end of the auth lines{included}; a wrong password has to end the stack before it (`requisite`, or Debian's `@include common-auth` as it is)"
    );
    Draft { level: Level::Warning, check: "code-first", message, remedy }
}

pub(super) fn forward_pass_alone() -> Draft {
    let message = "forward_pass, but no module behind it lets anybody in with what is handed on".into();
    let remedy = "put a `required` module with use_first_pass behind it, or take forward_pass away".into();
    Draft { level: Level::Error, check: "forward-pass-alone", message, remedy }
}

pub(super) fn asks_again() -> Draft {
    let message = "forward_pass, but no module behind it has use_first_pass or try_first_pass: who types a verification code is asked for it again".into();
    let remedy = "give the module behind it `use_first_pass`".into();
    Draft { level: Level::Warning, check: "forward-pass-asks-again", message, remedy }
}

pub(super) fn nothing_to_take() -> Draft {
    let message =
        "use_first_pass, but no module in front of it asks for anything: nobody can give a code here".into();
    let remedy = "take use_first_pass away, or put the line behind the module that asks".into();
    Draft { level: Level::Error, check: "nothing-to-take", message, remedy }
}

pub(super) fn one_answer() -> Draft {
    let message = "wants a password and a code, and the locker answers both with the one thing that was typed: who has a set cannot unlock".into();
    let remedy = "give the locker lines of its own, in its own file: `auth sufficient pam_unix.so` and `auth required pam_backupcodes.so use_first_pass`".into();
    Draft { level: Level::Error, check: "one-answer", message, remedy }
}

const LINES_OF_ITS_OWN: &str = "give the program lines of its own, in its own file, without pam_backupcodes.so; a code needs a program that shows what is asked";

/// A fault of a program that answers once: what asks it for two is no way out.
pub(super) fn in_server(draft: Draft) -> Draft {
    Draft { remedy: LINES_OF_ITS_OWN.into(), ..draft }
}

/// Of a program that is no locker: one answer must not be enough there.
pub(super) fn one_password() -> Draft {
    let message = "wants a password and a code, and the program answers both with the one password that it was given: users with a set cannot log in".into();
    let remedy = LINES_OF_ITS_OWN.into();
    Draft { level: Level::Error, check: "one-password", message, remedy }
}

/// `is_auth`: the line is for authentication, and not for the account.
pub(super) fn root_renews(is_auth: bool) -> Draft {
    let what = if is_auth { "nobody is asked for anything" } else { "no account is judged" };
    let message = format!(
        "pam_rootok.so has no place in a renewal: where the broker's PAM runs as root, {what}, and else it says yes to nobody but root"
    );
    Draft { level: Level::Warning, check: "root-renews", message, remedy: "take the line out".into() }
}

pub(super) fn lets_in_unasked(entry: &Entry, is_always_true: bool) -> Draft {
    let module = entry.module().unwrap_or_default();
    let (level, whom) = match is_always_true {
        true => (Level::Error, "which is every user of this host"),
        false => (Level::Warning, "whoever that is"),
    };
    let message = format!("{module} lets in whomever it is true for, {whom}, and asks for nothing");
    let remedy = "make the line `required`, if it is to keep others out, or take it away".into();
    Draft { level, check: "let-in-unasked", message, remedy }
}

pub(super) fn unknown_options(level: Level, unknown: &[&str], consequence: &str) -> Draft {
    let named: Vec<String> = unknown.iter().map(|argument| format!("{argument:?}")).collect();
    let message = format!("unknown option {}: {consequence}", named.join(", "));
    let remedy = format!("expected {KNOWN}; fix the line");
    Draft { level, check: "unknown-option", message, remedy }
}

pub(super) fn missing_include(name: &str) -> Draft {
    let message = format!("includes {name:?}, which is not there, cannot be read, or includes itself");
    let remedy = "no login succeeds until the file is there or the line is gone".into();
    Draft { level: Level::Error, check: "missing-include", message, remedy }
}

pub(super) fn missing_module(path: &str) -> Draft {
    let message = format!("{path} is not installed, and whoever comes to this line is refused");
    let remedy = "install it, or take the line out".into();
    Draft { level: Level::Error, check: "missing-module", message, remedy }
}

pub(super) fn not_asked_here(service: &str) -> Draft {
    let message = format!("no code is asked for here, as {service} does for the same rights");
    let remedy = format!("put the lines of /etc/pam.d/{service} here too");
    Draft { level: Level::Warning, check: "not-asked-here", message, remedy }
}

pub(super) fn locked_out(accounts: &[String]) -> Draft {
    let count = accounts.len();
    let named: Vec<&str> = accounts.iter().take(NAMED).map(String::as_str).collect();
    let more = if count > NAMED { " …" } else { "" };
    let (who, have) = if count == 1 { ("account", "has") } else { ("accounts", "have") };
    let named = named.join(", ");
    let message = format!("{count} {who} {have} no set, and cannot get in here: {named}{more}");
    let remedy =
        "`backupcodes-admin generate --all --missing`, or `nullok` beside another `required` module".into();
    Draft { level: Level::Warning, check: "no-set-locked-out", message, remedy }
}
