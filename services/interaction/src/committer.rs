//! Group commit: calls that come while a transaction is under way share the next one.
//!
//! A commit costs as much for one row as for hundreds. So calls queue (in a bounded queue; what does not fit is refused), one task
//! takes what has come, at most `batch_max`, and applies it in the order of arrival in one transaction; nobody waits for
//! others to come. A caller is answered after the commit and after the cache has forgotten what was before it, which happens
//! beside the next transaction. A caller that has given up before its transaction began is skipped; later it is
//! as with any write that was given up. If a batch fails for a reason that may be one call's, halves of it are tried.

use std::sync::Arc;

use mosaic::{Code, Context, Error, Result, StopSignal, TaskGroup};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::changes::{Applied, Changes};
use crate::config::InteractionConfig;
use crate::counts::CachedCounts;
use crate::model::Change;
use crate::own::CachedOwn;

/// Pause before the task begins anew after a panic.
const AFTER_PANIC: std::time::Duration = std::time::Duration::from_millis(100);

/// The door to the queue; see the module documentation.
pub(crate) struct Committer {
    queue: mpsc::Sender<Call>,
}

/// What is shown of changes, to be forgotten when they change.
#[derive(Clone)]
pub(crate) struct Cached {
    pub(crate) counts: CachedCounts,
    pub(crate) own: CachedOwn,
}

/// A change and who waits for it.
struct Call {
    cx: Context,
    change: Change,
    answer: oneshot::Sender<Result<()>>,
}

impl Committer {
    /// Starts the task in `group`.
    pub(crate) fn start(changes: Changes, cached: Cached, group: &TaskGroup, config: &InteractionConfig) -> Self {
        let (queue, calls) = mpsc::channel(config.queue_max.max(1));
        let worker = Worker {
            calls: Arc::new(Mutex::new(calls)),
            changes,
            cached,
            group: group.clone(),
            batch_max: config.batch_max.max(1),
        };
        let stop = group.stop_signal();
        // Calls of a batch that panics are answered by the end of their channels.
        group.supervise("interaction.commit", AFTER_PANIC, move || {
            worker.clone().run(stop.clone())
        });
        Self { queue }
    }

    /// Makes `change` come true; answers after the commit. May be dropped: the change then happens or not.
    pub(crate) async fn commit(&self, cx: &Context, change: Change) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        let call = Call {
            cx: cx.clone(),
            change,
            answer,
        };
        self.queue.try_send(call).map_err(|refused| {
            metrics::counter!("interaction_refused_total").increment(1);
            match refused {
                mpsc::error::TrySendError::Full(_) => {
                    Error::resource_exhausted("INTERACTION_BUSY", "too many likes at once, try again")
                }
                mpsc::error::TrySendError::Closed(_) => stopped(),
            }
        })?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> Error {
    Error::unavailable("INTERACTION_STOPPED", "the change was not made certain, try again")
}

#[derive(Clone)]
struct Worker {
    calls: Arc<Mutex<mpsc::Receiver<Call>>>,
    changes: Changes,
    cached: Cached,
    group: TaskGroup,
    batch_max: usize,
}

impl Worker {
    /// Applies batches until asked to stop and nothing is left.
    async fn run(self, mut stop: StopSignal) {
        let mut queue = self.calls.lock().await;
        loop {
            let mut batch = Vec::with_capacity(self.batch_max);
            tokio::select! {
                biased;
                n = queue.recv_many(&mut batch, self.batch_max) => if n == 0 { return },
                () = stop.stopped() => {
                    queue.close();
                    return;
                }
            }
            batch.retain(|call| !call.answer.is_closed());
            if !batch.is_empty() {
                self.apply(batch).await;
            }
        }
    }

    async fn apply(&self, batch: Vec<Call>) {
        let mut left = vec![batch];
        while let Some(mut batch) = left.pop() {
            metrics::histogram!("interaction_batch_calls").record(batch.len() as f64);
            let changes: Vec<_> = batch.iter().map(|call| (&call.cx, &call.change)).collect();
            match Box::pin(self.changes.apply(&changes)).await {
                Ok(applied) => self.answer(batch, applied),
                // It may be the fault of one of them: the others shall not suffer.
                Err(error) if error.code() == Code::Internal && batch.len() > 1 => {
                    let second = batch.split_off(batch.len() / 2);
                    left.extend([second, batch]);
                }
                Err(error) => fail(batch, &error),
            }
        }
    }

    /// Answers the callers once the cache has forgotten what they have changed.
    fn answer(&self, batch: Vec<Call>, applied: Applied) {
        let cached = self.cached.clone();
        self.group.spawn("interaction.answer", async move {
            futures::join!(
                cached.counts.forget(&applied.changed),
                cached.own.forget(applied.markers)
            );
            for (call, outcome) in batch.into_iter().zip(applied.outcomes) {
                // Who has gone hears nothing.
                let _ = call.answer.send(outcome.map_err(Error::from));
            }
        });
    }
}

fn fail(batch: Vec<Call>, error: &Error) {
    tracing::warn!(
        n = batch.len(),
        reason = error.reason(),
        cause = error.cause_chain(),
        "a batch of changes failed"
    );
    for call in batch {
        let _ = call.answer.send(Err(like(error)));
    }
}

/// Returns the same error for another caller; its cause is logged already.
fn like(error: &Error) -> Error {
    let (reason, message) = (error.reason().to_owned(), error.message().to_owned());
    Error::new(error.code(), reason, message).logged()
}
