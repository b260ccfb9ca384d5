//! One HTTP/2 connection to one instance.
//!
//! On h2 itself rather than on a client that re-connects by itself: whether there is a connection decides who is picked,
//! so it must be known before the call and not found out during it; and what h2 says of a failed stream tells apart a
//! call that nobody has begun from one that may have had its effect.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use mosaic_core::{Code, Error, Result};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Status;

use super::ChannelOptions;
use crate::frames::Frames;
use crate::{Streaming, error_from_status};

/// What we take in before it is read: per stream, and on the connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const HEADERS_MAX: u32 = 16 * 1024;

/// A byte stream to an instance: TCP, with or without TLS.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// See the module documentation.
pub(crate) struct Connection {
    send: Mutex<SendRequest<Bytes>>,
    scheme: Scheme,
    authority: Authority,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The connection took it no more: nothing has happened, whatever the method.
    NotTaken(h2::Error),
    /// It failed, or it is not known what became of it.
    Failed(Error),
}

impl Connection {
    /// Begins HTTP/2 on `io`; the future drives the connection and completes when it is over.
    ///
    /// # Errors
    /// What the other side does wrong.
    pub(crate) async fn open(
        io: Box<dyn Io>,
        scheme: Scheme,
        authority: Authority,
        options: &ChannelOptions,
    ) -> Result<(Self, impl Future<Output = ()> + use<>), h2::Error> {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADERS_MAX)
            .max_send_buffer_size(1 << 20)
            .enable_push(false);
        let (send, mut connection) = builder.handshake(io).await?;
        let pings = connection.ping_pong();
        let (interval, timeout) = (options.keep_alive_interval, options.keep_alive_timeout);
        let driver = async move {
            tokio::select! {
                outcome = connection => if let Err(error) = outcome {
                    tracing::debug!(%error, "connection ended");
                },
                () = silence(pings, interval, timeout) => tracing::debug!("connection does not answer"),
            }
        };
        let connection = Self {
            send: Mutex::new(send),
            scheme,
            authority,
        };
        Ok((connection, driver))
    }

    /// Makes a unary call.
    pub(crate) async fn unary<R: Message + Default>(
        &self,
        path: PathAndQuery,
        headers: HeaderMap,
        message: Bytes,
    ) -> Result<R, CallError> {
        let mut body = self.send(path, headers, message).await?;
        let mut frames = Frames::default();
        let mut reply: Option<R> = None;
        while let Some(piece) = body.data().await.map_err(broken)? {
            frames.push(&piece);
            while let Some(message) = frames.next().map_err(|status| failed(&status))? {
                if reply.replace(message).is_some() {
                    return Err(failed(&Status::internal("a second message in a unary answer")));
                }
            }
        }
        finish(body.trailers().await.map_err(broken)?.as_ref()).map_err(|status| failed(&status))?;
        frames.end().map_err(|status| failed(&status))?;
        reply.ok_or_else(|| failed(&Status::internal("an answer without a message")))
    }

    /// Makes a server-streaming call; completes when the instance has begun to answer.
    pub(crate) async fn streaming<R: Message + Default + 'static>(
        &self,
        path: PathAndQuery,
        headers: HeaderMap,
        message: Bytes,
    ) -> Result<Streaming<R>, CallError> {
        let items = Items {
            body: Some(self.send(path, headers, message).await?),
            frames: Frames::default(),
            message: std::marker::PhantomData,
        };
        Ok(Box::pin(items))
    }

    /// Sends the request and waits for the head of the answer, which is good.
    async fn send(&self, path: PathAndQuery, headers: HeaderMap, message: Bytes) -> Result<Body, CallError> {
        let request = self.request(path, headers);
        let (response, mut stream) = self.begin(request).await.map_err(CallError::NotTaken)?;
        stream.send_data(message, true).map_err(broken)?;
        let (head, body) = response.await.map_err(broken)?.into_parts();
        if head.status != StatusCode::OK {
            return Err(failed(&status_of_http(head.status)));
        }
        if let Some(status) = Status::from_header_map(&head.headers) {
            // An answer of headers alone.
            return match status.code() {
                tonic::Code::Ok => Err(failed(&Status::internal("an answer without a message"))),
                _ => Err(failed(&status)),
            };
        }
        Ok(Body(body))
    }

    /// Opens a stream with the head of a request.
    ///
    /// All calls take turns with one handle: a handle of their own would cost each call two more turns at the lock of the
    /// connection. Only who finds that the connection takes no more for now waits with a handle of its own.
    async fn begin(&self, request: Request<()>) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        {
            let mut send = self.send.lock().unwrap_or_else(PoisonError::into_inner);
            let mut nobody = TaskContext::from_waker(std::task::Waker::noop());
            if let Poll::Ready(outcome) = send.poll_ready(&mut nobody) {
                return outcome.and_then(|()| send.send_request(request, false));
            }
        }
        let own = self.send.lock().unwrap_or_else(PoisonError::into_inner).clone();
        own.ready().await?.send_request(request, false)
    }

    fn request(&self, path: PathAndQuery, headers: HeaderMap) -> Request<()> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = Some(path);
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_parts(uri).expect("a URI with all its parts is one");
        *request.headers_mut() = headers;
        let headers = request.headers_mut();
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("mosaic/", env!("CARGO_PKG_VERSION"))),
        );
        request
    }
}

/// The body of an answer; what is read makes room for more.
struct Body(RecvStream);

impl Body {
    async fn data(&mut self) -> Result<Option<Bytes>, h2::Error> {
        std::future::poll_fn(|cx| self.poll_data(cx)).await.transpose()
    }

    async fn trailers(&mut self) -> Result<Option<HeaderMap>, h2::Error> {
        std::future::poll_fn(|cx| self.0.poll_trailers(cx)).await
    }

    fn poll_data(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let piece = ready!(self.0.poll_data(cx));
        if let Some(Ok(piece)) = &piece {
            // Fails only for a stream that is over, which needs no room.
            let _ = self.0.flow_control().release_capacity(piece.len());
        }
        Poll::Ready(piece)
    }
}

/// Messages of a streamed answer.
struct Items<R> {
    /// `None` after the last item.
    body: Option<Body>,
    frames: Frames,
    message: std::marker::PhantomData<fn() -> R>,
}

impl<R: Message + Default> Items<R> {
    fn poll_item(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Option<R>, CallError>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(Ok(None));
        };
        loop {
            if let Some(message) = self.frames.next().map_err(|status| failed(&status))? {
                return Poll::Ready(Ok(Some(message)));
            }
            match ready!(body.poll_data(cx)) {
                Some(piece) => self.frames.push(&piece.map_err(broken)?),
                None => {
                    let trailers = ready!(body.0.poll_trailers(cx)).map_err(broken)?;
                    finish(trailers.as_ref())
                        .and_then(|()| self.frames.end())
                        .map_err(|status| failed(&status))?;
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }
}

impl<R: Message + Default> Stream for Items<R> {
    type Item = Result<R>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Result<R>>> {
        let item = match ready!(self.poll_item(cx)) {
            Ok(item) => item.map(Ok),
            Err(error) => Some(Err(error.into())),
        };
        if !matches!(item, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(item)
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotTaken(cause) => unreachable().caused_by(cause),
            CallError::Failed(error) => error,
        }
    }
}

/// The error of a call that nobody has.
pub(crate) fn unreachable() -> Error {
    Error::unavailable("SERVICE_UNREACHABLE", "the service cannot be reached")
}

fn failed(status: &Status) -> CallError {
    CallError::Failed(error_from_status(status))
}

/// Names what became of a stream that broke (the table of gRPC's protocol document).
fn broken(error: h2::Error) -> CallError {
    let reason = error.reason();
    let went_away = error.is_go_away() && reason == Some(Reason::NO_ERROR);
    let refused = error.is_reset() && reason == Some(Reason::REFUSED_STREAM);
    if error.is_remote() && (went_away || refused) {
        return CallError::NotTaken(error);
    }
    let code = match reason {
        Some(Reason::CANCEL) if error.is_reset() => Code::Cancelled,
        Some(Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
        Some(Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
        _ => Code::Unavailable,
    };
    let message = match code {
        Code::Unavailable => "the service cannot be reached",
        _ => "the request was refused",
    };
    CallError::Failed(Error::new(code, code.name(), message).caused_by(error))
}

/// Reads the end of an answer.
fn finish(trailers: Option<&HeaderMap>) -> Result<(), Status> {
    let status = trailers.and_then(Status::from_header_map);
    match status {
        Some(status) if status.code() == tonic::Code::Ok => Ok(()),
        Some(status) => Err(status),
        None => Err(Status::unknown("an answer without a status")),
    }
}

/// What an answer of something that is no gRPC server means (`doc/http-grpc-status-mapping.md` of the gRPC project).
fn status_of_http(status: StatusCode) -> Status {
    let code = match status.as_u16() {
        400 => tonic::Code::Internal,
        401 => tonic::Code::Unauthenticated,
        403 => tonic::Code::PermissionDenied,
        404 => tonic::Code::Unimplemented,
        429 | 502..=504 => tonic::Code::Unavailable,
        _ => tonic::Code::Unknown,
    };
    Status::new(code, format!("HTTP status {status}"))
}

/// Completes when a ping stays without an answer.
async fn silence(pings: Option<PingPong>, interval: Duration, timeout: Duration) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(interval).await;
        if !matches!(
            tokio::time::timeout(timeout, pings.ping(Ping::opaque())).await,
            Ok(Ok(_))
        ) {
            return;
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}
