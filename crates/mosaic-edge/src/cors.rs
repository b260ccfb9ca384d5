//! Cross-origin rules for those who ask.
//!
//! Most requests carry no `Origin`: they come from apps, other servers, or pages of our own. tower-http's layer works on
//! each of them all the same, which is a tenth of what a small request costs here, to say what nobody will read. Such a
//! request goes around it and gets the one header that does matter: `Vary`, without which a cache on the way could hand
//! its answer to a page that does ask.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::Response;
use futures::TryFutureExt as _;
use futures::future::{Either, MapOk};
use http::{HeaderValue, header};
use tower::{Layer, Service};
use tower_http::cors::{Cors, CorsLayer};

/// As tower-http's layer says it for a list of origins.
const VARY: HeaderValue = HeaderValue::from_static("origin");

/// Applies a [`CorsLayer`] to requests with an `Origin`.
#[derive(Debug, Clone)]
pub(crate) struct CorsForOrigins(pub(crate) CorsLayer);

impl<S: Clone> Layer<S> for CorsForOrigins {
    type Service = WithCors<S>;

    fn layer(&self, inner: S) -> WithCors<S> {
        WithCors {
            asked: self.0.layer(inner.clone()),
            inner,
        }
    }
}

/// See [`CorsForOrigins`].
#[derive(Debug, Clone)]
pub(crate) struct WithCors<S> {
    asked: Cors<S>,
    inner: S,
}

impl<S> Service<Request> for WithCors<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<<Cors<S> as Service<Request>>::Future, MapOk<S::Future, fn(Response) -> Response>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Routers are always ready; both are asked, because the request is not known yet.
        match self.asked.poll_ready(cx) {
            Poll::Ready(Ok(())) => self.inner.poll_ready(cx),
            waiting => waiting,
        }
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if request.headers().contains_key(header::ORIGIN) {
            Either::Left(self.asked.call(request))
        } else {
            Either::Right(self.inner.call(request).map_ok(varying as fn(Response) -> Response))
        }
    }
}

fn varying(mut response: Response) -> Response {
    response.headers_mut().append(header::VARY, VARY);
    response
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(origin: Option<&'static str>) -> http::HeaderMap {
        let allowed = HeaderValue::from_static("https://shop.test");
        let rules = CorsLayer::new().allow_origin([allowed]).allow_credentials(true);
        let router: Router = Router::new().route("/", get(async || "hello"));
        let router = router.layer(CorsForOrigins(rules));
        let mut request = http::Request::new(Body::empty());
        if let Some(origin) = origin {
            request
                .headers_mut()
                .insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        router
            .oneshot(request)
            .await
            .expect("routers do not fail")
            .headers()
            .clone()
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
