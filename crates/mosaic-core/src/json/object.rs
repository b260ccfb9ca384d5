//! Messages as JSON objects: which field is which, each at most once, none unknown.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserializer, Serializer};

use super::{Format, NullOr, Written};

/// Most characters of an unknown name that the error repeats.
const SHOWN_NAME_CHARS: usize = 64;
const ONE_MEMBER: &str = "only one field of a oneof may be set";

/// The two names of a field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    json: &'static str,
    proto: &'static str,
}

impl Field {
    /// Makes a field that is written as `json` and read as `json` or as `proto`.
    pub const fn new(json: &'static str, proto: &'static str) -> Self {
        Self { json, proto }
    }
}

/// A message whose JSON is an object.
pub trait Object: Default {
    /// The fields in the order of the contract.
    const FIELDS: &'static [Field];

    /// Writes every field.
    fn write<M: SerializeMap>(&self, to: &mut Writer<M>) -> Result<(), M::Error>;

    /// Reads the field at `index` of [`Self::FIELDS`].
    fn read<'de, M: MapAccess<'de>>(&mut self, index: usize, from: &mut Reader<'_, M>) -> Result<(), M::Error>;
}

/// Writes `object`; what the generated `Serialize` does.
pub fn write<T: Object, S: Serializer>(object: &T, to: S) -> Result<S::Ok, S::Error> {
    let mut writer = Writer {
        map: to.serialize_map(None)?,
    };
    object.write(&mut writer)?;
    writer.map.end()
}

/// Reads an object; what the generated `Deserialize` does.
pub fn read<'de, T: Object, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    from.deserialize_map(ObjectVisitor(PhantomData))
}

/// Where an object writes its fields.
#[derive(Debug)]
pub struct Writer<M> {
    map: M,
}

impl<M: SerializeMap> Writer<M> {
    /// Writes a field, whatever its value.
    pub fn field<F: Format>(&mut self, name: &'static str, value: &F::Value) -> Result<(), M::Error> {
        self.map.serialize_entry(name, &Written::<F>(value))
    }

    /// Writes a field that is left out when unset.
    pub fn optional<F: Format>(&mut self, name: &'static str, value: &Option<F::Value>) -> Result<(), M::Error> {
        match value {
            Some(value) => self.field::<F>(name, value),
            None => Ok(()),
        }
    }
}

/// Where an object reads the value of a field.
#[derive(Debug)]
pub struct Reader<'a, M> {
    map: &'a mut M,
}

impl<'de, M: MapAccess<'de>> Reader<'_, M> {
    /// Reads a value; null is the default.
    pub fn field<F: Format>(&mut self) -> Result<F::Value, M::Error>
    where
        F::Value: Default,
    {
        Ok(self.map.next_value_seed(NullOr::<F>::new())?.unwrap_or_default())
    }

    /// Reads a value; null is "not set".
    pub fn optional<F: Format>(&mut self) -> Result<Option<F::Value>, M::Error> {
        self.map.next_value_seed(NullOr::<F>::new())
    }

    /// Reads a member of the oneof in `slot`; null is "not set".
    pub fn one_of<F: Format, O>(
        &mut self,
        slot: &mut Option<O>,
        member: impl FnOnce(F::Value) -> O,
    ) -> Result<(), M::Error> {
        if let Some(value) = self.optional::<F>()?
            && slot.replace(member(value)).is_some()
        {
            return Err(M::Error::custom(ONE_MEMBER));
        }
        Ok(())
    }
}

/// Sets a oneof that is read from something else than JSON.
///
/// # Errors
/// `InvalidArgument` if it is set already.
pub fn set_member<O>(slot: &mut Option<O>, member: O) -> crate::Result<()> {
    match slot.replace(member) {
        None => Ok(()),
        Some(_) => Err(crate::Error::invalid_argument("INVALID_REQUEST", ONE_MEMBER)),
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Object> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<T, M::Error> {
        let mut object = T::default();
        let mut seen = vec![false; T::FIELDS.len()];
        while let Some(index) = map.next_key_seed(FieldName(T::FIELDS))? {
            if std::mem::replace(&mut seen[index], true) {
                return Err(M::Error::duplicate_field(T::FIELDS[index].json));
            }
            object.read(index, &mut Reader { map: &mut map })?;
        }
        Ok(object)
    }
}

/// Reads the name of a field as its index.
struct FieldName(&'static [Field]);

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<usize, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<usize, E> {
        let known = self.0.iter().position(|field| field.json == name);
        known
            .or_else(|| self.0.iter().position(|field| field.proto == name))
            .ok_or_else(|| {
                let shown: String = name.chars().take(SHOWN_NAME_CHARS).collect();
                E::custom(format_args!("unknown field {shown:?}"))
            })
    }
}
