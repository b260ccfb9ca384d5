//! `buf.validate` rules of one value as conditions in Rust.

use prost_reflect::{Kind, Value};

use crate::options::Options;

/// A condition that must hold, and what to say when it does not.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) holds: String,
    pub(crate) description: String,
}

/// How the code names a value: `self.name`, or `value` of type `&T`.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    /// What methods are called on.
    pub(crate) receiver: String,
    /// The value of a `Copy` type.
    pub(crate) copied: String,
    /// A reference to it.
    pub(crate) borrowed: String,
}

impl Named {
    /// A field of the message.
    pub(crate) fn field(member: &str) -> Self {
        Self {
            receiver: format!("self.{member}"),
            copied: format!("self.{member}"),
            borrowed: format!("&self.{member}"),
        }
    }

    /// A variable that holds a reference.
    pub(crate) fn reference(name: &str) -> Self {
        Self {
            receiver: name.to_owned(),
            copied: format!("*{name}"),
            borrowed: name.to_owned(),
        }
    }
}

/// Returns the name of the rules that fit values of `kind`, if there are any.
pub(crate) fn fitting(kind: &Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Double => "double",
        Kind::Float => "float",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Uint32 => "uint32",
        Kind::Uint64 => "uint64",
        Kind::Sint32 => "sint32",
        Kind::Sint64 => "sint64",
        Kind::Fixed32 => "fixed32",
        Kind::Fixed64 => "fixed64",
        Kind::Sfixed32 => "sfixed32",
        Kind::Sfixed64 => "sfixed64",
        Kind::Bool => "bool",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Enum(_) => "enum",
        Kind::Message(message) => match message.full_name().strip_prefix("google.protobuf.")? {
            "Timestamp" => "timestamp",
            "Duration" => "duration",
            "DoubleValue" => "double",
            "FloatValue" => "float",
            "Int32Value" => "int32",
            "Int64Value" => "int64",
            "UInt32Value" => "uint32",
            "UInt64Value" => "uint64",
            "BoolValue" => "bool",
            "StringValue" => "string",
            "BytesValue" => "bytes",
            _ => return None,
        },
    })
}

/// Returns the conditions that `rules` (of the type named `type_name`) put on `value`.
///
/// # Errors
/// The number of the rule that is not supported (its place) and why.
pub(crate) fn conditions(
    type_name: &str,
    rules: &Options,
    value: &Named,
    enum_type: Option<&str>,
) -> Result<Vec<Condition>, (i32, String)> {
    let mut conditions = Vec::new();
    for (name, number, rule) in rules.set_fields() {
        let condition = match type_name {
            "string" => string(&name, &rule, value),
            "bytes" => bytes(&name, &rule, value),
            "bool" => boolean(&name, &rule, value),
            "enum" => enumeration(&name, &rule, value, enum_type),
            "timestamp" | "duration" => moment(&name, &rule, value),
            _ => numeric(&name, &rule, value),
        };
        match condition {
            Ok(Some(condition)) => conditions.push(condition),
            Ok(None) => {}
            Err(why) => return Err((number, format!("rule {type_name}.{name}{why}"))),
        }
    }
    if let (Some(low), Some(high)) = (bound(rules, ["gt", "gte"]), bound(rules, ["lt", "lte"]))
        && low > high
    {
        return Err((4, format!("rule {type_name}: no value is above {low} and below {high}")));
    }
    Ok(conditions)
}

/// A condition, none where the rule asks nothing, or why there is none.
type Ruled = Result<Option<Condition>, String>;

fn must(holds: String, description: impl Into<String>) -> Ruled {
    Ok(Some(Condition {
        holds,
        description: description.into(),
    }))
}

fn unsupported() -> Ruled {
    Err(" is not supported".to_owned())
}

fn characters(n: u64) -> String {
    if n == 1 {
        "1 character".to_owned()
    } else {
        format!("{n} characters")
    }
}

fn n_bytes(n: u64) -> String {
    if n == 1 {
        "1 byte".to_owned()
    } else {
        format!("{n} bytes")
    }
}

fn string(name: &str, rule: &Value, value: &Named) -> Ruled {
    let (text, number) = (rule.as_str().unwrap_or_default(), rule.as_u64().unwrap_or_default());
    let (of, re) = (&value.receiver, &value.borrowed);
    match name {
        "const" => must(format!("{of}.as_str() == {text:?}"), format!("must be {text:?}")),
        "len" => must(
            format!("::mosaic::rules::n_chars({re}) == {number}"),
            format!("must have {}", characters(number)),
        ),
        "min_len" if number == 1 => must(format!("!{of}.is_empty()"), "must not be empty"),
        "min_len" => must(
            format!("::mosaic::rules::n_chars({re}) >= {number}"),
            format!("must have at least {}", characters(number)),
        ),
        "max_len" => must(
            format!("::mosaic::rules::n_chars({re}) <= {number}"),
            format!("must have at most {}", characters(number)),
        ),
        "len_bytes" => must(
            format!("{of}.len() == {number}"),
            format!("must have {}", n_bytes(number)),
        ),
        "min_bytes" => must(
            format!("{of}.len() >= {number}"),
            format!("must have at least {}", n_bytes(number)),
        ),
        "max_bytes" => must(
            format!("{of}.len() <= {number}"),
            format!("must have at most {}", n_bytes(number)),
        ),
        "pattern" => pattern(text, re),
        "prefix" => must(
            format!("{of}.starts_with({text:?})"),
            format!("must begin with {text:?}"),
        ),
        "suffix" => must(format!("{of}.ends_with({text:?})"), format!("must end with {text:?}")),
        "contains" => must(format!("{of}.contains({text:?})"), format!("must contain {text:?}")),
        "not_contains" => must(
            format!("!{of}.contains({text:?})"),
            format!("must not contain {text:?}"),
        ),
        "in" | "not_in" => {
            let items = items(rule, |item| item.as_str().map(|text| format!("{text:?}")))?;
            listed(name, &items, &format!("{of}.as_str()"))
        }
        "email" => well_known(rule, "is_email", re, "must be an e-mail address"),
        "hostname" => well_known(rule, "is_hostname", re, "must be a host name"),
        "ip" => well_known(rule, "is_ip", re, "must be an IP address"),
        "uri" => well_known(rule, "is_uri", re, "must be a URI"),
        "uuid" => well_known(rule, "is_uuid", re, "must be a UUID"),
        _ => unsupported(),
    }
}

fn pattern(text: &str, borrowed: &str) -> Ruled {
    if let Err(error) = regex::Regex::new(text) {
        let error = error.to_string();
        let last = error.lines().last().unwrap_or_default();
        return Err(format!(": `{text}` is no regular expression: {last}"));
    }
    let holds = format!(
        "{{ static PATTERN: ::mosaic::rules::Pattern = ::mosaic::rules::Pattern::new({text:?}); PATTERN.matches({borrowed}) }}"
    );
    must(holds, format!("must match {text}"))
}

fn well_known(rule: &Value, function: &str, borrowed: &str, description: &str) -> Ruled {
    if rule.as_bool() == Some(true) {
        must(format!("::mosaic::rules::{function}({borrowed})"), description)
    } else {
        Ok(None)
    }
}

fn items(rule: &Value, print: impl Fn(&Value) -> Option<String>) -> Result<Vec<String>, String> {
    let items = rule.as_list().unwrap_or_default();
    let printed: Option<Vec<String>> = items.iter().map(print).collect();
    printed.ok_or_else(|| " has a value that does not fit".to_owned())
}

fn listed(name: &str, items: &[String], compared: &str) -> Ruled {
    let items = items.join(", ");
    if name == "in" {
        must(
            format!("[{items}].contains(&{compared})"),
            format!("must be one of {items}"),
        )
    } else {
        must(
            format!("![{items}].contains(&{compared})"),
            format!("must not be one of {items}"),
        )
    }
}

fn bytes(name: &str, rule: &Value, value: &Named) -> Ruled {
    let n = rule.as_u64().unwrap_or_default();
    let of = &value.receiver;
    match name {
        "len" => must(format!("{of}.len() == {n}"), format!("must have {}", n_bytes(n))),
        "min_len" => must(
            format!("{of}.len() >= {n}"),
            format!("must have at least {}", n_bytes(n)),
        ),
        "max_len" => must(
            format!("{of}.len() <= {n}"),
            format!("must have at most {}", n_bytes(n)),
        ),
        _ => unsupported(),
    }
}

fn boolean(name: &str, rule: &Value, value: &Named) -> Ruled {
    match (name, rule.as_bool()) {
        ("const", Some(true)) => must(value.copied.clone(), "must be true"),
        ("const", _) => must(format!("!{}", value.copied), "must be false"),
        _ => unsupported(),
    }
}

fn enumeration(name: &str, rule: &Value, value: &Named, of: Option<&str>) -> Ruled {
    let of_value = &value.copied;
    let print = |item: &Value| item.as_i32().map(|number| number.to_string());
    let Some(enum_type) = of else {
        return unsupported();
    };
    match name {
        "const" => {
            let number = print(rule).ok_or("has no number")?;
            must(format!("{of_value} == {number}"), format!("must be {number}"))
        }
        "defined_only" if rule.as_bool() == Some(true) => must(
            format!("{enum_type}::try_from({of_value}).is_ok()"),
            "must be one of the values of its enum",
        ),
        "defined_only" => Ok(None),
        "in" | "not_in" => listed(name, &items(rule, print)?, of_value),
        _ => unsupported(),
    }
}

/// Prints a number as a Rust literal.
fn literal(value: &Value) -> Option<String> {
    match value {
        Value::I32(number) => Some(number.to_string()),
        Value::I64(number) => Some(number.to_string()),
        Value::U32(number) => Some(number.to_string()),
        Value::U64(number) => Some(number.to_string()),
        Value::F32(number) => Some(format!("{number:?}")).filter(|_| number.is_finite()),
        Value::F64(number) => Some(format!("{number:?}")).filter(|_| number.is_finite()),
        _ => None,
    }
}

fn numeric(name: &str, rule: &Value, value: &Named) -> Ruled {
    let of = &value.copied;
    if name == "finite" {
        let receiver = &value.receiver;
        return match rule.as_bool() {
            Some(true) => must(format!("{receiver}.is_finite()"), "must be finite"),
            _ => Ok(None),
        };
    }
    if matches!(name, "in" | "not_in") {
        return listed(name, &items(rule, literal)?, of);
    }
    let number = literal(rule).ok_or(" needs a finite number")?;
    match name {
        "const" => must(format!("{of} == {number}"), format!("must be {number}")),
        "lt" => must(format!("{of} < {number}"), format!("must be less than {number}")),
        "lte" => must(format!("{of} <= {number}"), format!("must be at most {number}")),
        "gt" => must(format!("{of} > {number}"), format!("must be greater than {number}")),
        "gte" => must(format!("{of} >= {number}"), format!("must be at least {number}")),
        _ => unsupported(),
    }
}

fn moment(name: &str, rule: &Value, value: &Named) -> Ruled {
    let Some(bound) = rule.as_message().cloned().map(Options) else {
        return unsupported();
    };
    let seconds = bound
        .get("seconds")
        .and_then(|value| value.as_i64())
        .unwrap_or_default();
    let nanos = bound.get("nanos").and_then(|value| value.as_i32()).unwrap_or_default();
    let of = &value.receiver;
    let (sign, words) = match name {
        "lt" => ("<", "less than"),
        "lte" => ("<=", "at most"),
        "gt" => (">", "greater than"),
        "gte" => (">=", "at least"),
        _ => return unsupported(),
    };
    let shown = if nanos == 0 {
        format!("{seconds}s")
    } else {
        format!("{seconds}.{nanos:09}s")
    };
    must(
        format!("({of}.seconds, {of}.nanos) {sign} ({seconds}, {nanos})"),
        format!("must be {words} {shown}"),
    )
}

/// Returns the number in the first of `names` that is set.
pub(crate) fn bound(rules: &Options, names: [&str; 2]) -> Option<f64> {
    names.iter().find_map(|name| match rules.get(name)? {
        Value::I32(number) => Some(f64::from(number)),
        Value::I64(number) => Some(number as f64),
        Value::U32(number) => Some(f64::from(number)),
        Value::U64(number) => Some(number as f64),
        Value::F32(number) => Some(f64::from(number)),
        Value::F64(number) => Some(number),
        _ => None,
    })
}
