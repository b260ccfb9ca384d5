//! Names in Rust of what a contract names; they agree with `prost-build`, which writes the messages.

use heck::{ToSnakeCase, ToUpperCamelCase};
use prost_reflect::{EnumDescriptor, FieldDescriptor, MessageDescriptor, OneofDescriptor};

const RAW: [&str; 47] = [
    "as", "break", "const", "continue", "else", "enum", "false", "fn", "for", "if", "impl", "in", "let", "loop",
    "match", "mod", "move", "mut", "pub", "ref", "return", "static", "struct", "trait", "true", "type", "unsafe",
    "use", "where", "while", "dyn", "abstract", "become", "box", "do", "final", "macro", "override", "priv", "typeof",
    "unsized", "virtual", "yield", "async", "await", "try", "gen",
];
/// Keywords that have no raw form.
const SUFFIXED: [&str; 6] = ["_", "super", "self", "Self", "extern", "crate"];

fn identifier(name: String) -> String {
    if RAW.contains(&name.as_str()) {
        format!("r#{name}")
    } else if SUFFIXED.contains(&name.as_str()) {
        format!("{name}_")
    } else if name.starts_with(char::is_numeric) {
        format!("_{name}")
    } else {
        name
    }
}

/// `SayHello` -> `say_hello`.
pub(crate) fn snake(name: &str) -> String {
    identifier(name.to_snake_case())
}

/// `say_hello` -> `SayHello`.
pub(crate) fn camel(name: &str) -> String {
    identifier(name.to_upper_camel_case())
}

/// `Greeter` -> `GREETER`.
pub(crate) fn constant(name: &str) -> String {
    name.to_snake_case().to_uppercase()
}

/// Returns the modules of a package: `homestay.v1` -> `["homestay", "v1"]`.
pub(crate) fn modules(package: &str) -> Vec<String> {
    package.split('.').filter(|part| !part.is_empty()).map(snake).collect()
}

/// Returns the path to the package `to` from inside the package `from`, with the `::` at its end.
fn package_path(from: &str, to: &str) -> String {
    if from == to {
        return String::new();
    }
    let up = "super::".repeat(modules(from).len());
    let down: String = modules(to).iter().map(|module| format!("{module}::")).collect();
    up + &down
}

/// Returns the path to the module in which the types nested in `message` are.
fn inside(message: &MessageDescriptor, from: &str) -> String {
    let outer = match message.parent_message() {
        Some(parent) => inside(&parent, from),
        None => package_path(from, message.package_name()),
    };
    format!("{outer}{}::", snake(message.name()))
}

/// Returns the path to the struct of `message`, as the package `from` writes it.
pub(crate) fn message_type(message: &MessageDescriptor, from: &str) -> String {
    if message.full_name() == "google.protobuf.Empty" {
        return "()".to_owned();
    }
    let outer = match message.parent_message() {
        Some(parent) => inside(&parent, from),
        None => package_path(from, message.package_name()),
    };
    outer + &camel(message.name())
}

/// Returns the path to the Rust enum of `enumeration`.
pub(crate) fn enum_type(enumeration: &EnumDescriptor, from: &str) -> String {
    let outer = match enumeration.parent_message() {
        Some(parent) => inside(&parent, from),
        None => package_path(from, enumeration.package_name()),
    };
    outer + &camel(enumeration.name())
}

/// Returns the path to the Rust enum of `oneof`.
pub(crate) fn oneof_type(oneof: &OneofDescriptor, from: &str) -> String {
    let message = oneof.parent_message();
    let name = camel(oneof.name());
    let is_taken = message.child_messages().any(|nested| camel(nested.name()) == name)
        || message.child_enums().any(|nested| camel(nested.name()) == name);
    let suffix = if is_taken { "OneOf" } else { "" };
    format!("{}{name}{suffix}", inside(message, from))
}

/// Returns the path to the variant of `field` in the Rust enum of `oneof`.
pub(crate) fn oneof_variant(oneof: &OneofDescriptor, field: &FieldDescriptor, from: &str) -> String {
    format!("{}::{}", oneof_type(oneof, from), camel(field.name()))
}
