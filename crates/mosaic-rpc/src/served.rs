//! An implementation and everything that stands before it.
//!
//! Both ways in come through [`Served::enter`]: the in-process client hands over a context, the gRPC server reads one
//! from metadata. What follows is the same: timeout of the contract, access rule, rate, checks, deadline, panic. The items
//! of a streamed answer ([`crate::items`]) are looked after until the last one.

use std::convert::Infallible;
use std::sync::Arc;

use mosaic_core::{Check, Context, Error, MethodDescriptor, Result, ServiceDescriptor};
use mosaic_guard::{Guard, Rules, Side};
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tracing::{Instrument as _, Span};

use crate::items::{self, log_once};
use crate::{BoxFuture, Inbound, Streaming, status_from_error, wire};

/// A generated server: a plain tonic service that also lets itself be called without the wire.
pub trait Serve:
    tonic::server::NamedService
    + tower::Service<
        http::Request<Body>,
        Response = http::Response<Body>,
        Error = Infallible,
        Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>,
    > + Clone
    + Send
    + Sync
    + 'static
{
    /// The generated trait, as an object.
    type Port: ?Sized + Send + Sync + 'static;
    /// Returns the implementation and its guard.
    fn served(&self) -> &Served<Self::Port>;
    /// Returns them to be configured.
    fn served_mut(&mut self) -> &mut Served<Self::Port>;
}

/// See the module documentation. Cheap to clone.
pub struct Served<P: ?Sized> {
    service: &'static ServiceDescriptor,
    implementation: Arc<P>,
    guard: Arc<Guard>,
    inbound: Inbound,
}

impl<P: ?Sized + Send + Sync + 'static> Served<P> {
    /// Guards `implementation` of `service`.
    pub fn new(service: &'static ServiceDescriptor, implementation: Arc<P>) -> Self {
        Self {
            service,
            implementation,
            guard: Arc::new(Guard::new(service, Side::Server)),
            inbound: Inbound::default(),
        }
    }

    /// Returns what the contract says of the service.
    pub fn service(&self) -> &'static ServiceDescriptor {
        self.service
    }

    /// Sets how calls from the wire are read.
    pub fn set_inbound(&mut self, inbound: Inbound) {
        self.inbound = inbound;
    }

    /// Sets the rules that calls come in by.
    pub fn set_rules(&mut self, rules: Rules) {
        self.guard = Arc::new(Guard::with_rules(self.service, Side::Server, rules));
    }

    /// Calls the implementation with everything that stands before it.
    ///
    /// # Errors
    /// Those of the guard, of the checks, and of the implementation.
    pub async fn enter<Q, R>(
        &self,
        method: &'static MethodDescriptor,
        cx: Context,
        request: Q,
        call: impl for<'a> FnOnce(&'a P, &'a Context, Q) -> BoxFuture<'a, Result<R>>,
    ) -> Result<R>
    where
        Q: Check,
    {
        let mut cx = cx.with_timeout(method.timeout);
        let permit = self.guard.enter(method, &mut cx).await?;
        request.checked()?;
        permit.run(&cx, call(&self.implementation, &cx, request)).await
    }

    /// Calls a server-streaming method of the implementation with everything that stands before it and goes with it.
    ///
    /// # Errors
    /// As [`Served::enter`]; a panic between two items, and the end of the process, are the last item.
    pub async fn enter_streaming<Q, R>(
        &self,
        method: &'static MethodDescriptor,
        cx: Context,
        request: Q,
        call: impl for<'a> FnOnce(&'a P, &'a Context, Q) -> BoxFuture<'a, Result<Streaming<R>>>,
    ) -> Result<Streaming<R>>
    where
        Q: Check,
        R: Send + 'static,
    {
        let items = self.enter(method, cx, request, call).await?;
        let drained = self.inbound.clone().drained();
        Ok(items::watched(method, self.guard.clone(), items, drained))
    }

    /// Answers a unary call from the wire.
    pub async fn unary<Q, R>(
        self,
        method: &'static MethodDescriptor,
        request: http::Request<Body>,
        call: impl for<'a> FnOnce(&'a P, &'a Context, Q) -> BoxFuture<'a, Result<R>> + Clone + Send + Sync + 'static,
    ) -> http::Response<Body>
    where
        Q: Message + Default + Check + 'static,
        R: Message + Default + 'static,
    {
        let (cx, message) = match self.receive(method, request).await {
            Ok(received) => received,
            Err(status) => return status.into_http(),
        };
        let enter = async |served: &Self, cx, request, _: &Span| served.enter(method, cx, request, call).await;
        let answer = self.answer(method, cx, message, enter).await;
        let response = answer.and_then(|reply| wire::reply(&reply));
        response.unwrap_or_else(|status| status.into_http())
    }

    /// Answers a server-streaming call from the wire.
    pub async fn streaming<Q, R>(
        self,
        method: &'static MethodDescriptor,
        request: http::Request<Body>,
        call: impl for<'a> FnOnce(&'a P, &'a Context, Q) -> BoxFuture<'a, Result<Streaming<R>>>
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> http::Response<Body>
    where
        Q: Message + Default + Check + 'static,
        R: Message + Default + 'static,
    {
        let (cx, message) = match self.receive(method, request).await {
            Ok(received) => received,
            Err(status) => return status.into_http(),
        };
        let enter = async |served: &Self, cx, request, span: &Span| {
            let items = served.enter_streaming(method, cx, request, call).await?;
            Ok(items::to_wire(method, items, span.clone()))
        };
        match self.answer(method, cx, message, enter).await {
            Ok(items) => wire::replies(items),
            Err(status) => status.into_http(),
        }
    }

    /// Reads who calls, and the only message of the request.
    async fn receive<Q: Message + Default>(
        &self,
        method: &'static MethodDescriptor,
        request: http::Request<Body>,
    ) -> Result<(Context, Q), Status> {
        let (head, body) = request.into_parts();
        let cx = self.inbound.context(method, &head.headers, &head.extensions);
        let cx = cx
            .map_err(|error| status_from_error(&error))?
            .with_timeout(method.timeout);
        // Who sends slowly has no longer than who works slowly.
        let reading = wire::read::<Q>(&head.headers, body);
        let message = match cx.remaining() {
            Some(remaining) => tokio::time::timeout(remaining, reading)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("the request did not arrive in time"))),
            None => reading.await,
        };
        Ok((cx, message?))
    }

    /// Has `enter` do the call, and logs its failure within the span that it is given.
    async fn answer<Q, R>(
        self,
        method: &'static MethodDescriptor,
        cx: Context,
        request: Q,
        enter: impl AsyncFnOnce(&Self, Context, Q, &Span) -> Result<R>,
    ) -> Result<R, Status> {
        let span = tracing::info_span!(
            "rpc",
            rpc.method = method.path,
            trace_id = cx.trace().request_id().as_str()
        );
        let outcome = enter(&self, cx, request, &span).instrument(span.clone()).await;
        outcome.map_err(|error| {
            span.in_scope(|| log_once(method, &error));
            status_from_error(&error)
        })
    }
}

/// Answers a path that no method has.
pub fn unknown_method() -> http::Response<Body> {
    status_from_error(&Error::unimplemented("METHOD_NOT_FOUND", "no such method")).into_http()
}

impl<P: ?Sized> Clone for Served<P> {
    fn clone(&self) -> Self {
        Self {
            service: self.service,
            implementation: self.implementation.clone(),
            guard: self.guard.clone(),
            inbound: self.inbound.clone(),
        }
    }
}

impl<P: ?Sized> std::fmt::Debug for Served<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served")
            .field("service", &self.service.name)
            .finish_non_exhaustive()
    }
}
