//! What has begun is brought to its end, whether somebody still waits for it or not.
//!
//! Requests are given up all day, and with them whatever they were awaiting. Two things must not be left half-way, because the
//! connection goes back to the pool: a `BEGIN` (sqlx does not know yet that there is something to roll back, so the next one would
//! write into a transaction that nobody commits), and on MySQL any statement (its answer is several packets, sqlx-mysql
//! loses count when it is dropped between them, and the next one waits for ever for packets that never come, or
//! reads somebody else's). So who stops waiting leaves the rest to the background; the engine's limits for a statement still hold.

use std::pin::Pin;
use std::task::{Context, Poll};

use mosaic_core::TaskGroup;
use tokio::runtime::Handle;

/// Where things go on that nobody waits for.
#[derive(Debug, Clone)]
pub(crate) struct Background(TaskGroup);

impl Background {
    pub(crate) fn new() -> Self {
        Self(TaskGroup::new(|panic| {
            tracing::error!(task = panic.task, panic.message, "a statement panicked");
        }))
    }

    /// Does something that nobody waits for.
    pub(crate) fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        // Without a runtime there is nobody who would read an answer, and the connections are gone with it.
        if Handle::try_current().is_ok() {
            self.0.spawn("sql.finish", work);
        }
    }

    /// Returns a future that does not stop half-way when it is dropped.
    pub(crate) fn finish<T>(&self, work: impl Future<Output = T> + Send + 'static) -> Finish<T>
    where
        T: Send + 'static,
    {
        Finish {
            work: Some(Box::pin(work)),
            has_begun: false,
            background: self.clone(),
        }
    }
}

/// See [`Background::finish`].
pub(crate) struct Finish<T: Send + 'static> {
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    has_begun: bool,
    background: Background,
}

impl<T: Send + 'static> Future for Finish<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.has_begun = true;
        let work = self.work.as_mut().expect("it is not polled after its end");
        let polled = work.as_mut().poll(cx);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Finish<T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take().filter(|_| self.has_begun) else {
            return;
        };
        self.background.run(async {
            work.await;
        });
    }
}
