//! The HTTP routes of a service: how requests are put together and answers taken apart.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::contract::{Method, Service, fields, is_in_oneof};
use crate::http::{Binding, Body};
use crate::json;
use crate::names;
use crate::options::{Cookie, FieldOptions, duration};
use crate::query::query_fields;

/// Returns the routes of `service`, if it has any.
pub(crate) fn generate(service: &Service) -> String {
    let (name, constant) = (service.rust_name(), service.constant());
    let prefix = names::snake(service.descriptor.name());
    let prefix = prefix.trim_start_matches("r#");
    let mut functions = String::new();
    let mut calls = String::new();
    for (position, method) in service.methods.iter().enumerate() {
        for (index, binding) in method.bindings.iter().enumerate() {
            let call = method.rust_name();
            let bare = call.trim_start_matches("r#");
            let suffix = if index == 0 { String::new() } else { format!("_{index}") };
            let request = format!("{prefix}_{bare}_request{suffix}");
            let reply = format!("{prefix}_{bare}_reply{suffix}");
            functions.push_str(&request_function(&request, method, binding));
            functions.push_str(&reply_function(&reply, method, binding));
            let shape = method.shape();
            calls.push_str(&format!(
                "routes.{shape}(&client, &{constant}.methods[{position}], {index}, ::mosaic::edge::Steps {{
                    decode: {request},
                    encode: {reply},
                    call: |client, cx, request| ::std::boxed::Box::pin(async move {{ client.{call}(&cx, request).await }}),
                }});"
            ));
        }
    }
    for (position, method) in service.methods.iter().enumerate() {
        let headers: Vec<String> = fields(&method.descriptor.output())
            .iter()
            .filter_map(|field| FieldOptions::of(field).header)
            .collect();
        if !headers.is_empty() && !method.bindings.is_empty() {
            calls.push_str(&format!(
                "routes.reply_headers(&{constant}.methods[{position}], &{headers:?});"
            ));
        }
    }
    if calls.is_empty() {
        return String::new();
    }
    format!(
        "#[doc = \" Returns the HTTP routes of [`{name}`], which call it through `client`.\"]
        pub fn {prefix}_routes(client: {name}Client) -> ::mosaic::edge::Routes {{
            let mut routes = ::mosaic::edge::Routes::new(&{constant});
            {calls}
            routes
        }}
        {functions}"
    )
}

fn request_function(name: &str, method: &Method, binding: &Binding) -> String {
    let input = method.descriptor.input();
    let request = method.request();
    let doc = format!(" Reads the request of `{} {}`.", binding.verb, binding.path);
    let lines = if request == "()" {
        match binding.body {
            Body::All => "input.json::<::mosaic::json::Empty>()?; Ok(())".to_owned(),
            _ => "let _ = input; Ok(())".to_owned(),
        }
    } else {
        request_lines(&input, &request, binding)
    };
    format!(
        "#[doc = {doc:?}]
        fn {name}(input: &mut ::mosaic::edge::Input) -> ::mosaic::Result<{request}> {{ {lines} }}\n"
    )
}

fn request_lines(input: &MessageDescriptor, request: &str, binding: &Binding) -> String {
    let mut lines = String::new();
    if let Body::Field(field) = &binding.body {
        let (member, format) = (names::snake(field.name()), json::format(field));
        lines.push_str(&format!(
            "request.{member} = input.json::<::mosaic::json::As<{format}>>()?.0;"
        ));
    }
    for variable in &binding.variables {
        lines.push_str(&path_line(&variable.name, &variable.fields));
    }
    for field in fields(input) {
        let options = FieldOptions::of(&field);
        let member = names::snake(field.name());
        let default = if json::is_option(&field) {
            ""
        } else {
            ".unwrap_or_default()"
        };
        if let Some(header) = &options.header {
            lines.push_str(&format!("request.{member} = input.header({header:?})?{default};"));
        } else if let Some(cookie) = &options.cookie {
            lines.push_str(&format!(
                "request.{member} = input.cookie({:?})?{default};",
                cookie.name
            ));
        }
    }
    for path in query_fields(binding, input).unwrap_or_default() {
        lines.push_str(&query_line(&path));
    }
    match (&binding.body, lines.is_empty()) {
        (Body::All, true) => "input.json()".to_owned(),
        (Body::All, false) => format!("let mut request: {request} = input.json()?; {lines} Ok(request)"),
        (_, true) => format!("let _ = input; Ok({request}::default())"),
        (_, false) => format!("let mut request = {request}::default(); {lines} Ok(request)"),
    }
}

fn path_line(name: &str, fields: &[FieldDescriptor]) -> String {
    let (target, field) = target(fields);
    let value = match field.kind() {
        Kind::Enum(values) => {
            let package = fields[0].parent_message().package_name().to_owned();
            format!("input.path_enum::<{}>({name:?})?", names::enum_type(&values, &package))
        }
        _ => format!("input.path({name:?})?"),
    };
    let value = if json::is_option(field) {
        format!("Some({value})")
    } else {
        value
    };
    format!("{target} = {value};")
}

/// Returns the place in the request that `fields` lead to, and the last of them.
fn target(fields: &[FieldDescriptor]) -> (String, &FieldDescriptor) {
    let (last, outer) = fields.split_last().expect("a variable has at least one field");
    let mut target = "request".to_owned();
    for field in outer {
        target.push_str(&format!(".{}.get_or_insert_default()", names::snake(field.name())));
    }
    (format!("{target}.{}", names::snake(last.name())), last)
}

/// Writes how a query parameter becomes the last of `path`.
fn query_line(path: &[FieldDescriptor]) -> String {
    let join = |name: fn(&FieldDescriptor) -> &str| path.iter().map(name).collect::<Vec<_>>().join(".");
    let (json, proto) = (join(FieldDescriptor::json_name), join(FieldDescriptor::name));
    let package = path[0].parent_message().package_name().to_owned();
    let (target, field) = target(path);
    let of_enum = match field.kind() {
        Kind::Enum(values) => format!("_enum::<{}>", names::enum_type(&values, &package)),
        _ => String::new(),
    };
    if field.is_list() {
        let read = |name: &str| format!("let values = input.query_all{of_enum}({name:?})?;");
        let set = format!("if !values.is_empty() {{ {target}.extend(values); }}");
        let other = if json == proto {
            String::new()
        } else {
            format!("{} {set}", read(&proto))
        };
        return format!("{} {set} {other}", read(&json));
    }
    let other = if json == proto {
        String::new()
    } else {
        format!(".or(input.query{of_enum}({proto:?})?)")
    };
    let set = match field.containing_oneof().filter(|_| is_in_oneof(field)) {
        Some(oneof) => {
            let variant = names::oneof_variant(&oneof, field, &package);
            let (outer, _) = target.rsplit_once('.').unwrap_or(("request", ""));
            let slot = format!("{outer}.{}", names::snake(oneof.name()));
            format!("::mosaic::json::set_member(&mut {slot}, {variant}(value))?;")
        }
        None if json::is_option(field) => format!("{target} = Some(value);"),
        None => format!("{target} = value;"),
    };
    format!("if let Some(value) = input.query{of_enum}({json:?})?{other} {{ {set} }}")
}

fn reply_function(name: &str, method: &Method, binding: &Binding) -> String {
    let reply = method.reply();
    let doc = format!(" Writes the answer of `{} {}`.", binding.verb, binding.path);
    let mut value = match &binding.response {
        _ if reply == "()" => "{ let () = reply; ::mosaic::edge::Output::json(&::mosaic::json::Empty) }".to_owned(),
        Some(field) => {
            let (format, member) = (json::format(field), names::snake(field.name()));
            format!("::mosaic::edge::Output::json(&::mosaic::json::Written::<{format}>(&reply.{member}))")
        }
        None => "::mosaic::edge::Output::json(&reply)".to_owned(),
    };
    for field in fields(&method.descriptor.output()) {
        let options = FieldOptions::of(&field);
        let member = names::snake(field.name());
        let is_option = json::is_option(&field);
        let text = match is_option {
            true => format!("reply.{member}.as_deref().unwrap_or_default()"),
            false => format!("&reply.{member}"),
        };
        if let Some(header) = options.header.as_ref().filter(|_| is_option) {
            value.push_str(&format!("?.optional_header({header:?}, reply.{member}.as_deref())"));
        } else if let Some(header) = &options.header {
            value.push_str(&format!("?.header({header:?}, {text})"));
        } else if let Some(cookie) = &options.cookie {
            value.push_str(&format!("?.cookie(&{}, {text})", cookie_options(cookie)));
        }
    }
    format!("#[doc = {doc:?}]\nfn {name}(reply: {reply}) -> ::mosaic::Result<::mosaic::edge::Output> {{ {value} }}\n")
}

fn cookie_options(cookie: &Cookie) -> String {
    let max_age = match duration(&cookie.max_age) {
        Some(max_age) => max_age.as_secs(),
        None => 0,
    };
    let (name, path, http_only, same_site) = (&cookie.name, &cookie.path, cookie.http_only, cookie.same_site);
    format!(
        "::mosaic::edge::CookieOptions {{
            name: {name:?},
            path: {path:?},
            max_age_s: {max_age},
            http_only: {http_only},
            same_site: {same_site:?},
        }}"
    )
}
