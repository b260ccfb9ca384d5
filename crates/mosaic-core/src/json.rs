//! The JSON of contracts: proto3 mapping, strict on the way in.
//!
//! `mosaic-build` writes an [`Object`] for every message, one line a field, and each line names a [`Format`]; so the
//! rules of the mapping live here once and the generated code reads like a table. Derived serde code was the obvious
//! alternative: it cannot refuse unknown fields in a message with a oneof, nor take null for "not set".
//!
//! What holds: unknown fields, duplicates and two members of one oneof are refused; integers are integers (`"1"` and
//! `1.0` are not) unless the contract says `jstype = JS_STRING`; null means "not set"; scalars without presence, lists
//! and maps are always written, unset messages are null, unset `optional` scalars and oneofs are left out. Depth is the
//! parser's affair: `serde_json` stops at 128.

mod object;
mod scalar;
mod text;
mod well_known;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

pub use object::{Field, Object, Reader, Writer, read, set_member, write};
pub use scalar::{
    Bool, Bytes, Double, Enum, EnumNumber, Enumeration, Float, Int32, Int64, Int64Text, Text, Uint32, Uint64,
    Uint64Text,
};
pub use serde;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
pub use text::{FromText, TextError, enum_from_text};
pub use well_known::{Duration, Empty, FieldMask, ListValue, NullValue, Struct, Timestamp, Value};

/// How values of one kind look in JSON.
pub trait Format {
    /// The Rust type.
    type Value;

    /// Writes `value`.
    fn write<S: Serializer>(value: &Self::Value, to: S) -> Result<S::Ok, S::Error>;

    /// Reads a value.
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self::Value, D::Error>;

    /// Returns what null stands for where it is a value and not "not set".
    fn null() -> Option<Self::Value> {
        None
    }
}

/// A message of a contract, or a box of one.
#[derive(Debug)]
pub struct Message<T>(PhantomData<T>);

impl<T: Serialize + for<'de> Deserialize<'de>> Format for Message<T> {
    type Value = T;

    fn write<S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        value.serialize(to)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        T::deserialize(from)
    }
}

/// A value that may be unset, which is null.
#[derive(Debug)]
pub struct Nullable<F>(PhantomData<F>);

impl<F: Format> Format for Nullable<F> {
    type Value = Option<F::Value>;

    fn write<S: Serializer>(value: &Self::Value, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => F::write(value, to),
            None => to.serialize_unit(),
        }
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self::Value, D::Error> {
        NullOr::<F>::new().deserialize(from)
    }

    fn null() -> Option<Self::Value> {
        Some(F::null())
    }
}

/// A repeated field.
#[derive(Debug)]
pub struct List<F>(PhantomData<F>);

impl<F: Format> Format for List<F> {
    type Value = Vec<F::Value>;

    fn write<S: Serializer>(value: &Self::Value, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(value.iter().map(Written::<F>))
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_seq(ListVisitor::<F>(PhantomData))
    }
}

struct ListVisitor<F>(PhantomData<F>);

impl<'de, F: Format> Visitor<'de> for ListVisitor<F> {
    type Value = Vec<F::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Seed::<F>::new())? {
            list.push(item);
        }
        Ok(list)
    }
}

/// A map field; its keys are JSON texts.
#[derive(Debug)]
pub struct Map<K, F>(PhantomData<(K, F)>);

impl<K: FromText + ToString + Ord, F: Format> Format for Map<K, F> {
    type Value = BTreeMap<K, F::Value>;

    fn write<S: Serializer>(value: &Self::Value, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(value.iter().map(|(key, value)| (key.to_string(), Written::<F>(value))))
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(MapVisitor::<K, F>(PhantomData))
    }
}

struct MapVisitor<K, F>(PhantomData<(K, F)>);

impl<'de, K: FromText + Ord, F: Format> Visitor<'de> for MapVisitor<K, F> {
    type Value = BTreeMap<K, F::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            let key = K::from_text(&key).map_err(|error| A::Error::custom(format_args!("map key: {error}")))?;
            let value = entries.next_value_seed(Seed::<F>::new())?;
            if map.insert(key, value).is_some() {
                return Err(A::Error::custom("duplicate map key"));
            }
        }
        Ok(map)
    }
}

/// Reads a value in the format `F`: a body that is one field of its message.
#[derive(Debug)]
pub struct As<F: Format>(
    /// The value.
    pub F::Value,
);

impl<'de, F: Format> Deserialize<'de> for As<F>
where
    F::Value: Default,
{
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(NullOr::<F>::new().deserialize(from)?.unwrap_or_default()))
    }
}

/// Writes a value in the format `F`: an answer that is one field of its message.
#[derive(Debug)]
pub struct Written<'a, F: Format>(
    /// The value.
    pub &'a F::Value,
);

impl<F: Format> Serialize for Written<'_, F> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        F::write(self.0, to)
    }
}

/// Reads a value of `F`.
struct Seed<F>(PhantomData<F>);

impl<F> Seed<F> {
    fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, F: Format> DeserializeSeed<'de> for Seed<F> {
    type Value = F::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<F::Value, D::Error> {
        F::read(from)
    }
}

/// Reads a value of `F`, or null.
struct NullOr<F>(PhantomData<F>);

impl<F> NullOr<F> {
    fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, F: Format> DeserializeSeed<'de> for NullOr<F> {
    type Value = Option<F::Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de, F: Format> Visitor<'de> for NullOr<F> {
    type Value = Option<F::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(F::null())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(F::null())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        F::read(from).map(Some)
    }
}

#[cfg(test)]
mod tests;
