use backupcodes_core::code::Code;
use backupcodes_core::code::typed::{significant, verification_code};

/// Reads any response. A code reads back from the sheet and in every typed form, and one wrong character is detected. Every
/// response means the same in its pasted form.
pub fn code(response: &[u8]) -> bool {
    if let Some(pasted) = std::str::from_utf8(response).ok().and_then(pasted) {
        let [plain, other] = [response, pasted.as_bytes()].map(Code::parse);
        let [plain, other] = [plain, other].map(|code| code.ok().map(|code| code.hash_input().to_vec()));
        assert_eq!(plain, other, "{pasted:?}");
        assert_eq!(verification_code(response), verification_code(pasted.as_bytes()), "{pasted:?}");
        assert_eq!(significant(response), significant(pasted.as_bytes()), "{pasted:?}");
    }
    if let Some(digits) = verification_code(response) {
        assert_eq!(verification_code(&digits), Some(digits));
    }
    let Ok(code) = Code::parse(response) else { return false };
    assert!((15..=28).contains(&code.hash_input().len()) && significant(response) >= code.hash_input().len());
    assert!((1..=31).contains(&code.number().get()));
    let sheet = code.for_sheet();
    for typed in [
        sheet.to_lowercase(),
        sheet.replace('-', " "),
        sheet.replace('0', "o").replace('1', "l"),
        sheet.to_string(),
        format!("{}) {}", code.number(), *sheet),
    ] {
        let read = Code::parse(typed.as_bytes()).ok().unwrap();
        assert!(read.hash_input() == code.hash_input() && read.number() == code.number());
    }
    for at in 0..code.hash_input().len() {
        let mut wrong = code.hash_input().to_vec();
        wrong[at] = if wrong[at] == b'7' { b'K' } else { b'7' };
        assert!(Code::parse(&wrong).is_err());
    }
    assert!(Code::parse(format!("{}) {}", code.number().get() % 31 + 1, *sheet).as_bytes()).is_err());
    true
}

/// The pasted form of a response: other digits, letters, spaces and dashes.
fn pasted(response: &str) -> Option<String> {
    // The brackets around a paste contain digits that must not change.
    if response.contains(['\u{9b}', '[']) {
        return None;
    }
    const ZEROS: [u32; 4] = [0x30, 0x660, 0xff10, 0x1d7ce];
    let shifted = |c: char, by: u32| char::from_u32(u32::from(c) + by).unwrap();
    let one = |(at, c): (usize, char)| match c {
        ' ' => '\u{2003}',
        '-' => ['\u{2010}', '\u{2013}', '\u{2212}', '\u{ad}'][at % 4],
        '0'..='9' => shifted(c, ZEROS[at % 4] - 0x30),
        'A'..='Z' | 'a'..='z' if at % 2 == 0 => shifted(c, 0xfee0),
        _ => c,
    };
    let body: String = response.chars().enumerate().map(one).collect();
    Some(format!("\u{feff}\u{1b}[200~{body}\u{1b}[201~\r\n"))
}
