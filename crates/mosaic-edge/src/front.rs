//! From the layers to the route of a request.
//!
//! Generated routes are found here, by one look into one table, and called with what was found: nothing is boxed, wrapped
//! or attached to the request on the way that the next step does not read. A web framework's router does all of that, for
//! handlers that it knows nothing of, and costs more than the call behind it. Routes written by hand (pages, developer
//! tools) have that router: [`Front`] passes on what its table does not know.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderValue, Method, header};
use mosaic_core::{Error, Result, StopSignal};
use tower::ServiceExt as _;
use tower_http::cors::CorsLayer;

use crate::listen::Arrival;
use crate::routes::Route;
use crate::{Edge, Facts, layers};

/// As tower-http's layer says it for a list of origins.
const VARY: HeaderValue = HeaderValue::from_static("origin");

/// Answers requests. Cheap to clone.
#[derive(Clone)]
pub struct Front(Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) edge: Arc<Edge>,
    table: matchit::Router<Vec<Route>>,
    others: Router,
    cors: CorsLayer,
}

/// Where a request goes.
pub(crate) enum Target<'f> {
    /// To a generated route, with the variables of its path as they were sent.
    Route(&'f Route, Vec<(String, String)>),
    /// The path has other verbs only.
    OtherVerbs(&'f [Route]),
    /// To the routes written by hand, one of which may have it.
    Others,
}

impl Front {
    /// Makes a front of generated `routes` and `others`.
    ///
    /// # Errors
    /// `Internal` if two patterns clash.
    pub(crate) fn new(edge: Arc<Edge>, routes: Vec<Route>, others: Router<Arc<Edge>>, cors: CorsLayer) -> Result<Self> {
        let mut by_path = BTreeMap::<&str, Vec<Route>>::new();
        for route in routes {
            by_path.entry(route.entry.path).or_default().push(route);
        }
        let mut table = matchit::Router::new();
        for (path, routes) in by_path {
            table.insert(path, routes).map_err(Error::internal)?;
        }
        let others = others
            .fallback(layers::not_found)
            .method_not_allowed_fallback(layers::method_not_allowed)
            .layer(axum::middleware::from_fn(note_route))
            .with_state(edge.clone());
        Ok(Self(Arc::new(Parts {
            edge,
            table,
            others,
            cors,
        })))
    }

    /// Hears from `stop` that the process is to end; from the first one, if there are several.
    pub(crate) fn stop_with(&self, stop: StopSignal) {
        let _ = self.0.edge.stop.set(stop);
    }

    /// Is the process to end?
    pub(crate) fn is_stopping(&self) -> bool {
        self.0.edge.stop.get().is_some_and(StopSignal::is_stopping)
    }

    /// Answers a request.
    ///
    /// Cross-origin rules are for those who name an origin. The others, most of all, get the one header that matters to
    /// them: without `Vary` a cache on the way could hand their answer to a page that does name one.
    pub async fn serve(&self, request: Request) -> Response {
        self.answer(request, None).await
    }

    /// Answers a request of which the socket knows more.
    pub(crate) async fn answer(&self, request: Request, arrival: Option<Arrival>) -> Response {
        if request.headers().contains_key(header::ORIGIN) {
            let front = self.0.clone();
            let inner = tower::service_fn(move |request| {
                let (front, arrival) = (front.clone(), arrival.clone());
                async move { Ok::<_, std::convert::Infallible>(layers::border(&front, request, arrival).await) }
            });
            let answered = Box::pin(tower::Layer::layer(&self.0.cors, inner).oneshot(request)).await;
            return answered.unwrap_or_else(|never| match never {});
        }
        let mut response = layers::border(&self.0, request, arrival).await;
        response.headers_mut().append(header::VARY, VARY);
        response
    }
}

impl Parts {
    /// Finds where a request goes.
    pub(crate) fn find(&self, request: &Request) -> Target<'_> {
        let Ok(found) = self.table.at(request.uri().path()) else {
            return Target::Others;
        };
        match found.value.iter().find(|route| route.takes(request.method())) {
            Some(route) => {
                let variables = found.params.iter();
                Target::Route(
                    route,
                    variables
                        .map(|(name, text)| (name.to_owned(), text.to_owned()))
                        .collect(),
                )
            }
            None => Target::OtherVerbs(found.value),
        }
    }

    /// Calls the target of a request.
    pub(crate) async fn call(&self, target: Target<'_>, facts: Facts, mut request: Request) -> Response {
        match target {
            Target::Route(route, variables) => route.handler.handle(&self.edge, facts, variables, request).await,
            Target::OtherVerbs(routes) => {
                let mut response = layers::refuse_verb(&self.edge, &request, &facts);
                if let Ok(verbs) = HeaderValue::from_str(&verbs_of(routes)) {
                    response.headers_mut().insert(header::ALLOW, verbs);
                }
                response
            }
            Target::Others => {
                request.extensions_mut().insert(facts);
                let answered = Box::pin(self.others.clone().oneshot(request)).await;
                answered.unwrap_or_else(|never| match never {})
            }
        }
    }
}

fn verbs_of(routes: &[Route]) -> String {
    let mut verbs: Vec<&str> = routes.iter().map(|route| route.entry.verb).collect();
    if verbs.contains(&Method::GET.as_str()) {
        verbs.push(Method::HEAD.as_str());
    }
    verbs.join(",")
}

/// Attaches the pattern of a route written by hand to its answer, for the log.
async fn note_route(request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(path) = path {
        response.extensions_mut().insert(path);
    }
    response
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front")
            .field("edge", &self.0.edge)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use mosaic_core::Runtime;
    use mosaic_core::config::Layers;

    use crate::EdgeBuilder;

    use super::*;

    async fn ask(origin: Option<&'static str>) -> http::HeaderMap {
        let settings = Layers::default()
            .set("edge.cors_origins", "https://shop.test")
            .settings();
        let mut builder = EdgeBuilder::default();
        builder.router(Router::new().route("/", axum::routing::get(async || "hello")));
        let config = settings.read().expect("a configuration");
        let front = builder.build(&Runtime::system(), None, config).expect("a front");
        let mut request = http::Request::new(Body::empty());
        request
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_static("test"));
        if let Some(origin) = origin {
            request
                .headers_mut()
                .insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        let response = front.serve(request).await;
        assert_eq!(response.status(), 200);
        response.headers().clone()
    }

    #[tokio::test]
    async fn who_names_an_origin_is_told_the_rules_and_caches_are_told_always() {
        let allowed = ask(Some("https://shop.test")).await;
        assert_eq!(allowed[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://shop.test");
        assert_eq!(allowed[header::ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        let stranger = ask(Some("https://evil.test")).await;
        assert!(!stranger.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
        let plain = ask(None).await;
        assert!(!plain.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
        for headers in [allowed, stranger, plain] {
            assert_eq!(headers[header::VARY], VARY);
        }
    }
}
