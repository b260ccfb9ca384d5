//! JSON Schema of messages, with the constraints that the checks put on them.

use prost_reflect::{EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, Value as Rule};
use serde_json::{Map, Value, json};

use crate::contract::fields;
use crate::json::is_option;
use crate::openapi::comment;
use crate::options::{FieldOptions, Options, enums_are_numbers, is_js_string};
use crate::rules;

/// Collects the schemas of messages and all they contain, by full name.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    pub(crate) found: Map<String, Value>,
}

impl Schemas {
    /// Returns a reference to the schema of `message`.
    pub(crate) fn message(&mut self, message: &MessageDescriptor) -> Value {
        let name = message.full_name();
        if let Some(schema) = well_known(name) {
            return schema;
        }
        if !self.found.contains_key(name) {
            // Taken before it is made: a message may contain itself.
            self.found.insert(name.to_owned(), Value::Null);
            let schema = self.object(message);
            self.found.insert(name.to_owned(), schema);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    fn object(&mut self, message: &MessageDescriptor) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in fields(message) {
            if !FieldOptions::of(&field).is_in_body() {
                continue;
            }
            if is_required(&field) {
                required.push(field.json_name().to_owned());
            }
            properties.insert(field.json_name().to_owned(), self.field(&field));
        }
        let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        describe(&mut schema, &message.parent_file(), message.path());
        schema
    }

    /// Returns the schema of the JSON of `field`.
    pub(crate) fn field(&mut self, field: &FieldDescriptor) -> Value {
        let rules = Options::extension(&field.options(), "buf.validate.field");
        let file = field.parent_message().parent_file();
        let kind = field.kind();
        let mut schema = match kind.as_message().filter(|_| field.is_map()) {
            Some(entry) => self.map(field, entry, rules.as_ref(), &file),
            None if field.is_list() => self.list(field, &kind, rules.as_ref(), &file),
            None => self.value(field, &kind, rules.as_ref(), &file),
        };
        if is_option(field) && kind.as_message().is_some() && !is_required(field) {
            schema = json!({"anyOf": [schema, {"type": "null"}]});
        }
        describe(&mut schema, &file, field.path());
        schema
    }

    fn map(
        &mut self,
        field: &FieldDescriptor,
        entry: &MessageDescriptor,
        rules: Option<&Options>,
        file: &FileDescriptor,
    ) -> Value {
        let rules = rules.and_then(|rules| rules.message("map"));
        let values = rules.as_ref().and_then(|rules| rules.message("values"));
        let value = self.value(field, &entry.map_entry_value_field().kind(), values.as_ref(), file);
        let mut schema = json!({"type": "object", "additionalProperties": value});
        put_count(&mut schema, "minProperties", rules.as_ref(), "min_pairs");
        put_count(&mut schema, "maxProperties", rules.as_ref(), "max_pairs");
        schema
    }

    fn list(&mut self, field: &FieldDescriptor, kind: &Kind, rules: Option<&Options>, file: &FileDescriptor) -> Value {
        let rules = rules.and_then(|rules| rules.message("repeated"));
        let items = rules.as_ref().and_then(|rules| rules.message("items"));
        let mut schema = json!({"type": "array", "items": self.value(field, kind, items.as_ref(), file)});
        put_count(&mut schema, "minItems", rules.as_ref(), "min_items");
        put_count(&mut schema, "maxItems", rules.as_ref(), "max_items");
        if rules.is_some_and(|rules| rules.flag("unique")) {
            schema["uniqueItems"] = json!(true);
        }
        schema
    }

    fn value(&mut self, field: &FieldDescriptor, kind: &Kind, rules: Option<&Options>, file: &FileDescriptor) -> Value {
        let as_text = is_js_string(field);
        let mut schema = match kind {
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
            Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "format": "int64", "minimum": 0}),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 if as_text => json!({"type": "string", "format": "int64"}),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({"type": "integer", "format": "int64"}),
            Kind::Uint64 | Kind::Fixed64 if as_text => json!({"type": "string", "format": "uint64"}),
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "integer", "format": "uint64", "minimum": 0}),
            Kind::Float => json!({"type": "number", "format": "float"}),
            Kind::Double => json!({"type": "number", "format": "double"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Enum(values) => enumeration(values, file),
            Kind::Message(message) => self.message(message),
        };
        if let Some(typed) = rules::fitting(kind).and_then(|name| rules?.message(name)) {
            put_rules(&mut schema, &typed, kind);
        }
        schema
    }
}

fn enumeration(values: &EnumDescriptor, file: &FileDescriptor) -> Value {
    if values.full_name() == "google.protobuf.NullValue" {
        return json!({"type": "null"});
    }
    let mut sorted: Vec<_> = values.values().collect();
    sorted.sort_by_key(|value| value.path().last().copied());
    if enums_are_numbers(file) {
        let numbers: Vec<i32> = sorted.iter().map(|value| value.number()).collect();
        json!({"type": "integer", "enum": numbers})
    } else {
        let names: Vec<&str> = sorted.iter().map(|value| value.name()).collect();
        json!({"type": "string", "enum": names})
    }
}

fn well_known(name: &str) -> Option<Value> {
    Some(match name.strip_prefix("google.protobuf.")? {
        "Timestamp" => json!({"type": "string", "format": "date-time"}),
        "Duration" => json!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$"}),
        "Empty" => json!({"type": "object", "additionalProperties": false}),
        "FieldMask" | "StringValue" => json!({"type": "string"}),
        "Struct" => json!({"type": "object"}),
        "Value" => json!({}),
        "ListValue" => json!({"type": "array"}),
        "DoubleValue" | "FloatValue" => json!({"type": "number"}),
        "BoolValue" => json!({"type": "boolean"}),
        "BytesValue" => json!({"type": "string", "contentEncoding": "base64"}),
        _ => json!({"type": "integer"}),
    })
}

/// Does the contract say that `field` must be set?
pub(crate) fn is_required(field: &FieldDescriptor) -> bool {
    Options::extension(&field.options(), "buf.validate.field").is_some_and(|rules| rules.flag("required"))
}

/// Adds the comment before the element at `path`.
fn describe(schema: &mut Value, file: &FileDescriptor, path: &[i32]) {
    let text = comment(file, path);
    let text = text.trim();
    if !text.is_empty() {
        schema["description"] = json!(plain(text));
    }
}

/// Returns a comment without the blanks that begin its lines.
pub(crate) fn plain(comment: &str) -> String {
    let lines: Vec<&str> = comment.lines().map(str::trim).collect();
    lines.join("\n").trim().to_owned()
}

fn put_count(schema: &mut Value, key: &str, rules: Option<&Options>, rule: &str) {
    if let Some(count) = rules.and_then(|rules| rules.get(rule)).and_then(|count| count.as_u64()) {
        schema[key] = json!(count);
    }
}

fn put_rules(schema: &mut Value, rules: &Options, kind: &Kind) {
    match kind {
        Kind::String => put_string(schema, rules),
        Kind::Bytes | Kind::Bool | Kind::Message(_) | Kind::Enum(_) => {}
        _ => {
            for (rule, key) in [
                ("gt", "exclusiveMinimum"),
                ("gte", "minimum"),
                ("lt", "exclusiveMaximum"),
                ("lte", "maximum"),
                ("const", "const"),
            ] {
                if let Some(number) = rules.get(rule) {
                    schema[key] = number_json(&number);
                }
            }
            let allowed = rules.list("in");
            if !allowed.is_empty() {
                schema["enum"] = allowed.iter().map(number_json).collect();
            }
        }
    }
}

fn number_json(number: &Rule) -> Value {
    match number {
        Rule::I32(number) => json!(number),
        Rule::I64(number) => json!(number),
        Rule::U32(number) => json!(number),
        Rule::U64(number) => json!(number),
        Rule::F32(number) => json!(number),
        Rule::F64(number) => json!(number),
        _ => Value::Null,
    }
}

fn put_string(schema: &mut Value, rules: &Options) {
    for (rule, key) in [("min_len", "minLength"), ("max_len", "maxLength")] {
        put_count(schema, key, Some(rules), rule);
    }
    put_count(schema, "minLength", Some(rules), "len");
    put_count(schema, "maxLength", Some(rules), "len");
    for (rule, key) in [("pattern", "pattern"), ("const", "const")] {
        if rules.get(rule).is_some() {
            schema[key] = json!(rules.text(rule));
        }
    }
    let allowed = rules.list("in");
    if !allowed.is_empty() {
        schema["enum"] = allowed.iter().filter_map(Rule::as_str).collect();
    }
    for (rule, format) in [
        ("email", "email"),
        ("hostname", "hostname"),
        ("uri", "uri"),
        ("uuid", "uuid"),
    ] {
        if rules.flag(rule) {
            schema["format"] = json!(format);
        }
    }
}
