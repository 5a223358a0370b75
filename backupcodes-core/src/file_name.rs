//! File names made of untrusted names: users, services, sources. No name can leave its directory.

use std::fmt::Write;

/// `text` as a file name, or part of one: bytes outside `[A-Za-z0-9_.-]` and a leading dot become `%XX`. The result is cut
/// to at most `most` bytes.
#[must_use]
pub fn escaped(text: &str, most: usize) -> String {
    let mut name = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        let before = name.len();
        if byte.is_ascii_alphanumeric() || b"_-".contains(&byte) || (byte == b'.' && at > 0) {
            name.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(name, "%{byte:02X}");
        }
        if name.len() > most {
            name.truncate(before);
            break;
        }
    }
    name
}

/// The text whose [`escaped`] form is `name`, if one exists.
#[must_use]
pub fn unescaped(name: &str) -> Option<String> {
    let mut rest = name.bytes();
    let mut bytes = Vec::new();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let pair = [rest.next()?, rest.next()?];
            u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok().filter(|text| escaped(text, usize::MAX) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_directory_and_read_back() {
        for (text, name) in [
            ("alice", "alice"),
            ("a.b-c_D9", "a.b-c_D9"),
            (".hidden", "%2Ehidden"),
            ("..", "%2E."),
            ("../root", "%2E.%2Froot"),
            ("DOM\\user", "DOM%5Cuser"),
            ("zoë", "zo%C3%AB"),
            ("a%2Fb\n", "a%252Fb%0A"),
            ("a@b", "a%40b"),
            ("", ""),
        ] {
            assert_eq!(escaped(text, usize::MAX), name);
            assert_eq!(unescaped(name).as_deref(), Some(text));
        }
        for name in [".new", "%2", "%2e", "%61", "a b", "%zz", "%", "a/b", "%unknown"] {
            assert_eq!(unescaped(name), None, "{name}");
        }
    }

    #[test]
    fn a_long_name_is_cut_between_its_characters() {
        assert_eq!(escaped("abc", 2), "ab");
        assert_eq!(escaped("a\n\n", 6), "a%0A");
        assert_eq!(escaped("a\n\n", 3), "a");
    }
}
