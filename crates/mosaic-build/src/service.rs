//! The trait, the descriptor, the server and the client of a service.

use std::collections::BTreeSet;
use std::time::Duration;

use prost_reflect::{FileDescriptor, MessageDescriptor};

use crate::contract::{Access, Envelope, Method, Service};
use crate::names;
use crate::openapi::comment;
use crate::options::FieldOptions;
use crate::output::doc;

impl Service {
    /// Returns the name of the trait.
    pub(crate) fn rust_name(&self) -> String {
        names::camel(self.descriptor.name())
    }

    /// Returns the name of the static descriptor.
    pub(crate) fn constant(&self) -> String {
        names::constant(self.descriptor.name())
    }
}

impl Method {
    /// Returns the name of the method.
    pub(crate) fn rust_name(&self) -> String {
        names::snake(self.descriptor.name())
    }

    /// Returns the Rust type of the request.
    pub(crate) fn request(&self) -> String {
        names::message_type(&self.descriptor.input(), self.package())
    }

    /// Returns the Rust type of one reply.
    pub(crate) fn reply(&self) -> String {
        names::message_type(&self.descriptor.output(), self.package())
    }

    fn package(&self) -> &str {
        self.descriptor.parent_service().package_name()
    }

    /// Returns what a call answers.
    fn answer(&self) -> String {
        let reply = self.reply();
        if self.descriptor.is_server_streaming() {
            format!("::mosaic::Result<::mosaic::rpc::Streaming<{reply}>>")
        } else {
            format!("::mosaic::Result<{reply}>")
        }
    }

    /// Returns `unary` or `streaming`.
    pub(crate) fn shape(&self) -> &'static str {
        if self.descriptor.is_server_streaming() {
            "streaming"
        } else {
            "unary"
        }
    }

    fn grpc_path(&self) -> String {
        format!(
            "/{}/{}",
            self.descriptor.parent_service().full_name(),
            self.descriptor.name()
        )
    }

    fn doc(&self) -> String {
        let text = comment(&self.descriptor.parent_file(), self.descriptor.path());
        doc(&text, &format!("Calls `{}`.", self.descriptor.name()))
    }
}

/// Returns where the OpenAPI document lies beneath `OUT_DIR`.
pub(crate) fn openapi_path(service: &Service) -> String {
    format!("mosaic/{}.openapi.json", service.descriptor.full_name())
}

/// Returns where the descriptor set of `file` lies beneath `OUT_DIR`.
pub(crate) fn descriptor_set_path(file: &FileDescriptor) -> String {
    format!(
        "mosaic/{}.bin",
        file.name().trim_end_matches(".proto").replace('/', ".")
    )
}

/// Returns the code of `service` but its routes.
pub(crate) fn generate(service: &Service) -> String {
    [port(service), descriptor(service), server(service), client(service)].concat()
}

fn port(service: &Service) -> String {
    let name = service.rust_name();
    let text = comment(&service.descriptor.parent_file(), service.descriptor.path());
    let doc = doc(&text, &format!("The service `{}`.", service.descriptor.full_name()));
    let methods: String = service
        .methods
        .iter()
        .map(|method| {
            let (doc, name, request, answer) = (method.doc(), method.rust_name(), method.request(), method.answer());
            format!("{doc} async fn {name}(&self, cx: &::mosaic::Context, request: {request}) -> {answer};\n")
        })
        .collect();
    format!("{doc}#[::mosaic::async_trait]\npub trait {name}: Send + Sync + 'static {{ {methods} }}\n")
}

fn descriptor(service: &Service) -> String {
    let full_name = service.descriptor.full_name();
    let (name, constant) = (service.rust_name(), service.constant());
    let methods: String = service
        .methods
        .iter()
        .enumerate()
        .map(|(index, method)| method_descriptor(index, method, full_name))
        .collect();
    let set = format!("/{}", descriptor_set_path(&service.descriptor.parent_file()));
    let openapi = format!("/{}", openapi_path(service));
    let sensitive: Vec<String> = sensitive(service).into_iter().collect();
    format!(
        "#[doc = \" What the contract says of `{name}`.\"]
        pub static {constant}: ::mosaic::ServiceDescriptor = ::mosaic::ServiceDescriptor {{
            name: {full_name:?},
            methods: &[{methods}],
            file_descriptor_set: include_bytes!(concat!(env!(\"OUT_DIR\"), {set:?})),
            sensitive: &{sensitive:?},
            openapi: include_str!(concat!(env!(\"OUT_DIR\"), {openapi:?})),
        }};\n"
    )
}

fn method_descriptor(index: usize, method: &Method, service: &str) -> String {
    let shape = if method.descriptor.is_server_streaming() {
        "ServerStreaming"
    } else {
        "Unary"
    };
    let access = match &method.access {
        Access::Public => "Public".to_owned(),
        Access::Optional => "Optional".to_owned(),
        Access::SignedIn => "SignedIn".to_owned(),
        Access::Role(role) => format!("Role({role:?})"),
        Access::Internal => "Internal".to_owned(),
    };
    let envelope = match method.envelope {
        Envelope::Plain => "Plain",
        Envelope::Content => "Content",
        Envelope::Homestay => "Homestay",
    };
    let timeout = method.timeout.map_or("::mosaic::DEFAULT_TIMEOUT".to_owned(), duration);
    let rate = match method.rate {
        Some((calls, per)) => format!("Some(::mosaic::Rate {{ calls: {calls}, per: {} }})", duration(per)),
        None => "None".to_owned(),
    };
    let http: String = method
        .bindings
        .iter()
        .map(|binding| {
            format!(
                "::mosaic::HttpBinding {{ verb: {:?}, path: {:?} }},",
                binding.verb, binding.path
            )
        })
        .collect();
    let (name, path, ok_message) = (method.descriptor.name(), method.grpc_path(), &method.ok_message);
    let (idempotent, bare) = (method.is_idempotent, method.is_bare);
    format!(
        "::mosaic::MethodDescriptor {{
            service: {service:?},
            name: {name:?},
            path: {path:?},
            index: {index},
            shape: ::mosaic::Shape::{shape},
            access: ::mosaic::Access::{access},
            idempotent: {idempotent},
            timeout: {timeout},
            rate: {rate},
            envelope: ::mosaic::Envelope::{envelope},
            ok_message: {ok_message:?},
            bare: {bare},
            http: &[{http}],
        }},"
    )
}

fn duration(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("::core::time::Duration::from_secs({})", duration.as_secs())
    } else {
        format!("::core::time::Duration::from_millis({})", duration.as_millis())
    }
}

/// Returns the JSON names of the fields that logs must not show, in all messages that the service takes or answers.
fn sensitive(service: &Service) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut found = BTreeSet::new();
    for method in &service.methods {
        for message in [method.descriptor.input(), method.descriptor.output()] {
            find_sensitive(&message, &mut seen, &mut found);
        }
    }
    found
}

fn find_sensitive(message: &MessageDescriptor, seen: &mut BTreeSet<String>, found: &mut BTreeSet<String>) {
    if !seen.insert(message.full_name().to_owned()) {
        return;
    }
    for field in message.fields() {
        if FieldOptions::of(&field).is_redacted {
            found.insert(field.json_name().to_owned());
        }
        if let Some(nested) = field.kind().as_message() {
            find_sensitive(nested, seen, found);
        }
    }
}

/// The calls are boxed before they are awaited: the compiler cannot see that a future that awaits a call with a
/// closure over `&dyn Port` is `Send`.
fn server(service: &Service) -> String {
    let (name, constant) = (service.rust_name(), service.constant());
    let full_name = service.descriptor.full_name();
    let arms: String = service
        .methods
        .iter()
        .enumerate()
        .map(|(index, method)| {
            let (path, shape, call) = (method.grpc_path(), method.shape(), method.rust_name());
            format!(
                "{path:?} => Box::pin(served.{shape}(&{constant}.methods[{index}], request, |port, cx, request| port.{call}(cx, request))),"
            )
        })
        .collect();
    format!(
        "#[doc = \" Serves an implementation of [`{name}`] over gRPC.\"]
        #[derive(Debug, Clone)]
        pub struct {name}Server {{ served: ::mosaic::rpc::Served<dyn {name}> }}
        impl {name}Server {{
            #[doc = \" Serves `implementation`.\"]
            pub fn new(implementation: ::std::sync::Arc<impl {name}>) -> Self {{
                Self {{ served: ::mosaic::rpc::Served::new(&{constant}, implementation) }}
            }}
        }}
        impl ::mosaic::rpc::Serve for {name}Server {{
            type Port = dyn {name};
            fn served(&self) -> &::mosaic::rpc::Served<dyn {name}> {{ &self.served }}
            fn served_mut(&mut self) -> &mut ::mosaic::rpc::Served<dyn {name}> {{ &mut self.served }}
        }}
        impl ::mosaic::rpc::tonic::server::NamedService for {name}Server {{
            const NAME: &'static str = {full_name:?};
        }}
        impl ::mosaic::rpc::tower::Service<::mosaic::rpc::http::Request<::mosaic::rpc::tonic::body::Body>> for {name}Server {{
            type Response = ::mosaic::rpc::http::Response<::mosaic::rpc::tonic::body::Body>;
            type Error = ::core::convert::Infallible;
            type Future = ::mosaic::rpc::BoxFuture<'static, ::core::result::Result<Self::Response, Self::Error>>;
            fn poll_ready(&mut self, _: &mut ::core::task::Context<'_>) -> ::core::task::Poll<::core::result::Result<(), Self::Error>> {{
                ::core::task::Poll::Ready(Ok(()))
            }}
            fn call(&mut self, request: ::mosaic::rpc::http::Request<::mosaic::rpc::tonic::body::Body>) -> Self::Future {{
                let served = self.served.clone();
                let answer: ::mosaic::rpc::BoxFuture<'static, Self::Response> = match request.uri().path() {{
                    {arms}
                    _ => Box::pin(::core::future::ready(::mosaic::rpc::unknown_method())),
                }};
                Box::pin(async move {{ Ok(answer.await) }})
            }}
        }}\n"
    )
}

fn client(service: &Service) -> String {
    let (name, constant) = (service.rust_name(), service.constant());
    let methods: String = service
        .methods
        .iter()
        .enumerate()
        .map(|(index, method)| {
            let (doc, call, shape) = (method.doc(), method.rust_name(), method.shape());
            let (request, answer) = (method.request(), method.answer());
            format!(
                "{doc} pub async fn {call}(&self, cx: &::mosaic::Context, request: {request}) -> {answer} {{
                    let answer: ::mosaic::rpc::BoxFuture<'_, _> = Box::pin(self.client.{shape}(
                        &{constant}.methods[{index}], cx, request, |port, cx, request| port.{call}(cx, request)));
                    answer.await
                }}\n"
            )
        })
        .collect();
    format!(
        "#[doc = \" Calls [`{name}`], in this process or in another.\"]
        #[derive(Debug, Clone)]
        pub struct {name}Client {{ client: ::mosaic::rpc::Client<dyn {name}> }}
        impl ::mosaic::rpc::Connect for {name}Client {{
            type Port = dyn {name};
            const SERVICE: &'static ::mosaic::ServiceDescriptor = &{constant};
            fn from_client(client: ::mosaic::rpc::Client<dyn {name}>) -> Self {{ Self {{ client }} }}
        }}
        impl {name}Client {{ {methods} }}\n"
    )
}
