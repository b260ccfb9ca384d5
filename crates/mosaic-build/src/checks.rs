//! The checks of messages: `buf.validate` rules as plain Rust, and no NUL in any text.
//!
//! Presence is as protovalidate has it: the rules of a field that may be unset wait until it is set; those of a field
//! without presence always hold, unless it says `IGNORE_IF_ZERO_VALUE`.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};

use crate::contract::{fields, is_in_oneof, place_of};
use crate::json::is_option;
use crate::names;
use crate::options::{Options, RULES};
use crate::places::{Mistakes, Place};
use crate::rules::{self, Named};

/// Returns the `Check` of `message`.
pub(crate) fn message(message: &MessageDescriptor, mistakes: &mut Mistakes) -> String {
    let place = Place::new(message.parent_file(), message.path()).at(&[7, RULES]);
    if Options::extension(&message.options(), "buf.validate.message").is_some() {
        mistakes.add(&place, "rules of a whole message are not supported");
    }
    let type_name = names::message_type(message, message.package_name());
    let mut lines: String = fields(message)
        .iter()
        .map(|field| {
            let package = message.package_name().to_owned();
            let mistakes = &mut *mistakes;
            Checked {
                field,
                package,
                mistakes,
            }
            .lines()
        })
        .collect();
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        lines.push_str(&oneof_line(&oneof));
    }
    let found = if lines.is_empty() { "_" } else { "found" };
    format!(
        "impl ::mosaic::Check for {type_name} {{
            fn check(&self, {found}: &mut ::mosaic::Violations) {{ {lines} }}
        }}\n"
    )
}

fn oneof_line(oneof: &OneofDescriptor) -> String {
    let rules = Options::extension(&oneof.options(), "buf.validate.oneof");
    if !rules.is_some_and(|rules| rules.flag("required")) {
        return String::new();
    }
    let member = names::snake(oneof.name());
    format!(
        "found.require(self.{member}.is_some(), {:?}, \"must be set\");",
        oneof.name()
    )
}

/// What `ignore` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ignore {
    Never,
    IfZero,
    Always,
}

/// Writes the checks of one field.
struct Checked<'a> {
    field: &'a FieldDescriptor,
    package: String,
    mistakes: &'a mut Mistakes,
}

impl Checked<'_> {
    fn lines(mut self) -> String {
        let found = Options::extension(&self.field.options(), "buf.validate.field");
        let place = place_of(self.field).at(&[8, RULES]);
        self.refuse_cel(found.as_ref(), &place);
        let ignore = ignore(found.as_ref());
        let rules = found.as_ref().filter(|_| ignore != Ignore::Always);
        let name = self.field.json_name().to_owned();
        let member = names::snake(self.field.name());
        let whole = Named::field(&member);
        let mut lines = String::new();
        if rules.is_some_and(|rules| rules.flag("required")) {
            lines.push_str(&self.required_line(&whole, &name));
        }
        let body = if self.field.is_map() {
            self.map_lines(rules, &member, &name, &place)
        } else if self.field.is_list() {
            self.list_lines(rules, &member, &name, &place)
        } else {
            return lines + &self.single_lines(rules, ignore, &place);
        };
        lines + &guard(ignore, &format!("!{}.is_empty()", whole.receiver), body)
    }

    fn refuse_cel(&mut self, rules: Option<&Options>, place: &Place) {
        let Some(rules) = rules else { return };
        for (name, number) in [("cel", 23), ("cel_expression", 29)] {
            if rules.get(name).is_some() {
                self.mistakes
                    .add(&place.at(&[number]), format_args!("rule {name} is not supported"));
            }
        }
    }

    fn required_line(&self, whole: &Named, name: &str) -> String {
        let is_set = if is_in_oneof(self.field) {
            let oneof = self.field.containing_oneof().expect("it was just asked");
            let variant = names::oneof_variant(&oneof, self.field, self.package());
            format!("matches!(self.{}, Some({variant}(_)))", names::snake(oneof.name()))
        } else if is_option(self.field) {
            format!("{}.is_some()", whole.receiver)
        } else {
            is_not_zero(self.field, whole)
        };
        format!("found.require({is_set}, {name:?}, \"must be set\");")
    }

    fn package(&self) -> &str {
        self.package.as_str()
    }

    fn single_lines(&mut self, rules: Option<&Options>, ignore: Ignore, place: &Place) -> String {
        let name = self.field.json_name().to_owned();
        let kind = self.field.kind();
        let value = if is_option(self.field) || is_in_oneof(self.field) {
            Named::reference("value")
        } else {
            Named::field(&names::snake(self.field.name()))
        };
        let body = self.value_lines(rules, &kind, &value, &name, place);
        let body = match kind {
            Kind::Message(_) => body,
            _ => guard(ignore, &is_not_zero(self.field, &value), body),
        };
        if body.is_empty() || !(is_option(self.field) || is_in_oneof(self.field)) {
            return body;
        }
        if let Some(oneof) = self.field.containing_oneof().filter(|_| is_in_oneof(self.field)) {
            let variant = names::oneof_variant(&oneof, self.field, self.package());
            return format!(
                "if let Some({variant}(value)) = &self.{} {{ {body} }}",
                names::snake(oneof.name())
            );
        }
        format!(
            "if let Some(value) = &self.{} {{ {body} }}",
            names::snake(self.field.name())
        )
    }

    fn list_lines(&mut self, rules: Option<&Options>, member: &str, name: &str, place: &Place) -> String {
        let rules = self.typed_rules(rules, "repeated", place);
        let place = place.at(&[18]);
        let mut lines = String::new();
        if let Some(rules) = &rules {
            lines.push_str(&count_lines(rules, ["min_items", "max_items"], "item", member, name));
            if rules.flag("unique") {
                if matches!(self.field.kind(), Kind::Message(_) | Kind::Float | Kind::Double) {
                    self.mistakes
                        .add(&place.at(&[3]), "rule repeated.unique does not fit messages and floats");
                }
                lines.push_str(&format!(
                    "found.require(::mosaic::rules::are_unique(&self.{member}), {name:?}, \"must not have an item twice\");"
                ));
            }
        }
        let items = rules.and_then(|rules| rules.message("items"));
        let place = place.at(&[4]);
        self.refuse_cel(items.as_ref(), &place);
        let kind = self.field.kind();
        let body = self.item_lines(items.as_ref(), &kind, "value", "", &place);
        if !body.is_empty() {
            lines.push_str(&format!(
                "found.each({name:?}, &self.{member}, |found, value| {{ {body} }});"
            ));
        }
        lines
    }

    fn map_lines(&mut self, rules: Option<&Options>, member: &str, name: &str, place: &Place) -> String {
        let rules = self.typed_rules(rules, "map", place);
        let place = place.at(&[19]);
        let mut lines = String::new();
        if let Some(rules) = &rules {
            lines.push_str(&count_lines(rules, ["min_pairs", "max_pairs"], "entry", member, name));
        }
        let kind = self.field.kind();
        let entry = kind.as_message().expect("a map is a repeated message");
        let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let of = |part: &str| rules.as_ref().and_then(|rules| rules.message(part));
        let (key_rules, value_rules) = (of("keys"), of("values"));
        self.refuse_cel(key_rules.as_ref(), &place.at(&[4]));
        self.refuse_cel(value_rules.as_ref(), &place.at(&[5]));
        let keys = self.item_lines(key_rules.as_ref(), &key, "key", name, &place.at(&[4]));
        let values = self.item_lines(value_rules.as_ref(), &value, "value", name, &place.at(&[5]));
        lines.push_str(&match (keys.is_empty(), values.is_empty()) {
            (true, true) => String::new(),
            (true, false) => format!("for value in self.{member}.values() {{ {values} }}"),
            (false, true) => format!("for key in self.{member}.keys() {{ {keys} }}"),
            (false, false) => format!("for (key, value) in &self.{member} {{ {keys} {values} }}"),
        });
        lines
    }

    fn item_lines(
        &mut self,
        rules: Option<&Options>,
        kind: &Kind,
        variable: &str,
        name: &str,
        place: &Place,
    ) -> String {
        let ignore = ignore(rules);
        if rules.is_some_and(|rules| rules.flag("required")) || ignore == Ignore::IfZero {
            self.mistakes
                .add(place, "required and ignore of items are not supported");
        }
        let rules = rules.filter(|_| ignore != Ignore::Always);
        self.value_lines(rules, kind, &Named::reference(variable), name, place)
    }

    /// Returns the rules of the type that fits, after refusing those of another.
    fn typed_rules(&mut self, rules: Option<&Options>, fitting: &str, place: &Place) -> Option<Options> {
        let rules = rules?;
        for (name, number, _) in rules.set_fields() {
            let is_general = matches!(name.as_str(), "required" | "ignore" | "cel" | "cel_expression");
            if !is_general && name != fitting {
                self.mistakes.add(
                    &place.at(&[number]),
                    format_args!("rules of {name} do not fit `{}`", self.field.name()),
                );
            }
        }
        rules.message(fitting)
    }

    fn value_lines(
        &mut self,
        rules: Option<&Options>,
        kind: &Kind,
        value: &Named,
        name: &str,
        place: &Place,
    ) -> String {
        let fitting = rules::fitting(kind);
        let typed = self.typed_rules(rules, fitting.unwrap_or("no type"), place);
        let mut lines = String::new();
        match kind {
            Kind::String => lines.push_str(&format!("found.text({}, {name:?});", value.borrowed)),
            Kind::Message(message) if message.full_name() == "google.protobuf.StringValue" => {
                lines.push_str(&format!("found.text({}, {name:?});", value.borrowed));
            }
            Kind::Message(message) if message.full_name().starts_with("google.protobuf.") => {}
            Kind::Message(_) if name.is_empty() => {
                lines.push_str(&format!("::mosaic::Check::check({}, found);", value.borrowed));
            }
            Kind::Message(_) => lines.push_str(&format!("found.nested({name:?}, {});", value.borrowed)),
            _ => {}
        }
        let (Some(fitting), Some(typed)) = (fitting, typed) else {
            return lines;
        };
        let enum_type = kind.as_enum().map(|values| names::enum_type(values, self.package()));
        match rules::conditions(fitting, &typed, value, enum_type.as_deref()) {
            Ok(conditions) => {
                for condition in conditions {
                    let (holds, description) = (condition.holds, condition.description);
                    lines.push_str(&format!("found.require({holds}, {name:?}, {description:?});"));
                }
            }
            Err((number, why)) => {
                self.mistakes.add(&place.at(&[number_of(fitting), number]), why);
            }
        }
        lines
    }
}

/// Returns the number of the field of `FieldRules` that holds the rules of `type_name`.
fn number_of(type_name: &str) -> i32 {
    const NAMES: [&str; 16] = [
        "float", "double", "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32",
        "sfixed64", "bool", "string", "bytes", "enum",
    ];
    match type_name {
        "duration" => 21,
        "timestamp" => 22,
        _ => (1..)
            .zip(NAMES)
            .find(|(_, name)| *name == type_name)
            .map_or(0, |(number, _)| number),
    }
}

fn ignore(rules: Option<&Options>) -> Ignore {
    match rules.and_then(|rules| rules.choice("ignore")).as_deref() {
        Some("IGNORE_IF_ZERO_VALUE") => Ignore::IfZero,
        Some("IGNORE_ALWAYS") => Ignore::Always,
        _ => Ignore::Never,
    }
}

fn guard(ignore: Ignore, is_not_zero: &str, body: String) -> String {
    if ignore == Ignore::IfZero && !body.is_empty() {
        format!("if {is_not_zero} {{ {body} }}")
    } else {
        body
    }
}

fn is_not_zero(field: &FieldDescriptor, value: &Named) -> String {
    if field.is_list() || field.is_map() {
        return format!("!{}.is_empty()", value.receiver);
    }
    match field.kind() {
        Kind::String | Kind::Bytes => format!("!{}.is_empty()", value.receiver),
        Kind::Bool => value.copied.clone(),
        Kind::Float | Kind::Double => format!("{} != 0.0", value.copied),
        _ => format!("{} != 0", value.copied),
    }
}

fn count_lines(rules: &Options, names: [&str; 2], noun: &str, member: &str, name: &str) -> String {
    let [min, max] = names.map(|rule| rules.get(rule).and_then(|count| count.as_u64()));
    let nouns = |count: u64| match (count, noun) {
        (1, _) => format!("1 {noun}"),
        (_, "entry") => format!("{count} entries"),
        _ => format!("{count} {noun}s"),
    };
    let mut lines = String::new();
    if let Some(min) = min {
        let holds = if min == 1 {
            format!("!self.{member}.is_empty()")
        } else {
            format!("self.{member}.len() >= {min}")
        };
        let description = format!("must have at least {}", nouns(min));
        lines.push_str(&format!("found.require({holds}, {name:?}, {description:?});"));
    }
    if let Some(max) = max {
        let description = format!("must have at most {}", nouns(max));
        lines.push_str(&format!(
            "found.require(self.{member}.len() <= {max}, {name:?}, {description:?});"
        ));
    }
    lines
}
