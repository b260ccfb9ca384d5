//! Scalars and enums.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

use super::Format;
use super::text::FromText;

macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident => $value:ty, $write:ident);* $(;)?) => {
        $($(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl Format for $name {
            type Value = $value;

            fn write<S: Serializer>(value: &$value, to: S) -> Result<S::Ok, S::Error> {
                to.$write(*value)
            }

            fn read<'de, D: Deserializer<'de>>(from: D) -> Result<$value, D::Error> {
                <$value>::deserialize(from)
            }
        })*
    };
}

plain! {
    /// `true` or `false`.
    Bool => bool, serialize_bool;
    /// A number of 32 bits.
    Int32 => i32, serialize_i32;
    /// A number of 64 bits, written as a number.
    Int64 => i64, serialize_i64;
    /// A number of 32 bits, not negative.
    Uint32 => u32, serialize_u32;
    /// A number of 64 bits, not negative, written as a number.
    Uint64 => u64, serialize_u64;
}

/// A text.
#[derive(Debug)]
pub struct Text;

impl Format for Text {
    type Value = String;

    fn write<S: Serializer>(value: &String, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(value)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        String::deserialize(from)
    }
}

/// Accepts both alphabets, with and without padding.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Decodes base64 in the standard or the URL alphabet.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let engine = if text.contains(['-', '_']) {
        &URL_SAFE
    } else {
        &STANDARD
    };
    engine.decode(text).ok()
}

/// Bytes as base64.
#[derive(Debug)]
pub struct Bytes;

impl Format for Bytes {
    type Value = Vec<u8>;

    fn write<S: Serializer>(value: &Vec<u8>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(value))
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from_base64(&String::deserialize(from)?).ok_or_else(|| D::Error::custom("expected base64"))
    }
}

macro_rules! as_text {
    ($($(#[$doc:meta])* $name:ident => $value:ty, $visit_own:ident, $own:ty, $visit_other:ident, $other:ty);* $(;)?) => {
        $($(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl Format for $name {
            type Value = $value;

            fn write<S: Serializer>(value: &$value, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(value)
            }

            fn read<'de, D: Deserializer<'de>>(from: D) -> Result<$value, D::Error> {
                from.deserialize_any($name)
            }
        }

        impl Visitor<'_> for $name {
            type Value = $value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer of 64 bits, as a string or a number")
            }

            fn $visit_own<E>(self, value: $own) -> Result<$value, E> {
                Ok(value)
            }

            fn $visit_other<E: serde::de::Error>(self, value: $other) -> Result<$value, E> {
                value.try_into().map_err(|_| E::custom("number out of range"))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$value, E> {
                <$value>::from_text(text).map_err(E::custom)
            }
        })*
    };
}

as_text! {
    /// A number of 64 bits, written as a string (`jstype = JS_STRING`).
    Int64Text => i64, visit_i64, i64, visit_u64, u64;
    /// A number of 64 bits, not negative, written as a string (`jstype = JS_STRING`).
    Uint64Text => u64, visit_u64, u64, visit_i64, i64;
}

/// Reads a number, or the text of one of the three that JSON has no number for.
struct FloatVisitor;

impl Visitor<'_> for FloatVisitor {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
    }

    fn visit_f64<E>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_u64<E>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<f64, E> {
        match text {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }
}

/// Returns the text of a number that JSON has no number for.
fn unwritable(value: f64) -> Option<&'static str> {
    match value {
        _ if value.is_nan() => Some("NaN"),
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        _ => None,
    }
}

/// A double.
#[derive(Debug)]
pub struct Double;

impl Format for Double {
    type Value = f64;

    fn write<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        match unwritable(*value) {
            Some(text) => to.serialize_str(text),
            None => to.serialize_f64(*value),
        }
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        from.deserialize_any(FloatVisitor)
    }
}

/// A float; a finite number past its range is refused.
#[derive(Debug)]
pub struct Float;

impl Format for Float {
    type Value = f32;

    fn write<S: Serializer>(value: &f32, to: S) -> Result<S::Ok, S::Error> {
        match unwritable(f64::from(*value)) {
            Some(text) => to.serialize_str(text),
            None => to.serialize_f32(*value),
        }
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<f32, D::Error> {
        let value = from.deserialize_any(FloatVisitor)?;
        let narrow = value as f32;
        if narrow.is_infinite() && value.is_finite() {
            return Err(D::Error::custom("number out of range"));
        }
        Ok(narrow)
    }
}

/// An enum of a contract.
pub trait Enumeration {
    /// Names as the contract spells them, and their numbers; the first name of a number is the one written.
    const NAMES: &'static [(&'static str, i32)];
}

/// Returns the name of `number`.
fn name_of<E: Enumeration>(number: i32) -> Option<&'static str> {
    let (name, _) = E::NAMES.iter().find(|(_, known)| *known == number)?;
    Some(name)
}

/// Returns the number of `name`.
pub(super) fn number_of<E: Enumeration>(name: &str) -> Option<i32> {
    let (_, number) = E::NAMES.iter().find(|(known, _)| *known == name)?;
    Some(*number)
}

/// Is `number` one that the contract names?
pub(super) fn is_known<E: Enumeration>(number: i32) -> bool {
    name_of::<E>(number).is_some()
}

struct EnumVisitor<E>(PhantomData<E>);

impl<E: Enumeration> Visitor<'_> for EnumVisitor<E> {
    type Value = i32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name or the number of an enum value")
    }

    fn visit_i64<R: serde::de::Error>(self, number: i64) -> Result<i32, R> {
        let number = i32::try_from(number).ok().filter(|number| is_known::<E>(*number));
        number.ok_or_else(|| R::custom("unknown enum value"))
    }

    fn visit_u64<R: serde::de::Error>(self, number: u64) -> Result<i32, R> {
        let number = i64::try_from(number).map_err(|_| R::custom("unknown enum value"))?;
        self.visit_i64(number)
    }

    fn visit_str<R: serde::de::Error>(self, name: &str) -> Result<i32, R> {
        number_of::<E>(name).ok_or_else(|| R::custom("unknown enum value"))
    }
}

/// An enum, written by name; a number this program has no name for is written as it is.
#[derive(Debug)]
pub struct Enum<E>(PhantomData<E>);

impl<E: Enumeration> Format for Enum<E> {
    type Value = i32;

    fn write<S: Serializer>(value: &i32, to: S) -> Result<S::Ok, S::Error> {
        match name_of::<E>(*value) {
            Some(name) => to.serialize_str(name),
            None => to.serialize_i32(*value),
        }
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
        from.deserialize_any(EnumVisitor::<E>(PhantomData))
    }
}

/// An enum, written by number.
#[derive(Debug)]
pub struct EnumNumber<E>(PhantomData<E>);

impl<E: Enumeration> Format for EnumNumber<E> {
    type Value = i32;

    fn write<S: Serializer>(value: &i32, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i32(*value)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
        from.deserialize_any(EnumVisitor::<E>(PhantomData))
    }
}
