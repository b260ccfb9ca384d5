//! The connection, the scripts, and what becomes of failures.
//!
//! A command has a time limit and is not repeated here: whoever asked knows whether it may be. The connection comes back by
//! itself; a server that was restarted is given the scripts again.

use std::time::Duration;

use mosaic_core::{Error, Result, Runtime};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError, Script, Value};

use super::args::Args;

/// Longest wait for an answer.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What of asynq's keys comes first.
const ASYNQ: &str = "asynq:";

pub(super) struct Connection {
    client: Client,
    manager: ConnectionManager,
    base: String,
    clock: Option<Runtime>,
    pub(super) scripts: Scripts,
}

/// Every script, with what all of them share in front.
pub(super) struct Scripts {
    pub(super) claim: Script,
    pub(super) commit: Script,
    pub(super) enqueue: Script,
    pub(super) extend: Script,
    pub(super) fetch: Script,
    pub(super) holders: Script,
    pub(super) manage: Script,
    pub(super) members: Script,
    pub(super) page: Script,
    pub(super) promote: Script,
    pub(super) queues: Script,
    pub(super) release: Script,
    pub(super) sweep: Script,
}

fn script(body: &str) -> Script {
    Script::new(&format!("{}{body}", include_str!("lua/lib.lua")))
}

impl Scripts {
    fn new() -> Self {
        Self {
            claim: script(include_str!("lua/claim.lua")),
            commit: script(include_str!("lua/commit.lua")),
            enqueue: script(include_str!("lua/enqueue.lua")),
            extend: script(include_str!("lua/extend.lua")),
            fetch: script(include_str!("lua/fetch.lua")),
            holders: script(include_str!("lua/holders.lua")),
            manage: script(include_str!("lua/manage.lua")),
            members: script(include_str!("lua/members.lua")),
            page: script(include_str!("lua/page.lua")),
            promote: script(include_str!("lua/promote.lua")),
            queues: script(include_str!("lua/queues.lua")),
            release: script(include_str!("lua/release.lua")),
            sweep: script(include_str!("lua/sweep.lua")),
        }
    }
}

impl Connection {
    pub(super) fn open(url: &str) -> Result<Self> {
        let bad = |error: RedisError| {
            Error::invalid_argument("TASKS_URL_INVALID", "the URL of the tasks is not valid")
                .caused_by(error.to_string())
        };
        let client = Client::open(url).map_err(bad)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(COMMAND_TIMEOUT))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_number_of_retries(0)
            .set_max_delay(Duration::from_secs(1));
        Ok(Self {
            manager: ConnectionManager::new_lazy_with_config(client.clone(), config).map_err(bad)?,
            client,
            base: ASYNQ.to_owned(),
            clock: None,
            scripts: Scripts::new(),
        })
    }

    pub(super) fn set_prefix(&mut self, prefix: &str) {
        self.base = format!("{prefix}{ASYNQ}");
    }

    pub(super) fn set_clock(&mut self, runtime: &Runtime) {
        self.clock = Some(runtime.clone());
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns a key, or a channel, that all queues share.
    pub(super) fn shared(&self, name: &str) -> String {
        format!("{}{name}", self.base)
    }

    /// Runs a script: prefix and time come before its arguments.
    pub(super) async fn run(&self, script: &Script, args: Args) -> Result<Value> {
        let mut call = script.prepare_invoke();
        call.key(&self.base);
        let still = self.clock.as_ref().map(|runtime| runtime.now().as_micros().to_string());
        call.arg(still.unwrap_or_default());
        call.arg(args.into_inner());
        let mut connection = self.manager.clone();
        match tokio::time::timeout(COMMAND_TIMEOUT, call.invoke_async(&mut connection)).await {
            Ok(outcome) => outcome.map_err(|error| down().caused_by(error)),
            Err(_) => Err(down().caused_by("no answer in time")),
        }
    }
}

fn down() -> Error {
    Error::unavailable("TASKS_UNAVAILABLE", "the store of tasks does not answer")
}

/// Others were always faster.
pub(super) fn contended() -> Error {
    Error::unavailable("TASKS_UNAVAILABLE", "the tasks are changed by others all the time")
}
