//! The services of a contract as the generators see them, after every check.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use prost_reflect::{DescriptorPool, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, Syntax};

use crate::http::{self, Binding};
use crate::json;
use crate::options::{self, FieldOptions, Options, duration};
use crate::parse::{self, own_files};
use crate::places::{Mistakes, Place};
use crate::query;

/// Everything that code is generated for.
#[derive(Debug)]
pub(crate) struct Contract {
    pub(crate) files: Vec<FileDescriptor>,
    pub(crate) services: Vec<Service>,
}

/// A service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) descriptor: prost_reflect::ServiceDescriptor,
    pub(crate) methods: Vec<Method>,
}

/// A method.
#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) descriptor: prost_reflect::MethodDescriptor,
    pub(crate) access: Access,
    pub(crate) is_idempotent: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) rate: Option<(u32, Duration)>,
    pub(crate) envelope: Envelope,
    pub(crate) ok_message: String,
    pub(crate) is_bare: bool,
    pub(crate) bindings: Vec<Binding>,
}

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    Public,
    Optional,
    SignedIn,
    Role(String),
    Internal,
}

/// How answers are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Envelope {
    Plain,
    Content,
    Homestay,
}

impl Envelope {
    fn named(name: Option<&str>) -> Self {
        match name {
            Some("CONTENT") => Self::Content,
            Some("HOMESTAY") => Self::Homestay,
            _ => Self::Plain,
        }
    }
}

impl Contract {
    pub(crate) fn new(pool: &DescriptorPool, mistakes: &mut Mistakes) -> Self {
        let files = own_files(pool);
        for file in &files {
            if file.syntax() != Syntax::Proto3 {
                mistakes.add(&Place::new(file.clone(), &[12]), "only proto3 is supported");
            }
            if file.package_name().is_empty() {
                mistakes.add(&Place::new(file.clone(), &[]), "a package is needed");
            }
        }
        let services: Vec<Service> = files
            .iter()
            .flat_map(|file| file.services().collect::<Vec<_>>())
            .map(|service| read_service(service, mistakes))
            .collect();
        let contract = Self { files, services };
        contract.check_fields(mistakes);
        http::check_clashes(&contract.services, mistakes);
        contract
    }

    /// Returns every message that a struct is generated for, nested ones included.
    pub(crate) fn messages(&self) -> Vec<MessageDescriptor> {
        let mut all = Vec::new();
        for file in &self.files {
            for message in file.messages() {
                push_nested(&message, &mut all);
            }
        }
        all
    }

    fn check_fields(&self, mistakes: &mut Mistakes) {
        let mut bound: HashMap<String, bool> = HashMap::new();
        for method in self.services.iter().flat_map(|service| &service.methods) {
            bound.insert(method.descriptor.input().full_name().to_owned(), true);
            bound.insert(method.descriptor.output().full_name().to_owned(), true);
        }
        for message in self.messages() {
            let is_bound = bound.contains_key(message.full_name());
            check_message(&message, is_bound, mistakes);
        }
    }
}

fn push_nested(message: &MessageDescriptor, all: &mut Vec<MessageDescriptor>) {
    if message.is_map_entry() {
        return;
    }
    all.push(message.clone());
    for nested in message.child_messages() {
        push_nested(&nested, all);
    }
}

/// Returns the fields in the order of the contract.
pub(crate) fn fields(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by_key(|field| field.path().last().copied());
    fields
}

/// Returns where the declaration of `field` is.
pub(crate) fn place_of(field: &FieldDescriptor) -> Place {
    Place::new(field.parent_message().parent_file(), field.path())
}

fn check_message(message: &MessageDescriptor, is_bound: bool, mistakes: &mut Mistakes) {
    let mut names = BTreeSet::new();
    let mut json_names = BTreeSet::new();
    for field in fields(message) {
        let place = place_of(&field);
        let option = place.at(&[8, options::FIELD]);
        let ours = FieldOptions::of(&field);
        let header = ours.header.iter().map(|name| format!("header {}", name.to_lowercase()));
        let cookie = ours.cookie.iter().map(|cookie| format!("cookie {}", cookie.name));
        for name in header.chain(cookie) {
            if !is_bound {
                mistakes.add(
                    &option,
                    format_args!("{name}: only the request or the answer of a method is bound"),
                );
            }
            if field.kind() != Kind::String || field.is_list() || is_in_oneof(&field) {
                mistakes.add(&option, format_args!("{name}: only a single string can be bound"));
            }
            if !names.insert(name.clone()) {
                mistakes.add(&option, format_args!("{name} is bound twice"));
            }
        }
        check_binding_names(&ours, &option, mistakes);
        if ours.is_in_body() && !json_names.insert(field.json_name().to_owned()) {
            mistakes.add(&place, format_args!("JSON name `{}` is taken", field.json_name()));
        }
        check_type(&field, &place, mistakes);
    }
}

/// Refuses types that there is no Rust or no JSON for.
fn check_type(field: &FieldDescriptor, place: &Place, mistakes: &mut Mistakes) {
    let kind = field.kind();
    let (name, file) = match &kind {
        Kind::Message(message) => (message.full_name(), message.parent_file()),
        Kind::Enum(values) => (values.full_name(), values.parent_file()),
        _ => return,
    };
    if parse::is_foreign(&file) && !json::is_well_known(name) {
        mistakes.add(place, format_args!("the type {name} is not supported"));
    }
}

fn check_binding_names(ours: &FieldOptions, place: &Place, mistakes: &mut Mistakes) {
    let is_token = |name: &str| {
        let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !name.is_empty() && name.bytes().all(is_token_byte)
    };
    if let Some(header) = &ours.header
        && (!is_token(header) || header.bytes().any(|byte| byte.is_ascii_uppercase()))
    {
        mistakes.add(place, format_args!("`{header}` is no header name in lower case"));
    }
    let Some(cookie) = &ours.cookie else { return };
    if !is_token(&cookie.name) {
        mistakes.add(place, format_args!("`{}` is no cookie name", cookie.name));
    }
    if !cookie.path.starts_with('/') || cookie.path.contains([';', ' ']) {
        mistakes.add(place, format_args!("`{}` is no cookie path", cookie.path));
    }
    if !cookie.max_age.is_empty() && duration(&cookie.max_age).is_none() {
        mistakes.add(place, bad_duration("max_age", &cookie.max_age));
    }
}

/// Is `field` in a oneof that the contract spells out?
pub(crate) fn is_in_oneof(field: &FieldDescriptor) -> bool {
    field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic())
}

fn bad_duration(name: &str, text: &str) -> String {
    format!("{name}: `{text}` is no duration as in 500ms, 2s, 1m, 6h, 7d")
}

fn read_service(descriptor: prost_reflect::ServiceDescriptor, mistakes: &mut Mistakes) -> Service {
    let options = Options::extension(&descriptor.options(), "mosaic.v1.service");
    let envelope = Envelope::named(options.and_then(|options| options.choice("envelope")).as_deref());
    let methods = descriptor
        .methods()
        .map(|method| read_method(method, envelope, mistakes))
        .collect();
    Service { descriptor, methods }
}

fn read_method(descriptor: prost_reflect::MethodDescriptor, envelope: Envelope, mistakes: &mut Mistakes) -> Method {
    let place = Place::new(descriptor.parent_file(), descriptor.path());
    if descriptor.is_client_streaming() {
        mistakes.add(&place, "client streaming is not supported");
    }
    for (message, step) in [(descriptor.input(), 2), (descriptor.output(), 3)] {
        let name = message.full_name();
        if name.starts_with("google.protobuf.") && name != "google.protobuf.Empty" {
            mistakes.add(
                &place.at(&[step]),
                format_args!("{name} cannot be a request or an answer: wrap it in a message"),
            );
        }
    }
    let found = Options::extension(&descriptor.options(), "mosaic.v1.method");
    let place = place.at(&[4, options::METHOD]);
    let timeout = found.as_ref().map(|found| found.text("timeout")).unwrap_or_default();
    let timeout = read_duration("timeout", &timeout, &place.at(&[4]), mistakes);
    let chosen = found.as_ref().and_then(|found| found.choice("envelope"));
    let method = Method {
        access: read_access(found.as_ref(), &place, mistakes),
        is_idempotent: found.as_ref().is_some_and(|found| found.flag("idempotent")),
        timeout,
        rate: read_rate(found.as_ref(), &place.at(&[5]), mistakes),
        envelope: chosen.map_or(envelope, |chosen| Envelope::named(Some(&chosen))),
        is_bare: found.as_ref().is_some_and(|found| found.flag("bare")),
        ok_message: found.map(|found| found.text("ok_message")).unwrap_or_default(),
        bindings: http::read_bindings(&descriptor, mistakes),
        descriptor,
    };
    check_bindings(&method, mistakes);
    if method.access == Access::Internal && !method.bindings.is_empty() {
        mistakes.add(&place, "an INTERNAL method may have no google.api.http rule");
    }
    method
}

fn check_bindings(method: &Method, mistakes: &mut Mistakes) {
    for binding in &method.bindings {
        query::check(binding, &method.descriptor.input(), mistakes);
    }
    for field in fields(&method.descriptor.output()) {
        let place = place_of(&field).at(&[8, options::FIELD]);
        let options = FieldOptions::of(&field);
        if options.cookie.is_some_and(|cookie| cookie.max_age.is_empty()) {
            mistakes.add(&place, "the cookie of an answer needs a max_age");
        }
        if method.descriptor.is_server_streaming() && !FieldOptions::of(&field).is_in_body() {
            mistakes.add(&place, "an answer of a stream has no headers and cookies");
        }
    }
}

fn read_duration(name: &str, text: &str, place: &Place, mistakes: &mut Mistakes) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let read = duration(text);
    if read.is_none() {
        mistakes.add(place, bad_duration(name, text));
    }
    read
}

fn read_access(found: Option<&Options>, place: &Place, mistakes: &mut Mistakes) -> Access {
    let Some(found) = found else { return Access::SignedIn };
    let role = found.text("role");
    let access = match found.choice("access").as_deref() {
        Some("PUBLIC") => Access::Public,
        Some("OPTIONAL") => Access::Optional,
        Some("ROLE") => Access::Role(role.clone()),
        Some("INTERNAL") => Access::Internal,
        _ => Access::SignedIn,
    };
    match &access {
        Access::Role(role) if role.is_empty() => mistakes.add(place, "access: ROLE needs a role: \"...\""),
        Access::Role(_) => {}
        _ if !role.is_empty() => mistakes.add(place, "a role needs access: ROLE"),
        _ => {}
    }
    access
}

fn read_rate(found: Option<&Options>, place: &Place, mistakes: &mut Mistakes) -> Option<(u32, Duration)> {
    let rate = found?.message("rate")?;
    let calls = rate.get("calls").and_then(|calls| calls.as_u32()).unwrap_or_default();
    let per = rate.text("per");
    if calls == 0 {
        mistakes.add(place, "rate: calls must be at least 1");
    }
    match duration(&per) {
        Some(per) => Some((calls, per)),
        None => {
            mistakes.add(place, bad_duration("rate: per", &per));
            None
        }
    }
}
