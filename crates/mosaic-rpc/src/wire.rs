//! One message in, one or many out: the bodies of a call at the server.
//!
//! Short, because every call goes through here. Whoever sends what is no message of the contract gets a status with a
//! constant text: a parser's complaint would tell a stranger about the contract, and clients nothing they can act on.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::Frame;
use http_body_util::BodyExt as _;
use prost::Message;
use tonic::Status;
use tonic::body::Body;

use crate::frames::{self, Frames};
use crate::items::ToWire;

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Reads the only message of a request.
///
/// # Errors
/// `Unimplemented` for a compression, `ResourceExhausted` for a message that is too large, `InvalidArgument` for what is
/// none or not one, and what the transport says when the body breaks off.
pub(crate) async fn read<M: Message + Default>(headers: &HeaderMap, mut body: Body) -> Result<M, Status> {
    if headers.get(ENCODING).is_some_and(|encoding| encoding != "identity") {
        let mut status = Status::unimplemented("messages are taken without compression");
        let accepted = tonic::metadata::MetadataValue::from_static("identity");
        status.metadata_mut().insert(ACCEPT_ENCODING, accepted);
        return Err(status);
    }
    let mut frames = Frames::default();
    let mut message: Option<M> = None;
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else { continue };
        frames.push(&piece);
        while let Some(next) = frames.next().map_err(|status| refused(&status))? {
            if message.replace(next).is_some() {
                return Err(Status::invalid_argument("more than one message"));
            }
        }
    }
    frames.end().map_err(|_| Status::invalid_argument("half a message"))?;
    message.ok_or_else(|| Status::invalid_argument("no message"))
}

/// What our reading of an answer calls the server's fault is, in a request, the client's.
fn refused(status: &Status) -> Status {
    match status.code() {
        tonic::Code::OutOfRange => Status::resource_exhausted("the message is too large"),
        tonic::Code::Unimplemented => Status::internal("a compressed message without an encoding"),
        _ => Status::invalid_argument("not a message of the contract"),
    }
}

/// Returns the answer that carries `message`.
///
/// # Errors
/// `OutOfRange` if it is larger than messages may be.
pub(crate) fn reply(message: &impl Message) -> Result<http::Response<Body>, Status> {
    let body = Body::new(Reply {
        message: Some(frames::encode(message)?),
        is_ended: false,
    });
    let mut response = http::Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// Returns the answer that carries `items`; the first error is its status, and its end.
pub(crate) fn replies<R: Message + 'static>(items: ToWire<R>) -> http::Response<Body> {
    let mut response = http::Response::new(Body::new(Replies { items: Some(items) }));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Messages as they are made, then the status. A message is asked for when there is room for it on the connection.
struct Replies<R> {
    /// `None` after the status.
    items: Option<ToWire<R>>,
}

impl<R: Message> http_body::Body for Replies<R> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(items) = &mut self.items else {
            return Poll::Ready(None);
        };
        let item = std::task::ready!(items.as_mut().poll_next(cx));
        let status = match item.map(|item| item.and_then(|message| frames::encode(&message))) {
            Some(Ok(frame)) => return Poll::Ready(Some(Ok(Frame::data(frame)))),
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.items = None;
        let mut trailers = HeaderMap::with_capacity(3);
        if status.add_header(&mut trailers).is_err() {
            // Details that cannot stand in a header; the code can.
            trailers.insert(STATUS, HeaderValue::from(status.code() as i32));
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.items.is_none()
    }
}

/// A message, then `grpc-status: 0`.
struct Reply {
    message: Option<Bytes>,
    is_ended: bool,
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if std::mem::replace(&mut self.is_ended, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(STATUS, HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_bytes(bytes: &[u8], encoding: Option<&'static str>) -> Result<String, Status> {
        let mut headers = HeaderMap::new();
        if let Some(encoding) = encoding {
            headers.insert(ENCODING, HeaderValue::from_static(encoding));
        }
        let body = http_body_util::Full::new(Bytes::copy_from_slice(bytes));
        read(&headers, Body::new(body)).await
    }

    #[tokio::test]
    async fn what_is_no_message_gets_a_constant_text() {
        let good = frames::encode(&"text".to_owned()).unwrap();
        assert_eq!(read_bytes(&good, None).await.unwrap(), "text");
        assert_eq!(read_bytes(&good, Some("identity")).await.unwrap(), "text");
        let twice = [&good[..], &good[..]].concat();
        let cases: [(&[u8], Option<&str>, tonic::Code); 9] = [
            (&good, Some("gzip"), tonic::Code::Unimplemented),
            (&twice, None, tonic::Code::InvalidArgument),
            (&[], None, tonic::Code::InvalidArgument),
            (&good[..7], None, tonic::Code::InvalidArgument),
            (&good[..3], None, tonic::Code::InvalidArgument),
            (&[1, 0, 0, 0, 0], None, tonic::Code::Internal),
            (&[0, 255, 255, 255, 255], None, tonic::Code::ResourceExhausted),
            (&[0, 0, 0, 0, 1, 0xff], None, tonic::Code::InvalidArgument),
            // Field 1, a string of two bytes that are no UTF-8.
            (
                &[0, 0, 0, 0, 4, 0x0a, 2, 0xc3, 0x28],
                None,
                tonic::Code::InvalidArgument,
            ),
        ];
        for (bytes, encoding, code) in cases {
            let encoding = encoding.map(|_| "gzip");
            let status = read_bytes(bytes, encoding).await.unwrap_err();
            assert_eq!(status.code(), code, "{bytes:?}");
            assert!(
                !status.message().contains("0x") && !status.message().contains("field"),
                "{status}"
            );
        }
    }
}
