//! The accept loop of the public port.
//!
//! Ours because `axum::serve` has no caps and no timeouts: half-sent heads and silent connections stay for ever. Here
//! connections are counted in all and by address, watched ([`crate::watchdog`]), and at the end told to go, waited for,
//! and cut. HTTP/2 has a frame for "told to go" that loses no request. HTTP/1.1 has only the header of an answer, so that
//! a connection that rests is kept a moment longer: its next request may be on the way, and is answered.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use http::{HeaderValue, Request, header};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use mosaic_core::{StopSignal, TaskGroup};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::watchdog::{Patience, Watch, WatchedStream};
use crate::{EdgeConfig, Front};

/// What a client sends first to speak HTTP/2 without TLS (RFC 9113 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a resting HTTP/1.1 connection is kept after the process was told to stop.
const LINGER: Duration = Duration::from_millis(500);

/// Serves `front` on `listener` until `stop`, then drains connections for at most `grace`.
pub async fn listen(listener: TcpListener, front: Front, config: EdgeConfig, mut stop: StopSignal, grace: Duration) {
    let connections = TaskGroup::new(|panic| tracing::error!(task = panic.task, panic.message, "connection panicked"));
    front.stop_with(connections.stop_signal());
    let slots = Arc::new(Semaphore::new(config.max_connections));
    let by_ip = Arc::new(ByAddress::default());
    let patience = Patience {
        first_byte: config.first_byte_timeout,
        head: config.header_timeout,
        idle: config.idle_timeout,
    };
    let converse = |stream, peer: SocketAddr, slot| {
        let Some(address) = by_ip.clone().enter(peer.ip(), max_connections_of(peer.ip(), &config)) else {
            metrics::counter!("mosaic_http_connections_refused_total", "cause" => "per_ip").increment(1);
            return;
        };
        let connection = Connection {
            peer,
            patience,
            stop: connections.stop_signal(),
            _slot: slot,
            _address: address,
        };
        connections.spawn("http connection", connection.serve(stream, front.clone()));
    };
    loop {
        // A slot first: beyond the cap, connections wait in the kernel and cost us nothing.
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot,
            () = stop.stopped() => break,
        };
        let Ok(slot) = slot else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.stopped() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: give the connections that are open time to end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        converse(stream, peer, slot);
    }
    for (stream, peer) in backlog(listener) {
        if let Ok(slot) = slots.clone().try_acquire_owned() {
            converse(stream, peer, slot);
        }
    }
    let n_cut = connections.shutdown(grace).await;
    if n_cut > 0 {
        tracing::warn!(n_cut, "connections were cut at the end of the drain");
    }
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

/// Completes a moment after the end was asked for.
async fn lingered(mut stop: StopSignal) {
    stop.stopped().await;
    tokio::time::sleep(LINGER).await;
}

/// The machine itself (a proxy, a developer) may open as many connections as there are.
fn max_connections_of(ip: IpAddr, config: &EdgeConfig) -> usize {
    if ip.to_canonical().is_loopback() {
        config.max_connections
    } else {
        config.max_connections_per_ip
    }
}

/// What the socket knows of a request.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// Who is at the other end.
    pub(crate) peer: SocketAddr,
    /// The head has more than one Content-Length line.
    pub(crate) has_two_lengths: bool,
}

/// A request without a body is most requests, and needs no box around it.
fn body_of(incoming: Incoming) -> Body {
    if incoming.is_end_stream() {
        Body::empty()
    } else {
        Body::new(incoming)
    }
}

struct Connection {
    peer: SocketAddr,
    patience: Patience,
    stop: StopSignal,
    _slot: OwnedSemaphorePermit,
    _address: AddressSlot,
}

impl Connection {
    async fn serve(self, stream: TcpStream, front: Front) {
        let _ = stream.set_nodelay(true); // only latency is at stake
        let open = metrics::gauge!("mosaic_http_connections");
        open.increment(1.0);
        let watch = Watch::new();
        let version = tokio::select! {
            version = self.version(&stream) => version,
            () = lingered(self.stop.clone()) => None,
        };
        if let Some(is_http2) = version {
            self.converse(stream, front, &watch, is_http2).await;
        }
        open.decrement(1.0);
    }

    /// Learns the protocol from the first bytes; `None` if they do not come in time.
    async fn version(&self, stream: &TcpStream) -> Option<bool> {
        let first_bytes = async {
            let mut bytes = [0; HTTP2_PREFACE.len()];
            loop {
                let n_bytes = stream.peek(&mut bytes).await.ok().filter(|n_bytes| *n_bytes > 0)?;
                if !HTTP2_PREFACE.starts_with(&bytes[..n_bytes]) {
                    return Some(false);
                }
                if n_bytes == HTTP2_PREFACE.len() {
                    return Some(true);
                }
                // A part of the preface: peek would answer at once with the same bytes.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(self.patience.first_byte, first_bytes)
            .await
            .ok()
            .flatten()
    }

    async fn converse(&self, stream: TcpStream, front: Front, watch: &Arc<Watch>, is_http2: bool) {
        let peer = self.peer;
        let seen = watch.clone();
        // A clone for each request is one of this connection: on that of all connections, every processor would count.
        let front = Arc::new(front);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let working = seen.work();
            let arrival = Arrival {
                peer,
                has_two_lengths: !is_http2 && seen.takes_two_lengths(),
            };
            let front = front.clone();
            async move {
                let mut response = front.answer(request.map(body_of), Some(arrival)).await;
                if !is_http2 && front.is_stopping() {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                // The answer is work until its last byte: a streamed one may be silent for long.
                Ok::<_, std::convert::Infallible>(response.map(|body| WorkingBody {
                    body,
                    _working: working,
                }))
            }
        });
        let builder = builder(is_http2);
        let io = TokioIo::new(WatchedStream::new(stream, watch.clone()));
        let mut conversation = std::pin::pin!(builder.serve_connection(io, service));
        let mut asides = self.asides(watch, is_http2);
        loop {
            tokio::select! {
                biased; // it is the conversation that wakes this task
                outcome = conversation.as_mut() => {
                    if let Err(error) = outcome {
                        tracing::debug!(%error, "connection ended");
                    }
                    return;
                }
                Some(aside) = asides.next() => match aside {
                    Aside::Silent => {
                        metrics::counter!("mosaic_http_connections_refused_total", "cause" => "silent").increment(1);
                        return;
                    }
                    Aside::Farewell => conversation.as_mut().graceful_shutdown(),
                }
            }
        }
    }

    /// Returns what may happen beside the conversation. Each is looked at when it is woken itself, and not with every request.
    fn asides<'a>(&self, watch: &'a Watch, is_http2: bool) -> FuturesUnordered<BoxFuture<'a, Aside>> {
        let patience = self.patience;
        let mut stop = self.stop.clone();
        let farewell = async move {
            if is_http2 {
                stop.stopped().await;
            } else {
                lingered(stop).await;
            }
            Aside::Farewell
        };
        let silence = async move {
            watch.expired(patience, is_http2).await;
            Aside::Silent
        };
        FuturesUnordered::from_iter([farewell.boxed(), silence.boxed()])
    }
}

/// What happens beside a conversation.
enum Aside {
    /// The client has used up its patience.
    Silent,
    /// The process is to end.
    Farewell,
}

/// The numbers are those of the promises: bounded streams, pings, header lists.
fn builder(is_http2: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder = if is_http2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    };
    // The watchdog bounds the head; hyper's own timer would also end a connection that rests between two requests.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_local_error_reset_streams(Some(1024))
        .max_header_list_size(16 * 1024)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// Open connections by address.
#[derive(Debug, Default)]
struct ByAddress {
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl ByAddress {
    fn enter(self: Arc<Self>, ip: IpAddr, max: usize) -> Option<AddressSlot> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(ip).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        drop(open);
        Some(AddressSlot { addresses: self, ip })
    }
}

#[derive(Debug)]
struct AddressSlot {
    addresses: Arc<ByAddress>,
    ip: IpAddr,
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.ip);
            }
        }
    }
}

pin_project_lite::pin_project! {
    /// A response body that keeps its connection "working" until it is sent or dropped.
    struct WorkingBody<B> {
        #[pin]
        body: B,
        _working: crate::watchdog::Working,
    }
}

impl<B: hyper::body::Body> hyper::body::Body for WorkingBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
