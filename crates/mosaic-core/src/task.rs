//! Background work with a name and an end.
//!
//! `tokio::spawn` forgets: a panic is silent and a shutdown cuts work in the middle. A [`TaskGroup`] knows its tasks by
//! name, reports panics, tells them to stop through a [`StopSignal`] and waits for them until a deadline.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::task::coop::{Unconstrained, unconstrained};
use tokio::time::Sleep;

/// Told to every task of a group when the group is to end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StopSignal {
    /// Beside the channel, whose readers take a lock: this is asked with every request.
    is_stopping: Arc<AtomicBool>,
    asked: watch::Receiver<bool>,
}

impl StopSignal {
    /// Has the end been asked for?
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Completes when the end is asked for, or when the group is gone. Cancel safe.
    pub async fn stopped(&mut self) {
        // An error means that the group was dropped, which is an end as well.
        let _ = self.asked.wait_for(|asked| *asked).await;
    }
}

/// What became of a task that did not simply return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPanic {
    /// Name given when the task was spawned.
    pub task: &'static str,
    /// The panic's message.
    pub message: String,
}

type PanicObserver = Arc<dyn Fn(TaskPanic) + Send + Sync>;

/// Tasks that are stopped and awaited together. Cheap to clone: clones are the same group.
#[derive(Clone)]
pub struct TaskGroup {
    tasks: Arc<Mutex<JoinSet<()>>>,
    is_stopping: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    on_panic: PanicObserver,
}

impl TaskGroup {
    /// Makes an empty group that reports panics to `on_panic`.
    pub fn new(on_panic: impl Fn(TaskPanic) + Send + Sync + 'static) -> Self {
        Self {
            tasks: Arc::default(),
            is_stopping: Arc::default(),
            stop: watch::Sender::new(false),
            on_panic: Arc::new(on_panic),
        }
    }

    /// Returns the signal that tells this group's tasks to stop.
    pub fn stop_signal(&self) -> StopSignal {
        StopSignal {
            is_stopping: self.is_stopping.clone(),
            asked: self.stop.subscribe(),
        }
    }

    /// Starts a task; a task that may run long must watch [`TaskGroup::stop_signal`].
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let on_panic = self.on_panic.clone();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Reap what has ended, so that a busy group does not grow.
        while tasks.try_join_next().is_some() {}
        // No `async` block around the task: it would have room for it twice.
        tasks.spawn(catch_panic(task).map(move |outcome| {
            if let Err(message) = outcome {
                on_panic(TaskPanic { task: name, message });
            }
        }));
    }

    /// Starts a task that is started again, after `pause`, whenever it panics.
    pub fn supervise<F, T>(&self, name: &'static str, pause: Duration, mut start: F)
    where
        F: FnMut() -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let on_panic = self.on_panic.clone();
        let mut stop = self.stop_signal();
        self.spawn(name, async move {
            while let Err(message) = catch_panic(start()).await {
                on_panic(TaskPanic { task: name, message });
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.stopped() => return,
                }
            }
        });
    }

    /// Asks all tasks to stop, waits for at most `grace`, then aborts the rest. Returns how many were aborted.
    pub async fn shutdown(&self, grace: Duration) -> usize {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = tokio::time::timeout(grace, async { while tasks.join_next().await.is_some() {} }).await;
        let n_left = tasks.len();
        tasks.shutdown().await;
        n_left
    }
}

impl std::fmt::Debug for TaskGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n_tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_struct("TaskGroup")
            .field("n_tasks", &n_tasks)
            .finish_non_exhaustive()
    }
}

pin_project_lite::pin_project! {
    /// Future of [`catch_panic`].
    #[derive(Debug)]
    pub struct CatchPanic<F> {
        #[pin]
        future: F,
    }
}

/// Runs `future`; a panic inside becomes `Err` with its message.
pub fn catch_panic<F: Future>(future: F) -> CatchPanic<F> {
    CatchPanic { future }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, String>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        // A future that panicked is not polled again, so no broken state is seen.
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| future.poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => Poll::Ready(Err(panic_message(payload.as_ref()))),
        }
    }
}

pin_project_lite::pin_project! {
    /// Future of [`timeout`].
    pub struct Timeout<F> {
        #[pin]
        future: F,
        limit: Duration,
        // Boxed: few ever have one, and everything carries the room for it about.
        timer: Option<Pin<Box<Unconstrained<Sleep>>>>,
    }
}

/// Waits for `future` for at most `limit`.
///
/// Does what tokio's does, for what is mostly done when it is first asked (a call within the process whose answer is cached): that
/// costs no timer, and no look at the clock.
pub fn timeout<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    Timeout {
        future,
        limit,
        timer: None,
    }
}

impl<F: Future> Future for Timeout<F> {
    /// `Err` when time is up.
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        // Time is up for a future, too, that has used up what its task may do without a break.
        let start = || Box::pin(unconstrained(tokio::time::sleep(*this.limit)));
        this.timer
            .get_or_insert_with(start)
            .as_mut()
            .poll(cx)
            .map(|()| Err(Elapsed))
    }
}

impl<F> std::fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timeout")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// Returns the text of a panic payload.
pub fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn silent() -> TaskGroup {
        TaskGroup::new(|_| {})
    }

    #[tokio::test]
    async fn a_panic_is_reported_by_name() {
        let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
        let group = TaskGroup::new(move |panic| tx.send(panic).unwrap());
        group.spawn("fragile", async { panic!("broken") });
        let panic = rx.recv().await.unwrap();
        assert_eq!(
            panic,
            TaskPanic {
                task: "fragile",
                message: "broken".into()
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_the_willing_and_aborts_the_rest() {
        let group = silent();
        let done = Arc::new(AtomicUsize::new(0));
        let (mut stop, count) = (group.stop_signal(), done.clone());
        group.spawn("willing", async move {
            stop.stopped().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            count.fetch_add(1, Ordering::SeqCst);
        });
        group.spawn("deaf", std::future::pending());
        assert_eq!(group.shutdown(Duration::from_secs(1)).await, 1);
        assert_eq!(done.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_supervised_task_comes_back_after_a_panic() {
        let group = silent();
        let n_starts = Arc::new(AtomicUsize::new(0));
        let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
        let count = n_starts.clone();
        group.supervise("phoenix", Duration::from_secs(1), move || {
            let (n, tx) = (count.fetch_add(1, Ordering::SeqCst), tx.clone());
            async move {
                assert!(n >= 2, "start {n} fails");
                tx.send(n).unwrap();
            }
        });
        assert_eq!(rx.recv().await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_ready_has_time_and_what_is_not_has_its_limit() {
        let begun = tokio::time::Instant::now();
        assert_eq!(timeout(Duration::ZERO, async { 7 }).await, Ok(7));
        let slow = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            7
        };
        assert_eq!(timeout(Duration::from_secs(3), slow).await, Ok(7));
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
        let busy = async {
            loop {
                tokio::task::consume_budget().await;
                tokio::time::advance(Duration::from_millis(1)).await;
            }
        };
        assert_eq!(timeout(Duration::from_secs(3), busy).await, Err::<(), _>(Elapsed));
        assert!(begun.elapsed() < Duration::from_secs(6));
        assert_eq!(
            timeout(Duration::from_secs(3), std::future::pending()).await,
            Err::<(), _>(Elapsed)
        );
    }
}
