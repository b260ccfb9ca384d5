//! Generated routes: from a request to a client call and back.
//!
//! The generated code says how a request becomes a message and how a reply becomes JSON; everything else is here, once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, any, on};
use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, Stream, StreamExt as _};
use http::request::Parts;
use http::{HeaderValue, header};
use http_body_util::BodyExt as _;
use mosaic_core::{Access, Caller, Context, Envelope, Error, MethodDescriptor, Result, ServiceDescriptor, Trace};
use mosaic_guard::check_access;

use crate::layers::{discard, failed, too_large};
use crate::listen::Draining;
use crate::{Edge, Facts, Input, Output, access_log, render_ok};

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

/// The routes of one service.
#[derive(Debug)]
pub struct Routes {
    service: &'static ServiceDescriptor,
    router: Router<Arc<Edge>>,
    entries: Vec<RouteEntry>,
}

impl Routes {
    /// Makes an empty set of routes of `service`.
    pub fn new(service: &'static ServiceDescriptor) -> Self {
        Self {
            service,
            router: Router::new(),
            entries: Vec::new(),
        }
    }

    /// Adds the route of `method.http[binding]`: `decode` makes the message, `call` is the client, `encode` makes JSON.
    pub fn unary<Q, R, F>(
        &mut self,
        method: &'static MethodDescriptor,
        binding: usize,
        decode: impl Fn(&mut Input) -> Result<Q> + Clone + Send + Sync + 'static,
        encode: impl Fn(R) -> Result<Output> + Clone + Send + Sync + 'static,
        call: impl Fn(Context, Q) -> F + Clone + Send + Sync + 'static,
    ) where
        F: Future<Output = Result<R>> + Send,
        Q: Send + 'static,
        R: Send + 'static,
    {
        let sensitive = self.service.sensitive;
        let handler = async move |State(edge): State<Arc<Edge>>, request: Request| {
            answer(&edge, method, sensitive, request, async |cx, input| {
                let reply = call(cx, decode(input)?).await?;
                let style = if method.bare { Envelope::Plain } else { method.envelope };
                Ok(render_ok(style, method.ok_message, encode(reply)?))
            })
            .await
        };
        self.add(method, binding, |filter| match filter {
            Some(filter) => on(filter, handler),
            None => any(handler),
        });
    }

    /// Adds the route of a server-streaming method: replies are sent as server-sent events.
    pub fn streaming<Q, R, F>(
        &mut self,
        method: &'static MethodDescriptor,
        binding: usize,
        decode: impl Fn(&mut Input) -> Result<Q> + Clone + Send + Sync + 'static,
        encode: impl Fn(R) -> Result<Output> + Clone + Send + Sync + 'static,
        call: impl Fn(Context, Q) -> F + Clone + Send + Sync + 'static,
    ) where
        F: Future<Output = Result<Items<R>>> + Send,
        Q: Send + 'static,
        R: Send + 'static,
    {
        let sensitive = self.service.sensitive;
        let handler = async move |State(edge): State<Arc<Edge>>, request: Request| {
            let draining = request.extensions().get::<Draining>().cloned();
            answer(&edge, method, sensitive, request, async |cx, input| {
                let items = call(cx, decode(input)?).await?;
                let route = method.http[binding].path;
                Ok(events(route, items, encode.clone(), draining))
            })
            .await
        };
        self.add(method, binding, |filter| match filter {
            Some(filter) => on(filter, handler),
            None => any(handler),
        });
    }

    /// Names the headers that replies of `method` carry, for CORS.
    pub fn reply_headers(&mut self, method: &'static MethodDescriptor, headers: &'static [&'static str]) {
        for entry in self
            .entries
            .iter_mut()
            .filter(|entry| entry.method.index == method.index)
        {
            entry.reply_headers = headers;
        }
    }

    /// Returns the routes as data.
    pub fn entries(&self) -> &[RouteEntry] {
        &self.entries
    }

    fn add(
        &mut self,
        method: &'static MethodDescriptor,
        binding: usize,
        handler: impl FnOnce(Option<MethodFilter>) -> MethodRouter<Arc<Edge>>,
    ) {
        let http = &method.http[binding];
        // Generated bindings have one of these verbs, or the star.
        let filter = http
            .verb
            .parse::<http::Method>()
            .ok()
            .and_then(|verb| MethodFilter::try_from(verb).ok());
        let router = std::mem::take(&mut self.router);
        self.router = router.route(http.path, handler(filter));
        self.entries.push(RouteEntry {
            verb: http.verb,
            path: http.path,
            method,
            reply_headers: &[],
        });
    }

    pub(crate) fn into_parts(self) -> (Router<Arc<Edge>>, Vec<RouteEntry>, &'static str) {
        (self.router, self.entries, self.service.openapi)
    }
}

/// Carries one request from authentication to its rendered answer.
async fn answer(
    edge: &Edge,
    method: &'static MethodDescriptor,
    sensitive: &[&str],
    mut request: Request,
    work: impl AsyncFnOnce(Context, &mut Input) -> Result<Response>,
) -> Response {
    let facts = request.extensions_mut().remove::<Facts>();
    let trace = facts.as_ref().map(|facts| facts.trace);
    let (mut parts, body) = request.into_parts();
    let mut logged = None;
    let outcome = async {
        // Who calls comes first: a stranger does not learn what a good body looks like.
        let cx = context(edge, method, facts, &parts)?;
        check_access(method, &cx)?;
        let body = read_body(edge, body).await?;
        if edge.config.log_bodies.copied() {
            logged = Some(access_log::masked(&body, sensitive));
        }
        work(cx, &mut Input::read(&mut parts, body).await?).await
    }
    .await;
    let mut response = outcome.unwrap_or_else(|error| {
        let request_id = trace.map(Trace::request_id).unwrap_or_default();
        failed(method.envelope, error, &request_id)
    });
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

fn context(edge: &Edge, method: &MethodDescriptor, facts: Option<Facts>, parts: &Parts) -> Result<Context> {
    let cx = match facts {
        Some(Facts { trace, origin }) => Context::resume(&edge.runtime, trace).with_origin(origin),
        None => Context::new(&edge.runtime),
    };
    let key = parts.headers.get("idempotency-key").and_then(|key| key.to_str().ok());
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
    let outcome = tokio::time::timeout(edge.config.body_timeout, whole)
        .await
        .unwrap_or_else(|_| {
            let error = Error::deadline_exceeded("BODY_TOO_SLOW", "the body did not arrive in time");
            Err(error.with_http_status(408))
        });
    if outcome.as_ref().is_err_and(|error| error.reason() == "BODY_TOO_LARGE") {
        discard(body).await;
    }
    outcome
}

/// Sends `items` as events until the first error, the end of the process, or the end of the reader.
fn events<R: Send + 'static>(
    route: &'static str,
    mut items: Items<R>,
    encode: impl Fn(R) -> Result<Output> + Send + 'static,
    draining: Option<Draining>,
) -> Response {
    let mut drained: Pin<Box<dyn Future<Output = ()> + Send>> = match draining {
        Some(Draining(mut stop)) => Box::pin(async move { stop.stopped().await }),
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
        Ok(output) => Event::default().data(String::from_utf8_lossy(&output.json)),
        Err(error) => {
            let body = serde_json::json!({"reason": error.reason(), "message": error.message()});
            Event::default().event("error").data(body.to_string())
        }
    }
}
