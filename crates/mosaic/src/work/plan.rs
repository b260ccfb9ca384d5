//! What one module enqueues, publishes and handles, and what people may look after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use mosaic_core::{Error, Result, TaskGroup};
use mosaic_events::{
    Bus, Consumers, Event, Group, Listener, Outbox, Relay, RelayOptions, ReportOptions, Reporter, Reports,
};
use mosaic_sql::{Database, Migration};
use mosaic_tasks::{
    Handlers, Inspector, Periodic, Queue, QueueName, Scheduler, SqlEngine, Task, Worker, WorkerOptions,
};

use super::carrier::{OutboxCarrier, QueueSink};
use super::{ConsumerGroup, Inspection, Transactions};
use crate::module::Shared;

/// How often queues are counted for the metrics.
const MEASURE_EVERY: Duration = Duration::from_secs(15);
/// What an engine that all modules share is called where modules are named.
const SHARED: &str = "shared";

/// Migrations of every module's database: what commits with its changes is in it.
pub(crate) fn migrations(own: &[Migration]) -> Vec<Migration> {
    let ours = [
        mosaic_lease::MIGRATIONS,
        mosaic_tasks::MIGRATIONS,
        mosaic_events::MIGRATIONS,
    ];
    ours.into_iter().flatten().chain(own).copied().collect()
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) database: Option<Database>,
    pub(crate) groups: Vec<Group>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) periodic: Vec<Periodic>,
    /// What it adds to the admin port.
    pub(crate) admin: Option<Router>,
    queue: Option<Queue>,
    outbox: Option<Outbox>,
    reports: Option<Reports>,
    handlers: Handlers,
    weights: BTreeMap<QueueName, u32>,
}

impl Plan {
    /// Returns the module's database.
    pub(crate) fn database(&self) -> Result<&Database> {
        let missing = || Error::internal("the module has no database yet: call `Module::database` first");
        self.database.as_ref().ok_or_else(missing)
    }

    /// Returns the door to the module's tasks.
    pub(crate) fn queue(&mut self, shared: &Shared) -> Result<Queue> {
        if let Some(queue) = &self.queue {
            return Ok(queue.clone());
        }
        let queue = match &shared.tasks_engine {
            None => Queue::new(
                Arc::new(SqlEngine::new(self.database()?, &shared.runtime)),
                &shared.runtime,
            ),
            Some(engine) => {
                let queue = Queue::new(engine.clone(), &shared.runtime);
                // Without a database the module has no transactions to enqueue in.
                match self.outbox(shared) {
                    Ok(outbox) => queue.carried_by(Arc::new(OutboxCarrier(outbox))),
                    Err(_) => queue,
                }
            }
        };
        let queue = queue.limited_to(shared.queue_max);
        self.queue = Some(queue.clone());
        Ok(queue)
    }

    /// Returns the door to the module's outbox.
    pub(crate) fn outbox(&mut self, shared: &Shared) -> Result<Outbox> {
        self.database()?;
        let outbox = self.outbox.get_or_insert_with(|| Outbox::new(&shared.runtime));
        Ok(outbox.clone())
    }

    /// Returns the door for events that are published without a transaction.
    pub(crate) fn reporter<E: Event>(&mut self, shared: &Shared) -> Reporter<E> {
        let options = ReportOptions {
            drain: shared.consumer_options.drain,
            ..ReportOptions::default()
        };
        self.reports.get_or_insert_with(|| Reports::new(options)).reporter()
    }

    /// Returns transactions of the module's database that may publish and enqueue.
    pub(crate) fn transactions(&mut self, shared: &Shared) -> Result<Transactions> {
        Ok(Transactions {
            database: self.database()?.clone(),
            outbox: self.outbox(shared)?,
            queue: self.queue(shared)?,
        })
    }

    pub(crate) fn handle<T: Task>(&mut self, needs: Arc<T::Needs>) {
        self.handlers = std::mem::take(&mut self.handlers).with::<T>(needs);
    }

    pub(crate) fn weigh(&mut self, queue: QueueName, weight: u32) {
        self.weights.insert(queue, weight);
    }

    pub(super) fn needs_bus(&self) -> bool {
        self.outbox.is_some() || self.reports.is_some() || !self.groups.is_empty() || !self.listeners.is_empty()
    }

    /// Starts the worker and the scheduler, if the module has tasks.
    pub(super) fn start_tasks(
        &mut self,
        shared: &Shared,
        module: &str,
        mut options: WorkerOptions,
        tasks: &TaskGroup,
        inspection: &mut Inspection,
    ) -> Result<()> {
        let Some(queue) = &self.queue else { return Ok(()) };
        let is_shared = shared.tasks_engine.is_some();
        let (counted, mut stop) = (queue.clone(), tasks.stop_signal());
        tasks.spawn("tasks.count", async move {
            tokio::select! {
                () = counted.count_for_ever() => {}
                () = stop.stopped() => {}
            }
        });
        for (name, weight) in std::mem::take(&mut self.weights) {
            if !options.queues.iter().any(|(known, _)| *known == name) {
                options.queues.push((name, weight));
            }
        }
        let periodic = std::mem::take(&mut self.periodic);
        Scheduler::new(queue, module, periodic)?.spawn(tasks);
        Worker::new(queue, std::mem::take(&mut self.handlers), options).spawn(tasks);
        if inspection.tasks.is_empty() || !is_shared {
            let name = if is_shared { SHARED } else { module };
            let inspector = Inspector::new(queue.engine().clone());
            inspection.tasks.push((name.to_owned(), inspector.clone()));
            let (name, mut stop) = (name.to_owned(), tasks.stop_signal());
            tasks.spawn("tasks.measure", async move {
                tokio::select! {
                    () = inspector.measure_for_ever(&name, MEASURE_EVERY) => {}
                    () = stop.stopped() => {}
                }
            });
        }
        Ok(())
    }

    /// Starts the relay, if the module publishes.
    pub(super) fn start_relay(&self, module: &str, bus: Arc<dyn Bus>, options: RelayOptions, tasks: &TaskGroup) {
        if let Some((database, outbox)) = self.database.as_ref().zip(self.outbox.as_ref()) {
            let mut relay = Relay::new(module, database, outbox, bus, options);
            if let Some(queue) = &self.queue {
                relay = relay.with_tasks(Arc::new(QueueSink(queue.clone())));
            }
            let stop = tasks.stop_signal();
            tasks.spawn("events.relay", async move { relay.run(stop).await });
        }
    }

    /// Starts publishing what the module reports.
    pub(super) fn start_reports(&self, bus: Arc<dyn Bus>, tasks: &TaskGroup) {
        if let Some(reports) = self.reports.clone() {
            let stop = tasks.stop_signal();
            tasks.spawn("events.reports", async move { reports.run(bus, stop).await });
        }
    }

    /// Starts the module's groups and listeners.
    pub(super) fn start_consumers(self, module: &str, consumers: &Consumers, inspection: &mut Inspection) {
        for listener in self.listeners {
            consumers.listen(listener);
        }
        for group in self.groups {
            inspection.groups.push(ConsumerGroup {
                module: module.to_owned(),
                name: group.name().to_string(),
                running: consumers.start(group),
            });
        }
    }
}
