//! One connection to the gRPC port, from its first byte to its end.
//!
//! It must show within seconds that it speaks TLS, if that is what we speak, and HTTP/2. It is told to go when it is old or
//! the process stops, and its running calls end on it. Being told may not be enough: the HTTP/2 library waits for an
//! answer to its last ping, and a client that has gone to sleep gives none. So a connection that rests is closed a moment
//! after it was told, and one whose calls do not end is cut after [`ServerOptions::max_connection_age_grace`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::transport::server::{Connected as _, TcpConnectInfo};

use super::Phase;
use super::stream::{Activity, Prefaced, WorkingBody};
use crate::ServerOptions;
use crate::dispatch::Dispatch;
use crate::peer::PeerNames;

/// How long a connection that was told to go may rest before it is closed: a request may be on its way.
const REST: Duration = Duration::from_millis(500);

/// See the module documentation.
pub(crate) struct Conversation {
    pub(crate) peer: SocketAddr,
    pub(crate) options: Arc<ServerOptions>,
    pub(crate) dispatch: Dispatch,
    /// Phase of the listener when the connection was accepted.
    pub(crate) began: Phase,
    pub(crate) phase: watch::Receiver<Phase>,
    /// Age at which it is told to go.
    pub(crate) age: Duration,
}

impl Conversation {
    /// Serves the connection until it ends.
    pub(crate) async fn hold(self, stream: TcpStream) {
        let _ = stream.set_nodelay(true); // only latency is at stake
        let open = metrics::gauge!("mosaic_grpc_connections");
        open.increment(1.0);
        let from = stream.connect_info();
        match &self.options.tls {
            None => self.converse(stream, from, None).await,
            Some(tls) => {
                let handshake = tokio::time::timeout(self.options.handshake_timeout, tls.acceptor().accept(stream));
                match self.unless_told(handshake).await {
                    Some(Ok(Ok(stream))) => {
                        let names = stream.get_ref().1.peer_certificates().and_then(PeerNames::of);
                        self.converse(stream, from, names).await;
                    }
                    Some(Ok(Err(error))) => self.refused("tls", &error),
                    Some(Err(_)) => self.refused("silent", &io::ErrorKind::TimedOut.into()),
                    None => {}
                }
            }
        }
        open.decrement(1.0);
    }

    async fn converse<S>(&self, stream: S, from: TcpConnectInfo, names: Option<PeerNames>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Arc::new(Activity::default());
        let preface = Prefaced::read(stream, activity.clone());
        let preface = tokio::time::timeout(self.options.first_byte_timeout, preface);
        match self.unless_told(preface).await {
            Some(Ok(Ok(stream))) => self.speak(stream, activity, from, names).await,
            Some(Ok(Err(error))) => self.refused("preface", &error),
            Some(Err(_)) => self.refused("silent", &io::ErrorKind::TimedOut.into()),
            None => {}
        }
    }

    /// Completes without an outcome when the connection has been told to go and has had a moment.
    async fn unless_told<T>(&self, opening: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            outcome = opening => Some(outcome),
            () = async { self.told().await; tokio::time::sleep(REST).await } => None,
        }
    }

    /// Completes when the listener has moved on since the connection was accepted.
    async fn told(&self) {
        let mut phase = self.phase.clone();
        // An error means that the listener is gone, which is an end as well.
        let _ = phase.wait_for(|phase| *phase > self.began).await;
    }

    fn refused(&self, cause: &'static str, error: &io::Error) {
        metrics::counter!("mosaic_grpc_connections_refused_total", "cause" => cause).increment(1);
        tracing::debug!(peer = %self.peer, cause, %error, "connection refused");
    }

    async fn speak<S>(
        &self,
        stream: Prefaced<S>,
        activity: Arc<Activity>,
        from: TcpConnectInfo,
        names: Option<PeerNames>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (dispatch, seen) = (self.dispatch.clone(), activity.clone());
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let working = seen.work();
            let answer = if is_grpc(request.headers()) {
                let extensions = request.extensions_mut();
                extensions.insert(from.clone());
                if let Some(names) = &names {
                    extensions.insert(names.clone());
                }
                dispatch.call(request.map(Body::new)).left_future()
            } else {
                futures::future::ready(Ok(unsupported())).right_future()
            };
            answer.map(|answer| answer.map(|response| response.map(|body| WorkingBody { body, working })))
        });
        let conversation = self.builder().serve_connection(TokioIo::new(stream), service);
        let mut conversation = std::pin::pin!(conversation);
        let end = async {
            tokio::select! {
                () = self.told() => {}
                () = tokio::time::sleep(self.age) => {}
            }
        };
        tokio::select! {
            outcome = conversation.as_mut() => return ended(outcome),
            () = end => conversation.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            outcome = conversation.as_mut() => ended(outcome),
            () = rested(&activity) => tracing::debug!(peer = %self.peer, "a connection that rests is closed"),
            () = tokio::time::sleep(self.options.max_connection_age_grace) => {
                metrics::counter!("mosaic_grpc_connections_cut_total").increment(1);
                tracing::warn!("a connection was cut: its calls did not end after it was told to go");
            }
        }
    }

    /// The limits are ours because the defaults are not limits.
    fn builder(&self) -> hyper::server::conn::http2::Builder<TokioExecutor> {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.options.max_concurrent_streams)
            .max_local_error_reset_streams(Some(1024))
            .max_header_list_size(16 * 1024)
            .keep_alive_interval(Some(self.options.keep_alive_interval))
            .keep_alive_timeout(self.options.keep_alive_timeout);
        builder
    }
}

/// Completes when nothing has gone over the connection for a moment, and no request is in work.
async fn rested(activity: &Activity) {
    let mut before = activity.at_rest();
    loop {
        tokio::time::sleep(REST).await;
        let now = activity.at_rest();
        if now.is_some() && now == before {
            return;
        }
        before = now;
    }
}

fn ended(outcome: hyper::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended");
    }
}

/// Is the content gRPC (`application/grpc`, with `+` and a format or `;` and parameters after it)?
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let rest = content_type.and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// What everything else is answered (`doc/PROTOCOL-HTTP2.md` of the gRPC project).
fn unsupported() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_of_grpc() {
        #[track_caller]
        fn check(content_type: &'static str, is_good: bool) {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type))]);
            assert_eq!(is_grpc(&headers), is_good, "{content_type}");
        }
        check("application/grpc", true);
        check("application/grpc+proto", true);
        check("application/grpc;charset=utf-8", true);
        check("application/grpc-web", false);
        check("application/json", false);
        check("", false);
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
