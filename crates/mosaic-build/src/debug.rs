//! `Debug` of messages with fields that logs must not show (`debug_redact`).
//!
//! Also of messages with maps: what `prost` derives for them names the crate `::prost`, which only Mosaic depends on.

use prost_reflect::{FieldDescriptor, MessageDescriptor};

use crate::contract::{fields, is_in_oneof};
use crate::names;
use crate::options::FieldOptions;

/// Do we write the `Debug` of `message`?
pub(crate) fn is_ours(message: &MessageDescriptor) -> bool {
    message
        .fields()
        .any(|field| field.is_map() || FieldOptions::of(&field).is_redacted)
}

/// `prost-build` also leaves out the `Debug` of what is nested in such a message.
fn is_without_debug(message: &MessageDescriptor) -> bool {
    is_ours(message) || message.parent_message().is_some_and(|parent| is_without_debug(&parent))
}

/// Returns the `Debug` of `message`, its oneofs and its enums, where `prost-build` leaves them to us.
pub(crate) fn message(message: &MessageDescriptor) -> String {
    if !is_without_debug(message) {
        return String::new();
    }
    let package = message.package_name();
    let type_name = names::message_type(message, package);
    let mut lines = String::new();
    let mut seen: Vec<String> = Vec::new();
    for field in fields(message) {
        let name = match field.containing_oneof().filter(|_| is_in_oneof(&field)) {
            Some(oneof) => oneof.name().to_owned(),
            None => field.name().to_owned(),
        };
        if seen.contains(&name) {
            continue;
        }
        let member = names::snake(&name);
        let value = if is_in_oneof(&field) || !FieldOptions::of(&field).is_redacted {
            format!("&self.{member}")
        } else {
            "&::core::format_args!(\"***\")".to_owned()
        };
        lines.push_str(&format!(".field({:?}, {value})", member.trim_start_matches("r#")));
        seen.push(name);
    }
    let short = names::camel(message.name());
    let body = format!("f.debug_struct({short:?}){lines}.finish()");
    let mut code = implementation(&type_name, &body);
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        let arms: String = oneof.fields().map(|field| arm(&field, package)).collect();
        code.push_str(&implementation(
            &names::oneof_type(&oneof, package),
            &format!("match self {{ {arms} }}"),
        ));
    }
    for nested in message.child_enums() {
        code.push_str(&implementation(
            &names::enum_type(&nested, package),
            "f.write_str(self.as_str_name())",
        ));
    }
    code
}

fn arm(field: &FieldDescriptor, package: &str) -> String {
    let oneof = field.containing_oneof().expect("the caller found it in a oneof");
    let variant = names::oneof_variant(&oneof, field, package);
    let name = names::camel(field.name());
    if FieldOptions::of(field).is_redacted {
        format!("{variant}(_) => f.write_str(\"{name}(***)\"),")
    } else {
        format!("{variant}(value) => f.debug_tuple({name:?}).field(value).finish(),")
    }
}

fn implementation(type_name: &str, body: &str) -> String {
    format!(
        "impl ::core::fmt::Debug for {type_name} {{
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{ {body} }}
        }}\n"
    )
}
