//! The border of one process, put together.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use crossbeam_utils::CachePadded;
use http::{HeaderValue, Method, header};
use mosaic_core::{Authenticator, Envelope, Error, Result, Runtime, StopSignal, Striped};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::layers::{AddressLimiter, Meters};
use crate::routes::Route;
use crate::{EdgeConfig, Front, RouteEntry, Routes, forward_auth, openapi};

/// Longest time of an upload, however fast it comes.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(3600);

/// What every request of a process meets; shared by all of them.
pub struct Edge {
    pub(crate) runtime: Runtime,
    /// For contexts, which every request makes.
    pub(crate) runtimes: Striped<Runtime>,
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
    pub(crate) config: EdgeConfig,
    pub(crate) entries: Vec<RouteEntry>,
    /// Written by every request, and so apart from what they all read.
    pub(crate) in_flight: CachePadded<AtomicUsize>,
    pub(crate) addresses: AddressLimiter,
    pub(crate) meters: Meters,
    /// Tells that the process is to end, once somebody listens. Here, and not with each request: a clone for each would have all
    /// processors count on one counter.
    pub(crate) stop: OnceLock<StopSignal>,
    uploads: Vec<&'static str>,
    openapi: String,
}

impl Edge {
    /// Returns the style in which a refusal of `path` is rendered: that of its neighbours, plain for strangers.
    pub(crate) fn style_of(&self, path: &str) -> Envelope {
        let segment = first_segment(path);
        let neighbour = self.entries.iter().find(|entry| first_segment(entry.path) == segment);
        neighbour.map_or(Envelope::Plain, |entry| entry.method.envelope)
    }

    /// Does `path` take bodies of any length, and the time for them?
    pub(crate) fn is_upload(&self, path: &str) -> bool {
        self.uploads.iter().any(|prefix| path.starts_with(prefix))
    }

    /// Returns how long a request may take until its answer begins.
    pub(crate) fn time_max(&self, path: &str) -> Duration {
        if self.is_upload(path) {
            UPLOAD_TIMEOUT
        } else {
            self.config.request_timeout
        }
    }

    /// Returns the OpenAPI document of every route.
    pub(crate) fn openapi(&self) -> &str {
        &self.openapi
    }
}

fn first_segment(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Collects routes, then becomes a service.
#[derive(Debug, Default)]
pub struct EdgeBuilder {
    routes: Vec<Route>,
    routers: Vec<Router<Arc<Edge>>>,
    entries: Vec<RouteEntry>,
    documents: Vec<&'static str>,
    uploads: Vec<&'static str>,
}

impl EdgeBuilder {
    /// Adds the generated routes of a service.
    pub fn routes(&mut self, routes: Routes) {
        let (routes, document) = routes.into_parts();
        self.entries.extend(routes.iter().map(|route| route.entry));
        self.routes.extend(routes);
        self.documents.push(document);
    }

    /// Adds routes written by hand: pages, developer tools. They pass the layers and answer for themselves.
    pub fn router(&mut self, router: Router) {
        self.routers.push(router.with_state(()));
    }

    /// Adds routes written by hand, all beneath `prefix`, that stream bodies and see to their length and pace themselves.
    pub fn uploads(&mut self, prefix: &'static str, router: Router) {
        self.uploads.push(prefix);
        self.router(router);
    }

    /// Is there nothing to serve?
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.routers.is_empty()
    }

    /// Returns every generated route added so far.
    pub fn entries(&self) -> &[RouteEntry] {
        &self.entries
    }

    /// Ends the collection.
    ///
    /// # Errors
    /// `InvalidArgument` for a CORS origin that is no header value; `Internal` if two routes clash.
    pub fn build(
        self,
        runtime: &Runtime,
        authenticator: Option<Arc<dyn Authenticator>>,
        config: EdgeConfig,
    ) -> Result<Front> {
        let cors = cors(&config, &self.entries)?;
        let edge = Arc::new(Edge {
            runtime: runtime.clone(),
            runtimes: Striped::new(|| runtime.apart()),
            authenticator,
            addresses: AddressLimiter::default(),
            meters: Meters::default(),
            stop: OnceLock::new(),
            openapi: openapi::merge(&self.documents)?,
            entries: self.entries,
            uploads: self.uploads,
            config,
            in_flight: CachePadded::default(),
        });
        let own = openapi::routes().merge(forward_auth::routes(&edge.entries)?);
        let others = self.routers.into_iter().fold(own, Router::merge);
        Front::new(edge, self.routes, others, cors)
    }
}

/// Exact origins with credentials (never a reflected one); headers that contracts answer with are readable by scripts.
fn cors(config: &EdgeConfig, entries: &[RouteEntry]) -> Result<CorsLayer> {
    let origin = |text: &String| {
        let what = || Error::invalid_argument("CORS_ORIGIN_INVALID", format!("{text:?} is not an origin"));
        HeaderValue::from_str(text).map_err(|_| what())
    };
    let origins: Vec<HeaderValue> = config.cors_origins.iter().map(origin).collect::<Result<_>>()?;
    let exposed = entries.iter().flat_map(|entry| entry.reply_headers.iter().copied());
    let exposed: BTreeSet<&str> = exposed.collect();
    let exposed: Vec<http::HeaderName> = exposed.into_iter().map(http::HeaderName::from_static).collect();
    Ok(CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION])
        .expose_headers(exposed)
        .max_age(Duration::from_secs(12 * 3600)))
}
