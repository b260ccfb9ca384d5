//! Tasks of transactions for an engine that is in no database: they travel in the outbox.

use async_trait::async_trait;
use mosaic_core::Result;
use mosaic_events::{Outbox, StoredTask, TaskSink};
use mosaic_sql::Transaction;
use mosaic_tasks::{Carrier, NewTask, Queue};

/// Puts tasks into the outbox.
pub(super) struct OutboxCarrier(pub(super) Outbox);

#[async_trait]
impl Carrier for OutboxCarrier {
    async fn carry(&self, tx: &Transaction, tasks: &[NewTask]) -> Result<()> {
        for task in tasks {
            let stored = StoredTask {
                id: task.id().to_string().parse()?,
                queue: task.options().queue.to_string(),
                name: task.kind().to_owned(),
                payload: task.to_bytes()?.into(),
                at: self.0.runtime().now(),
            };
            self.0.enqueue(tx, &stored).await?;
        }
        Ok(())
    }
}

/// Brings what the relay hands over to the engine.
#[derive(Debug)]
pub(super) struct QueueSink(pub(super) Queue);

#[async_trait]
impl TaskSink for QueueSink {
    async fn enqueue(&self, tasks: &[StoredTask]) -> Result<()> {
        let tasks = tasks
            .iter()
            .map(|task| NewTask::from_bytes(&task.payload))
            .collect::<Result<Vec<_>>>()?;
        // Not by the door: there was room for them when they were taken, and they are committed.
        self.0.engine().enqueue(&tasks).await?;
        self.0.wake();
        Ok(())
    }
}
