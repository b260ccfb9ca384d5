//! `google.api.http` rules: verbs, path patterns, what is the body, who claims which path.

use std::collections::HashMap;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

use crate::contract::{Service, is_in_oneof};
use crate::options::{HTTP, Options};
use crate::places::{Mistakes, Place};

/// One route of a method.
#[derive(Debug)]
pub(crate) struct Binding {
    /// `GET` ... or `*`.
    pub(crate) verb: String,
    /// As axum writes it.
    pub(crate) path: String,
    pub(crate) variables: Vec<Variable>,
    pub(crate) body: Body,
    /// The field that is the answer, where it is not the whole message.
    pub(crate) response: Option<FieldDescriptor>,
    pub(crate) place: Place,
}

/// A variable of a path: the fields that lead to it, outermost first.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) fields: Vec<FieldDescriptor>,
    /// Does it take the rest of the path, slashes and all?
    pub(crate) is_rest: bool,
}

/// What the HTTP body is.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    None,
    All,
    Field(FieldDescriptor),
}

/// Reads the rule of `method` and its additional bindings.
pub(crate) fn read_bindings(method: &MethodDescriptor, mistakes: &mut Mistakes) -> Vec<Binding> {
    let Some(rule) = Options::extension(&method.options(), "google.api.http") else {
        return Vec::new();
    };
    let place = Place::new(method.parent_file(), method.path()).at(&[4, HTTP]);
    let additional = rule.list("additional_bindings");
    let mut rules = vec![rule];
    rules.extend(
        additional
            .iter()
            .filter_map(|rule| rule.as_message().cloned())
            .map(Options),
    );
    rules
        .iter()
        .filter_map(|rule| read_binding(rule, method, &place, mistakes))
        .collect()
}

fn read_binding(rule: &Options, method: &MethodDescriptor, place: &Place, mistakes: &mut Mistakes) -> Option<Binding> {
    let Some((verb, pattern)) = verb_and_pattern(rule) else {
        mistakes.add(place, "the HTTP rule names no verb");
        return None;
    };
    let (path, variables) = match read_pattern(&pattern, &method.input()) {
        Ok(read) => read,
        Err(mistake) => {
            mistakes.add(place, format_args!("path `{pattern}`: {mistake}"));
            return None;
        }
    };
    let body = read_body(rule, &method.input(), place, mistakes);
    if verb == "GET" && !matches!(body, Body::None) {
        mistakes.add(place, "GET has no body");
    }
    let response = read_response(rule, &method.output(), place, mistakes);
    Some(Binding {
        verb,
        path,
        variables,
        body,
        response,
        place: place.clone(),
    })
}

fn verb_and_pattern(rule: &Options) -> Option<(String, String)> {
    for verb in ["get", "put", "post", "delete", "patch"] {
        if rule.get(verb).is_some() {
            return Some((verb.to_uppercase(), rule.text(verb)));
        }
    }
    let custom = rule.message("custom")?;
    Some((custom.text("kind").to_uppercase(), custom.text("path")))
}

fn read_body(rule: &Options, input: &MessageDescriptor, place: &Place, mistakes: &mut Mistakes) -> Body {
    match rule.text("body").as_str() {
        "" => Body::None,
        "*" => Body::All,
        name => match input.get_field_by_name(name) {
            Some(field) if !is_in_oneof(&field) => Body::Field(field),
            Some(_) => {
                mistakes.add(place, format_args!("body: `{name}` is in a oneof"));
                Body::All
            }
            None => {
                mistakes.add(place, format_args!("body: {} has no field `{name}`", input.full_name()));
                Body::All
            }
        },
    }
}

fn read_response(
    rule: &Options,
    output: &MessageDescriptor,
    place: &Place,
    mistakes: &mut Mistakes,
) -> Option<FieldDescriptor> {
    let name = rule.text("response_body");
    if name.is_empty() || name == "*" {
        return None;
    }
    let field = output.get_field_by_name(&name).filter(|field| !is_in_oneof(field));
    if field.is_none() {
        let output = output.full_name();
        mistakes.add(
            place,
            format_args!("response_body: {output} has no field `{name}` outside a oneof"),
        );
    }
    field
}

/// Turns `/a/{b.c}/{rest=**}` into axum's `/a/{b.c}/{*rest}` and finds the fields it names.
fn read_pattern(pattern: &str, input: &MessageDescriptor) -> Result<(String, Vec<Variable>), String> {
    if !pattern.starts_with('/') {
        return Err("must begin with a slash".to_owned());
    }
    let mut variables: Vec<Variable> = Vec::new();
    let mut path = String::new();
    let segments: Vec<&str> = pattern[1..].split('/').collect();
    for (index, segment) in segments.iter().enumerate() {
        path.push('/');
        if !segment.contains(['{', '}']) {
            check_literal(segment, segments.len())?;
            path.push_str(segment);
            continue;
        }
        let variable = read_variable(segment, input)?;
        if variable.is_rest && index + 1 < segments.len() {
            return Err(format!("`{{{}=**}}` must be last", variable.name));
        }
        if variables.iter().any(|other| other.name == variable.name) {
            return Err(format!("variable `{}` is there twice", variable.name));
        }
        let star = if variable.is_rest { "*" } else { "" };
        path.push_str(&format!("{{{star}{}}}", variable.name));
        variables.push(variable);
    }
    Ok((path, variables))
}

fn check_literal(segment: &str, n_segments: usize) -> Result<(), String> {
    if segment.is_empty() && n_segments > 1 {
        return Err("has an empty segment".to_owned());
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if segment.bytes().all(is_plain) {
        Ok(())
    } else {
        Err(format!(
            "segment `{segment}` is not plain text (wildcards need a name; `:verb` is not supported)"
        ))
    }
}

fn read_variable(segment: &str, input: &MessageDescriptor) -> Result<Variable, String> {
    let inner = segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}'));
    if segment.starts_with('{') && inner.is_none() && segment.contains('=') {
        return Err(format!(
            "`{segment}/..`: only {{name}}, {{name=*}} and {{name=**}} are supported"
        ));
    }
    let Some(inner) = inner.filter(|inner| !inner.contains(['{', '}'])) else {
        return Err(format!("`{segment}`: a variable must be a whole segment"));
    };
    let (name, is_rest) = match inner.split_once('=') {
        None | Some((_, "*")) => (inner.split('=').next().unwrap_or(inner), false),
        Some((name, "**")) => (name, true),
        Some((_, template)) => return Err(format!("template `{template}` is not supported, only * and **")),
    };
    let fields = find_fields(name, input)?;
    Ok(Variable {
        name: name.to_owned(),
        fields,
        is_rest,
    })
}

fn find_fields(name: &str, input: &MessageDescriptor) -> Result<Vec<FieldDescriptor>, String> {
    let mut message = Some(input.clone());
    let mut fields = Vec::new();
    for part in name.split('.') {
        let inside = message.ok_or_else(|| format!("variable `{name}` goes through a field that is no message"))?;
        let Some(field) = inside.get_field_by_name(part) else {
            return Err(format!(
                "variable `{name}`: {} has no field `{part}`",
                inside.full_name()
            ));
        };
        if field.is_list() || field.is_map() || is_in_oneof(&field) {
            return Err(format!("variable `{name}` is repeated, a map or in a oneof"));
        }
        message = field.kind().as_message().cloned();
        fields.push(field);
    }
    match message {
        Some(message) if !is_text_message(&message) => Err(format!("variable `{name}` is a message")),
        _ => Ok(fields),
    }
}

/// Can a value of `kind` be a path segment or a query parameter?
pub(crate) fn is_text(kind: &Kind) -> bool {
    kind.as_message().is_none_or(is_text_message)
}

fn is_text_message(message: &MessageDescriptor) -> bool {
    const NAMES: [&str; 12] = [
        "Timestamp",
        "Duration",
        "FieldMask",
        "DoubleValue",
        "FloatValue",
        "Int64Value",
        "UInt64Value",
        "Int32Value",
        "UInt32Value",
        "BoolValue",
        "StringValue",
        "BytesValue",
    ];
    let name = message.full_name().strip_prefix("google.protobuf.");
    name.is_some_and(|name| NAMES.contains(&name))
}

/// Reports routes that two methods claim.
pub(crate) fn check_clashes(services: &[Service], mistakes: &mut Mistakes) {
    let mut claimed: HashMap<(String, String), String> = HashMap::new();
    for method in services.iter().flat_map(|service| &service.methods) {
        for binding in &method.bindings {
            let key = (binding.verb.clone(), shape_of(binding));
            let name = method.descriptor.full_name();
            if let Some(other) = claimed.insert(key, name.to_owned()) {
                let (verb, path) = (&binding.verb, &binding.path);
                mistakes.add(
                    &binding.place,
                    format_args!("{verb} {path} is also the path of {other}"),
                );
            }
        }
    }
}

/// Returns the path without the names of its variables, which do not tell two routes apart.
fn shape_of(binding: &Binding) -> String {
    let mut shape = binding.path.clone();
    for variable in &binding.variables {
        let star = if variable.is_rest { "*" } else { "" };
        shape = shape.replace(&format!("{{{star}{}}}", variable.name), &format!("{{{star}}}"));
    }
    shape
}
