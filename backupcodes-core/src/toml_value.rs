//! Typed values from TOML. An error names what was found and what was expected.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::clock::Time;
use crate::visible;

/// A type that can be read from a TOML value.
pub(crate) trait Value: Sized {
    const EXPECTED: &'static str;
    fn of(value: &DeValue<'_>) -> Option<Self>;
}

/// Reads the value of `key`.
///
/// # Errors
/// What was found and what was expected.
pub(crate) fn read<T: Value>(key: &str, value: &DeValue<'_>) -> Result<T, String> {
    T::of(value).ok_or_else(|| format!("{key} is {}; expected {}", shown(value), T::EXPECTED))
}

/// The error in one line that quotes nothing of `text`: a log may have more readers than the file.
pub(crate) fn one_line(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.split('\n').count(), visible::shown(error.message()))
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{:?}", text.chars().take(64).collect::<String>()),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        other => format!("of type {}", other.type_str()),
    }
}

macro_rules! whole_number {
    ($($number:ty, $expected:literal;)*) => {$(
        impl Value for $number {
            const EXPECTED: &'static str = $expected;
            fn of(value: &DeValue<'_>) -> Option<Self> {
                let number = value.as_integer()?;
                Self::from_str_radix(number.as_str(), number.radix()).ok()
            }
        }
    )*};
}

whole_number! {
    u8, "a whole number from 0 to 255";
    u32, "a whole number from 0 to 4294967295";
    usize, "a whole number from 0";
}

impl Value for Duration {
    const EXPECTED: &'static str = "a whole number of seconds from 0 to 4294967295";
    fn of(value: &DeValue<'_>) -> Option<Self> {
        u32::of(value).map(|seconds| Self::from_secs(seconds.into()))
    }
}

impl Value for String {
    const EXPECTED: &'static str = "a string";
    fn of(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().map(Self::from)
    }
}

impl Value for Vec<String> {
    const EXPECTED: &'static str = "a list of strings";
    fn of(value: &DeValue<'_>) -> Option<Self> {
        value.as_array()?.iter().map(|item| String::of(item.get_ref())).collect()
    }
}

impl Value for PathBuf {
    const EXPECTED: &'static str = "an absolute path";
    fn of(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().map(Self::from).filter(|path| path.is_absolute())
    }
}

impl Value for Time {
    const EXPECTED: &'static str = "a time such as 2026-11-24T02:00:00Z";
    fn of(value: &DeValue<'_>) -> Option<Self> {
        value.as_datetime()?.to_string().parse().ok()
    }
}
