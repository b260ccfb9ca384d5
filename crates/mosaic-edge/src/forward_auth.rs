//! The question of a reverse proxy: may this request pass, and who is it?
//!
//! nginx's `auth_request` and its kin send the request's `Authorization` and its target as `X-Original-URI` (and the verb
//! as `X-Original-Method`, where configured). Which paths are public is read from the contracts: the very table that
//! routes requests answers, so there is no second list to forget.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use http::{HeaderMap, HeaderValue};
use mosaic_core::{Access, Caller, Envelope, Error, Result, TraceText};

use crate::layers::failed;
use crate::routes::caller;
use crate::{Edge, Facts, RouteEntry};

/// Routes by path pattern; the values are positions in [`Edge::entries`].
type Table = matchit::Router<Vec<usize>>;

/// Returns `/identity/v1/verify/token` over the given routes.
///
/// # Errors
/// `Internal` if two patterns clash, which the build refuses.
pub(crate) fn routes(entries: &[RouteEntry]) -> Result<Router<Arc<Edge>>> {
    let table = Arc::new(table(entries)?);
    let handler = async move |State(edge): State<Arc<Edge>>, request: Request| verify(&edge, &table, request);
    Ok(Router::new().route("/identity/v1/verify/token", get(handler)))
}

fn table(entries: &[RouteEntry]) -> Result<Table> {
    let mut table = Table::new();
    let mut by_path = std::collections::BTreeMap::<&str, Vec<usize>>::new();
    for (position, entry) in entries.iter().enumerate() {
        by_path.entry(entry.path).or_default().push(position);
    }
    for (path, positions) in by_path {
        table.insert(path, positions).map_err(Error::internal)?;
    }
    Ok(table)
}

fn verify(edge: &Edge, table: &Table, request: Request) -> Response {
    let request_id = request
        .extensions()
        .get::<Facts>()
        .map(|facts| facts.trace.request_id());
    let (parts, _) = request.into_parts();
    let outcome = caller(edge, &parts).and_then(|caller| match caller {
        Caller::Account(identity) => Ok(identity.account.get()),
        Caller::Anonymous if is_public(edge, table, &parts.headers) => Ok(0),
        Caller::Anonymous => Err(Error::unauthenticated("TOKEN_MISSING", "sign in first")),
    });
    match outcome {
        Ok(account) => {
            let mut response = Response::new(Body::empty());
            response.headers_mut().insert("x-user", HeaderValue::from(account));
            response
        }
        Err(error) => failed(
            Envelope::Plain,
            error,
            request_id.as_ref().map_or("", TraceText::as_str),
        ),
    }
}

/// May anybody call the original request's route? A path that no contract knows is not public.
fn is_public(edge: &Edge, table: &Table, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let Some(target) = text("x-original-uri") else {
        return false;
    };
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let Ok(found) = table.at(path) else { return false };
    let verb = text("x-original-method");
    let mut entries = found.value.iter().map(|position| &edge.entries[*position]).peekable();
    let asked = |entry: &&RouteEntry| verb.is_none_or(|verb| entry.verb == "*" || entry.verb == verb);
    entries.peek().is_some()
        && entries
            .filter(asked)
            .all(|entry| matches!(entry.method.access, Access::Public | Access::Optional))
}
