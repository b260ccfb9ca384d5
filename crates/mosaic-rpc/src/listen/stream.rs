//! The bytes of a connection, once it is known to speak HTTP/2.
//!
//! The preface is read here, before HTTP/2 begins: who sends something else, or nothing, is sent away at once, or after a
//! moment, and never gets as far as a library that would wait. What was read is read again by that library. And whether
//! bytes go over the connection at all is seen here, because a connection that rests may be cut at the end, but one that
//! still sends its last answer to a slow reader may not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// What a client sends first (RFC 9113 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What goes on at a connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    n_working: AtomicUsize,
    n_events: AtomicU64,
}

impl Activity {
    /// Returns how often something has happened; `None` while requests are in work.
    pub(crate) fn at_rest(&self) -> Option<u64> {
        (self.n_working.load(Ordering::Acquire) == 0).then(|| self.n_events.load(Ordering::Acquire))
    }

    /// Begins a request; it is in work until what is returned is dropped.
    pub(crate) fn work(self: &Arc<Self>) -> Working {
        self.n_working.fetch_add(1, Ordering::AcqRel);
        self.note();
        Working(self.clone())
    }

    fn note(&self) {
        self.n_events.fetch_add(1, Ordering::AcqRel);
    }
}

/// A request in work.
#[derive(Debug)]
pub(crate) struct Working(Arc<Activity>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.note();
        self.0.n_working.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection whose preface has come, and is read once more.
#[derive(Debug)]
pub(crate) struct Prefaced<S> {
    stream: S,
    preface: &'static [u8],
    activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> Prefaced<S> {
    /// Waits for the preface.
    ///
    /// # Errors
    /// `InvalidData` for other bytes, as soon as they differ; those of the stream.
    pub(crate) async fn read(mut stream: S, activity: Arc<Activity>) -> io::Result<Self> {
        let mut bytes = [0; PREFACE.len()];
        let mut n_read = 0;
        while n_read < bytes.len() {
            let n_more = stream.read(&mut bytes[n_read..]).await?;
            if n_more == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            n_read += n_more;
            if !PREFACE.starts_with(&bytes[..n_read]) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "does not speak HTTP/2"));
            }
        }
        Ok(Self {
            stream,
            preface: PREFACE,
            activity,
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefaced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.preface.is_empty() {
            let (now, later) = self.preface.split_at(self.preface.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.preface = later;
            return Poll::Ready(Ok(()));
        }
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if outcome.is_ready() {
            self.activity.note();
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefaced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if outcome.is_ready() {
            self.activity.note();
        }
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if outcome.is_ready() {
            self.activity.note();
        }
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

pin_project_lite::pin_project! {
    /// A response body whose request is in work until it is sent or dropped.
    pub(crate) struct WorkingBody<B> {
        #[pin]
        pub(crate) body: B,
        pub(crate) working: Working,
    }
}

impl<B: Body> Body for WorkingBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn the_preface_is_read_again_however_it_came() {
        for cut in 0..=PREFACE.len() {
            let (mut client, server) = tokio::io::duplex(64);
            let send = async {
                client.write_all(&PREFACE[..cut]).await.unwrap();
                tokio::task::yield_now().await;
                client.write_all(&PREFACE[cut..]).await.unwrap();
                client.write_all(b"more").await.unwrap();
                drop(client);
            };
            let read = async {
                let mut stream = Prefaced::read(server, Arc::default()).await.unwrap();
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).await.unwrap();
                bytes
            };
            let ((), bytes) = tokio::join!(send, read);
            assert_eq!(bytes, [PREFACE, b"more"].concat(), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn other_bytes_are_refused_at_once() {
        for wrong in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/1", b"\x16\x03\x01", b"\n"] {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(wrong).await.unwrap();
            let error = Prefaced::read(server, Arc::default()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{wrong:?}");
        }
    }

    #[test]
    fn at_rest_is_without_requests() {
        let activity = Arc::new(Activity::default());
        let before = activity.at_rest().unwrap();
        let working = activity.work();
        assert_eq!(activity.at_rest(), None);
        drop(working);
        assert_ne!(activity.at_rest().unwrap(), before, "something has happened");
    }
}
