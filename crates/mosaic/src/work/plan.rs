//! What one module enqueues, publishes and handles.

use std::collections::BTreeMap;
use std::sync::Arc;

use mosaic_core::{Error, Result, TaskGroup};
use mosaic_events::{Bus, Consumers, Group, Listener, Outbox, Relay, RelayOptions};
use mosaic_sql::{Database, Migration};
use mosaic_tasks::{
    Handlers, Inspector, Periodic, Queue, QueueName, Scheduler, SqlEngine, Task, Worker, WorkerOptions,
};

use super::{ConsumerGroup, Inspection};
use crate::module::Shared;

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
    queue: Option<Queue>,
    outbox: Option<Outbox>,
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
        let engine = SqlEngine::new(self.database()?, &shared.runtime);
        let queue = Queue::new(Arc::new(engine), &shared.runtime);
        self.queue = Some(queue.clone());
        Ok(queue)
    }

    /// Returns the door to the module's outbox.
    pub(crate) fn outbox(&mut self, shared: &Shared) -> Result<Outbox> {
        self.database()?;
        let outbox = self.outbox.get_or_insert_with(|| Outbox::new(&shared.runtime));
        Ok(outbox.clone())
    }

    pub(crate) fn handle<T: Task>(&mut self, needs: Arc<T::Needs>) {
        self.handlers = std::mem::take(&mut self.handlers).with::<T>(needs);
    }

    pub(crate) fn weigh(&mut self, queue: QueueName, weight: u32) {
        self.weights.insert(queue, weight);
    }

    pub(super) fn needs_bus(&self) -> bool {
        self.outbox.is_some() || !self.groups.is_empty() || !self.listeners.is_empty()
    }

    /// Starts the worker and the scheduler, if the module has tasks.
    pub(super) fn start_tasks(
        &mut self,
        module: &str,
        mut options: WorkerOptions,
        tasks: &TaskGroup,
        inspection: &mut Inspection,
    ) -> Result<()> {
        let Some(queue) = &self.queue else { return Ok(()) };
        for (name, weight) in std::mem::take(&mut self.weights) {
            if !options.queues.iter().any(|(known, _)| *known == name) {
                options.queues.push((name, weight));
            }
        }
        let periodic = std::mem::take(&mut self.periodic);
        Scheduler::new(queue, module, periodic)?.spawn(tasks);
        Worker::new(queue, std::mem::take(&mut self.handlers), options).spawn(tasks);
        let inspector = Inspector::new(queue.engine().clone());
        inspection.tasks.push((module.to_owned(), inspector));
        Ok(())
    }

    /// Starts the relay, if the module publishes.
    pub(super) fn start_relay(&self, module: &str, bus: Arc<dyn Bus>, options: RelayOptions, tasks: &TaskGroup) {
        if let Some((database, outbox)) = self.database.as_ref().zip(self.outbox.as_ref()) {
            let relay = Relay::new(module, database, outbox, bus, options);
            let stop = tasks.stop_signal();
            tasks.spawn("events.relay", async move { relay.run(stop).await });
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
