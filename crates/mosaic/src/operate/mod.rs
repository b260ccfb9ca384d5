//! The commands by which people look after a running process: `tasks ...`, `events ...` and [those of modules](Operate).
//!
//! They ask the admin port of a process, so what they show is what that process sees, whatever its engines are.

mod module;
mod table;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use mosaic_core::{Error, Result};
use serde_json::{Value, json};

pub use module::{AdminRequest, Operate};
pub use table::render;

use crate::inspect::ADMIN_HEADER;
pub use crate::inspect::Failed;
pub(crate) use module::ModuleCommands;

/// Looks after a running process, through its admin port.
#[derive(Debug, Subcommand)]
pub(crate) enum Operation {
    /// Shows and changes tasks: what waits, runs, failed
    #[command(subcommand)]
    Tasks(TaskOperation),
    /// Shows how far consumers are behind, and what they could not handle
    #[command(subcommand)]
    Events(EventOperation),
}

/// One task, or all of a queue that are in one state.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Module that the tasks belong to
    module: String,
    /// Id of the task
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Option<String>,
    /// All tasks of a queue that are in one state
    #[arg(long, num_args = 2, value_names = ["QUEUE", "STATE"])]
    all: Option<Vec<String>>,
}

/// One dead letter of a group, or all of them.
#[derive(Debug, Args)]
pub(crate) struct WhichLetter {
    /// Group of consumers
    group: String,
    /// Number of the dead letter
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    seq: Option<i64>,
    /// All of them
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TaskOperation {
    /// Lists queues, or the tasks of a queue in one state
    Ls {
        /// Module, queue and state (pending, scheduled, active, retry, completed, archived, waiting)
        #[arg(num_args = 3, value_names = ["MODULE", "QUEUE", "STATE"])]
        of: Option<Vec<String>>,
        /// Tasks after this id
        #[arg(long)]
        after: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Shows everything about a task
    Show {
        /// Module
        module: String,
        /// Id
        id: String,
    },
    /// Runs tasks at once, with all their retries
    Run(Which),
    /// Puts tasks aside
    Archive(Which),
    /// Removes tasks
    Delete(Which),
    /// Archives tasks that wait, stops those that run
    Cancel(Which),
    /// Gives a task another payload
    Update {
        /// Module
        module: String,
        /// Id
        id: String,
        /// What its handler will read
        payload: String,
    },
    /// Hands out no more tasks of a queue, in any process
    Pause {
        /// Module
        module: String,
        /// Queue
        queue: String,
    },
    /// Goes on with a queue
    Resume {
        /// Module
        module: String,
        /// Queue
        queue: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventOperation {
    /// Shows how far each group is behind
    Lag,
    /// Shows, repeats and removes events that a group could not handle
    #[command(subcommand)]
    Dlq(LetterOperation),
    /// Lets a group read a topic again from a place
    Replay {
        /// Group
        group: String,
        /// Topic
        topic: String,
        /// beginning, end, a time (2026-01-31T12:00:00Z) or partition:offset
        #[arg(long)]
        from: String,
    },
    /// Lets the members of a group in the asked process begin nothing new
    Pause {
        /// Group
        group: String,
    },
    /// Goes on with a group
    Resume {
        /// Group
        group: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LetterOperation {
    /// Lists dead letters
    Ls {
        /// Group
        group: String,
        /// Those after this number
        #[arg(long, default_value_t = 0)]
        after: i64,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Shows a dead letter with its payload
    Show {
        /// Group
        group: String,
        /// Number
        seq: i64,
    },
    /// Handles dead letters again
    Replay(WhichLetter),
    /// Removes a dead letter
    Delete {
        /// Group
        group: String,
        /// Number
        seq: i64,
    },
}

fn get(path: String) -> AdminRequest {
    AdminRequest::get(path)
}

fn post(path: String) -> AdminRequest {
    AdminRequest::post(path)
}

/// A part of a path that somebody typed.
fn part(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

impl Operate for Operation {
    fn request(&self) -> AdminRequest {
        match self {
            Self::Tasks(operation) => operation.request(),
            Self::Events(operation) => operation.request(),
        }
    }
}

/// Asks the process whose admin port is at `admin` and prints the answer; exit code 1 if it refuses, is not there, or
/// says what is not well.
pub(crate) async fn run(operation: &dyn Operate, admin: &str, as_json: bool) -> ExitCode {
    match ask(admin, operation.request()).await {
        Ok(answer) => {
            let text = if as_json {
                format!("{answer:#}\n")
            } else {
                operation.text(&answer)
            };
            table::print(&text);
            if operation.is_well(&answer) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            table::complain(&format!("{}\n", error.message()));
            ExitCode::FAILURE
        }
    }
}

impl Which {
    fn request(&self, action: &str) -> AdminRequest {
        let module = part(&self.module);
        match (&self.id, self.all.as_deref()) {
            (Some(id), _) => post(format!("/tasks/{module}/tasks/{}/{action}", part(id))),
            (None, Some([queue, state])) => post(format!(
                "/tasks/{module}/queues/{}/{action}?state={}",
                part(queue),
                part(state)
            )),
            (None, _) => unreachable!("clap asks for an id or for both parts of --all"),
        }
    }
}

impl TaskOperation {
    fn request(&self) -> AdminRequest {
        match self {
            Self::Ls { of, after, limit } => match of.as_deref() {
                Some([module, queue, state]) => {
                    let after = after
                        .as_ref()
                        .map_or(String::new(), |id| format!("&after={}", part(id)));
                    let (module, queue, state) = (part(module), part(queue), part(state));
                    get(format!(
                        "/tasks/{module}/queues/{queue}?state={state}&limit={limit}{after}"
                    ))
                }
                _ => get("/tasks".to_owned()),
            },
            Self::Show { module, id } => get(format!("/tasks/{}/tasks/{}", part(module), part(id))),
            Self::Run(which) => which.request("run"),
            Self::Archive(which) => which.request("archive"),
            Self::Delete(which) => which.request("delete"),
            Self::Cancel(which) => which.request("cancel"),
            Self::Update { module, id, payload } => AdminRequest {
                method: Method::PUT,
                path: format!("/tasks/{}/tasks/{}/payload", part(module), part(id)),
                body: payload.clone().into_bytes(),
            },
            Self::Pause { module, queue } => post(format!("/tasks/{}/queues/{}/pause", part(module), part(queue))),
            Self::Resume { module, queue } => post(format!("/tasks/{}/queues/{}/resume", part(module), part(queue))),
        }
    }
}

impl EventOperation {
    fn request(&self) -> AdminRequest {
        match self {
            Self::Lag => get("/events".to_owned()),
            Self::Dlq(operation) => operation.request(),
            Self::Replay { group, topic, from } => AdminRequest {
                body: json!({"topic": topic, "from": from}).to_string().into_bytes(),
                ..post(format!("/events/{}/seek", part(group)))
            },
            Self::Pause { group } => post(format!("/events/{}/pause", part(group))),
            Self::Resume { group } => post(format!("/events/{}/resume", part(group))),
        }
    }
}

impl LetterOperation {
    fn request(&self) -> AdminRequest {
        match self {
            Self::Ls { group, after, limit } => {
                get(format!("/events/{}/dead?after={after}&limit={limit}", part(group)))
            }
            Self::Show { group, seq } => get(format!("/events/{}/dead/{seq}", part(group))),
            Self::Replay(WhichLetter { group, seq, .. }) => {
                let which = seq.map_or(String::new(), |seq| format!("{seq}/"));
                post(format!("/events/{}/dead/{which}replay", part(group)))
            }
            Self::Delete { group, seq } => AdminRequest {
                method: Method::DELETE,
                ..get(format!("/events/{}/dead/{seq}", part(group)))
            },
        }
    }
}

async fn ask(admin: &str, request: AdminRequest) -> Result<Value> {
    const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
    crate::outgoing::install_crypto();
    let client = crate::partner_client(TIMEOUT)?;
    let away = |cause: reqwest::Error| {
        let message = format!("no process answers at {admin}: name its admin port with --admin");
        Error::unavailable("PROCESS_AWAY", message).caused_by(cause)
    };
    let sent = client
        .request(request.method, format!("http://{admin}{}", request.path))
        .header(ADMIN_HEADER, "1")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(request.body)
        .send();
    let response = sent.await.map_err(away)?;
    let is_success = response.status().is_success();
    let body = response.bytes().await.map_err(away)?;
    let answer: Value = serde_json::from_slice(&body).map_err(|cause| {
        Error::unavailable("PROCESS_STRANGE", format!("{admin} is no admin port of this program")).caused_by(cause)
    })?;
    if is_success {
        return Ok(answer);
    }
    let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    Err(Error::failed_precondition(
        "REFUSED",
        format!("{} ({})", text("detail"), text("reason")),
    ))
}
