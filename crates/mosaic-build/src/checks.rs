//! The checks of messages: `buf.validate` rules as plain Rust.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::contract::{fields, is_in_oneof};
use crate::names;
use crate::places::Mistakes;

/// Returns the `Check` of `message`.
pub(crate) fn message(message: &MessageDescriptor, _mistakes: &mut Mistakes) -> String {
    let type_name = names::message_type(message, message.package_name());
    let lines: String = fields(message).iter().map(field_lines).collect();
    let found = if lines.is_empty() { "_" } else { "found" };
    format!(
        "impl ::mosaic::Check for {type_name} {{
            fn check(&self, {found}: &mut ::mosaic::Violations) {{ {lines} }}
        }}\n"
    )
}

fn field_lines(field: &FieldDescriptor) -> String {
    let _ = (is_in_oneof(field), Kind::Bool);
    String::new()
}
