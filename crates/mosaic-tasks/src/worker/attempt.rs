//! Starts tasks as slots are free, and runs one attempt of each.

use std::sync::Arc;

use mosaic_core::{Context, Error, StopSignal, TaskGroup, Trace, catch_panic};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::Parts;
use super::fetch::Ready;
use super::running::Stop;
use super::settle::Ended;
use crate::context::{Completion, TaskContext};
use crate::engine::{Claimed, Outcome, Report};
use crate::model::Record;
use crate::new_task::TRACEPARENT;

/// How an attempt ended, as far as the store is concerned.
enum End {
    Report(Outcome),
    /// The handler has reported itself.
    Completed,
    /// The task is another worker's: there is nothing to say.
    Lost,
}

impl Parts {
    /// Starts what was claimed until asked to stop, then gives back what has not begun.
    pub(super) async fn start(
        self: Arc<Self>,
        tasks: &TaskGroup,
        mut claimed: mpsc::UnboundedReceiver<Ready>,
        ended: mpsc::Sender<Ended>,
        mut stop: StopSignal,
    ) {
        let slots = Arc::new(Semaphore::new(self.options.concurrency.max(1)));
        loop {
            let slot = tokio::select! {
                biased;
                () = stop.stopped() => break,
                slot = slots.clone().acquire_owned() => slot.expect("the semaphore is never closed"),
            };
            let ready = tokio::select! {
                biased;
                () = stop.stopped() => break,
                ready = claimed.recv() => ready,
            };
            let Some(ready) = ready else { break };
            let (parts, ended) = (self.clone(), ended.clone());
            tasks.spawn("tasks.run", async move {
                parts.run_one(ready, ended).await;
                drop(slot);
            });
        }
        let mut leases = Vec::new();
        while let Some(ready) = claimed.recv().await {
            self.running.remove(&ready.lease);
            leases.push(ready.lease);
        }
        self.hand_back(leases).await;
    }

    async fn run_one(&self, ready: Ready, ended: mpsc::Sender<Ended>) {
        let Ready {
            claimed,
            lease,
            mut stopped,
            in_hand,
        } = ready;
        let is_lost = stopped.try_recv() == Ok(Stop::Lost);
        let frees = claimed.task.limit.is_some();
        let end = if is_lost {
            End::Lost
        } else {
            self.attempt(claimed, stopped).await
        };
        drop(in_hand);
        match end {
            End::Report(outcome) => {
                let report = Report { lease, outcome };
                // Fails only if the worker is gone, which is a crash: the lease runs out.
                let _ = ended.send(Ended { report, frees }).await;
            }
            End::Completed | End::Lost => {
                self.running.remove(&lease);
                self.freed.notify_one();
            }
        }
    }

    async fn attempt(&self, claimed: Claimed, stopped: oneshot::Receiver<Stop>) -> End {
        let Claimed { task, payload, earlier } = claimed;
        let begun = self.runtime().instant();
        let completion = Arc::new(Completion::default());
        let cx = TaskContext::new(
            self.context(&task),
            task.clone(),
            earlier,
            self.engine().clone(),
            completion.clone(),
        );
        let run = timeout(task.timeout, catch_panic(self.handlers.run(&task.kind, payload, cx)));
        let outcome = tokio::select! {
            biased;
            ran = run => match ran {
                Ok(Ok(Ok(result))) => Some(Outcome::Succeeded { result }),
                Ok(Ok(Err(failure))) => Some(failed(described(&failure.error), failure.is_final)),
                Ok(Err(panic)) => Some(failed(format!("panicked: {panic}"), false)),
                Err(_) => Some(failed("took longer than its timeout".to_owned(), false)),
            },
            Ok(why) = stopped => (why == Stop::Cancelled).then(|| failed("cancelled".to_owned(), true)),
        };
        let took = self.runtime().instant().saturating_duration_since(begun);
        self.pace().ran(took);
        metrics::histogram!("tasks_run_seconds", "kind" => task.kind.clone()).record(took.as_secs_f64());
        let end = match outcome {
            _ if completion.is_committed() => End::Completed,
            Some(Outcome::Succeeded { .. }) if completion.is_undone() => {
                End::Report(failed("its completion was not committed".to_owned(), false))
            }
            Some(outcome) => End::Report(outcome),
            None => End::Lost,
        };
        tell(&task, &end);
        end
    }

    fn context(&self, task: &Record) -> Context {
        let fresh = Trace::start(self.runtime());
        let trace = task.headers.get(TRACEPARENT).and_then(|trace| Trace::parse(trace));
        let trace = trace.map_or(fresh, |of| Trace {
            span_id: fresh.span_id,
            ..of
        });
        Context::resume(self.runtime(), trace)
            .with_timeout(task.timeout)
            .with_idempotency_key(Some(task.id.to_string().into()))
    }
}

/// Logs and counts the end of an attempt.
fn tell(task: &Record, end: &End) {
    let label = match end {
        End::Completed | End::Report(Outcome::Succeeded { .. }) => "succeeded",
        End::Report(Outcome::Failed { error, .. }) => {
            let n_failed = task.n_failed + 1;
            tracing::warn!(task.id = %task.id, task.kind, n_failed, error, "a task failed");
            "failed"
        }
        End::Report(Outcome::Released) | End::Lost => "lost",
    };
    metrics::counter!("tasks_attempts_total", "kind" => task.kind.clone(), "outcome" => label).increment(1);
}

fn failed(error: String, is_final: bool) -> Outcome {
    Outcome::Failed { error, is_final }
}

/// The whole story, for whoever looks at the archive: it is not shown to strangers.
fn described(error: &Error) -> String {
    let causes = error.cause_chain();
    let reason = error.reason();
    let message = error.message();
    if causes.is_empty() {
        format!("{reason}: {message}")
    } else {
        format!("{reason}: {message}: {causes}")
    }
}
