//! The JSON of messages: one line a field, each naming the format of the field.

use prost_reflect::{EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};

use crate::contract::{fields, is_in_oneof};
use crate::names;
use crate::options::{FieldOptions, enums_are_numbers, is_js_string};

const JSON: &str = "::mosaic::json";

/// Returns the format of one value of `field`: of an item if it is repeated.
fn element(field: &FieldDescriptor, kind: &Kind, from: &FileDescriptor) -> String {
    let text = if is_js_string(field) { "Text" } else { "" };
    let name = match kind {
        Kind::Bool => "Bool".to_owned(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "Int32".to_owned(),
        Kind::Uint32 | Kind::Fixed32 => "Uint32".to_owned(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => format!("Int64{text}"),
        Kind::Uint64 | Kind::Fixed64 => format!("Uint64{text}"),
        Kind::Float => "Float".to_owned(),
        Kind::Double => "Double".to_owned(),
        Kind::String => "Text".to_owned(),
        Kind::Bytes => "Bytes".to_owned(),
        Kind::Enum(values) => enumeration(values, from),
        Kind::Message(message) => well_known(message.full_name()).map_or("Message<_>".to_owned(), str::to_owned),
    };
    format!("{JSON}::{name}")
}

fn enumeration(values: &EnumDescriptor, from: &FileDescriptor) -> String {
    if values.full_name() == "google.protobuf.NullValue" {
        return "NullValue".to_owned();
    }
    let format = if enums_are_numbers(from) { "EnumNumber" } else { "Enum" };
    format!("{format}<{}>", names::enum_type(values, from.package_name()))
}

/// Is `name` a type of protobuf that has its own JSON?
pub(crate) fn is_well_known(name: &str) -> bool {
    name == "google.protobuf.NullValue" || well_known(name).is_some()
}

fn well_known(name: &str) -> Option<&'static str> {
    Some(match name.strip_prefix("google.protobuf.")? {
        "Timestamp" => "Timestamp",
        "Duration" => "Duration",
        "Empty" => "Empty",
        "FieldMask" => "FieldMask",
        "Struct" => "Struct",
        "Value" => "Value",
        "ListValue" => "ListValue",
        "DoubleValue" => "Double",
        "FloatValue" => "Float",
        "Int64Value" => "Int64",
        "UInt64Value" => "Uint64",
        "Int32Value" => "Int32",
        "UInt32Value" => "Uint32",
        "BoolValue" => "Bool",
        "StringValue" => "Text",
        "BytesValue" => "Bytes",
        _ => return None,
    })
}

/// Returns the format of `field` without what says that it may be unset.
fn bare(field: &FieldDescriptor) -> String {
    let file = field.parent_message().parent_file();
    let kind = field.kind();
    match kind.as_message().filter(|_| field.is_map()) {
        Some(entry) => {
            let value = entry.map_entry_value_field();
            format!("{JSON}::Map<_, {}>", element(&value, &value.kind(), &file))
        }
        None if field.is_list() => format!("{JSON}::List<{}>", element(field, &kind, &file)),
        None => element(field, &kind, &file),
    }
}

/// Is the Rust field an `Option`?
pub(crate) fn is_option(field: &FieldDescriptor) -> bool {
    field.supports_presence() && !is_in_oneof(field)
}

/// Returns the format of the whole Rust field.
pub(crate) fn format(field: &FieldDescriptor) -> String {
    if is_option(field) {
        format!("{JSON}::Nullable<{}>", bare(field))
    } else {
        bare(field)
    }
}

/// Returns the JSON implementations of `message`.
pub(crate) fn message(message: &MessageDescriptor) -> String {
    let type_name = names::message_type(message, message.package_name());
    let fields: Vec<_> = fields(message)
        .into_iter()
        .filter(|field| FieldOptions::of(field).is_in_body())
        .collect();
    let names: String = fields
        .iter()
        .map(|field| format!("{JSON}::Field::new({:?}, {:?}),", field.json_name(), field.name()))
        .collect();
    let writes: String = fields.iter().map(write_line).collect();
    let reads: String = fields
        .iter()
        .enumerate()
        .map(|(index, field)| read_line(index, field))
        .collect();
    let (to, from) = if fields.is_empty() { ("_", "_") } else { ("to", "from") };
    let reading = if fields.is_empty() {
        "let _ = index;".to_owned()
    } else {
        format!("match index {{ {reads} _ => {{}} }}")
    };
    format!(
        "impl {JSON}::Object for {type_name} {{
            const FIELDS: &'static [{JSON}::Field] = &[{names}];
            fn write<M: {JSON}::serde::ser::SerializeMap>(&self, {to}: &mut {JSON}::Writer<M>) -> ::core::result::Result<(), M::Error> {{
                {writes}
                Ok(())
            }}
            fn read<'de, M: {JSON}::serde::de::MapAccess<'de>>(&mut self, index: usize, {from}: &mut {JSON}::Reader<'_, M>) -> ::core::result::Result<(), M::Error> {{
                {reading}
                Ok(())
            }}
        }}
        impl {JSON}::serde::Serialize for {type_name} {{
            fn serialize<S: {JSON}::serde::Serializer>(&self, to: S) -> ::core::result::Result<S::Ok, S::Error> {{
                {JSON}::write(self, to)
            }}
        }}
        impl<'de> {JSON}::serde::Deserialize<'de> for {type_name} {{
            fn deserialize<D: {JSON}::serde::Deserializer<'de>>(from: D) -> ::core::result::Result<Self, D::Error> {{
                {JSON}::read(from)
            }}
        }}\n"
    )
}

fn write_line(field: &FieldDescriptor) -> String {
    let name = field.json_name();
    let member = names::snake(field.name());
    if let Some(oneof) = field.containing_oneof().filter(|_| is_in_oneof(field)) {
        let variant = names::oneof_variant(&oneof, field, field.parent_message().package_name());
        let member = names::snake(oneof.name());
        return format!(
            "if let Some({variant}(value)) = &self.{member} {{ to.field::<{}>({name:?}, value)?; }}",
            bare(field)
        );
    }
    // An unset Value is left out too: its null would be read as a Value that is null.
    let kind = field.kind();
    let is_left_out = kind
        .as_message()
        .is_none_or(|message| message.full_name() == "google.protobuf.Value");
    if is_option(field) && is_left_out {
        format!("to.optional::<{}>({name:?}, &self.{member})?;", bare(field))
    } else {
        format!("to.field::<{}>({name:?}, &self.{member})?;", format(field))
    }
}

fn read_line(index: usize, field: &FieldDescriptor) -> String {
    let member = names::snake(field.name());
    if let Some(oneof) = field.containing_oneof().filter(|_| is_in_oneof(field)) {
        let variant = names::oneof_variant(&oneof, field, field.parent_message().package_name());
        let member = names::snake(oneof.name());
        return format!(
            "{index} => from.one_of::<{}, _>(&mut self.{member}, {variant})?,",
            bare(field)
        );
    }
    if is_option(field) {
        format!("{index} => self.{member} = from.optional::<{}>()?,", bare(field))
    } else {
        format!("{index} => self.{member} = from.field::<{}>()?,", bare(field))
    }
}

/// Returns the names of every enum of `file`.
pub(crate) fn enums(file: &FileDescriptor) -> String {
    let mut all: Vec<EnumDescriptor> = file.enums().collect();
    for message in file.messages() {
        push_nested(&message, &mut all);
    }
    all.iter().map(enum_names).collect()
}

fn push_nested(message: &MessageDescriptor, all: &mut Vec<EnumDescriptor>) {
    all.extend(message.child_enums());
    for nested in message.child_messages() {
        push_nested(&nested, all);
    }
}

fn enum_names(values: &EnumDescriptor) -> String {
    let type_name = names::enum_type(values, values.package_name());
    let mut values: Vec<_> = values.values().collect();
    values.sort_by_key(|value| value.path().last().copied());
    let names: String = values
        .iter()
        .map(|value| format!("({:?}, {}),", value.name(), value.number()))
        .collect();
    format!(
        "impl {JSON}::Enumeration for {type_name} {{
            const NAMES: &'static [(&'static str, i32)] = &[{names}];
        }}\n"
    )
}
