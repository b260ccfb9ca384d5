//! The transactional outbox: what a transaction publishes is a row of the same database, so it is published if, and only
//! if, the transaction commits.
//!
//! The [`Relay`](crate::Relay) brings rows to the bus (or tasks to an engine elsewhere) and marks them. Publishing inside the
//! transaction would tell of what is rolled back later; publishing after it would lose what a crash comes between. A row
//! costs its transaction one insert, which travels with the commit where it can; the commit rings for the relay of this process.

mod dead;
mod relay;
mod rows;

use bytes::Bytes;
use mosaic_core::{Context, Error, Result, Runtime, Timestamp};
use mosaic_sql::Transaction;
use mosaic_sql::sea_orm::ConnectionTrait as _;
use tokio::sync::watch;

pub use dead::OutboxDeadLetter;
pub use relay::{Pass, Relay, RelayOptions};
pub(crate) use rows::{headers_of, headers_text};

use crate::event::{Event, EventId, Message, NAME_MAX, PAYLOAD_MAX};

/// Work for a task engine outside the database, as an outbox carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTask {
    /// Names the task; duplicates have the same.
    pub id: EventId,
    /// The queue.
    pub queue: String,
    /// The kind of task.
    pub name: String,
    /// What the sink reads: opaque here.
    pub payload: Bytes,
    /// When it was enqueued, by the clock of who did.
    pub at: Timestamp,
}

/// Most bytes of what is in front of a task's payload.
const TASK_HEAD_MAX: usize = 16 << 10;

/// Takes tasks out of an outbox.
#[async_trait::async_trait]
pub trait TaskSink: Send + Sync + std::fmt::Debug + 'static {
    /// Enqueues tasks, in this order; some may come twice.
    ///
    /// # Errors
    /// `InvalidArgument` if one of them will never be taken; anything else is worth another attempt.
    async fn enqueue(&self, tasks: &[StoredTask]) -> Result<()>;
}

/// The door to a module's outbox; the database has [`MIGRATIONS`](crate::MIGRATIONS). Cheap to clone: clones share the bell.
#[derive(Debug, Clone)]
pub struct Outbox {
    runtime: Runtime,
    bell: watch::Sender<()>,
}

impl Outbox {
    /// Makes the outbox of one database; its relay must be made from the same.
    pub fn new(runtime: &Runtime) -> Self {
        Self {
            runtime: runtime.clone(),
            bell: watch::Sender::new(()),
        }
    }

    /// Publishes `event` if `tx` commits. Events of one key are relayed in the order of these calls, where the transactions
    /// that make them exclude each other (as those that change one row do).
    ///
    /// # Errors
    /// As [`Message::of`]; failures of the database.
    pub async fn publish<E: Event>(&self, tx: &Transaction, cx: &Context, event: &E) -> Result<EventId> {
        let message = Message::of(cx, event)?;
        self.publish_all(tx, std::slice::from_ref(&message)).await?;
        Ok(message.id)
    }

    /// Publishes messages if `tx` commits.
    ///
    /// # Errors
    /// As [`Message::check`]; failures of the database.
    pub async fn publish_all(&self, tx: &Transaction, messages: &[Message]) -> Result<()> {
        let mut entries = Vec::with_capacity(messages.len());
        for message in messages {
            message.check()?;
            entries.push(rows::of_message(message)?);
        }
        self.put(tx, &entries).await
    }

    /// Hands `task` to the [`TaskSink`] if `tx` commits.
    ///
    /// # Errors
    /// `TASK_INVALID` for names or payloads above the limits of events; failures of the database.
    pub async fn enqueue(&self, tx: &Transaction, task: &StoredTask) -> Result<()> {
        if task.payload.len() > PAYLOAD_MAX + TASK_HEAD_MAX || task.name.len() > NAME_MAX || task.queue.len() > NAME_MAX
        {
            return Err(Error::invalid_argument(
                "TASK_INVALID",
                "a task's name or payload is too long",
            ));
        }
        self.put(tx, &[rows::of_task(task)]).await
    }

    async fn put(&self, tx: &Transaction, entries: &[rows::Entry]) -> Result<()> {
        for insert in rows::inserts(tx.get_database_backend(), entries) {
            tx.execute_last(insert).await?;
        }
        let bell = self.bell.clone();
        tx.on_commit(move || {
            bell.send_replace(());
        });
        Ok(())
    }

    /// Makes the relay of this process look now.
    pub fn wake(&self) {
        self.bell.send_replace(());
    }

    pub(crate) fn bell(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }

    /// Returns clock, randomness and ids.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}
