//! The many forms in which people type and paste a code.
//!
//! A pasted code may have other dashes, spaces and quotes, invisible characters, the digits of another script, or the brackets
//! that a terminal puts around a paste. None of these can be part of a code, and all are folded. Letters of other alphabets,
//! combining marks and control characters stay as they are, however similar they look.

use zeroize::Zeroizing;

/// The fewest and the most digits of a verification code (RFC 4226, section 5.3).
const VERIFICATION: std::ops::RangeInclusive<usize> = 6..=8;

/// Replaces every character that cannot be part of a code.
pub(crate) const SEPARATOR: char = ' ';

/// The characters of a response. The brackets around a paste are [`SEPARATOR`].
pub(crate) struct Typed<'a>(pub(crate) &'a str);

impl Iterator for Typed<'_> {
    type Item = char;

    #[inline(never)] // for the module's size, as below
    fn next(&mut self) -> Option<char> {
        if let Some(rest) = PASTE.iter().find_map(|mark| self.0.strip_prefix(mark)) {
            self.0 = rest;
            return Some(SEPARATOR);
        }
        let mut rest = self.0.chars();
        let next = rest.next();
        self.0 = rest.as_str();
        next
    }
}

/// The brackets around a paste (xterm's mode 2004); some programs drop their escape character.
const PASTE: [&str; 6] = ["\u{1b}[200~", "\u{1b}[201~", "\u{9b}200~", "\u{9b}201~", "[200~", "[201~"];

/// The ASCII form of a character: digits of all scripts and full-width characters (of East Asian input methods) become ASCII,
/// characters that cannot be part of a code become [`SEPARATOR`].
#[inline(never)]
pub(crate) fn plain(c: char) -> char {
    let c = match u32::from(c) {
        wide @ 0xff01..=0xff5e => char::from_u32(wide.saturating_sub(0xfee0)).unwrap_or(c),
        _ => c,
    };
    match digit(c) {
        Some(digit) => digit,
        None if is_kept(c) => c,
        None => SEPARATOR,
    }
}

/// Whether a character may belong to a code, or to a response that is no code.
fn is_kept(c: char) -> bool {
    match c {
        // Japanese keyboards type the long vowel mark on the dash key. The others are invisible letters.
        '\u{30fc}' | '\u{ff70}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => false,
        // Digits typed with Shift, and most punctuation of passwords.
        '!' | '$' | '%' | '&' | '+' | '=' | '?' | '@' | '^' => true,
        // Combining marks, which change the letter before them: all except the grapheme joiner and the keycap.
        '\u{300}'..='\u{34e}'
        | '\u{350}'..='\u{36f}'
        | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20e2}'
        | '\u{20e4}'..='\u{20ff}'
        | '\u{fe20}'..='\u{fe2f}' => true,
        // A character lost in a conversion.
        char::REPLACEMENT_CHARACTER => true,
        _ => c.is_alphanumeric() || (c.is_control() && !c.is_whitespace()),
    }
}

/// Whether a user would count this as a typed character. Signs on the digit keys count: with Shift held down, users type them
/// instead of digits.
fn is_significant(c: char) -> bool {
    match c {
        '-' | '_' => false,
        _ if c.is_ascii() => !c.is_whitespace(),
        _ => plain(c) != SEPARATOR,
    }
}

/// The number of significant characters: all except spaces, dashes of any kind and invisible characters.
#[must_use]
#[inline(never)]
pub fn significant(response: &[u8]) -> usize {
    let count = |chunk: std::str::Utf8Chunk<'_>| {
        let typed = Typed(chunk.valid()).filter(|&c| is_significant(c)).count();
        typed.saturating_add(chunk.invalid().len())
    };
    response.utf8_chunks().map(count).fold(0, usize::saturating_add)
}

/// The bare digits of a verification code, such as `123456` for `123 456`: 6 to 8 digits of any script, with spaces, dashes
/// and invisible characters between them. Any other character may belong to a PIN or a password.
#[must_use]
#[inline(never)]
pub fn verification_code(response: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut digits = Zeroizing::new(Vec::with_capacity(*VERIFICATION.end()));
    for typed in Typed(std::str::from_utf8(response).ok()?) {
        let c = plain(typed);
        if c == SEPARATOR && (typed == '-' || !typed.is_ascii_punctuation()) {
            continue;
        }
        if !c.is_ascii_digit() || digits.len() == digits.capacity() {
            return None;
        }
        digits.push(u8::try_from(c).ok()?);
    }
    VERIFICATION.contains(&digits.len()).then_some(digits)
}

/// The ASCII form of a decimal digit of any script.
fn digit(c: char) -> Option<char> {
    let c = u32::from(c);
    let after = ZEROS.partition_point(|&zero| zero <= c);
    let zero = ZEROS.get(after.checked_sub(1)?)?;
    char::from_digit(c.checked_sub(*zero)?, 10)
}

/// The zeros of all scripts, each followed by its nine other digits (general category Nd of Unicode 16).
const ZEROS: [u32; 76] = [
    0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6, 0xE50,
    0xED0, 0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40,
    0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x10D30, 0x10D40,
    0x11066, 0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x116D0, 0x116DA,
    0x11730, 0x118E0, 0x11950, 0x11BF0, 0x11C50, 0x11D50, 0x11DA0, 0x11F50, 0x16130, 0x16A60, 0x16AC0,
    0x16B50, 0x16D70, 0x1CCF0, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E4F0,
    0x1E5F1, 0x1E950, 0x1FBF0,
];

#[cfg(test)]
mod tests {
    use super::*;
    use regex_syntax::hir::{Class, HirKind};

    /// All characters with a Unicode property.
    fn all_of(property: &str) -> Vec<char> {
        let class = regex_syntax::parse(&format!("\\p{{{property}}}")).unwrap().into_kind();
        let HirKind::Class(Class::Unicode(class)) = class else { panic!("{property}: {class:?}") };
        class.iter().flat_map(|range| range.start()..=range.end()).collect()
    }

    /// The full-width forms of all ASCII characters.
    const ASCII: std::ops::RangeInclusive<char> = '\u{ff01}'..='\u{ff5e}';

    #[test]
    fn digits_of_all_scripts_are_digits() {
        let digits = all_of("Nd");
        assert_eq!(digits.len(), 10 * ZEROS.len());
        for ten in digits.chunks(10) {
            assert!(ten.iter().map(|&c| plain(c)).eq('0'..='9'), "{ten:?}");
        }
        for no_digit in ['\u{b2}', '\u{2460}', '\u{4e09}', '\u{19da}', '\u{1f100}'] {
            assert_eq!(plain(no_digit), no_digit);
        }
    }

    #[test]
    fn no_dash_space_quote_or_invisible_character_is_part_of_a_code() {
        for property in ["Dash", "Pd", "White_Space", "Default_Ignorable_Code_Point", "Cf", "P"] {
            for c in all_of(property) {
                let stands_for_a_digit = matches!(c, '!' | '%' | '&' | '?' | '@');
                let is_other = stands_for_a_digit || ASCII.contains(&c) && plain(c).is_ascii_punctuation();
                assert!(plain(c) == SEPARATOR || is_other, "{property}: {c:?}, {:x}", u32::from(c));
            }
        }
        for c in "\u{ad}\u{2212}\u{30fc}\u{ff70}\u{ff5e}\u{2500}\u{20e3}\u{fe0f}`´\u{feff}•·|<>#*~\\/".chars()
        {
            assert_eq!(plain(c), SEPARATOR, "{c:?}");
        }
    }

    #[test]
    fn letters_of_other_alphabets_are_not_folded() {
        for c in all_of("L") {
            let is_ascii = c.is_ascii() || ASCII.contains(&c);
            let is_dropped = "\u{30fc}\u{ff70}\u{115f}\u{1160}\u{3164}\u{ffa0}".contains(c);
            assert!(is_ascii || is_dropped || plain(c) == c, "{c:?}, {:x}", u32::from(c));
        }
        let wide = ('\u{ff21}'..='\u{ff3a}').chain('\u{ff41}'..='\u{ff5a}');
        assert!(wide.map(plain).eq(('A'..='Z').chain('a'..='z')));
        for c in "\u{410}\u{39f}\u{3bf}\u{e9}\u{301}\u{1d400}\u{fffd}\0\u{7f}\u{1b}\u{9b}".chars() {
            assert_eq!(plain(c), c);
        }
    }

    #[test]
    fn characters_are_counted_instead_of_bytes() {
        for (response, count) in [
            ("", 0),
            (" -\t", 0),
            ("\u{2003}\u{2212}_\u{200b}\r\n", 0),
            ("123 456", 6),
            ("1XXXX-XXXXX-XXXXX", 15),
            ("пароль", 6),
            ("\u{1b}[200~hunter2\u{1b}[201~", 7),
            ("#a$kt-sbaf*-!vq%@", 15),
            ("\u{8}\n\r\u{7f}INCORRECT", 11),
        ] {
            assert_eq!(significant(response.as_bytes()), count, "{response:?}");
        }
        assert_eq!(significant(b"caf\xe9\xff bar"), 8, "bytes that are not UTF-8");
    }

    #[test]
    fn a_verification_code_is_six_to_eight_digits_in_any_form() {
        for typed in [
            "123456",
            "123 456",
            "123-456",
            "123\u{a0}456",
            "\u{feff}123\u{2013}456\r\n",
            "\u{1b}[200~123 456\u{1b}[201~",
            "[200~123456[201~",
            "１２３ ４５６",
            "\u{661}\u{662}\u{663}\u{664}\u{665}\u{666}",
            "\u{967}\u{968}\u{969} \u{96a}\u{96b}\u{96c}",
            "\u{1d7cf}\u{1d7d0}\u{1d7d1}456",
            "\u{201c}123456\u{201d}",
        ] {
            let code = verification_code(typed.as_bytes());
            assert_eq!(code.as_deref().map(Vec::as_slice), Some(b"123456".as_slice()), "{typed:?}");
        }
        assert!(verification_code(b"1234 5678").is_some_and(|code| *code == b"12345678"));
        for other in [
            "",
            "12345",
            "123456789",
            "12 34",
            "IO1234",
            "hunter2",
            "123456!",
            "123456\u{e9}",
            "12345\u{b2}",
            "12.34.56",
            "12#34*56",
            "(123)456",
            "#123456",
            "12/34/56",
            "123_456",
            "'123456'",
            "123456.",
        ] {
            assert!(verification_code(other.as_bytes()).is_none(), "{other:?}");
        }
        assert!(verification_code(b"123\xa0456").is_none());
    }
}
