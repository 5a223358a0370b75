//! The number of a code in its set.

/// The number of a code in its set, 1 to 31: one base32 digit other than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CodeNumber(u8);

impl CodeNumber {
    /// The highest number, which is also the largest number of codes in a set.
    pub const MOST: u8 = 31;

    /// `None` for 0 and for numbers above [`CodeNumber::MOST`].
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number >= 1 && number <= Self::MOST { Some(Self(number)) } else { None }
    }

    /// The number as printed on the sheet, from 1.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The position in the list of codes, from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        (self.0 as usize).saturating_sub(1)
    }
}

impl std::fmt::Display for CodeNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
