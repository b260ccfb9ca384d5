//! From a path to the service that answers it.
//!
//! Our services are found by one look into one map and called. Services of others (health, reflection) have tonic's router,
//! which is a web framework's: general, and a good part of what a small call costs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt as _;

use crate::{BoxFuture, Serve};

type Answer = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dispatch(Arc<Services>);

struct Services {
    ours: HashMap<&'static str, Box<dyn Called>>,
    others: Routes,
}

/// A service of any contract.
pub(crate) trait Called: Send + Sync {
    /// Answers a call from the wire.
    fn call(&self, request: http::Request<Body>) -> Answer;
}

impl<S: Serve> Called for S {
    fn call(&self, request: http::Request<Body>) -> Answer {
        // Generated servers are always ready.
        tower::Service::call(&mut self.clone(), request)
    }
}

impl Dispatch {
    /// Calls `ours` by their full names, and `others` by whatever is left.
    pub(crate) fn new(ours: HashMap<&'static str, Box<dyn Called>>, others: Routes) -> Self {
        Self(Arc::new(Services { ours, others }))
    }

    /// Answers a call from the wire.
    pub(crate) fn call(&self, request: http::Request<Body>) -> Answer {
        let path = request.uri().path().as_bytes();
        // "/users.v1.Users/Detail"
        let name = path.get(1..).and_then(|rest| rest.split(|byte| *byte == b'/').next());
        let service = name.and_then(|name| self.0.ours.get(std::str::from_utf8(name).ok()?));
        match service {
            Some(service) => service.call(request),
            None => Box::pin(self.0.others.clone().oneshot(request)),
        }
    }
}
