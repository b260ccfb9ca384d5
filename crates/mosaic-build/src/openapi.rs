//! The OpenAPI 3.1 document of a service: what its routes take and answer, envelopes included.

use prost_reflect::{FieldDescriptor, FileDescriptor};
use serde_json::{Map, Value, json};

use crate::contract::{Access, Envelope, Method, Service, fields};
use crate::http::{Binding, Body};
use crate::options::FieldOptions;
use crate::query::query_fields;
use crate::schema::{Schemas, is_required, plain};

/// Returns the comment of the element at `path`.
pub(crate) fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|location| location.path == path));
    let leading = location.and_then(|location| location.leading_comments.clone());
    leading
        .or_else(|| location.and_then(|location| location.trailing_comments.clone()))
        .unwrap_or_default()
}

/// Returns the document as JSON.
pub(crate) fn document(service: &Service) -> String {
    let file = service.descriptor.parent_file();
    let name = service.descriptor.full_name();
    let mut schemas = Schemas::default();
    let mut paths = Map::new();
    for method in &service.methods {
        for (index, binding) in method.bindings.iter().enumerate() {
            let path = paths.entry(template(binding)).or_insert_with(|| json!({}));
            for verb in verbs(&binding.verb) {
                let mut operation = operation(method, binding, &mut schemas);
                let mut id = method.descriptor.full_name().to_owned();
                if index > 0 {
                    id.push_str(&format!(".{index}"));
                }
                if binding.verb == "*" {
                    id.push_str(&format!(".{verb}"));
                }
                operation["operationId"] = json!(id);
                path[verb] = operation;
            }
        }
    }
    schemas.found.insert("mosaic.Problem".to_owned(), problem());
    let document = json!({
        "openapi": "3.1.0",
        "info": {"title": name, "version": service.descriptor.package_name().rsplit('.').next().unwrap_or("v1")},
        "tags": [{"name": name, "description": plain(&comment(&file, service.descriptor.path()))}],
        "paths": paths,
        "components": {
            "schemas": schemas.found,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    });
    format!("{document:#}\n")
}

/// Returns the path as OpenAPI writes it.
fn template(binding: &Binding) -> String {
    binding.path.replace("{*", "{")
}

fn verbs(verb: &str) -> Vec<String> {
    if verb == "*" {
        ["get", "put", "post", "delete", "patch"].map(str::to_owned).to_vec()
    } else {
        vec![verb.to_lowercase()]
    }
}

fn operation(method: &Method, binding: &Binding, schemas: &mut Schemas) -> Value {
    let text = comment(&method.descriptor.parent_file(), method.descriptor.path());
    let mut description = plain(&text);
    if let Access::Role(role) = &method.access {
        description.push_str(&format!("\n\nNeeds the role `{role}`."));
    }
    let summary = description.lines().next().unwrap_or_default().to_owned();
    let security = match method.access {
        Access::Public | Access::Internal => json!([]),
        Access::Optional => json!([{}, {"bearer": []}]),
        Access::SignedIn | Access::Role(_) => json!([{"bearer": []}]),
    };
    let mut operation = json!({
        "tags": [method.descriptor.parent_service().full_name()],
        "summary": summary,
        "description": description.trim(),
        "security": security,
        "responses": responses(method, binding, schemas),
    });
    let parameters = parameters(method, binding, schemas);
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    let body = match &binding.body {
        Body::None => None,
        Body::All => Some(schemas.message(&method.descriptor.input())),
        Body::Field(field) => Some(schemas.field(field)),
    };
    if let Some(schema) = body {
        operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    operation
}

fn parameters(method: &Method, binding: &Binding, schemas: &mut Schemas) -> Vec<Value> {
    let mut found = Vec::new();
    for variable in &binding.variables {
        let field = variable.fields.last().expect("a variable has at least one field");
        found.push(parameter(&variable.name, "path", field, schemas));
    }
    let input = method.descriptor.input();
    for path in query_fields(binding, &input).unwrap_or_default() {
        let name: Vec<&str> = path.iter().map(FieldDescriptor::json_name).collect();
        let field = path.last().expect("a parameter has at least one field");
        found.push(parameter(&name.join("."), "query", field, schemas));
    }
    for field in fields(&input) {
        let options = FieldOptions::of(&field);
        if let Some(header) = &options.header {
            found.push(parameter(header, "header", &field, schemas));
        }
        if let Some(cookie) = &options.cookie {
            found.push(parameter(&cookie.name, "cookie", &field, schemas));
        }
    }
    found
}

fn parameter(name: &str, place: &str, field: &FieldDescriptor, schemas: &mut Schemas) -> Value {
    let mut schema = schemas.field(field);
    let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
    let mut parameter = json!({
        "name": name,
        "in": place,
        "required": place == "path" || is_required(field),
        "schema": schema,
    });
    if let Some(description) = description {
        parameter["description"] = description;
    }
    parameter
}

fn responses(method: &Method, binding: &Binding, schemas: &mut Schemas) -> Value {
    let answer = match &binding.response {
        Some(field) => schemas.field(field),
        None => schemas.message(&method.descriptor.output()),
    };
    let is_stream = method.descriptor.is_server_streaming();
    let content = if is_stream {
        json!({"text/event-stream": {"schema": {"type": "string"}, "itemSchema": answer}})
    } else {
        json!({"application/json": {"schema": envelope(method, answer)}})
    };
    let mut success = json!({"description": "OK", "content": content});
    let headers = headers(method, schemas);
    if !headers.is_empty() {
        success["headers"] = Value::Object(headers);
    }
    let mut responses = json!({"200": success, "default": failure(method.envelope)});
    if matches!(method.access, Access::SignedIn | Access::Role(_) | Access::Optional) {
        responses["401"] = json!({"description": "No good access token."});
    }
    responses
}

fn headers(method: &Method, schemas: &mut Schemas) -> Map<String, Value> {
    let mut headers = Map::new();
    for field in fields(&method.descriptor.output()) {
        let options = FieldOptions::of(&field);
        if let Some(header) = options.header {
            headers.insert(header, json!({"schema": schemas.field(&field)}));
        }
        if options.cookie.is_some() {
            headers.insert("set-cookie".to_owned(), json!({"schema": {"type": "string"}}));
        }
    }
    headers
}

fn envelope(method: &Method, answer: Value) -> Value {
    let code = match method.envelope {
        _ if method.is_bare => return answer,
        Envelope::Plain => return answer,
        Envelope::Content => 0,
        Envelope::Homestay => 200,
    };
    let message = if method.ok_message.is_empty() {
        "OK"
    } else {
        &method.ok_message
    };
    json!({
        "type": "object",
        "properties": {"code": {"const": code}, "msg": {"const": message}, "data": answer},
        "required": ["code", "msg", "data"],
    })
}

fn failure(envelope: Envelope) -> Value {
    let (media, schema) = match envelope {
        Envelope::Plain => (
            "application/problem+json",
            json!({"$ref": "#/components/schemas/mosaic.Problem"}),
        ),
        Envelope::Content | Envelope::Homestay => (
            "application/json",
            json!({
                "type": "object",
                "properties": {"code": {"type": "integer"}, "msg": {"type": "string"}},
                "required": ["code", "msg"],
            }),
        ),
    };
    json!({"description": "What went wrong.", "content": {media: {"schema": schema}}})
}

/// RFC 9457 with our reason.
fn problem() -> Value {
    let text = json!({"type": "string"});
    json!({
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "properties": {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "reason": {"type": "string", "description": "Stable name of what went wrong."},
            "requestId": text,
            "violations": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"field": text, "description": text},
                    "required": ["field", "description"],
                },
            },
        },
        "required": ["type", "title", "status", "detail", "reason", "requestId"],
    })
}
