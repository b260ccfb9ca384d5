//! Transactions with consequences: what is published and enqueued in one is told and done if, and only if, it commits.

use std::ops::Deref;

use mosaic_core::{Context, Result, Timestamp};
use mosaic_events::{Event, EventId, Outbox};
use mosaic_sql::{Database, Transaction};
use mosaic_tasks::{Enqueued, Options, Queue, Task, When};

/// Runs transactions of a module's database; from [`Module::transactions`](crate::Module::transactions). Cheap to clone.
#[derive(Debug, Clone)]
pub struct Transactions {
    pub(crate) database: Database,
    pub(crate) outbox: Outbox,
    pub(crate) queue: Queue,
}

impl Transactions {
    /// Runs `body` in a transaction, as [`Database::transaction`] does: perhaps more than once.
    ///
    /// ```
    /// # use mosaic::events::Event; use mosaic::tasks::Task; use mosaic::{Context, Result, Transactions};
    /// # async fn example(cx: &Context, transactions: Transactions, paid: impl Event, send: impl Task) -> Result<()> {
    /// transactions
    ///     .run(async |tx| {
    ///         // changes with `&*tx`, which is a `mosaic::sql::Transaction`, then:
    ///         tx.publish(cx, &paid).await?;
    ///         tx.enqueue(cx, &send).await?;
    ///         Ok(())
    ///     })
    ///     .await
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Database::transaction`].
    pub async fn run<T, F, B>(&self, body: F) -> Result<T>
    where
        F: Fn(Tx) -> B,
        B: Future<Output = Result<T>>,
    {
        self.database.transaction(|tx| body(self.with(tx))).await
    }

    /// Returns the database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Gives consequences to a transaction of this database that somebody else has begun, e.g. that of a handler of events.
    pub fn within(&self, tx: &Transaction) -> Tx {
        self.with(tx.clone())
    }

    fn with(&self, tx: Transaction) -> Tx {
        Tx {
            tx,
            outbox: self.outbox.clone(),
            queue: self.queue.clone(),
        }
    }
}

/// A transaction that may publish and enqueue; a [`Transaction`] otherwise.
#[derive(Debug)]
pub struct Tx {
    tx: Transaction,
    outbox: Outbox,
    queue: Queue,
}

impl Tx {
    /// Publishes `event`; see [`Outbox::publish`].
    ///
    /// # Errors
    /// As [`Outbox::publish`].
    pub async fn publish<E: Event>(&self, cx: &Context, event: &E) -> Result<EventId> {
        self.outbox.publish(&self.tx, cx, event).await
    }

    /// Enqueues `task` as most tasks are: at once, with retries.
    ///
    /// # Errors
    /// As [`mosaic_tasks::QueueWithin::enqueue`].
    pub async fn enqueue<T: Task>(&self, cx: &Context, task: &T) -> Result<Enqueued> {
        self.enqueue_with(cx, task, Options::default()).await
    }

    /// Enqueues `task` for a time.
    ///
    /// # Errors
    /// As [`mosaic_tasks::QueueWithin::enqueue`].
    pub async fn enqueue_at<T: Task>(&self, cx: &Context, task: &T, time: Timestamp) -> Result<Enqueued> {
        let options = Options {
            when: When::At(time),
            ..Options::default()
        };
        self.enqueue_with(cx, task, options).await
    }

    /// Enqueues `task` with `options`.
    ///
    /// # Errors
    /// As [`mosaic_tasks::QueueWithin::enqueue`].
    pub async fn enqueue_with<T: Task>(&self, cx: &Context, task: &T, options: Options) -> Result<Enqueued> {
        self.queue.within(&self.tx).enqueue(cx, task, options).await
    }
}

impl Deref for Tx {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.tx
    }
}
