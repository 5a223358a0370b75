//! A response means the same in every form in which people paste it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

use backupcodes_core::code::typed::{significant, verification_code};
use backupcodes_core::code::{Code, CodeNumber, LONGEST_SECRET, SHORTEST_SECRET};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rand::rngs::SysRng;

/// The secret of a response that is a code.
fn read(response: &str) -> Option<Vec<u8>> {
    Code::parse(response.as_bytes()).ok().map(|code| code.hash_input().to_vec())
}

/// One of the many forms of a pasted response.
fn pasted(plain: &str, choices: &[usize]) -> String {
    const SPACES: [&str; 8] =
        [" ", "\u{a0}", "\t", "\u{2003}\u{200b}", "\u{3000}", "\u{2013}", "\u{2212}", "\u{ad}_"];
    const ZEROS: [u32; 5] = [0x30, 0x660, 0x966, 0xff10, 0x1d7ce];
    let choices = |at: usize| choices.get(at % choices.len().max(1)).copied().unwrap_or_default();
    let one = |(at, c): (usize, char)| match c {
        ' ' | '-' => SPACES[choices(at) % SPACES.len()].to_string(),
        '0'..='9' => char::from_u32(ZEROS[choices(at) % ZEROS.len()] + u32::from(c) - 0x30).unwrap().into(),
        _ if c.is_ascii_alphabetic() && choices(at) % 2 == 1 => {
            char::from_u32(u32::from(c) + 0xfee0).unwrap().into()
        }
        _ => c.into(),
    };
    let body: String = plain.chars().enumerate().map(one).collect();
    ["{}", "\u{feff}{}\r\n", "\u{1b}[200~{}\u{1b}[201~", "\u{201c}{}\u{201d}."][choices(0) % 4]
        .replace("{}", &body)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pasted_and_a_plain_code_are_the_same(
        number in 1..=CodeNumber::MOST,
        length in SHORTEST_SECRET..=LONGEST_SECRET,
        prefix in option::of(1..=CodeNumber::MOST),
        change in option::of((0_usize..40, "[0-9A-Za-z \u{410}\u{e9}\u{301}!-]")),
        choices in vec(0_usize..40, 1..40),
    ) {
        let mut plain = Code::generate(CodeNumber::new(number).unwrap(), length, &mut SysRng).unwrap().for_sheet().to_string();
        if let Some(number) = prefix {
            plain = format!("{number} {plain}");
        }
        if let Some((at, other)) = change {
            let at = at % plain.len();
            plain.replace_range(at..=at, &other);
        }
        let typed = pasted(&plain, &choices);
        prop_assert_eq!(read(&typed), read(&plain), "{:?}", typed);
    }

    #[test]
    fn a_response_that_is_no_code_is_none_in_any_pasted_form(
        plain in "[0-9A-Za-z -]{0,40}",
        choices in vec(0_usize..40, 1..40),
    ) {
        let typed = pasted(&plain, &choices);
        prop_assert_eq!(read(&typed), read(&plain), "{:?}", typed);
        // ASCII punctuation may belong to a PIN: with it a response is no verification code.
        let codes = [&typed.replace(['_', '.'], ""), &plain].map(|response| verification_code(response.as_bytes()));
        prop_assert_eq!(&codes[0], &codes[1]);
    }

    #[test]
    fn no_response_causes_a_panic(response in vec(any::<u8>(), 0..100)) {
        let _ = (Code::parse(&response).is_ok(), significant(&response), verification_code(&response));
    }
}
