//! What modules add to the admin port, each below its name.
//!
//! The port answers before modules are installed, so their routes are looked up when they are asked for.

use axum::Router;
use axum::extract::{Path, Request, State as Extract};
use axum::response::Response;
use axum::routing::any;
use http::Uri;
use mosaic_core::Error;
use tower::ServiceExt as _;

use super::{Failed, Handle};

pub(super) fn router() -> Router<Handle> {
    Router::new().route("/modules/{module}/{*rest}", any(pass_on))
}

async fn pass_on(
    Extract(handle): Extract<Handle>,
    Path((module, _)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failed> {
    let unknown = || {
        Error::not_found(
            "MODULE_UNKNOWN",
            "this process runs no such module with something to look after",
        )
    };
    let router = handle.get()?.modules.get(&module).ok_or_else(unknown)?.clone();
    let Ok(response) = router.oneshot(below(request)?).await;
    Ok(response)
}

/// Returns the request as the module's routes know it. Without its extensions: among them are the parts of our path.
fn below(request: Request) -> Result<Request, Failed> {
    let (parts, body) = request.into_parts();
    let mut below = Request::new(body);
    *below.method_mut() = parts.method;
    *below.uri_mut() = rest(&parts.uri)?;
    *below.headers_mut() = parts.headers;
    Ok(below)
}

/// Returns path and query without the first two parts of the path.
fn rest(uri: &Uri) -> Result<Uri, Failed> {
    let whole = uri.path_and_query().map_or("/", |path| path.as_str());
    let rest = whole.splitn(4, '/').nth(3).unwrap_or_default();
    Ok(format!("/{rest}").parse::<Uri>().map_err(Error::internal)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_module_is_taken_off() {
        for (whole, below) in [
            ("/modules/rewards/reports", "/reports"),
            ("/modules/rewards/reports/7?limit=1&x=/a", "/reports/7?limit=1&x=/a"),
            ("/modules/a%2Fb/c%20d", "/c%20d"),
        ] {
            assert_eq!(rest(&whole.parse().unwrap()).unwrap().to_string(), below);
        }
    }
}
