//! Results of silent modules that are equal for all ordinary users. A jump by such a result is no exception.

use std::io::ErrorKind;
use std::path::Path;

use crate::Entry;
use crate::files::read;
use crate::modules::name;

/// The default uids of people: login.defs(5). Directory services exceed them.
const UID_MIN: u32 = 1000;
const UID_MAX: u32 = 60_000;

/// The result of a module for all ordinary users of a machine. `None` if it depends on the user, and for other modules.
#[must_use]
pub fn result_for_all(root: &Path, host: &Host, entry: &Entry) -> Option<&'static str> {
    let arguments: Vec<&str> = entry.arguments().iter().map(String::as_str).collect();
    // The caller is root in sshd, and the user in sudo.
    if arguments.contains(&"use_uid") {
        return None;
    }
    match name(entry) {
        // pam_securetty restricts only root.
        "pam_localuser" | "pam_shells" | "pam_securetty" => Some("success"),
        // A locked-out user does not matter here.
        "pam_faillock" => arguments.contains(&"preauth").then_some("success"),
        "pam_nologin" => arguments.contains(&"successok").then_some("success"),
        "pam_usertype" => {
            let kind =
                arguments.iter().rev().find(|argument| ["isregular", "issystem"].contains(argument))?;
            Some(if *kind == "isregular" { "success" } else { "auth_err" })
        }
        "pam_access" => has_no_rule(root, &arguments).then_some("success"),
        "pam_listfile" => of_list(root, &arguments),
        "pam_succeed_if" => of_conditions(&arguments, host),
        _ => None,
    }
}

/// Whether the tables of access.conf(5) reject nobody.
fn has_no_rule(root: &Path, arguments: &[&str]) -> bool {
    const TABLE: &str = "security/access.conf";
    let named = value(arguments, "accessfile=");
    let tables: Vec<_> = match named {
        Some(path) => vec![root.join(path.trim_start_matches('/'))],
        None => {
            let drop_ins =
                std::fs::read_dir(root.join("etc/security/access.d")).into_iter().flatten().flatten();
            let tables = ["etc", "usr/etc", "usr/lib"].map(|folder| root.join(folder).join(TABLE));
            drop_ins.map(|file| file.path()).chain(tables).collect()
        }
    };
    tables.iter().all(|table| match read(table) {
        Ok(text) => !String::from_utf8_lossy(&text).lines().any(|line| line.trim_start().starts_with('-')),
        Err(error) => error.kind() == ErrorKind::NotFound,
    })
}

/// The result of an empty or missing list, which is equal for all.
fn of_list(root: &Path, arguments: &[&str]) -> Option<&'static str> {
    let file = value(arguments, "file=")?;
    let sense = value(arguments, "sense=")?;
    match read(&root.join(file.trim_start_matches('/'))) {
        Ok(text) if !text.iter().all(u8::is_ascii_whitespace) => None,
        Ok(_) => Some(if sense == "deny" { "success" } else { "auth_err" }),
        Err(_) => Some(if value(arguments, "onerr=") == Some("succeed") { "success" } else { "service_err" }),
    }
}

fn value<'a>(arguments: &[&'a str], name: &str) -> Option<&'a str> {
    arguments.iter().rev().find_map(|argument| argument.strip_prefix(name))
}

/// The values that conditions compare with.
pub struct Host {
    /// `None` for the stack `other`, which any service may use.
    service: Option<String>,
    least_uid: u32,
    least_gid: u32,
    /// Accounts that do not belong to people.
    system: Vec<String>,
}

impl Host {
    /// The machine below a root directory, for the stack of a service.
    #[must_use]
    pub fn of(root: &Path, service: &str) -> Self {
        let text =
            |file: &str| String::from_utf8_lossy(&read(&root.join(file)).unwrap_or_default()).into_owned();
        let (login_defs, passwd) = (text("etc/login.defs"), text("etc/passwd"));
        let number = |keyword: &str| {
            login_defs.lines().find_map(|line| line.trim_start().strip_prefix(keyword)?.trim().parse().ok())
        };
        let least_uid = number("UID_MIN").unwrap_or(UID_MIN);
        let mut least_gid = number("GID_MIN").unwrap_or(UID_MIN);
        let mut system = vec!["root".to_owned(), "toor".to_owned()];
        for (name, uid, gid) in passwd.lines().filter_map(account) {
            // Some distributions have one group with a lower gid for all people.
            if uid < least_uid {
                system.push(name.to_owned());
            } else if uid <= UID_MAX {
                least_gid = least_gid.min(gid);
            }
        }
        Self { service: (service != "other").then(|| service.to_owned()), least_uid, least_gid, system }
    }
}

/// Name, uid and gid of a line of passwd(5).
fn account(line: &str) -> Option<(&str, u32, u32)> {
    let mut fields = line.split(':');
    let (name, _) = (fields.next()?, fields.next()?);
    Some((name, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The result of pam_succeed_if(8), whose conditions must all hold. Without conditions it succeeds.
fn of_conditions(arguments: &[&str], host: &Host) -> Option<&'static str> {
    const FLAGS: [&str; 5] = ["audit", "debug", "quiet", "quiet_fail", "quiet_success"];
    let words: Vec<&str> = arguments.iter().copied().filter(|word| !FLAGS.contains(word)).collect();
    let truths: Vec<Option<bool>> = words
        .chunks(3)
        .map(|condition| match condition {
            [attribute, operator, value] => holds(attribute, operator, value, host),
            // Incomplete.
            _ => Some(false),
        })
        .collect();
    if truths.contains(&Some(false)) {
        return Some("auth_err");
    }
    truths.iter().all(|truth| *truth == Some(true)).then_some("success")
}

/// Whether a condition holds for all ordinary users, or for none.
fn holds(attribute: &str, operator: &str, value: &str, host: &Host) -> Option<bool> {
    let attribute = &*attribute.to_ascii_lowercase();
    let operator = &*operator.to_ascii_lowercase();
    let is_nobodys = |value: &str| match attribute {
        "login" | "name" | "user" => host.system.iter().any(|name| name == value),
        "shell" => ["nologin", "false"].contains(&value.rsplit('/').next().unwrap_or_default()),
        "dir" | "home" | "homedir" => ["/", "/root", "/nonexistent"].contains(&value),
        _ => false,
    };
    let least = match attribute {
        "uid" => Some(host.least_uid),
        "gid" => Some(host.least_gid),
        "service" => return is_service(host.service.as_deref()?, operator, value),
        "login" | "name" | "user" | "shell" | "dir" | "home" | "homedir" => None,
        "ruser" | "rhost" | "tty" => None,
        // pam_succeed_if fails, and logs why.
        _ => return Some(false),
    };
    let compared = least.and_then(|least| compares(operator, value.parse().ok()?, least));
    match (operator, compared) {
        (_, Some(truth)) => truth,
        ("=", _) => is_nobodys(value).then_some(false),
        ("!=", _) => is_nobodys(value).then_some(true),
        ("=~" | "glob", _) if value == "*" => Some(true),
        ("!~" | "noglob", _) if value == "*" => Some(false),
        ("=~" | "glob", _) => is_nobodys(value).then_some(false),
        ("!~" | "noglob", _) => is_nobodys(value).then_some(true),
        ("in", _) => value.split(':').all(is_nobodys).then_some(false),
        ("notin", _) => value.split(':').all(is_nobodys).then_some(true),
        ("ingroup" | "notingroup" | "innetgr" | "notinnetgr", _) => None,
        // An unknown operator, or a comparison that needs a number.
        _ => Some(false),
    }
}

fn is_service(service: &str, operator: &str, value: &str) -> Option<bool> {
    // Character classes are not supported here.
    let is_like = || (!value.contains(['[', '\\'])).then(|| matches(value.as_bytes(), service.as_bytes()));
    Some(match operator {
        "=" => service == value,
        "!=" => service != value,
        "=~" | "glob" => is_like()?,
        "!~" | "noglob" => !is_like()?,
        "in" => value.split(':').any(|name| name == service),
        "notin" => !value.split(':').any(|name| name == service),
        "ingroup" | "notingroup" | "innetgr" | "notinnetgr" => return None,
        // An unknown operator, or a comparison that needs a number.
        _ => false,
    })
}

/// Whether a text matches a pattern with `*` and `?`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, first) => first.is_none(),
        (Some((b'*', rest)), None) => matches(rest, text),
        (Some((b'*', rest)), Some((_, after))) => matches(rest, text) || matches(pattern, after),
        (Some((b'?', rest)), Some((_, after))) => matches(rest, after),
        (Some((wanted, rest)), Some((byte, after))) => wanted == byte && matches(rest, after),
        (Some(_), None) => false,
    }
}

/// Whether a comparison with a number holds for all ids from `least`, or for none. `None` for other operators.
fn compares(operator: &str, number: i64, least: u32) -> Option<Option<bool>> {
    let [least, greatest] = [least, UID_MAX].map(i64::from);
    // No id of a directory service is greater.
    let end = i64::from(u32::MAX);
    let among = |all: bool, any: bool| if all { Some(true) } else { (!any).then_some(false) };
    let ordered =
        |is_so: &dyn Fn(i64) -> bool| among(is_so(least) && is_so(greatest), is_so(least) || is_so(end));
    Some(match operator {
        "<" | "lt" => ordered(&|id| id < number),
        "<=" | "le" => ordered(&|id| id <= number),
        ">" | "gt" => ordered(&|id| id > number),
        ">=" | "ge" => ordered(&|id| id >= number),
        "=" | "eq" => among(false, (least..=end).contains(&number)),
        "!=" | "ne" => among(!(least..=greatest).contains(&number), true),
        _ => return None,
    })
}
