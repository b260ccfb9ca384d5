//! Values as bare text: path segments, query parameters, map keys.

use std::fmt;

use super::scalar::{Enumeration, from_base64, is_known, number_of};
use super::well_known::{duration_from_text, timestamp_from_text};

/// Why a text is no value; says what was expected and does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextError(&'static str);

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "must be {}", self.0)
    }
}

impl std::error::Error for TextError {}

/// A value that a path segment or a query parameter can carry.
pub trait FromText: Sized {
    /// Reads the value.
    fn from_text(text: &str) -> Result<Self, TextError>;
}

macro_rules! from_text {
    ($($value:ty => $expected:literal, $read:expr);* $(;)?) => {
        $(impl FromText for $value {
            fn from_text(text: &str) -> Result<Self, TextError> {
                let read: fn(&str) -> Option<$value> = $read;
                read(text).ok_or(TextError($expected))
            }
        })*
    };
}

from_text! {
    String => "a text", |text| Some(text.to_owned());
    bool => "true or false", |text| text.parse().ok();
    i32 => "an integer of 32 bits", |text| integer(text);
    i64 => "an integer of 64 bits", |text| integer(text);
    u32 => "an integer of 32 bits, not negative", |text| integer(text);
    u64 => "an integer of 64 bits, not negative", |text| integer(text);
    f32 => "a number", |text| float(text).filter(|value: &f32| value.is_finite() || text.contains("Inf") || text == "NaN");
    f64 => "a number", |text| float(text).filter(|value: &f64| value.is_finite() || text.contains("Inf") || text == "NaN");
    Vec<u8> => "base64", from_base64;
    prost_types::Timestamp => "a time as in 2006-01-02T15:04:05Z", timestamp_from_text;
    prost_types::Duration => "a length of time as in 1.5s", duration_from_text;
    prost_types::FieldMask => "a list of paths", |text| Some(super::well_known::mask_from_text(text));
}

/// `str::parse` takes a leading plus, JSON does not.
fn integer<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.starts_with('+') { None } else { text.parse().ok() }
}

/// `str::parse` takes `inf`, `infinity` and `nan` in every case; the mapping has three exact words.
fn float<T: std::str::FromStr>(text: &str) -> Option<T> {
    let words = ["NaN", "Infinity", "-Infinity"];
    let is_number = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'));
    if words.contains(&text) || is_number {
        text.parse().ok()
    } else {
        None
    }
}

/// Reads an enum by name or number.
pub fn enum_from_text<E: Enumeration>(text: &str) -> Result<i32, TextError> {
    let number = integer(text).filter(|number| is_known::<E>(*number));
    number
        .or_else(|| number_of::<E>(text))
        .ok_or(TextError("one of the values of its enum"))
}
