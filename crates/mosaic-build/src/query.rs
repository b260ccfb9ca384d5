//! Which fields of a request come from the query: all that no path, body, header or cookie brings.

use prost_reflect::{FieldDescriptor, MessageDescriptor};

use crate::contract::{fields, is_in_oneof, place_of};
use crate::http::{Binding, Body, is_text};
use crate::options::FieldOptions;
use crate::places::Mistakes;

/// Deepest nesting of messages that query parameters may spell out.
const MAX_DEPTH: usize = 4;

/// A field that a query parameter brings, with the fields around it, outermost first.
pub(crate) type QueryField = Vec<FieldDescriptor>;

/// Returns the fields that the query of `binding` brings.
///
/// # Errors
/// The fields that nothing can bring.
pub(crate) fn query_fields(
    binding: &Binding,
    input: &MessageDescriptor,
) -> Result<Vec<QueryField>, Vec<FieldDescriptor>> {
    let mut walk = Walk {
        binding,
        found: Vec::new(),
        unbindable: Vec::new(),
    };
    if !matches!(binding.body, Body::All) {
        for field in fields(input) {
            let is_body = matches!(&binding.body, Body::Field(body) if *body == field);
            if !is_body && FieldOptions::of(&field).is_in_body() {
                walk.field(&[], &field);
            }
        }
    }
    if walk.unbindable.is_empty() {
        Ok(walk.found)
    } else {
        Err(walk.unbindable)
    }
}

/// Reports the fields of `input` that the query of `binding` ought to bring and cannot.
pub(crate) fn check(binding: &Binding, input: &MessageDescriptor, mistakes: &mut Mistakes) {
    for field in query_fields(binding, input).err().unwrap_or_default() {
        let (name, verb, path) = (field.name(), &binding.verb, &binding.path);
        let why = "repeated messages, maps, members of oneofs and deep nesting need a body";
        mistakes.add(
            &place_of(&field),
            format_args!("`{name}` cannot be a query parameter of {verb} {path}: {why}"),
        );
    }
}

struct Walk<'a> {
    binding: &'a Binding,
    found: Vec<QueryField>,
    unbindable: Vec<FieldDescriptor>,
}

impl Walk<'_> {
    fn field(&mut self, outer: &[FieldDescriptor], field: &FieldDescriptor) {
        let path: QueryField = outer.iter().chain([field]).cloned().collect();
        if self.binding.variables.iter().any(|variable| variable.fields == path) {
            return;
        }
        let kind = field.kind();
        if is_text(&kind) && !field.is_map() {
            self.found.push(path);
            return;
        }
        let is_nested = !field.is_list() && !field.is_map() && !is_in_oneof(field);
        match kind
            .as_message()
            .filter(|message| !message.full_name().starts_with("google.protobuf."))
        {
            Some(message) if is_nested && path.len() <= MAX_DEPTH => {
                for inner in fields(message) {
                    self.field(&path, &inner);
                }
            }
            _ => self.unbindable.push(field.clone()),
        }
    }
}
