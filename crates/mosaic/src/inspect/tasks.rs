//! Tasks: queues of each module, and the tasks in them.

use axum::extract::{Path, Query, State as Extract};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use bytes::Bytes;
use mosaic_core::Error;
use mosaic_tasks::{Command, Flow, Inspector, QueueName, QueueStatus, Record, State, TaskId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Failed, Handle, shown};

/// Tasks on a page, unless asked for fewer.
const PAGE: usize = 50;

pub(super) fn router() -> Router<Handle> {
    Router::new()
        .route("/tasks", get(queues))
        .route("/tasks/{module}/queues/{queue}", get(list))
        .route("/tasks/{module}/queues/{queue}/{action}", post(on_queue))
        .route("/tasks/{module}/tasks/{id}", get(look))
        .route("/tasks/{module}/tasks/{id}/payload", put(set_payload))
        .route("/tasks/{module}/tasks/{id}/{action}", post(on_task))
}

/// Which tasks of a queue.
#[derive(Debug, Deserialize)]
struct Which {
    state: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

impl Which {
    fn state(&self) -> Result<State, Failed> {
        let wanted = self.state.as_deref().unwrap_or_default();
        let found = State::ALL.into_iter().find(|state| state_name(*state) == wanted);
        Ok(found.ok_or_else(|| {
            let known = State::ALL.map(state_name).join(", ");
            Error::invalid_argument("TASK_STATE_UNKNOWN", format!("name a state: {known}"))
        })?)
    }
}

fn state_name(state: State) -> String {
    format!("{state:?}").to_lowercase()
}

fn inspector<'a>(handle: &'a Handle, module: &str) -> Result<&'a Inspector, Failed> {
    let found = handle.get()?.tasks.iter().find(|(known, _)| known == module);
    let unknown = || Error::not_found("MODULE_UNKNOWN", "this process runs no tasks of such a module");
    Ok(found.map(|(_, inspector)| inspector).ok_or_else(unknown)?)
}

async fn queues(Extract(handle): Extract<Handle>) -> Answer {
    let mut all = Vec::new();
    for (module, inspector) in &handle.get()?.tasks {
        all.extend(inspector.queues().await?.iter().map(|queue| shown_queue(module, queue)));
    }
    Ok(Json(all.into()))
}

fn shown_queue(module: &str, queue: &QueueStatus) -> Value {
    let mut shown = json!({
        "module": module,
        "queue": queue.queue.as_str(),
        "paused": queue.flow == Flow::Paused,
        "latency_s": queue.latency.as_secs_f64(),
    });
    for state in State::ALL {
        let count = queue.counts.iter().find(|(of, _)| *of == state).map_or(0, |(_, n)| *n);
        shown[state_name(state)] = count.into();
    }
    shown["processed_today"] = queue.n_processed_today.into();
    shown["failed_today"] = queue.n_failed_today.into();
    shown
}

async fn list(
    Extract(handle): Extract<Handle>,
    Path((module, queue)): Path<(String, QueueText)>,
    Query(which): Query<Which>,
) -> Answer {
    let after = which.after.as_deref().map(str::parse::<TaskId>).transpose()?;
    let limit = which.limit.unwrap_or(PAGE);
    let inspector = inspector(&handle, &module)?;
    let tasks = inspector.list(&queue.name()?, which.state()?, after, limit).await?;
    Ok(Json(tasks.iter().map(shown_task).collect()))
}

fn shown_task(task: &Record) -> Value {
    json!({
        "id": task.id.to_string(),
        "kind": task.kind,
        "state": state_name(task.state),
        "due_at": task.due_at.to_string(),
        "failed": task.n_failed,
        "retries": task.retries_max,
        "last_error": task.last_error,
    })
}

async fn look(Extract(handle): Extract<Handle>, Path((module, id)): Path<(String, String)>) -> Answer {
    let seen = inspector(&handle, &module)?.look(id.parse()?).await?;
    let task = &seen.task;
    let mut shown_task = shown_task(task);
    let more = json!({
        "queue": task.queue.as_str(),
        "priority": task.priority,
        "enqueued_at": task.enqueued_at.to_string(),
        "lease_until": task.lease_until.map(|time| time.to_string()),
        "finished_at": task.finished_at.map(|time| time.to_string()),
        "kept_until": task.keep_until.map(|time| time.to_string()),
        "timeout_s": task.timeout.as_secs_f64(),
        "waits_for": task.waits_for.map(|wait| format!("{wait:?}").to_lowercase()),
        "waits_for_tasks": seen.earlier.iter().map(|earlier| earlier.id.to_string()).collect::<Vec<_>>(),
        "headers": task.headers,
        "payload": shown(&seen.payload),
        "result": shown(&seen.result),
    });
    if let (Value::Object(fields), Value::Object(more)) = (&mut shown_task, more) {
        fields.extend(more);
    }
    Ok(Json(shown_task))
}

/// A name of a queue in a path.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct QueueText(String);

impl QueueText {
    fn name(&self) -> Result<QueueName, Failed> {
        Ok(self.0.parse()?)
    }
}

fn command(action: &str) -> Result<Command, Failed> {
    match action {
        "run" => Ok(Command::RunNow),
        "archive" => Ok(Command::Archive),
        "delete" => Ok(Command::Delete),
        "cancel" => Ok(Command::Cancel),
        _ => {
            let message = "there is run, archive, delete and cancel; a queue can also pause and resume";
            Err(Error::not_found("ACTION_UNKNOWN", message).into())
        }
    }
}

async fn on_task(
    Extract(handle): Extract<Handle>,
    Path((module, id, action)): Path<(String, String, String)>,
) -> Answer {
    inspector(&handle, &module)?
        .command(id.parse()?, command(&action)?)
        .await?;
    Ok(Json(json!({"done": 1})))
}

async fn on_queue(
    Extract(handle): Extract<Handle>,
    Path((module, queue, action)): Path<(String, QueueText, String)>,
    Query(which): Query<Which>,
) -> Answer {
    let (inspector, queue) = (inspector(&handle, &module)?, queue.name()?);
    let n_done = match action.as_str() {
        "pause" => inspector.pause(&queue).await.map(|()| 1)?,
        "resume" => inspector.resume(&queue).await.map(|()| 1)?,
        _ => inspector.command_all(&queue, which.state()?, command(&action)?).await?,
    };
    Ok(Json(json!({"done": n_done})))
}

async fn set_payload(
    Extract(handle): Extract<Handle>,
    Path((module, id)): Path<(String, String)>,
    payload: Bytes,
) -> Answer {
    inspector(&handle, &module)?.set_payload(id.parse()?, &payload).await?;
    Ok(Json(json!({"done": 1})))
}
