//! Mail addresses in sets, in the configuration, on sendmail's command line and in headers.

/// The most bytes of an address (RFC 5321).
const LONGEST: usize = 254;
/// The most bytes before the `@` (RFC 5321).
const LOCAL: usize = 64;

/// Checks that `text` is one address, in a header and on a command line.
///
/// # Errors
/// What was expected.
pub fn check(text: &str) -> Result<(), &'static str> {
    let fits = |c: char| !c.is_control() && !c.is_whitespace() && !"<>(),;\"\\".contains(c);
    if text.is_empty() || text.len() > LONGEST || text.starts_with('-') || !text.chars().all(fits) {
        return Err("expected a mail address of 1 to 254 bytes, without spaces, without any of <>(),;\"\\ \
                    and without a dash at its start");
    }
    Ok(())
}

/// The address for a user without one: the account itself, at `domain` if that is not empty.
#[must_use]
pub fn of_user(user: &str, domain: &str) -> String {
    // Some user databases use addresses as names.
    if user.contains('@') && check(user).is_ok() {
        return user.into();
    }
    let plain = |c: char| c.is_alphanumeric() || "._+-".contains(c);
    let dots = user.starts_with(['.', '-']) || user.ends_with('.') || user.contains("..");
    let local = if !user.is_empty() && !dots && user.len() <= LOCAL && user.chars().all(plain) {
        user.into()
    } else {
        quoted(user)
    };
    if domain.is_empty() { local } else { format!("{local}@{domain}") }
}

/// A quoted string of RFC 5321, so that a mailer reads the name as no pipe, file or list.
fn quoted(user: &str) -> String {
    let mut quoted = String::from("\"");
    for c in user.chars() {
        if quoted.len() >= LOCAL {
            break;
        }
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push('?'),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_single_address_is_accepted() {
        for good in
            ["alice", "alice@example.org", "jürgen@exämple.org", "a+b@[192.0.2.7]", "o'hara@example.org"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "a b@c", "a\nb@c", "a\0@c", "-bs", "a@b,c@d", "a>@b", "\"a\"@b", &"a".repeat(255)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_user_name_becomes_an_address_and_never_a_pipe_file_or_list() {
        for (user, domain, address) in [
            ("alice", "", "alice"),
            ("alice", "example.org", "alice@example.org"),
            ("alice@corp.example", "example.org", "alice@corp.example"),
            ("zoë", "example.org", "zoë@example.org"),
            ("DOM\\user", "example.org", "\"DOM\\\\user\"@example.org"),
            ("|/bin/sh", "", "\"|/bin/sh\""),
            ("-bs", "", "\"-bs\""),
            ("a\r\nBcc: b", "", "\"a??Bcc: b\""),
            ("a@b, c@d", "", "\"a@b, c@d\""),
        ] {
            assert_eq!(of_user(user, domain), address);
        }
        assert!(of_user(&"a".repeat(1000), "").len() <= 66);
    }
}
