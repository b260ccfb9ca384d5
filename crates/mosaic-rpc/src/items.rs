//! The items of a streamed answer, from the first to the last.
//!
//! A call that streams has left the guard when its first item is made, so that what the guard does for a call is done here
//! for its items, alike for readers in this process and elsewhere: a panic is an error, an error is the last item, and a
//! process that drains tells the reader to go elsewhere rather than to be waited for.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use mosaic_core::{Error, MethodDescriptor, Result, catch_panic};
use mosaic_guard::Guard;
use tracing::Span;

use crate::{BoxFuture, Streaming, status_from_error};

/// Items as they go on the wire.
pub(crate) type ToWire<R> = Pin<Box<dyn Stream<Item = Result<R, tonic::Status>> + Send>>;

/// Returns `items` up to the first error; a panic is one, and so is the end of the process.
pub(crate) fn watched<R: Send + 'static>(
    method: &'static MethodDescriptor,
    guard: Arc<Guard>,
    items: Streaming<R>,
    drained: impl Future<Output = ()> + Send + 'static,
) -> Streaming<R> {
    let drained: BoxFuture<'static, ()> = Box::pin(drained);
    let start = Some((items, drained));
    Box::pin(futures::stream::unfold(start, move |state| {
        let guard = guard.clone();
        async move {
            let (mut items, mut drained) = state?;
            let item = tokio::select! {
                item = catch_panic(items.next()) => item,
                () = &mut drained => Ok(Some(Err(going_away()))),
            };
            match item.unwrap_or_else(|panic| Some(Err(Error::internal(format!("panic: {panic}")))))? {
                Ok(item) => Some((Ok(item), Some((items, drained)))),
                Err(error) => {
                    guard.stream_failed(method, &error);
                    Some((Err(error), None))
                }
            }
        }
    }))
}

fn going_away() -> Error {
    Error::unavailable("GOING_AWAY", "this instance is stopping").logged()
}

/// Returns `items` as they go on the wire; they are made, and their failure is logged, within `span`.
pub(crate) fn to_wire<R: Send + 'static>(
    method: &'static MethodDescriptor,
    mut items: Streaming<R>,
    span: Span,
) -> ToWire<R> {
    Box::pin(futures::stream::poll_fn(move |cx| {
        let _entered = span.enter();
        let item = std::task::ready!(items.poll_next_unpin(cx));
        std::task::Poll::Ready(item.map(|item| {
            item.map_err(|error| {
                log_once(method, &error);
                status_from_error(&error)
            })
        }))
    }))
}

/// The log line of a failure that leaves the process: causes do not travel, so this is where they are seen.
pub(crate) fn log_once(method: &MethodDescriptor, error: &Error) {
    if error.is_to_be_logged() {
        let cause = error.cause_chain();
        tracing::error!(
            rpc.method = method.path,
            code = error.code().name(),
            reason = error.reason(),
            cause,
            "call failed"
        );
    } else {
        tracing::debug!(
            rpc.method = method.path,
            code = error.code().name(),
            reason = error.reason(),
            "call refused"
        );
    }
}
