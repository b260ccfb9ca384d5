//! The accept loop of the gRPC port.
//!
//! Ours because tonic's keeps its socket while it drains (the kernel goes on accepting connections that nobody will
//! serve), forgets connections when it is dropped (work goes on after the end of the process' drain), and ends calls at
//! `grpc-timeout` with a timer of its own that answers `CANCELLED`. Here the socket closes first, connections are told
//! to go, waited for, and gone when the loop is dropped.

use std::net::SocketAddr;
use std::time::Duration;

use futures::FutureExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use mosaic_core::{StopSignal, TaskGroup};
use tokio::net::{TcpListener, TcpStream};
use tonic::service::Routes;
use tonic::transport::server::{Connected as _, TcpConnectInfo};
use tower::ServiceExt as _;

use crate::ServerOptions;

/// Serves `routes` until `stop` completes, then lets running calls end. Whoever drops it cuts them.
pub(crate) async fn listen(
    listener: TcpListener,
    routes: Routes,
    options: ServerOptions,
    stop: impl Future<Output = ()> + Send,
) {
    let connections = TaskGroup::new(|panic| tracing::error!(task = panic.task, panic.message, "connection panicked"));
    let serve = |stream: TcpStream| {
        let stop = connections.stop_signal();
        connections.spawn("grpc connection", converse(stream, routes.clone(), options, stop));
    };
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, _)) => serve(stream),
            Err(error) => {
                // Out of file descriptors, most likely: give the connections that are open time to end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    for (stream, _) in backlog(listener) {
        serve(stream);
    }
    connections.shutdown(Duration::MAX).await;
}

/// Returns who was let in by the kernel before it was told to refuse.
///
/// Asked without tokio, which may not have heard of the last ones yet.
fn backlog(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    let mut streams = Vec::new();
    while let Ok((stream, peer)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            streams.push((stream, peer));
        }
    }
    streams
}

async fn converse(stream: TcpStream, routes: Routes, options: ServerOptions, mut stop: StopSignal) {
    let _ = stream.set_nodelay(true); // only latency is at stake
    let from: TcpConnectInfo = stream.connect_info();
    let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(from.clone());
        routes.clone().oneshot(request)
    });
    let builder = builder(&options);
    let mut conversation = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let end = async {
        tokio::select! {
            () = stop.stopped() => {}
            () = tokio::time::sleep(options.max_connection_age) => {}
        }
    };
    let mut end = std::pin::pin!(end.fuse());
    loop {
        tokio::select! {
            outcome = conversation.as_mut() => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            () = &mut end => conversation.as_mut().graceful_shutdown(),
        }
    }
}

/// The limits are ours because the defaults are not limits.
fn builder(options: &ServerOptions) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_local_error_reset_streams(Some(1024))
        .max_header_list_size(16 * 1024)
        .keep_alive_interval(Some(options.keep_alive_interval))
        .keep_alive_timeout(options.keep_alive_timeout);
    builder
}
