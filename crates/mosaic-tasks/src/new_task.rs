//! Tasks that may be enqueued: what passes this door is valid for every engine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mosaic_core::{Context, Error, Result};

use crate::id::TaskId;
use crate::options::{Options, PAYLOAD_MAX, invalid, is_plain};
use crate::task::Task;

/// Most tasks in one call of `enqueue`.
pub const BATCH_MAX: usize = 10_000;
/// Most tasks that one waits for.
pub const PREDECESSORS_MAX: usize = 100;
/// Longest name of a kind of task.
const KIND_MAX: usize = 100;
/// The header in which the trace of the enqueuer travels.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    id: TaskId,
    kind: String,
    payload: Vec<u8>,
    options: Options,
    predecessors: Vec<TaskId>,
}

impl NewTask {
    /// Makes a task from a typed one.
    ///
    /// # Errors
    /// As [`NewTask::new`].
    pub fn of<T: Task>(cx: &Context, task: &T, options: Options) -> Result<Self> {
        let payload = serde_json::to_vec(task).map_err(Error::internal)?;
        Self::new(cx, T::NAME, payload, options)
    }

    /// Makes a task of `kind` from the bytes its handler will read; the trace of `cx` goes on in it.
    ///
    /// # Errors
    /// `TASK_PAYLOAD_TOO_LARGE` above [`PAYLOAD_MAX`]; `TASK_INVALID` for a kind or keys that are empty, too long or hold
    /// control characters, for a timeout above 30 days, and for impossible groups, limits and headers.
    pub fn new(cx: &Context, kind: &str, payload: Vec<u8>, mut options: Options) -> Result<Self> {
        check_payload(&payload)?;
        if kind.is_empty() || !is_plain(kind, KIND_MAX) {
            return Err(invalid("a kind of task has 1 to 100 plain bytes"));
        }
        let trace = cx.trace().traceparent().as_str().to_owned();
        options.headers.insert(TRACEPARENT.to_owned(), trace);
        Ok(Self {
            id: TaskId::new(cx.runtime()),
            kind: kind.to_owned(),
            payload,
            options: options.checked(kind)?,
            predecessors: Vec::new(),
        })
    }

    /// Makes it wait until all of `earlier` have succeeded; their results are handed to its handler. They are in the store,
    /// or enqueued by the same call.
    ///
    /// One of them that is archived leaves it waiting, for somebody may run it again; one that is deleted archives it.
    /// A delay counts from when it is enqueued.
    ///
    /// # Errors
    /// `TASK_INVALID` for more than [`PREDECESSORS_MAX`] and for a task that gathers in a group.
    pub fn after(mut self, earlier: &[TaskId]) -> Result<Self> {
        let all: BTreeSet<TaskId> = self.predecessors.iter().chain(earlier).copied().collect();
        if all.len() > PREDECESSORS_MAX {
            return Err(invalid("a task waits for at most 100 others"));
        }
        if self.options.group.is_some() && !all.is_empty() {
            return Err(invalid("a task that gathers in a group waits for no others"));
        }
        self.predecessors = all.into_iter().collect();
        Ok(self)
    }

    /// Makes a task again of what was checked before.
    pub(crate) fn read(
        id: TaskId,
        kind: String,
        payload: Vec<u8>,
        options: Options,
        predecessors: Vec<TaskId>,
    ) -> Self {
        Self {
            id,
            kind,
            payload,
            options,
            predecessors,
        }
    }

    /// Gives it an id that follows from what it is, so that it is there once however often it is enqueued.
    pub(crate) fn with_id(mut self, id: TaskId) -> Self {
        self.id = id;
        self
    }

    /// Returns the id that the task will have.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Returns the kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Returns the options; a unique key has the kind in front of it.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns the tasks that must succeed before it, each once.
    pub fn predecessors(&self) -> &[TaskId] {
        &self.predecessors
    }
}

/// Makes each of `tasks` wait for the one before it.
///
/// # Errors
/// As [`NewTask::after`].
pub fn chain(tasks: impl IntoIterator<Item = NewTask>) -> Result<Vec<NewTask>> {
    let mut chained: Vec<NewTask> = Vec::new();
    for task in tasks {
        let earlier: Vec<TaskId> = chained.last().map(NewTask::id).into_iter().collect();
        chained.push(task.after(&earlier)?);
    }
    Ok(chained)
}

/// Makes `last` wait for all of `tasks`; returns them with `last` at the end.
///
/// # Errors
/// As [`NewTask::after`].
pub fn after_all(mut tasks: Vec<NewTask>, last: NewTask) -> Result<Vec<NewTask>> {
    let ids: Vec<TaskId> = tasks.iter().map(NewTask::id).collect();
    tasks.push(last.after(&ids)?);
    Ok(tasks)
}

/// Refuses what is too large for a row.
pub(crate) fn check_payload(payload: &[u8]) -> Result<()> {
    if payload.len() <= PAYLOAD_MAX {
        return Ok(());
    }
    let error = Error::invalid_argument("TASK_PAYLOAD_TOO_LARGE", "the task's payload is too large");
    Err(error.with_http_status(413))
}

/// Refuses a batch that is too long, and tasks that wait for each other.
pub(crate) fn check_batch(tasks: &[NewTask]) -> Result<()> {
    if tasks.len() > BATCH_MAX {
        return Err(Error::invalid_argument(
            "TASK_BATCH_TOO_LARGE",
            "too many tasks at once",
        ));
    }
    if tasks.iter().all(|task| task.predecessors.is_empty()) || is_without_circles(tasks) {
        return Ok(());
    }
    Err(invalid("tasks that wait for each other"))
}

fn is_without_circles(tasks: &[NewTask]) -> bool {
    let mut n_before: BTreeMap<TaskId, usize> = tasks.iter().map(|task| (task.id, 0)).collect();
    let mut successors: BTreeMap<TaskId, Vec<TaskId>> = BTreeMap::new();
    for task in tasks {
        for earlier in task
            .predecessors
            .iter()
            .filter(|earlier| n_before.contains_key(earlier))
        {
            successors.entry(*earlier).or_default().push(task.id);
        }
    }
    for later in successors.values().flatten() {
        *n_before.entry(*later).or_default() += 1;
    }
    let mut ready: VecDeque<TaskId> = n_before.iter().filter(|(_, n)| **n == 0).map(|(id, _)| *id).collect();
    let mut n_sorted = 0;
    while let Some(id) = ready.pop_front() {
        n_sorted += 1;
        for later in successors.remove(&id).unwrap_or_default() {
            let n = n_before.entry(later).or_default();
            *n -= 1;
            if *n == 0 {
                ready.push_back(later);
            }
        }
    }
    n_sorted == n_before.len()
}
