//! Closes connections that take and do not give.
//!
//! hyper bounds the head of a request once it has begun; nobody bounds a connection that never sends a byte, or one
//! that is kept open and silent. The watchdog knows three states of a connection, from two observations: the first byte
//! after a silence (seen by the socket wrapper) and requests that are worked on (seen by the service).

use std::cell::Cell;
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
    /// Does the head that was read last have more than one Content-Length line?
    has_two_lengths: AtomicBool,
}

impl Watch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            accepted: Instant::now(),
            since_ms: AtomicU64::new(0),
            reading: AtomicBool::new(false),
            n_requests: AtomicUsize::new(0),
            n_working: AtomicUsize::new(0),
            has_two_lengths: AtomicBool::new(false),
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

    /// Notes that bytes have arrived; says whether they begin a new head.
    fn saw_bytes(&self) -> bool {
        let is_new = self.n_working.load(Ordering::Relaxed) == 0 && !self.reading.swap(true, Ordering::Relaxed);
        if is_new {
            self.touch();
        }
        is_new
    }

    /// Did the head of the request that begins now say its length more than once?
    ///
    /// hyper takes equal lengths for one, as RFC 9112 6.3 allows, and shows only that; a border refuses them. Heads that
    /// arrive while an earlier request is worked on (pipelining) are not looked at: their lengths are one to everybody
    /// behind us, because we re-frame.
    pub(crate) fn takes_two_lengths(&self) -> bool {
        self.has_two_lengths.swap(false, Ordering::Relaxed)
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
    head: HeadScan,
}

/// Counts the Content-Length lines of a head as its bytes arrive.
#[derive(Debug, Default)]
struct HeadScan {
    line: Vec<u8>,
    n_lengths: usize,
    is_over: bool,
}

const LENGTH: &[u8] = b"content-length";

/// Is this the beginning of a Content-Length line, as long as it is kept: the name and what ends it?
fn is_length(line: &[u8]) -> bool {
    let (name, end) = line.split_at(line.len().min(LENGTH.len()));
    name.eq_ignore_ascii_case(LENGTH) && matches!(end, b":" | b" " | b"\t")
}

impl HeadScan {
    /// Begins with the next head.
    fn restart(&mut self) {
        self.line.clear();
        self.n_lengths = 0;
        self.is_over = false;
    }

    /// Longest beginning of a line that is kept: the name and what ends it.
    const KEPT_MAX: usize = LENGTH.len() + 1;

    fn feed(&mut self, mut bytes: &[u8]) {
        while !self.is_over {
            let end = memchr::memchr(b'\n', bytes);
            let line = &bytes[..end.unwrap_or(bytes.len())];
            let room = Self::KEPT_MAX - self.line.len();
            self.line.extend_from_slice(&line[..line.len().min(room)]);
            let Some(end) = end else { return };
            self.is_over = self.line.is_empty() || self.line == b"\r";
            self.n_lengths += usize::from(is_length(&self.line));
            self.line.clear();
            bytes = &bytes[end + 1..];
        }
    }
}

/// An answer up to this length leaves as one piece: to gather its head and its body costs the kernel more than to copy them costs us.
const PIECE_MAX: usize = 8 << 10;

thread_local! {
    /// Where this thread puts a piece together.
    static PIECE: Cell<Vec<u8>> = Cell::default();
}

impl WatchedStream {
    pub(crate) fn new(stream: TcpStream, watch: Arc<Watch>) -> Self {
        Self {
            stream,
            watch,
            head: HeadScan::default(),
        }
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            if self.watch.saw_bytes() {
                self.head.restart();
            }
            self.head.feed(bytes);
            if self.head.n_lengths > 1 {
                self.watch.has_two_lengths.store(true, Ordering::Relaxed);
            }
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
        let len = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if len > PIECE_MAX {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        }
        let mut piece = PIECE.take();
        piece.clear();
        bufs.iter().for_each(|buf| piece.extend_from_slice(buf));
        let written = Pin::new(&mut self.stream).poll_write(cx, &piece);
        PIECE.set(piece);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        first_byte: Duration::from_secs(5),
        head: Duration::from_secs(7),
        idle: Duration::from_secs(60),
    };

    /// Returns the whole seconds after which the connection has used up its patience.
    async fn seconds(watch: &Watch, is_http2: bool) -> u64 {
        let started = Instant::now();
        watch.expired(PATIENCE, is_http2).await;
        started.elapsed().as_secs()
    }

    async fn sleep(secs: u64) {
        tokio::time::sleep(Duration::from_secs(secs)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_has_the_time_of_a_first_byte() {
        assert_eq!(seconds(&Watch::new(), false).await, 5);
        assert_eq!(seconds(&Watch::new(), true).await, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_from_its_first_byte_however_many_follow() {
        for is_http2 in [false, true] {
            let watch = Watch::new();
            sleep(3).await;
            assert!(watch.saw_bytes());
            sleep(4).await;
            assert!(!watch.saw_bytes(), "the same head");
            assert_eq!(seconds(&watch, is_http2).await, 3);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_that_is_worked_on_is_cut() {
        let watch = Watch::new();
        watch.saw_bytes();
        let (first, second) = (watch.work(), watch.work());
        let patient = tokio::time::timeout(Duration::from_secs(3600), watch.expired(PATIENCE, false));
        assert!(patient.await.is_err());
        drop(first);
        let patient = tokio::time::timeout(Duration::from_secs(3600), watch.expired(PATIENCE, false));
        assert!(patient.await.is_err(), "the other one is worked on");
        drop(second);
        assert_eq!(seconds(&watch, false).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_rests_until_its_idle_time_or_its_next_head_is_over() {
        let watch = Watch::new();
        drop(watch.work());
        sleep(50).await;
        assert!(watch.saw_bytes());
        assert_eq!(seconds(&watch, false).await, 7);
        // Frames between the requests of HTTP/2 are no heads, and do not keep a connection for ever either.
        let watch = Watch::new();
        drop(watch.work());
        sleep(50).await;
        watch.saw_bytes();
        assert_eq!(seconds(&watch, true).await, 60);
    }

    #[test]
    fn lengths_are_counted_in_the_head_only_however_its_bytes_arrive() {
        #[track_caller]
        fn check(head: &str, want: usize) {
            for size in [1, 3, 1000] {
                let mut scan = HeadScan::default();
                head.as_bytes().chunks(size).for_each(|chunk| scan.feed(chunk));
                assert_eq!(scan.n_lengths, want, "{head:?} in pieces of {size}");
            }
        }
        check("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 1);
        check(
            "POST / HTTP/1.1\r\nCONTENT-LENGTH: 2\r\nx: y\r\ncontent-length: 2\r\n\r\n",
            2,
        );
        check("POST / HTTP/1.1\nContent-Length: 2\nContent-Length:2\n\n", 2);
        check(
            "POST / HTTP/1.1\r\nContent-Length: 40\r\n\r\nContent-Length: 2\r\nContent-Length: 2\r\n",
            1,
        );
        check(
            "POST / HTTP/1.1\r\nX-Content-Length: 2\r\nContent-Length-Of: 2\r\n\r\n",
            0,
        );
    }
}
