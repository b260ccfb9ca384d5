//! How a process reads who calls it over gRPC.

use std::sync::Arc;

use http::{HeaderMap, header};
use mosaic_core::{
    Access, Authenticator, Caller, Code, Context, Error, MethodDescriptor, Origin, Result, Runtime, StopSignal, Trace,
};

use crate::peer::PeerNames;
use crate::{PeerKey, metadata};

/// Makes a [`Context`] from the metadata of a call. Cheap to clone.
///
/// Nothing that the caller claims is believed without proof: no token, no account; no certificate and no peer token, no
/// service and no origin but the socket's. Where there is a certificate, it alone says which services the caller may be.
#[derive(Clone, Default)]
pub struct Inbound {
    runtime: Runtime,
    authenticator: Option<Arc<dyn Authenticator>>,
    peers: Option<PeerKey>,
    draining: Option<StopSignal>,
}

impl Inbound {
    /// Makes the reader of a process; without an authenticator nobody is signed in, without a key nobody is a service.
    pub fn new(runtime: Runtime, authenticator: Option<Arc<dyn Authenticator>>, peers: Option<PeerKey>) -> Self {
        Self {
            runtime,
            authenticator,
            peers,
            draining: None,
        }
    }

    /// Ends streamed answers when `draining` is told to stop: their readers are to go elsewhere.
    #[must_use]
    pub fn draining(mut self, draining: StopSignal) -> Self {
        self.draining = Some(draining);
        self
    }

    /// Returns the clock, randomness and ids of the process.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Completes when streamed answers are to end.
    pub(crate) async fn drained(self) {
        match self.draining {
            Some(mut draining) => draining.stopped().await,
            None => std::future::pending().await,
        }
    }

    /// Returns the context of a call of `method`.
    ///
    /// # Errors
    /// `Unauthenticated` if a token is sent that is not good and the method is not public.
    pub(crate) fn context(
        &self,
        method: &MethodDescriptor,
        headers: &HeaderMap,
        extensions: &http::Extensions,
    ) -> Result<Context> {
        let trace = metadata::trace(headers).unwrap_or_else(|| Trace::start(&self.runtime));
        let service = self.service(headers, extensions)?;
        let origin = match &service {
            Some(_) => metadata::origin(headers),
            None => Origin {
                ip: socket_ip(extensions),
                user_agent: metadata::text(headers, header::USER_AGENT).map(Into::into),
            },
        };
        let caller = if method.access == Access::Public {
            Caller::Anonymous
        } else {
            self.caller(headers)?
        };
        let mut cx = Context::resume(&self.runtime, trace)
            .with_caller(caller)
            .with_service(service)
            .with_origin(origin)
            .with_idempotency_key(metadata::idempotency_key(headers).map(Into::into));
        if cx.service().is_some() {
            cx = cx
                .with_retried(metadata::is_retried(headers))
                .with_degraded(metadata::is_degraded(headers));
        }
        if let Some(timeout) = metadata::timeout(headers) {
            // Years of patience are cut to the method's own timeout later; only the addition must not overflow.
            cx = cx.with_timeout(timeout.min(method.timeout));
        }
        Ok(cx)
    }

    fn service(&self, headers: &HeaderMap, extensions: &http::Extensions) -> Result<Option<Arc<str>>> {
        let claim = metadata::text(headers, metadata::PEER);
        if let Some(names) = extensions.get::<PeerNames>() {
            return names.claimed(claim);
        }
        match (&self.peers, claim) {
            (Some(key), Some(token)) => key.verify(token, self.runtime.now()).map(Some),
            _ => Ok(None),
        }
    }

    fn caller(&self, headers: &HeaderMap) -> Result<Caller> {
        let invalid = || Error::new(Code::Unauthenticated, "TOKEN_INVALID", "the token is not valid");
        let Some(token) = metadata::bearer(headers).map_err(|()| invalid())? else {
            return Ok(Caller::Anonymous);
        };
        let authenticator = self.authenticator.as_ref().ok_or_else(invalid)?;
        authenticator.authenticate(token.expose()).map(Caller::Account)
    }
}

fn socket_ip(extensions: &http::Extensions) -> Option<std::net::IpAddr> {
    use tonic::transport::server::TcpConnectInfo;
    extensions
        .get::<TcpConnectInfo>()?
        .remote_addr()
        .map(|address| address.ip())
}

impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbound")
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}
