//! What a request passes between the socket and its route.
//!
//! One function, [`border`], reads top to bottom in the order of the layers: facts and span, panic, framing, deadline,
//! size, load, rate, route, answer. It is also the one place that logs an error: whoever renders one attaches it to the
//! response, and the line is written here, once, with the cause chain that strangers never see.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::response::Response;
use http::header::Entry;
use http::{HeaderName, HeaderValue, Method, Version, header};
use http_body_util::BodyExt as _;
use metrics::Histogram;
use mosaic_core::{Error, Result, TraceText, catch_panic, timeout};
use tracing::Instrument as _;

use crate::front::{Parts, Target};
use crate::listen::Arrival;
use crate::{Edge, Facts, access_log, render_error};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Reason of a request that two readers could understand differently.
const MISFRAMED: &str = "REQUEST_INVALID";

/// Attached to a response that renders an error.
#[derive(Debug, Clone)]
pub(crate) struct Failure(pub(crate) Arc<Error>);

/// Passes a request through every layer; see the module documentation.
pub(crate) async fn border(front: &Parts, mut request: Request, arrival: Option<Arrival>) -> Response {
    let edge = &*front.edge;
    let started = edge.runtime.instant();
    let has_two_lengths = arrival.as_ref().is_some_and(|arrival| arrival.has_two_lengths);
    let facts = Facts::read(&edge.runtime, request.headers(), arrival, &edge.config.trusted_proxies);
    let request_id = facts.trace.request_id();
    let request_id = request_id.as_str();
    let target = front.find(&request);
    let generated = match &target {
        Target::Route(route, _) => Some(route.entry.path),
        Target::OtherVerbs(_) | Target::Others => None,
    };
    let uri = request.uri().clone();
    let method = request.method().clone();
    let span = tracing::info_span!("request", trace_id = request_id);
    let ip = facts.origin.ip;

    // Pinned where it is made: it is large, and would be copied into everything around it.
    let work = std::pin::pin!(
        catch_panic(async {
            check_framing(&request, has_two_lengths)?;
            let _in_flight = pass(edge, &mut request, ip).await?;
            Ok(front.call(target, facts, request).await)
        })
        .instrument(span)
    );
    let outcome = match timeout(edge.time_max(uri.path()), work).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Err(Error::internal(format!("panic: {panic}"))),
        Err(_) => Err(Error::deadline_exceeded(
            "DEADLINE_EXCEEDED",
            "the request took too long",
        )),
    };
    let is_misframed = outcome.as_ref().is_err_and(|error| error.reason() == MISFRAMED);
    let mut response = outcome.unwrap_or_else(|error| failed(edge.style_of(uri.path()), error, request_id));
    if is_misframed {
        // Where the next request would begin is anybody's guess.
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    mark(&mut response, request_id);
    if edge.config.secure_cookies == Some(true) {
        secure_cookies(&mut response);
    }
    let by_hand = response.extensions().get::<MatchedPath>();
    let route = generated
        .or_else(|| by_hand.map(MatchedPath::as_str))
        .unwrap_or("unmatched");
    let elapsed = edge.runtime.instant().saturating_duration_since(started);
    edge.meters.record(&method, route, response.status().as_u16(), elapsed);
    let line = access_log::Line {
        trace_id: request_id,
        method: &method,
        route,
        elapsed,
    };
    access_log::write(&edge.config, &line, &response);
    response
}

/// Adds the headers that every answer has.
fn mark(response: &mut Response, request_id: &str) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// Decides whether a request may go on; it is in flight until the value is dropped.
async fn pass<'e>(edge: &'e Edge, request: &mut Request, ip: Option<IpAddr>) -> Result<InFlight<'e>> {
    if !edge.is_upload(request.uri().path()) && announces_too_much(edge, request) {
        Box::pin(discard(std::mem::take(request.body_mut()))).await;
        return Err(too_large());
    }
    let in_flight = InFlight::enter(edge)?;
    if let Some(ip) = ip.filter(|ip| !ip.is_loopback()) {
        edge.addresses
            .admit(ip, edge.config.rate_per_ip.copied(), edge.runtime.instant())?;
    }
    Ok(in_flight)
}

/// Renders an error and attaches it for the log.
pub(crate) fn failed(style: mosaic_core::Envelope, error: Error, request_id: &str) -> Response {
    let mut response = render_error(style, &error, request_id);
    response.extensions_mut().insert(Failure(Arc::new(error)));
    response
}

/// Refuses what HTTP/1.1 lets two readers understand differently (RFC 9112 3.2, 6.3).
fn check_framing(request: &Request, has_two_lengths: bool) -> Result<()> {
    let invalid = |message: &'static str| Err(Error::invalid_argument(MISFRAMED, message).with_http_status(400));
    let n_values = |name: HeaderName| request.headers().get_all(name).iter().count();
    if request.version() == Version::HTTP_11 && n_values(header::HOST) != 1 {
        return invalid("an HTTP/1.1 request has exactly one Host header");
    }
    if has_two_lengths {
        return invalid("a request has at most one Content-Length header");
    }
    if n_values(header::AUTHORIZATION) > 1 {
        return Err(Error::unauthenticated("TOKEN_INVALID", "the token is not valid"));
    }
    if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
        return Err(not_allowed());
    }
    Ok(())
}

fn announces_too_much(edge: &Edge, request: &Request) -> bool {
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    announced.is_some_and(|length: u64| length > edge.config.max_body.bytes())
}

/// Reads on for a moment what nobody wants: a client that is cut off while it writes does not read the answer.
pub(crate) async fn discard(mut body: Body) {
    const BYTES_MAX: usize = 8 << 20;
    const TIME_MAX: Duration = Duration::from_secs(2);
    let read_on = async {
        let mut n_bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            n_bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
            if n_bytes > BYTES_MAX {
                return;
            }
        }
    };
    // However it ends, the answer is the same.
    let _ = tokio::time::timeout(TIME_MAX, read_on).await;
}

pub(crate) fn too_large() -> Error {
    Error::invalid_argument("BODY_TOO_LARGE", "the body is too large").with_http_status(413)
}

fn not_allowed() -> Error {
    Error::unimplemented("METHOD_NOT_ALLOWED", "the path does not have this method").with_http_status(405)
}

/// Answers a path that no route has.
pub(crate) async fn not_found(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    let error = Error::not_found("ROUTE_NOT_FOUND", "no such path").with_http_status(404);
    refuse(&edge, &request, error)
}

/// Answers a path written by hand that has other methods only.
pub(crate) async fn method_not_allowed(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    refuse(&edge, &request, not_allowed())
}

/// Answers a generated path that has other methods only.
pub(crate) fn refuse_verb(edge: &Edge, request: &Request, facts: &Facts) -> Response {
    failed(
        edge.style_of(request.uri().path()),
        not_allowed(),
        facts.trace.request_id().as_str(),
    )
}

fn refuse(edge: &Edge, request: &Request, error: Error) -> Response {
    let request_id = request
        .extensions()
        .get::<Facts>()
        .map(|facts| facts.trace.request_id());
    failed(
        edge.style_of(request.uri().path()),
        error,
        request_id.as_ref().map_or("", TraceText::as_str),
    )
}

/// Keeps cookies off connections that are not encrypted.
fn secure_cookies(response: &mut Response) {
    let Entry::Occupied(mut cookies) = response.headers_mut().entry(header::SET_COOKIE) else {
        return;
    };
    for cookie in cookies.iter_mut() {
        let secured = [cookie.as_bytes(), b"; Secure"].concat();
        if let Ok(secured) = HeaderValue::from_bytes(&secured) {
            *cookie = secured;
        }
    }
}

/// Durations of requests by route, verb and status; each histogram is looked up in the recorder once.
#[derive(Default)]
pub(crate) struct Meters {
    /// Copied to be changed, which is soon over: routes, verbs and statuses are few.
    by_route: ArcSwap<HashMap<String, ByOutcome>>,
}

/// Histograms of one route by verb and status: few, so that looking at one after the other is quick.
type ByOutcome = Vec<((&'static str, u16), Histogram)>;

impl Meters {
    fn record(&self, method: &Method, route: &str, status: u16, elapsed: Duration) {
        let key = (verb_of(method), status);
        let find = |by_outcome: &ByOutcome| by_outcome.iter().position(|(known, _)| *known == key);
        if let Some(known) = self.by_route.load().get(route)
            && let Some(at) = find(known)
        {
            return known[at].1.record(elapsed);
        }
        let labels = [
            ("method", key.0.to_owned()),
            ("route", route.to_owned()),
            ("status", status.to_string()),
        ];
        let histogram = metrics::histogram!("mosaic_http_request_seconds", &labels);
        histogram.record(elapsed);
        self.by_route.rcu(|by_route| {
            let mut by_route = HashMap::clone(by_route);
            let known = by_route.entry(route.to_owned()).or_default();
            // Somebody else may have been first.
            if find(known).is_none() {
                known.push((key, histogram.clone()));
            }
            by_route
        });
    }
}

/// A label has few values, whatever clients send.
fn verb_of(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

/// Counts a request as worked on until dropped.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn enter(edge: &'a Edge) -> Result<Self> {
        let entered = Self(&edge.in_flight);
        if edge.in_flight.fetch_add(1, Ordering::Relaxed) >= edge.config.max_in_flight.copied() {
            let error = Error::unavailable("OVERLOADED", "too many requests are being worked on");
            return Err(error.with_retry_after(Duration::from_secs(1)).with_http_status(503));
        }
        Ok(entered)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Addresses that are kept in mind; a full table forgets those that are within their rate.
const ADDRESSES_MAX: usize = 100_000;

/// Limits requests a second of one address, with a burst of two seconds' worth (GCRA).
#[derive(Debug, Default)]
pub(crate) struct AddressLimiter {
    due: Mutex<HashMap<IpAddr, Instant>>,
}

impl AddressLimiter {
    fn admit(&self, ip: IpAddr, per_second: u32, now: Instant) -> Result<()> {
        const BURST: Duration = Duration::from_secs(2);
        if per_second == 0 {
            return Ok(());
        }
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.len() >= ADDRESSES_MAX {
            due.retain(|_, due| *due > now);
        }
        let at = due.get(&ip).copied().unwrap_or(now).max(now);
        if at - now > BURST {
            let rule = format!("at most {per_second} requests a second from one address");
            return Err(Error::resource_exhausted("RATE_LIMITED", rule).with_retry_after(at - now - BURST));
        }
        due.insert(ip, at + Duration::from_secs(1) / per_second);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_rate_and_a_burst() {
        let limiter = AddressLimiter::default();
        let now = mosaic_core::Runtime::system().instant();
        let (ours, other) = (IpAddr::from([1, 1, 1, 1]), IpAddr::from([2, 2, 2, 2]));
        let n_admitted = (0..100).filter(|_| limiter.admit(ours, 10, now).is_ok()).count();
        assert_eq!(n_admitted, 21);
        assert!(limiter.admit(other, 10, now).is_ok());
        assert!(limiter.admit(ours, 10, now + Duration::from_millis(100)).is_ok());
        assert!(limiter.admit(ours, 10, now + Duration::from_millis(100)).is_err());
    }
}
