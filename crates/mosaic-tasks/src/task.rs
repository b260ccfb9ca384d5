//! Typed tasks and the table of their handlers.
//!
//! A task is a struct: its fields are the payload, its `run` the work. What it needs (stores, clients) comes as
//! [`Task::Needs`], given when it is registered, so that enqueueing needs none of it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use mosaic_core::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::TaskContext;
use crate::model::unframe;
use crate::options::PAYLOAD_MAX;

/// Work that can be stored. It may run more than once: see the crate's documentation.
pub trait Task: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Names the kind, in the store: never changed, never used for another payload.
    const NAME: &'static str;
    /// What it works with.
    type Needs: Send + Sync + 'static;
    /// What is kept of a success if the task has a retention; `()` for nothing.
    type Output: Serialize + Send;

    /// Does the work. An error is a failed attempt; so is a panic. Dropped at the timeout and when cancelled.
    fn run(self, needs: &Self::Needs, cx: &TaskContext) -> impl Future<Output = Result<Self::Output>> + Send;

    /// Does the work of tasks that were enqueued with a [`Group`](crate::Group), all at once: they succeed and fail
    /// together. Default: fails, for tasks of which nobody should make groups.
    fn run_all(
        tasks: Vec<Self>,
        needs: &Self::Needs,
        cx: &TaskContext,
    ) -> impl Future<Output = Result<Self::Output>> + Send {
        let _ = (tasks, needs, cx);
        std::future::ready(Err(Error::unimplemented(
            "TASK_GROUP_UNKNOWN",
            "tasks of this kind do not run in groups",
        )))
    }

    /// Is another attempt after `error` useless? Default: never.
    fn is_final(error: &Error) -> bool {
        let _ = error;
        false
    }
}

/// How a handler failed.
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) is_final: bool,
}

type Run = Pin<Box<dyn Future<Output = Result<Vec<u8>, Failure>> + Send>>;
type Handler = Box<dyn Fn(Vec<u8>, TaskContext) -> Run + Send + Sync>;

/// What a worker can run.
#[derive(Default)]
pub struct Handlers(BTreeMap<&'static str, Handler>);

impl Handlers {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds tasks of type `T`, which work with `needs`.
    ///
    /// # Panics
    /// If a task of this name is there already: two meanings of one name would run each other's payloads.
    #[must_use]
    pub fn with<T: Task>(mut self, needs: Arc<T::Needs>) -> Self {
        let handler: Handler = Box::new(move |payload, cx| {
            let needs = needs.clone();
            Box::pin(async move { run::<T>(&payload, &needs, &cx).await })
        });
        let earlier = self.0.insert(T::NAME, handler);
        assert!(earlier.is_none(), "two kinds of task are named {}", T::NAME);
        self
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.0.keys().map(|&kind| kind.to_owned()).collect()
    }

    pub(crate) async fn run(&self, kind: &str, payload: Vec<u8>, cx: TaskContext) -> Result<Vec<u8>, Failure> {
        let handler = self.0.get(kind).ok_or_else(|| Failure {
            error: Error::unimplemented("TASK_KIND_UNKNOWN", "no handler for this kind of task"),
            is_final: false,
        })?;
        handler(payload, cx).await
    }
}

impl std::fmt::Debug for Handlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Handlers").field(&self.kinds()).finish()
    }
}

async fn run<T: Task>(payload: &[u8], needs: &T::Needs, cx: &TaskContext) -> Result<Vec<u8>, Failure> {
    let ran = if cx.task().n_merged > 0 {
        let payloads = unframe(payload).map_err(unread)?;
        let tasks: Result<Vec<T>, Failure> = payloads.into_iter().map(read).collect();
        T::run_all(tasks?, needs, cx).await
    } else {
        read::<T>(payload)?.run(needs, cx).await
    };
    let output = ran.map_err(|error| Failure {
        is_final: T::is_final(&error),
        error,
    })?;
    Ok(kept(&output))
}

fn read<T: Task>(payload: &[u8]) -> Result<T, Failure> {
    let invalid =
        |cause| Error::invalid_argument("TASK_PAYLOAD_INVALID", "the payload cannot be read").caused_by(cause);
    serde_json::from_slice(payload).map_err(|cause| unread(invalid(cause)))
}

/// A newer release may be able to read it, so there is another attempt.
fn unread(error: Error) -> Failure {
    Failure { error, is_final: false }
}

/// Returns what is kept of a success. The work is done: a result that cannot be kept is no reason to do it again.
pub(crate) fn kept(output: &impl Serialize) -> Vec<u8> {
    let result = serde_json::to_vec(output).unwrap_or_default();
    if result == b"null" || result.len() > PAYLOAD_MAX {
        Vec::new()
    } else {
        result
    }
}
