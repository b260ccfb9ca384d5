//! Closes connections that take and do not give.
//!
//! hyper bounds the head of a request once it has begun; nobody bounds a connection that never sends a byte, or one
//! that is kept open and silent. The watchdog knows three states of a connection, from two observations: the first byte
//! after a silence (seen by the socket wrapper) and requests that are worked on (seen by the service).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How long each state may last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) first_byte: Duration,
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
}

/// What is seen of one connection. Times are milliseconds since it was accepted.
#[derive(Debug)]
pub(crate) struct Watch {
    accepted: Instant,
    /// When the current state began.
    since_ms: AtomicU64,
    /// Has a byte of the next request arrived?
    reading: AtomicBool,
    n_requests: AtomicUsize,
    n_working: AtomicUsize,
}

impl Watch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            accepted: Instant::now(),
            since_ms: AtomicU64::new(0),
            reading: AtomicBool::new(false),
            n_requests: AtomicUsize::new(0),
            n_working: AtomicUsize::new(0),
        })
    }

    /// Marks a request as worked on until the returned value is dropped.
    pub(crate) fn work(self: &Arc<Self>) -> Working {
        self.n_working.fetch_add(1, Ordering::Relaxed);
        self.n_requests.fetch_add(1, Ordering::Relaxed);
        self.reading.store(false, Ordering::Relaxed);
        Working(self.clone())
    }

    fn touch(&self) {
        let now_ms = u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since_ms.store(now_ms, Ordering::Relaxed);
    }

    fn saw_bytes(&self) {
        if self.n_working.load(Ordering::Relaxed) == 0 && !self.reading.swap(true, Ordering::Relaxed) {
            self.touch();
        }
    }

    /// Returns when patience ends if nothing changes; `None` while a request is worked on.
    fn ends(&self, patience: Patience, is_http2: bool) -> Option<Instant> {
        if self.n_working.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let is_new = self.n_requests.load(Ordering::Relaxed) == 0;
        let reading = self.reading.load(Ordering::Relaxed);
        // Frames of an idle HTTP/2 connection (pings, windows) are no request.
        let limit = match (is_new, reading) {
            (true, false) => patience.first_byte,
            (_, true) if !is_http2 || is_new => patience.head,
            _ => patience.idle,
        };
        Some(self.accepted + Duration::from_millis(self.since_ms.load(Ordering::Relaxed)) + limit)
    }

    /// Completes when the connection has used up its patience.
    pub(crate) async fn expired(&self, patience: Patience, is_http2: bool) {
        let tick = patience.head.min(patience.first_byte).min(patience.idle) / 2;
        loop {
            let now = Instant::now();
            match self.ends(patience, is_http2) {
                Some(end) if end <= now => return,
                Some(end) => tokio::time::sleep_until(end).await,
                None => tokio::time::sleep(tick).await,
            }
        }
    }
}

/// See [`Watch::work`].
#[derive(Debug)]
pub(crate) struct Working(Arc<Watch>);

impl Drop for Working {
    fn drop(&mut self) {
        if self.0.n_working.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.reading.store(false, Ordering::Relaxed);
            self.0.touch();
        }
    }
}

/// A socket that tells its watch of arriving bytes.
#[derive(Debug)]
pub(crate) struct WatchedStream {
    stream: TcpStream,
    watch: Arc<Watch>,
}

impl WatchedStream {
    pub(crate) fn new(stream: TcpStream, watch: Arc<Watch>) -> Self {
        Self { stream, watch }
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.watch.saw_bytes();
        }
        poll
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
