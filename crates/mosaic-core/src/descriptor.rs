//! What a contract says of its services, as data.
//!
//! Generated once per service from the `.proto`; read by the guard (timeouts, rates, access), the edge (routes,
//! envelopes), the clients (retries only where idempotent), the command line and the tests that enumerate every route.

use std::fmt;
use std::time::Duration;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Anybody; a token is not looked at.
    Public,
    /// Anybody; a token that is sent must be good, and then the caller is known.
    Optional,
    /// Holders of a good access token.
    SignedIn,
    /// Holders of a good access token with this role.
    Role(&'static str),
    /// Other services of the platform only; never routed to the outside.
    Internal,
}

/// How JSON answers of a service are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Envelope {
    /// The message itself; errors as problem+json (RFC 9457) with the HTTP status of their code.
    Plain,
    /// `{code: 0, msg, data}`; business errors are HTTP 200.
    Content,
    /// `{code: 200, msg: "OK", data}`; errors are HTTP 400.
    Homestay,
}

/// How often a method may be called, by each caller address or account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls that are let through in each `per`.
    pub calls: u32,
    /// Length of the window.
    pub per: Duration,
}

/// One HTTP binding of a method (`google.api.http`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpBinding {
    /// `GET`, `POST` ... or `*` for every method.
    pub verb: &'static str,
    /// Path pattern as axum writes it: `/articles/detail/{id}`.
    pub path: &'static str,
}

/// How a method answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One request, one reply.
    Unary,
    /// One request, many replies.
    ServerStreaming,
}

/// What the contract says of one method.
#[derive(Debug)]
pub struct MethodDescriptor {
    /// `homestay.v1.Travel`.
    pub service: &'static str,
    /// `HomestayDetail`.
    pub name: &'static str,
    /// `/homestay.v1.Travel/HomestayDetail`, the gRPC path.
    pub path: &'static str,
    /// Position in [`ServiceDescriptor::methods`].
    pub index: usize,
    /// Unary or streaming.
    pub shape: Shape,
    /// Who may call.
    pub access: Access,
    /// May a call be repeated without a second effect?
    pub idempotent: bool,
    /// Longest time a call may take; the caller may allow less.
    pub timeout: Duration,
    /// Limit for each caller, where the contract sets one.
    pub rate: Option<Rate>,
    /// How the JSON answer is wrapped.
    pub envelope: Envelope,
    /// The `msg` of a success in an enveloped answer; empty: the envelope's own.
    pub ok_message: &'static str,
    /// Is the reply the whole body of a success? Errors are wrapped all the same.
    pub bare: bool,
    /// REST routes.
    pub http: &'static [HttpBinding],
}

/// What the contract says of one service.
pub struct ServiceDescriptor {
    /// `homestay.v1.Travel`.
    pub name: &'static str,
    /// Its methods in the order of the contract.
    pub methods: &'static [MethodDescriptor],
    /// Serialized `google.protobuf.FileDescriptorSet` of the contract and its imports.
    pub file_descriptor_set: &'static [u8],
    /// OpenAPI 3.1 document of the service's routes, as JSON.
    pub openapi: &'static str,
    /// JSON names of the fields that no log may show (`debug_redact`).
    pub sensitive: &'static [&'static str],
}

impl ServiceDescriptor {
    /// Returns the unit of deployment: the first segment of the package, `homestay` of `homestay.v1.Travel`.
    pub fn domain(&self) -> &'static str {
        self.name.split('.').next().unwrap_or(self.name)
    }
}

impl fmt::Debug for ServiceDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceDescriptor")
            .field("name", &self.name)
            .field("methods", &self.methods)
            .finish_non_exhaustive()
    }
}

/// Default of [`MethodDescriptor::timeout`].
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
