//! A backup code: number, secret and check character, `3XXXX-XXXXX-XXXXC`.
//!
//! The first character is the code's number on the sheet, the last one is a check character, and the secret is between
//! them. All are digits of Crockford's base32, which has no I, L, O and U.

mod number;
pub mod typed;

use rand::TryCryptoRng;
use zeroize::Zeroizing;

pub use self::number::CodeNumber;
use crate::code::typed::{SEPARATOR, Typed, plain};

/// The fewest characters of a secret: 13 of 5 bits are 65 bits. NIST SP 800-63B-4 requires 64 of saved recovery codes.
pub const SHORTEST_SECRET: usize = 13;
/// The most characters of a secret: 26 of 5 bits are 130 bits.
pub const LONGEST_SECRET: usize = 26;

/// Crockford's base32 digits by value.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters around the secret: the number and the check character.
const NOT_SECRET: usize = 2;
const SHORTEST: usize = SHORTEST_SECRET + NOT_SECRET;
const LONGEST: usize = LONGEST_SECRET + NOT_SECRET;
/// Digits of a number on the sheet.
const LONGEST_NUMBER: usize = 2;
/// Characters between two dashes on the sheet.
const GROUP: usize = 5;

/// A code with a valid shape and check character. It is zeroized on drop, and has no `Debug`.
pub struct Code {
    number: CodeNumber,
    /// All digits in canonical form: the input of the hash.
    text: Zeroizing<Vec<u8>>,
}

/// The response lacks the shape or check character of a code: it is mistyped, or something else, such as a password. It must
/// not be logged.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

impl Code {
    /// A new code for `number` with `secret_length` random characters (clamped to 13..=26) of 5 bits each.
    ///
    /// # Errors
    /// The error of the random number generator.
    pub fn generate<R: TryCryptoRng>(
        number: CodeNumber,
        secret_length: usize,
        rng: &mut R,
    ) -> Result<Self, R::Error> {
        let secret_length = secret_length.clamp(SHORTEST_SECRET, LONGEST_SECRET);
        let mut values = Zeroizing::new(vec![0; secret_length.saturating_add(NOT_SECRET)]);
        if let [first, secret @ .., check] = values.as_mut_slice() {
            rng.try_fill_bytes(secret)?;
            *first = number.get();
            // 256 is a multiple of 32, so the low five bits of a random byte have no bias.
            secret.iter_mut().for_each(|value| *value &= 31);
            let sum = weighted_sum(std::iter::once(*first).chain(secret.iter().copied()));
            *check = times_alpha(sum) ^ VALID_SUM;
        }
        Ok(Self { number, text: Zeroizing::new(values.iter().map(|&value| digit(value)).collect()) })
    }

    /// Reads a response. Case and characters that cannot be part of a code (see [`crate::code::typed`]) do not matter; O reads
    /// as 0, I and L as 1. The code's own number on the sheet may precede it, with a separator: `3. 3XXXX-XXXXX-XXXXC`.
    ///
    /// # Errors
    /// [`Malformed`] without the shape and check character of a code.
    pub fn parse(response: &[u8]) -> Result<Self, Malformed> {
        let response = std::str::from_utf8(response).map_err(|_| Malformed)?;
        // Reserved in full, so that growing leaves no copy in memory.
        let mut values = Zeroizing::new(Vec::with_capacity(LONGEST_NUMBER + LONGEST));
        let mut prefix = 0;
        for c in Typed(response).map(plain) {
            if c == SEPARATOR {
                prefix = if prefix == 0 { values.len() } else { prefix };
            } else if values.len() == values.capacity() {
                return Err(Malformed);
            } else {
                values.push(value(c).ok_or(Malformed)?);
            }
        }
        // This comes first: 12 or 24 before a code makes a longer code with a correct check character.
        let (front, rest) = values.split_at_checked(prefix).unwrap_or((&[], &values));
        match (sheet_number(front), Self::of(rest)) {
            (Some(number), Ok(code)) if code.number.get() == number => Ok(code),
            (Some(_), Ok(_)) => Err(Malformed),
            _ => Self::of(&values),
        }
    }

    /// The code of these digits.
    fn of(values: &[u8]) -> Result<Self, Malformed> {
        let number = values.first().copied().and_then(CodeNumber::new).ok_or(Malformed)?;
        if !(SHORTEST..=LONGEST).contains(&values.len()) || weighted_sum(values.iter().copied()) != VALID_SUM
        {
            return Err(Malformed);
        }
        Ok(Self { number, text: Zeroizing::new(values.iter().map(|&value| digit(value)).collect()) })
    }

    /// The code's number in its set.
    #[must_use]
    pub const fn number(&self) -> CodeNumber {
        self.number
    }

    /// The input of the hash: the canonical digits without dashes.
    #[must_use]
    pub fn hash_input(&self) -> &[u8] {
        &self.text
    }

    /// The code as printed on the sheet, in groups of five.
    #[must_use]
    pub fn for_sheet(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.text.len().saturating_mul(2)));
        for group in self.text.chunks(GROUP) {
            if !text.is_empty() {
                text.push('-');
            }
            text.extend(group.iter().map(|&digit| char::from(digit)));
        }
        text
    }
}

/// The number on the sheet that may precede a code.
fn sheet_number(front: &[u8]) -> Option<u8> {
    match *front {
        [ones @ 0..=9] => Some(ones),
        [tens @ 0..=9, ones @ 0..=9] => tens.checked_mul(10)?.checked_add(ones),
        _ => None,
    }
}

/// Σ α^(n-1-i)·c_i over GF(32), by Horner's rule. For a whole code it is [`VALID_SUM`].
///
/// α is primitive, so all weights of up to 31 characters differ and none is 0. An error e in one character changes the sum
/// by α^k·e ≠ 0, and a swap of characters a ≠ b by (α^j - α^k)·(a - b) ≠ 0: both are always detected.
fn weighted_sum(values: impl Iterator<Item = u8>) -> u8 {
    values.fold(0, |sum, value| times_alpha(sum) ^ value)
}

/// Not 0, so that an appended 0 is detected as well.
const VALID_SUM: u8 = 1;

/// α·`value` in GF(32) with x⁵ + x² + 1, in which α = x is primitive.
const fn times_alpha(value: u8) -> u8 {
    let shifted = value << 1;
    if shifted & 0b10_0000 == 0 { shifted } else { shifted ^ 0b10_0101 }
}

fn digit(value: u8) -> u8 {
    DIGITS.get(usize::from(value)).copied().unwrap_or(b'0')
}

fn value(c: char) -> Option<u8> {
    let c = match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    DIGITS.iter().position(|&digit| char::from(digit) == c).and_then(|position| u8::try_from(position).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SysRng;

    fn fresh(number: u8, length: usize) -> Code {
        Code::generate(CodeNumber::new(number).unwrap(), length, &mut SysRng).unwrap()
    }

    #[test]
    fn a_printed_code_reads_back_for_every_number_and_length() {
        for number in 1..=CodeNumber::MOST {
            for length in SHORTEST_SECRET..=LONGEST_SECRET {
                let code = fresh(number, length);
                let read = Code::parse(code.for_sheet().as_bytes()).ok().unwrap();
                assert_eq!(read.number().get(), number);
                assert_eq!(read.hash_input(), code.hash_input());
                assert_eq!(code.hash_input().len(), length + 2);
            }
        }
    }

    #[test]
    fn the_usual_code_is_three_groups_of_five_and_begins_with_its_number() {
        let sheet = fresh(10, SHORTEST_SECRET).for_sheet();
        assert_eq!(sheet.split('-').map(str::len).collect::<Vec<_>>(), [5, 5, 5]);
        assert!(sheet.starts_with('A'));
    }

    #[test]
    fn length_is_kept_within_its_bounds() {
        assert_eq!(fresh(1, 0).hash_input().len(), SHORTEST);
        assert_eq!(fresh(1, 99).hash_input().len(), LONGEST);
    }

    #[test]
    fn a_code_is_accepted_with_other_case_spaces_and_lookalikes() {
        // A code with a 1 and a 0, which have lookalike letters.
        let code = loop {
            let code = fresh(1, SHORTEST_SECRET);
            if code.hash_input().contains(&b'0') {
                break code;
            }
        };
        let sheet = code.for_sheet();
        let spaced: String = sheet.chars().flat_map(|c| [c, ' ']).collect();
        for typed in [
            sheet.to_lowercase(),
            sheet.replace('-', ""),
            sheet.replace('-', " \t- "),
            spaced,
            sheet.replace('0', "O").replace('1', "I"),
            sheet.replace('0', "o").replace('1', "l"),
            format!("  {}  ", *sheet),
        ] {
            assert_eq!(read(&typed), Some(code.hash_input().to_vec()), "{typed}");
        }
    }

    /// The secret of a response that is a code.
    fn read(response: &str) -> Option<Vec<u8>> {
        Code::parse(response.as_bytes()).ok().map(|code| code.hash_input().to_vec())
    }

    #[test]
    fn a_code_is_accepted_with_quotes_dashes_and_other_pasted_characters() {
        let code = fresh(3, SHORTEST_SECRET);
        let sheet = code.for_sheet();
        let other_digits = |zero: u32| -> String {
            let other = |c: char| c.to_digit(10).map_or(c, |digit| char::from_u32(zero + digit).unwrap());
            sheet.chars().map(other).collect()
        };
        let wide =
            |c: char| if c.is_ascii_graphic() { char::from_u32(u32::from(c) + 0xfee0).unwrap() } else { c };
        let mut all: Vec<String> = [
            "{}\r\n",
            "\u{feff}{}",
            "{}.",
            "{},",
            "\"{}\"",
            "\u{201c}{}\u{201d}",
            "\u{201e}{}\u{201c}",
            "\u{ab}\u{a0}{}\u{a0}\u{bb}",
            "\u{300c}{}\u{300d}",
            "`{}`",
            "'{}'",
            "({})",
            "[{}]",
            "<{}>",
            "**{}**",
            "|{}|",
            "\u{2022} {}",
            "\u{202a}{}\u{202c}",
            "\u{2068}{}\u{2069}",
            "\u{200e}{}\u{200f}",
            "\u{1b}[200~{}\u{1b}[201~",
            "\u{1b}[200~{}\r\n\u{1b}[201~\n",
            "\u{9b}200~{}\u{9b}201~",
            "[200~{}[201~",
            "\u{1b}[200~{}",
        ]
        .map(|around| around.replace("{}", &sheet))
        .into();
        for dash in "\u{2010}\u{2011}\u{2012}\u{2013}\u{2014}\u{2015}\u{2212}\u{ad}\u{2043}\u{fe58}\u{fe63}\u{ff0d}\u{30fc}\
                     _.,:;/\\~\u{b7}\u{2009}\u{a0}\u{202f}\u{3000}\u{200b}\u{2060}\u{200d}\u{fe0f}\u{2028}\r\n\u{b}\u{85}"
            .chars()
        {
            all.push(sheet.replace('-', &dash.to_string()));
        }
        all.extend([0x660, 0x6f0, 0x966, 0xe50, 0xff10, 0x1d7ce, 0x1d7d8, 0x1fbf0].map(other_digits));
        all.push(sheet.chars().map(wide).collect());
        all.push(sheet.to_lowercase().chars().map(wide).collect());
        for typed in all {
            assert_eq!(read(&typed), Some(code.hash_input().to_vec()), "{typed:?}");
        }
    }

    #[test]
    fn the_number_on_the_sheet_may_precede_only_its_own_code() {
        for number in 1..=CodeNumber::MOST {
            for length in [SHORTEST_SECRET, 15, LONGEST_SECRET] {
                let code = fresh(number, length);
                let sheet = code.for_sheet();
                for front in [
                    "{}  ",
                    "{}) ",
                    "{}.",
                    "{}:",
                    "{}\t",
                    "#{} ",
                    "({}) ",
                    "{} - ",
                    "\u{2116} {}: ",
                    "0{} ",
                    "{}\u{fe0f}\u{20e3} ",
                ] {
                    let prefix = |number: u8| front.replace("{}", &number.to_string());
                    for typed in [&*sheet, &sheet.replace('-', " "), &sheet.replace('-', "")] {
                        if number < 10 || !front.starts_with('0') {
                            let typed = prefix(number) + typed;
                            assert_eq!(read(&typed), Some(code.hash_input().to_vec()), "{typed}");
                        }
                        for other in (0..=99).filter(|&other| other != number) {
                            let typed = prefix(other) + typed;
                            assert_eq!(read(&typed), None, "{typed}");
                        }
                    }
                }
                assert_eq!(read(&format!("{number} {number} {}", *sheet)), None, "twice");
                // Only 12 and 24 make a longer code.
                let is_longer = [12, 24].contains(&number) && length + 2 <= LONGEST_SECRET;
                assert_eq!(read(&format!("{number}{}", *sheet)).is_some(), is_longer, "without a separator");
            }
        }
    }

    #[test]
    fn every_wrong_character_and_every_swap_of_neighbours_is_detected() {
        for length in [SHORTEST_SECRET, 20, LONGEST_SECRET] {
            let text = fresh(31, length).hash_input().to_vec();
            for at in 0..text.len() {
                for &other in DIGITS.iter().filter(|&&digit| digit != text[at]) {
                    let mut wrong = text.clone();
                    wrong[at] = other;
                    assert!(Code::parse(&wrong).is_err());
                }
                if at + 1 < text.len() && text[at] != text[at + 1] {
                    let mut wrong = text.clone();
                    wrong.swap(at, at + 1);
                    assert!(Code::parse(&wrong).is_err());
                }
            }
        }
    }

    #[test]
    fn everything_else_is_malformed() {
        let code = fresh(1, SHORTEST_SECRET);
        let text = String::from_utf8(code.hash_input().to_vec()).unwrap();
        let number_zero = [vec![b'0'; SHORTEST - 1], vec![b'1']].concat(); // only the number is wrong
        for wrong in [
            "",
            " ",
            "---",
            "123456",
            "hunter2",
            &text[1..],
            &text[..14],
            &format!("{text}0"),
            &format!("{text}\0"),
            &format!("{text}\u{8}"),
            &format!("{text}\u{1b}[D"),
            &format!("{text}é"),
            &format!("{text}\u{301}"),
            &format!("{text}\u{fffd}"),
            &format!("{text}!"),
            &text.replacen('1', "\u{b9}", 1),
            &text.replacen('1', "\u{2460}", 1),
            &text.replacen('1', "\u{456}", 1),
            &text.replacen('1', "\u{4e00}", 1),
            &text.replacen('1', "U", 1),
            &"1".repeat(511),
            std::str::from_utf8(&number_zero).unwrap(),
        ] {
            assert!(Code::parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert!(Code::parse(&[0xff; 15]).is_err());
        for lost in [0xa0, 0x96, 0xff] {
            assert!(Code::parse(&[text.as_bytes(), &[lost]].concat()).is_err(), "{lost:x}");
        }
        // Each of these looks like a digit of the code.
        let code = loop {
            let code = fresh(1, LONGEST_SECRET).hash_input().to_vec();
            if b"0ABCEHKMPTX".iter().all(|digit| code.contains(digit)) {
                break String::from_utf8(code).unwrap();
            }
        };
        for (ours, other) in "0ABCEHKMPTX"
            .chars()
            .zip("\u{39f}\u{410}\u{412}\u{421}\u{415}\u{41d}\u{39a}\u{41c}\u{420}\u{422}\u{3a7}".chars())
        {
            let typed = code.replacen(ours, &other.to_string(), 1);
            assert!(Code::parse(typed.as_bytes()).is_err(), "{typed}");
        }
    }

    #[test]
    fn secrets_use_every_digit_evenly() {
        let mut seen = [0_u32; 32];
        for _ in 0..2_000 {
            for &byte in &fresh(1, LONGEST_SECRET).hash_input()[1..=LONGEST_SECRET] {
                seen[usize::from(value(char::from(byte)).unwrap())] += 1;
            }
        }
        // 52,000 digits: 1,625 of each expected, standard deviation 40; a deviation of six never occurs.
        assert!(seen.iter().all(|&count| (1_385..=1_865).contains(&count)), "{seen:?}");
    }
}
