//! A backup code: slot, secret and check character, `3XXXX-XXXXX-XXXXC`.
//!
//! The first character names the slot, the code's number on the sheet; the last one is a check character; between
//! them stands the secret. All are digits of Crockford's base32, which has no I, L, O and U.

use rand::TryCryptoRng;
use zeroize::Zeroizing;

/// Fewest characters of a secret: 13 of 5 bits are 65 bits; NIST SP 800-63B-4 asks 64 of saved recovery codes.
pub const SHORTEST_SECRET: usize = 13;
/// Most characters of a secret: 26 of 5 bits are 130 bits.
pub const LONGEST_SECRET: usize = 26;

/// Crockford's base32 digits by value.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters beside the secret: the slot and the check character.
const FRAME: usize = 2;
const SHORTEST: usize = SHORTEST_SECRET + FRAME;
const LONGEST: usize = LONGEST_SECRET + FRAME;
/// Characters between two dashes on the sheet.
const GROUP: usize = 5;

/// The number of a code in its set, 1 to 31: one base32 digit other than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u8);

impl Slot {
    /// The highest slot, so the most codes of a set.
    pub const MOST: u8 = 31;

    /// The slot of this number, where there is one.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number >= 1 && number <= Self::MOST { Some(Self(number)) } else { None }
    }

    /// The number on the sheet, from 1.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The place in the list of codes, from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        (self.0 as usize).saturating_sub(1)
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A code that is one by shape and check character. It wipes itself, and has no `Debug`.
pub struct Code {
    slot: Slot,
    /// Canonical digits, all of them: this is what is hashed.
    text: Zeroizing<Vec<u8>>,
}

/// What was typed is not a code by shape or check character: a typing error, or something else entirely, such as a
/// password. It must not be logged.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

impl Code {
    /// A new code for `slot` with `secret_length` random characters (kept within 13..=26) of 5 bits each.
    ///
    /// # Errors
    /// The random number generator's own.
    pub fn generate<R: TryCryptoRng>(
        slot: Slot,
        secret_length: usize,
        rng: &mut R,
    ) -> Result<Self, R::Error> {
        let secret_length = secret_length.clamp(SHORTEST_SECRET, LONGEST_SECRET);
        let mut values = Zeroizing::new(vec![0; secret_length.saturating_add(FRAME)]);
        if let [first, secret @ .., check] = values.as_mut_slice() {
            rng.try_fill_bytes(secret)?;
            *first = slot.number();
            // 256 is a multiple of 32: the low five bits of a random byte are random without bias.
            secret.iter_mut().for_each(|value| *value &= 31);
            let sum = weighted_sum(std::iter::once(*first).chain(secret.iter().copied()));
            *check = times_alpha(sum) ^ WHOLE;
        }
        Ok(Self { slot, text: Zeroizing::new(values.iter().map(|&value| digit(value)).collect()) })
    }

    /// Reads what was typed. Case, spaces, tabs and dashes do not matter; O is read as 0, I and L as 1.
    ///
    /// # Errors
    /// [`Malformed`] for all that is not a code by shape and check character.
    pub fn parse(answer: &[u8]) -> Result<Self, Malformed> {
        // Reserved in full, so that no copy of it is left behind by growing.
        let mut values = Zeroizing::new(Vec::with_capacity(LONGEST));
        for &byte in answer.iter().filter(|byte| is_significant(**byte)) {
            if values.len() == LONGEST {
                return Err(Malformed);
            }
            values.push(value(byte).ok_or(Malformed)?);
        }
        let slot = values.first().copied().and_then(Slot::new).ok_or(Malformed)?;
        if values.len() < SHORTEST || weighted_sum(values.iter().copied()) != WHOLE {
            return Err(Malformed);
        }
        Ok(Self { slot, text: Zeroizing::new(values.iter().map(|&value| digit(value)).collect()) })
    }

    /// How many characters of what was typed matter: all but spaces, tabs and dashes.
    #[must_use]
    pub fn significant(answer: &[u8]) -> usize {
        answer.iter().filter(|byte| is_significant(**byte)).count()
    }

    /// The slot that the code names.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        self.slot
    }

    /// What is hashed: the canonical digits without dashes.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.text
    }

    /// The code as the sheet shows it, in groups of five.
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

const fn is_significant(byte: u8) -> bool {
    !matches!(byte, b' ' | b'\t' | b'-')
}

/// Σ α^(n-1-i)·c_i over GF(32), by Horner's rule. Over a whole code it is [`WHOLE`].
///
/// α is primitive, so over up to 31 characters all weights differ and none is 0. One wrong character e changes the
/// sum by α^k·e ≠ 0, and swapping characters a ≠ b by (α^j - α^k)·(a - b) ≠ 0: both always show.
fn weighted_sum(values: impl Iterator<Item = u8>) -> u8 {
    values.fold(0, |sum, value| times_alpha(sum) ^ value)
}

/// Not 0, so that a 0 added at the end shows as well.
const WHOLE: u8 = 1;

/// α·`value` in GF(32) with x⁵ + x² + 1, in which α = x is primitive.
const fn times_alpha(value: u8) -> u8 {
    let shifted = value << 1;
    if shifted & 0b10_0000 == 0 { shifted } else { shifted ^ 0b10_0101 }
}

fn digit(value: u8) -> u8 {
    DIGITS.get(usize::from(value)).copied().unwrap_or(b'0')
}

fn value(byte: u8) -> Option<u8> {
    let byte = match byte.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        other => other,
    };
    DIGITS.iter().position(|&digit| digit == byte).and_then(|position| u8::try_from(position).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SysRng;

    fn fresh(slot: u8, length: usize) -> Code {
        Code::generate(Slot::new(slot).unwrap(), length, &mut SysRng).unwrap()
    }

    #[test]
    fn what_is_printed_is_read_back_for_every_slot_and_length() {
        for slot in 1..=Slot::MOST {
            for length in SHORTEST_SECRET..=LONGEST_SECRET {
                let code = fresh(slot, length);
                let read = Code::parse(code.for_sheet().as_bytes()).ok().unwrap();
                assert_eq!(read.slot().number(), slot);
                assert_eq!(read.secret(), code.secret());
                assert_eq!(code.secret().len(), length + 2);
            }
        }
    }

    #[test]
    fn the_usual_code_is_three_groups_of_five_and_begins_with_its_slot() {
        let sheet = fresh(10, SHORTEST_SECRET).for_sheet();
        assert_eq!(sheet.split('-').map(str::len).collect::<Vec<_>>(), [5, 5, 5]);
        assert!(sheet.starts_with('A'));
    }

    #[test]
    fn length_is_kept_within_its_bounds() {
        assert_eq!(fresh(1, 0).secret().len(), SHORTEST);
        assert_eq!(fresh(1, 99).secret().len(), LONGEST);
    }

    #[test]
    fn a_person_may_type_it_their_way() {
        // 1 and 0 may be typed as the letters that look like them.
        let code = loop {
            let code = fresh(1, SHORTEST_SECRET);
            if code.secret().contains(&b'0') {
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
            assert_eq!(Code::parse(typed.as_bytes()).ok().unwrap().secret(), code.secret(), "{typed}");
        }
    }

    #[test]
    fn every_single_wrong_character_and_every_swap_of_neighbours_is_caught() {
        for length in [SHORTEST_SECRET, 20, LONGEST_SECRET] {
            let text = fresh(31, length).secret().to_vec();
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
    fn spaces_tabs_and_dashes_do_not_matter() {
        for (answer, significant) in [("", 0), (" -\t", 0), ("123 456", 6), ("1XXXX-XXXXX-XXXXX", 15)] {
            assert_eq!(Code::significant(answer.as_bytes()), significant, "{answer:?}");
        }
    }

    #[test]
    fn what_is_not_a_code_is_malformed() {
        let code = fresh(1, SHORTEST_SECRET);
        let text = String::from_utf8(code.secret().to_vec()).unwrap();
        let zero_slot = [vec![b'0'; SHORTEST - 1], vec![b'1']].concat(); // only the slot gives it away
        for wrong in [
            "",
            " ",
            "---",
            "123456",
            "hunter2",
            &text[1..],
            &text[..14],
            &format!("{text}0"),
            &format!("{text}\n"),
            &format!("{text}\0"),
            &format!("{text}é"),
            &text.replacen('1', "U", 1),
            &"1".repeat(511),
            std::str::from_utf8(&zero_slot).unwrap(),
        ] {
            assert!(Code::parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert!(Code::parse(&[0xff; 15]).is_err());
    }

    #[test]
    fn secrets_use_every_digit_evenly() {
        let mut seen = [0_u32; 32];
        for _ in 0..2_000 {
            for &byte in &fresh(1, LONGEST_SECRET).secret()[1..=LONGEST_SECRET] {
                seen[usize::from(value(byte).unwrap())] += 1;
            }
        }
        // 52,000 digits: 1,625 of each are expected, with a standard deviation of 40; six of them are never seen.
        assert!(seen.iter().all(|&count| (1_385..=1_865).contains(&count)), "{seen:?}");
    }
}
