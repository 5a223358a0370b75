//! File names of users: `<user>.toml`, escaped so that no name can leave its place.

use std::fmt::Write;

const ENDING: &str = ".toml";

/// The file name of a user's set: bytes outside `[A-Za-z0-9_.-]` and a leading dot become `%XX`.
pub(super) fn file_name(user: &str) -> String {
    let mut name = String::with_capacity(user.len().saturating_add(ENDING.len()));
    for (at, byte) in user.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || b"_-".contains(&byte) || (byte == b'.' && at > 0) {
            name.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(name, "%{byte:02X}");
        }
    }
    name + ENDING
}

/// The user that a file name stands for, where it is one that [`file_name`] gives.
pub(super) fn user_of(file: &str) -> Option<String> {
    let mut escaped = file.strip_suffix(ENDING)?.bytes();
    let mut bytes = Vec::new();
    while let Some(byte) = escaped.next() {
        bytes.push(if byte == b'%' {
            let pair = [escaped.next()?, escaped.next()?];
            u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok().filter(|user| file_name(user) == file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place_and_read_back() {
        for (user, file) in [
            ("alice", "alice.toml"),
            ("a.b-c_D9", "a.b-c_D9.toml"),
            (".hidden", "%2Ehidden.toml"),
            ("..", "%2E..toml"),
            ("../root", "%2E.%2Froot.toml"),
            ("DOM\\user", "DOM%5Cuser.toml"),
            ("zoë", "zo%C3%AB.toml"),
            ("a%2Fb\n", "a%252Fb%0A.toml"),
            ("", ".toml"),
        ] {
            assert_eq!(file_name(user), file);
            assert_eq!(user_of(file).as_deref(), Some(user));
        }
        for file in ["alice", ".new", "%2", "%2e.toml", "%61.toml", "a b.toml", "%zz.toml", "%.toml"] {
            assert_eq!(user_of(file), None, "{file}");
        }
    }
}
