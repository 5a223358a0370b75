use backupcodes_core::code::Code;

/// Reads any answer. What is a code reads back from the sheet and however it is typed, and one wrong character shows.
pub fn code(answer: &[u8]) -> bool {
    let significant: Vec<u8> = answer.iter().copied().filter(|byte| !b" \t-".contains(byte)).collect();
    assert_eq!(Code::significant(answer), significant.len());
    let Ok(code) = Code::parse(answer) else {
        assert!(Code::parse(&significant).is_err());
        return false;
    };
    assert!((15..=28).contains(&significant.len()) && code.secret().len() == significant.len());
    assert!((1..=31).contains(&code.slot().number()));
    let sheet = code.for_sheet();
    for typed in [
        sheet.to_lowercase(),
        sheet.replace('-', " "),
        sheet.replace('0', "o").replace('1', "l"),
        sheet.to_string(),
    ] {
        let read = Code::parse(typed.as_bytes()).ok().unwrap();
        assert!(read.secret() == code.secret() && read.slot() == code.slot());
    }
    for at in 0..code.secret().len() {
        let mut wrong = code.secret().to_vec();
        wrong[at] = if wrong[at] == b'7' { b'K' } else { b'7' };
        assert!(Code::parse(&wrong).is_err());
    }
    true
}
