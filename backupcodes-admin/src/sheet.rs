//! The sheet that a person prints and keeps.

use backupcodes_core::clock::Time;
use backupcodes_core::code::Code;

mod destination;
mod html;
mod text;

pub(crate) use destination::{Destination, Layout, Sheets};
pub(crate) use html::{HEAD as HTML_HEAD, TAIL as HTML_TAIL, html};
pub(crate) use text::text;

/// The day of a set, in UTC.
fn date(created: Time) -> String {
    let mut date = created.to_string();
    date.truncate(date.find('T').unwrap_or(date.len()));
    date
}

/// The codes of the left and of the right column. The left one has the odd code.
fn halves(codes: &[Code]) -> (&[Code], &[Code]) {
    codes.split_at(codes.len().div_ceil(2))
}

/// How many codes there are, and how often one works.
fn works_once(count: usize) -> String {
    match count {
        1 => "1 code. It works once: cross it out when it is used.".into(),
        many => format!("{many} codes. Each works once: cross it out when it is used."),
    }
}

#[cfg(test)]
mod tests {
    use backupcodes_core::code::{Code, CodeNumber};
    use rand::rngs::SysRng;

    pub(super) fn new_codes(count: u8, length: usize) -> Vec<Code> {
        let numbers = (1..=count).map(|number| CodeNumber::new(number).unwrap());
        numbers.map(|number| Code::generate(number, length, &mut SysRng).unwrap()).collect()
    }
}
