//! The well-known types: times, free-form values, nothing.

use std::collections::BTreeMap;
use std::fmt;

use prost_types::value::Kind;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Format;

const NANOS_PER_SECOND: i32 = 1_000_000_000;
/// Longest `google.protobuf.Duration`: 10,000 years.
const MAX_DURATION_S: i64 = 315_576_000_000;

/// Returns the fraction of a second with as few of 0, 3, 6 or 9 digits as show it all.
fn fraction(nanos: u32) -> String {
    match nanos {
        0 => String::new(),
        _ if nanos.is_multiple_of(1_000_000) => format!(".{:03}", nanos / 1_000_000),
        _ if nanos.is_multiple_of(1_000) => format!(".{:06}", nanos / 1_000),
        _ => format!(".{nanos:09}"),
    }
}

/// A time as RFC 3339, in UTC.
#[derive(Debug)]
pub struct Timestamp;

impl Format for Timestamp {
    type Value = prost_types::Timestamp;

    fn write<S: Serializer>(value: &Self::Value, to: S) -> Result<S::Ok, S::Error> {
        let second = jiff::Timestamp::from_second(value.seconds).map_err(S::Error::custom)?;
        let nanos = u32::try_from(value.nanos).map_err(S::Error::custom)?;
        let text = second.to_string();
        to.collect_str(&format_args!("{}{}Z", text.trim_end_matches('Z'), fraction(nanos)))
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self::Value, D::Error> {
        timestamp_from_text(&String::deserialize(from)?)
            .ok_or_else(|| D::Error::custom("expected a time as in 2006-01-02T15:04:05Z"))
    }
}

pub(super) fn timestamp_from_text(text: &str) -> Option<prost_types::Timestamp> {
    // jiff also takes a blank for the T and a zone name in brackets; RFC 3339 in the mapping does not.
    if text.as_bytes().get(10) != Some(&b'T') || text.contains('[') {
        return None;
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    let (mut seconds, mut nanos) = (time.as_second(), time.subsec_nanosecond());
    if nanos < 0 {
        seconds -= 1;
        nanos += NANOS_PER_SECOND;
    }
    Some(prost_types::Timestamp { seconds, nanos })
}

/// A length of time: `1.5s`.
#[derive(Debug)]
pub struct Duration;

impl Format for Duration {
    type Value = prost_types::Duration;

    fn write<S: Serializer>(value: &Self::Value, to: S) -> Result<S::Ok, S::Error> {
        let sign = if value.seconds < 0 || value.nanos < 0 { "-" } else { "" };
        let (seconds, nanos) = (value.seconds.unsigned_abs(), value.nanos.unsigned_abs());
        to.collect_str(&format_args!("{sign}{seconds}{}s", fraction(nanos)))
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self::Value, D::Error> {
        duration_from_text(&String::deserialize(from)?)
            .ok_or_else(|| D::Error::custom("expected a length of time as in 1.5s"))
    }
}

pub(super) fn duration_from_text(text: &str) -> Option<prost_types::Duration> {
    let amount = text.strip_suffix('s')?;
    let (sign, amount) = match amount.strip_prefix('-') {
        Some(amount) => (-1, amount),
        None => (1, amount),
    };
    let (whole, part) = amount.split_once('.').unwrap_or((amount, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(whole) || !are_digits(part) || part.len() > 9 {
        return None;
    }
    let seconds: i64 = whole.parse().ok().filter(|seconds| *seconds <= MAX_DURATION_S)?;
    let nanos: i32 = format!("{part:0<9}").parse().ok()?;
    Some(prost_types::Duration {
        seconds: sign * seconds,
        nanos: i32::try_from(sign).ok()? * nanos,
    })
}

/// Nothing: `{}`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Empty;

impl Serialize for Empty {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map::<(), (), _>([])
    }
}

impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for Empty {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an empty object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        match entries.next_key::<String>()? {
            Some(_) => Err(A::Error::custom("unknown field")),
            None => Ok(self),
        }
    }
}

impl Format for Empty {
    type Value = ();

    fn write<S: Serializer>(_: &(), to: S) -> Result<S::Ok, S::Error> {
        Self.serialize(to)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
        Self::deserialize(from).map(|Self| ())
    }
}

/// Paths of fields: `name,homeAddress.street`.
#[derive(Debug)]
pub struct FieldMask;

impl Format for FieldMask {
    type Value = prost_types::FieldMask;

    fn write<S: Serializer>(value: &Self::Value, to: S) -> Result<S::Ok, S::Error> {
        let paths: Vec<String> = value.paths.iter().map(|path| lower_camel(path)).collect();
        to.serialize_str(&paths.join(","))
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self::Value, D::Error> {
        Ok(mask_from_text(&String::deserialize(from)?))
    }
}

pub(super) fn mask_from_text(text: &str) -> prost_types::FieldMask {
    let paths = text.split(',').filter(|path| !path.is_empty()).map(snake).collect();
    prost_types::FieldMask { paths }
}

fn lower_camel(path: &str) -> String {
    let mut camel = String::with_capacity(path.len());
    let mut upper = false;
    for letter in path.chars() {
        match letter {
            '_' => upper = true,
            _ if std::mem::take(&mut upper) => camel.push(letter.to_ascii_uppercase()),
            _ => camel.push(letter),
        }
    }
    camel
}

fn snake(path: &str) -> String {
    let mut snake = String::with_capacity(path.len() + 4);
    for letter in path.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// The enum with the one value null.
#[derive(Debug)]
pub struct NullValue;

impl Format for NullValue {
    type Value = i32;

    fn write<S: Serializer>(_: &i32, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_unit()
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
        <()>::deserialize(from).map(|()| 0)
    }

    fn null() -> Option<i32> {
        Some(0)
    }
}

/// Any JSON value.
#[derive(Debug)]
pub struct Value;

impl Format for Value {
    type Value = prost_types::Value;

    fn write<S: Serializer>(value: &Self::Value, to: S) -> Result<S::Ok, S::Error> {
        match &value.kind {
            None | Some(Kind::NullValue(_)) => to.serialize_unit(),
            Some(Kind::NumberValue(number)) if number.is_finite() => to.serialize_f64(*number),
            Some(Kind::NumberValue(_)) => Err(S::Error::custom("google.protobuf.Value holds no finite number")),
            Some(Kind::StringValue(text)) => to.serialize_str(text),
            Some(Kind::BoolValue(value)) => to.serialize_bool(*value),
            Some(Kind::StructValue(fields)) => Struct::write(fields, to),
            Some(Kind::ListValue(list)) => ListValue::write(list, to),
        }
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(Self).map(value_of)
    }

    fn null() -> Option<Self::Value> {
        Some(value_of(Kind::NullValue(0)))
    }
}

fn value_of(kind: Kind) -> prost_types::Value {
    prost_types::Value { kind: Some(kind) }
}

impl<'de> Visitor<'de> for Value {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::NullValue(0))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::BoolValue(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Kind, E> {
        Ok(Kind::NumberValue(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Kind, E> {
        Ok(Kind::NumberValue(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Kind, E> {
        Ok(Kind::NumberValue(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Kind, E> {
        Ok(Kind::StringValue(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Kind, E> {
        Ok(Kind::StringValue(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(super::Seed::<Self>::new())? {
            values.push(value);
        }
        Ok(Kind::ListValue(prost_types::ListValue { values }))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Kind, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(super::Seed::<Self>::new())?;
            if fields.insert(name, value).is_some() {
                return Err(A::Error::custom("duplicate field"));
            }
        }
        Ok(Kind::StructValue(prost_types::Struct { fields }))
    }
}

/// Any JSON object.
#[derive(Debug)]
pub struct Struct;

impl Format for Struct {
    type Value = prost_types::Struct;

    fn write<S: Serializer>(value: &Self::Value, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(
            value
                .fields
                .iter()
                .map(|(name, value)| (name, super::Written::<Value>(value))),
        )
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self::Value, D::Error> {
        match from.deserialize_map(Value)? {
            Kind::StructValue(fields) => Ok(fields),
            _ => Err(D::Error::custom("expected an object")),
        }
    }
}

/// Any JSON array.
#[derive(Debug)]
pub struct ListValue;

impl Format for ListValue {
    type Value = prost_types::ListValue;

    fn write<S: Serializer>(value: &Self::Value, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(value.values.iter().map(super::Written::<Value>))
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self::Value, D::Error> {
        match from.deserialize_seq(Value)? {
            Kind::ListValue(list) => Ok(list),
            _ => Err(D::Error::custom("expected an array")),
        }
    }
}
