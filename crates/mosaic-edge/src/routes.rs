//! Generated routes: from a request to a client call and back.
//!
//! The generated code says how a request becomes a message and how a reply becomes JSON; everything else is here, once.

use std::pin::Pin;
use std::task::Poll;

use axum::body::Body;
use axum::extract::Request;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use mosaic_core::{Access, Caller, Context, Envelope, Error, MethodDescriptor, Result, ServiceDescriptor, StopSignal};
use mosaic_guard::check_access;

use crate::layers::{discard, failed, too_large};
use crate::{Edge, Facts, Input, Output, access_log, render_ok};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Replies of a server-streaming method.
type Items<R> = Pin<Box<dyn Stream<Item = Result<R>> + Send>>;

/// One generated route.
#[derive(Debug, Clone, Copy)]
pub struct RouteEntry {
    /// `GET`, `POST` ... or `*`.
    pub verb: &'static str,
    /// Path pattern.
    pub path: &'static str,
    /// What the contract says of the method.
    pub method: &'static MethodDescriptor,
    /// Headers that fields of the reply are bound to.
    pub reply_headers: &'static [&'static str],
}

/// Answers requests of one route: with the facts, the variables of the path, and the request.
///
/// By reference: what a request would clone, all processors would count on.
pub(crate) trait Handle: Send + Sync {
    fn handle<'a>(
        &'a self,
        edge: &'a Edge,
        facts: Facts,
        variables: Vec<(String, String)>,
        request: Request,
    ) -> BoxFuture<'a, Response>;
}

/// A generated route and what answers it.
pub(crate) struct Route {
    pub(crate) entry: RouteEntry,
    pub(crate) handler: Box<dyn Handle>,
}

impl Route {
    /// Does it answer requests with this verb? Who asks with `HEAD` gets the head of what `GET` gets.
    pub(crate) fn takes(&self, verb: &Method) -> bool {
        let asked = if verb == Method::HEAD {
            Method::GET.as_str()
        } else {
            verb.as_str()
        };
        self.entry.verb == "*" || self.entry.verb == asked || self.entry.verb == verb.as_str()
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route")
            .field("entry", &self.entry)
            .finish_non_exhaustive()
    }
}

/// The routes of one service.
#[derive(Debug)]
pub struct Routes {
    service: &'static ServiceDescriptor,
    routes: Vec<Route>,
}

impl Routes {
    /// Makes an empty set of routes of `service`.
    pub fn new(service: &'static ServiceDescriptor) -> Self {
        Self {
            service,
            routes: Vec::new(),
        }
    }

    /// Adds the route of `method.http[binding]`, which asks `client`.
    pub fn unary<C, Q, R>(
        &mut self,
        client: &C,
        method: &'static MethodDescriptor,
        binding: usize,
        steps: Steps<C, Q, R, R>,
    ) where
        C: Clone + Send + Sync + 'static,
        Q: Send + 'static,
        R: Send + 'static,
    {
        self.add(client, method, binding, steps, whole);
    }

    /// Adds the route of a server-streaming method: replies are sent as server-sent events.
    pub fn streaming<C, Q, R>(
        &mut self,
        client: &C,
        method: &'static MethodDescriptor,
        binding: usize,
        steps: Steps<C, Q, Items<R>, R>,
    ) where
        C: Clone + Send + Sync + 'static,
        Q: Send + 'static,
        R: Send + 'static,
    {
        self.add(client, method, binding, steps, in_items);
    }

    /// Names the headers that replies of `method` carry, for CORS.
    pub fn reply_headers(&mut self, method: &'static MethodDescriptor, headers: &'static [&'static str]) {
        let of_method = |route: &&mut Route| route.entry.method.index == method.index;
        for route in self.routes.iter_mut().filter(of_method) {
            route.entry.reply_headers = headers;
        }
    }

    fn add<C, Q, A, R>(
        &mut self,
        client: &C,
        method: &'static MethodDescriptor,
        binding: usize,
        steps: Steps<C, Q, A, R>,
        render: Render<C, Q, A, R>,
    ) where
        C: Clone + Send + Sync + 'static,
        Q: Send + 'static,
        A: Send + 'static,
        R: 'static,
    {
        let http = &method.http[binding];
        self.routes.push(Route {
            entry: RouteEntry {
                verb: http.verb,
                path: http.path,
                method,
                reply_headers: &[],
            },
            handler: Box::new(Generated {
                client: client.clone(),
                method,
                path: http.path,
                sensitive: self.service.sensitive,
                steps,
                render,
            }),
        });
    }

    pub(crate) fn into_parts(self) -> (Vec<Route>, &'static str) {
        (self.routes, self.service.openapi)
    }
}

/// What generated code does for a method: makes the message of a request, calls with it, makes JSON of each reply.
pub struct Steps<C, Q, A, R> {
    /// Reads the message.
    pub decode: fn(&mut Input) -> Result<Q>,
    /// Writes a reply.
    pub encode: fn(R) -> Result<Output>,
    /// Calls the method of the client.
    pub call: for<'a> fn(&'a C, Context, Q) -> BoxFuture<'a, Result<A>>,
}

/// Makes a response of what the method answered.
type Render<C, Q, A, R> = fn(&Generated<C, Q, A, R>, &Edge, A) -> Result<Response>;

struct Generated<C, Q, A, R> {
    client: C,
    method: &'static MethodDescriptor,
    path: &'static str,
    sensitive: &'static [&'static str],
    steps: Steps<C, Q, A, R>,
    render: Render<C, Q, A, R>,
}

impl<C: Send + Sync, Q: Send, A: Send, R> Handle for Generated<C, Q, A, R> {
    fn handle<'a>(
        &'a self,
        edge: &'a Edge,
        facts: Facts,
        variables: Vec<(String, String)>,
        request: Request,
    ) -> BoxFuture<'a, Response> {
        let work = async move |cx, input: &mut Input| {
            let message = (self.steps.decode)(input)?;
            let answer = (self.steps.call)(&self.client, cx, message).await?;
            (self.render)(self, edge, answer)
        };
        Box::pin(answer(
            edge,
            self.method,
            self.sensitive,
            facts,
            variables,
            request,
            work,
        ))
    }
}

/// Renders the only reply.
fn whole<C, Q, R>(route: &Generated<C, Q, R, R>, _: &Edge, reply: R) -> Result<Response> {
    let method = route.method;
    let style = if method.bare { Envelope::Plain } else { method.envelope };
    Ok(render_ok(style, method.ok_message, (route.steps.encode)(reply)?))
}

/// Renders replies as they come.
fn in_items<C, Q, R: Send + 'static>(
    route: &Generated<C, Q, Items<R>, R>,
    edge: &Edge,
    items: Items<R>,
) -> Result<Response> {
    Ok(events(route.path, items, route.steps.encode, edge.stop.get().cloned()))
}

/// Carries one request from authentication to its rendered answer.
async fn answer(
    edge: &Edge,
    method: &'static MethodDescriptor,
    sensitive: &[&str],
    facts: Facts,
    variables: Vec<(String, String)>,
    request: Request,
    work: impl AsyncFnOnce(Context, &mut Input) -> Result<Response>,
) -> Response {
    let trace = facts.trace;
    let (parts, body) = request.into_parts();
    let mut logged = None;
    let outcome = async {
        // Who calls comes first: a stranger does not learn what a good body looks like.
        let cx = context(edge, method, facts, &parts)?;
        check_access(method, &cx)?;
        let body = read_body(edge, body).await?;
        if edge.config.log_bodies.copied() {
            logged = Some(access_log::masked(&body, sensitive));
        }
        work(cx, &mut Input::read(parts, variables, body)?).await
    }
    .await;
    let mut response = outcome.unwrap_or_else(|error| failed(method.envelope, error, trace.request_id().as_str()));
    if let Some(body) = logged {
        response.extensions_mut().insert(body);
    }
    // What is somebody's own, and what a sign-in hands out, is for nobody's cache.
    if method.access != Access::Public || !method.idempotent {
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn context(edge: &Edge, method: &MethodDescriptor, facts: Facts, parts: &Parts) -> Result<Context> {
    let cx = Context::resume(edge.runtimes.own(), facts.trace).with_origin(facts.origin);
    let key = parts.headers.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok());
    let cx = cx
        .with_timeout(edge.config.request_timeout)
        .with_idempotency_key(key.map(Into::into));
    if method.access == Access::Public {
        Ok(cx)
    } else {
        Ok(cx.with_caller(caller(edge, parts)?))
    }
}

/// Returns who the bearer token says calls; no token is nobody, a bad one is an error.
pub(crate) fn caller(edge: &Edge, parts: &Parts) -> Result<Caller> {
    let invalid = || Error::unauthenticated("TOKEN_INVALID", "the token is not valid");
    let Some(value) = parts.headers.get(header::AUTHORIZATION) else {
        return Ok(Caller::Anonymous);
    };
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or_else(invalid)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(invalid());
    }
    let authenticator = edge.authenticator.as_ref().ok_or_else(invalid)?;
    authenticator.authenticate(token).map(Caller::Account)
}

async fn read_body(edge: &Edge, mut body: Body) -> Result<Bytes> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let max = edge.config.max_body.as_len();
    let whole = async {
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let incomplete = |_| Error::invalid_argument("BODY_INCOMPLETE", "the body could not be read");
            let frame = frame.map_err(|error| incomplete(error).with_http_status(400))?;
            let data = frame.into_data().unwrap_or_default();
            if bytes.len() + data.len() > max {
                return Err(too_large());
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    };
    // Boxed: most requests have no body.
    let outcome = Box::pin(tokio::time::timeout(edge.config.body_timeout, whole)).await;
    let outcome = outcome.unwrap_or_else(|_| {
        let error = Error::deadline_exceeded("BODY_TOO_SLOW", "the body did not arrive in time");
        Err(error.with_http_status(408))
    });
    if outcome.as_ref().is_err_and(|error| error.reason() == "BODY_TOO_LARGE") {
        Box::pin(discard(body)).await;
    }
    outcome
}

/// Sends `items` as events until the first error, the end of the process, or the end of the reader.
fn events<R: Send + 'static>(
    route: &'static str,
    mut items: Items<R>,
    encode: impl Fn(R) -> Result<Output> + Send + 'static,
    draining: Option<StopSignal>,
) -> Response {
    let mut drained: Pin<Box<dyn Future<Output = ()> + Send>> = match draining {
        Some(mut stop) => Box::pin(async move { stop.stopped().await }),
        None => Box::pin(std::future::pending()),
    };
    let (span, mut is_over) = (tracing::Span::current(), false);
    let events = futures::stream::poll_fn(move |cx| {
        if is_over {
            return Poll::Ready(None);
        }
        let _entered = span.enter();
        let item = match items.poll_next_unpin(cx) {
            Poll::Pending if drained.poll_unpin(cx).is_ready() => {
                Some(Err(
                    Error::unavailable("GOING_AWAY", "this instance is stopping").logged()
                ))
            }
            Poll::Pending => return Poll::Pending,
            Poll::Ready(item) => item.map(|item| item.and_then(&encode)),
        };
        if let Some(Err(error)) = &item {
            is_over = true;
            access_log::broken_off(route, error);
        }
        Poll::Ready(item.map(|item| Ok::<_, std::convert::Infallible>(event(item))))
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

fn event(item: Result<Output>) -> Event {
    match item {
        Ok(output) => Event::default().data(String::from_utf8_lossy(output.text())),
        Err(error) => {
            let body = serde_json::json!({"reason": error.reason(), "message": error.message()});
            Event::default().event("error").data(body.to_string())
        }
    }
}
