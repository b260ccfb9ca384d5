//! What a process does beside answering: it runs tasks, relays what transactions published, handles events.
//!
//! A module says in its `install` what it enqueues, publishes and handles ([`Plan`]); when all modules are installed and the
//! listeners are up, the process starts workers, schedulers, relays and consumers for them ([`Work`]), and at the end stops
//! these before it closes databases.

mod carrier;
mod config;
mod plan;
mod transactions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use mosaic_core::config::Settings;
use mosaic_core::{Code, Result, Runtime, TaskGroup};
use mosaic_events::{BUS_MIGRATIONS, BrokerOptions, Bus, Consumers, LogBus, LogBusOptions, RelayOptions, Running};
use mosaic_tasks::{Engine, Inspector, QueueName, QueueOrder, RedisEngine, WorkerOptions};

pub use config::{EventsConfig, TasksConfig};
pub(crate) use plan::{Plan, migrations};
pub use transactions::{Transactions, Tx};

use crate::base::Base;
use crate::module::{Shared, open_database};

/// Beginnings of URLs of databases.
const DATABASES: [&str; 4] = ["sqlite:", "postgres:", "postgresql:", "mysql:"];

/// How people see and steer the work of a process, by module.
#[derive(Debug, Default)]
pub(crate) struct Inspection {
    pub(crate) tasks: Vec<(String, Inspector)>,
    pub(crate) groups: Vec<ConsumerGroup>,
    pub(crate) bus: Option<Arc<dyn Bus>>,
    /// What modules add to the admin port.
    pub(crate) modules: BTreeMap<String, Router>,
}

/// A group of consumers of this process.
#[derive(Debug)]
pub(crate) struct ConsumerGroup {
    pub(crate) module: String,
    pub(crate) name: String,
    pub(crate) running: Running,
}

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Work {
    tasks: TaskGroup,
    consumers: Option<Consumers>,
}

impl Work {
    /// Starts what `plans` of modules ask for.
    pub(crate) async fn start(
        shared: &Arc<Shared>,
        base: &Base,
        plans: Vec<(String, Plan)>,
        tasks: TaskGroup,
    ) -> Result<(Self, Inspection)> {
        let mut inspection = Inspection::default();
        let mut consumers = None;
        if plans.iter().any(|(_, plan)| plan.needs_bus()) {
            let bus = open_bus(shared, &base.events).await?;
            consumers = Some(Consumers::new(bus.clone(), &shared.runtime));
            inspection.bus = Some(bus);
        }
        for (module, mut plan) in plans {
            if let Some(router) = plan.admin.take() {
                inspection.modules.insert(module.clone(), router);
            }
            plan.start_tasks(shared, &module, worker_options(base)?, &tasks, &mut inspection)?;
            if let Some((consumers, bus)) = consumers.as_ref().zip(inspection.bus.clone()) {
                plan.start_reports(bus.clone(), &tasks);
                plan.start_relay(&module, bus, relay_options(base), &tasks);
                plan.start_consumers(&module, consumers, &mut inspection);
            }
        }
        Ok((Self { tasks, consumers }, inspection))
    }

    /// Stops all of it side by side; returns how much had to be cut after `grace`.
    pub(crate) async fn shutdown(&self, grace: Duration) -> usize {
        let consumers = async {
            match &self.consumers {
                Some(consumers) => consumers.shutdown(grace).await,
                None => 0,
            }
        };
        let (n_tasks, n_consumers) = tokio::join!(self.tasks.shutdown(grace), consumers);
        n_tasks + n_consumers
    }
}

/// Opens the engine of tasks that the configuration names; `None` for the database of each module.
pub(crate) fn open_tasks(config: &TasksConfig, runtime: &Runtime) -> Result<Option<Arc<dyn Engine>>> {
    match config.url.expose() {
        "database:" => Ok(None),
        redis => Ok(Some(Arc::new(RedisEngine::open(redis, runtime)?))),
    }
}

fn worker_options(base: &Base) -> Result<WorkerOptions> {
    let config = &base.tasks;
    let mut queues = vec![(QueueName::default(), 1)];
    for (name, weight) in &config.queues {
        queues.retain(|(known, _)| known.as_str() != name);
        queues.push((name.parse()?, *weight));
    }
    Ok(WorkerOptions {
        concurrency: config.concurrency,
        queues,
        order: if config.strict {
            QueueOrder::Strict
        } else {
            QueueOrder::Weighted
        },
        lease: config.lease,
        poll: config.poll,
        // Before the group is cut, so that what does not end is given back.
        drain: base.platform.drain_timeout / 5,
    })
}

fn relay_options(base: &Base) -> RelayOptions {
    let mut options = RelayOptions {
        retention: base.events.outbox_retention,
        ..RelayOptions::default()
    };
    // So that the lease is given back, and not cut.
    options.candidate.drain = base.platform.drain_timeout / 5;
    options
}

/// Reports mistakes that only the meaning of the values shows.
pub(crate) fn check(base: &Base, settings: &Settings) {
    if base.tasks.concurrency == 0 {
        settings.report("tasks.concurrency", "must be at least 1");
    }
    if let Err(error) = worker_options(base) {
        settings.report("tasks.queues", error.message());
    }
}

/// Opens the bus that the configuration names; waits while the database of the embedded one cannot be reached.
async fn open_bus(shared: &Shared, config: &EventsConfig) -> Result<Arc<dyn Bus>> {
    let options = LogBusOptions::default();
    let is_database = |url: &str| DATABASES.iter().any(|scheme| url.starts_with(scheme));
    match config.url.expose() {
        url if url == "embedded:" || is_database(url) => {
            let url = if is_database(url) {
                &config.url
            } else {
                &shared.database.url
            };
            let database = open_database(shared, "events", url, BUS_MIGRATIONS).await?;
            Ok(Arc::new(LogBus::embedded(&database, &shared.runtime, options)))
        }
        "memory:" => Ok(Arc::new(LogBus::memory(&shared.runtime, options))),
        _ => {
            let opened = mosaic_events::open(&config.url, &shared.runtime, BrokerOptions::default()).await;
            opened.inspect_err(|error| {
                if matches!(error.code(), Code::InvalidArgument | Code::Unimplemented) {
                    shared.settings.report("events.url", error.message());
                }
            })
        }
    }
}
