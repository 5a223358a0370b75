//! Untrusted text, made safe to show on a terminal, in a log and to a reader.

/// Whether a character controls a terminal, ends a line, changes the text direction, or is invisible.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text on one line, with `?` for each hidden character.
#[must_use]
pub fn shown(text: &str) -> String {
    text.replace(is_hidden, "?")
}

/// A name in at most `most` bytes: `..`, which no host name contains, marks the cut. Whole labels follow it, so that
/// no domain looks like another; the beginning of the name precedes it.
#[must_use]
pub fn cut(name: &str, most: usize) -> String {
    const CUT: &str = "..";
    if name.len() <= most {
        return name.into();
    }
    let room = most.saturating_sub(CUT.len());
    // The end of a host name identifies its owner, the beginning the machine.
    let longest = room.saturating_sub(room / 3);
    let ends = name.match_indices('.').filter_map(|(dot, _)| name.get(dot.saturating_add(1)..));
    let end = ends.into_iter().find(|end| end.len() <= longest).unwrap_or_default();
    let begin = name.get(..room.saturating_sub(end.len())).unwrap_or_default();
    [begin.trim_end_matches('.'), CUT, end].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_control_a_terminal_or_forge_a_line_are_hidden() {
        for c in "\0\t\n\r\u{1b}\u{7f}\u{80}\u{85}\u{9b}\u{9f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}\u{200f}\u{feff}".chars() {
            assert!(is_hidden(c), "{c:?}");
        }
        for c in " azö漢\u{1f511}?-".chars() {
            assert!(!is_hidden(c), "{c:?}");
        }
        assert_eq!(shown("a\u{1b}]0;b\u{7}\nc\u{202e}"), "a?]0;b??c?");
    }

    #[test]
    fn a_cut_is_marked_and_keeps_the_beginning_and_the_domain() {
        let host = "a-very-long-name-of-a-machine.somewhere.customer.example.org";
        assert_eq!(cut(host, host.len()), host);
        assert_eq!(cut(host, 36), "a-very-long-na..customer.example.org");
        assert_eq!(cut(host, 26), "a-very-long-n..example.org");
        // Not `..example.org`, which is another domain.
        assert_eq!(cut(&format!("w.{}example.org", "x".repeat(40)), 20), "w.xxxxxxxxxxxxx..org");
        assert_eq!(cut("gdm-smartcard-pkcs11-exclusive", 16), "gdm-smartcard-..");
        for name in
            [host, "....................", "ö.ö.ö.ö.ö", "", "a.", "2001:db8:1:2:3:4:5:6%longest-of-names"]
        {
            for most in 2..=name.len() {
                let cut = cut(name, most);
                assert!(cut.len() <= most && (cut == name || cut.contains("..")), "{cut}");
                assert_eq!(super::cut(&cut, most), cut);
            }
        }
    }
}
