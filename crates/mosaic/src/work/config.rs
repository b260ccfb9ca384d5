//! The configuration of tasks and events.

use std::collections::BTreeMap;
use std::time::Duration;

use mosaic_core::config::EngineUrl;

mosaic_core::config! {
    /// Work for later.
    pub struct TasksConfig in "tasks" {
        /// `database:` (each module's own, so tasks commit with what made them necessary), `redis://...` or `rediss://...`.
        pub url: EngineUrl = "database:",
        /// Tasks of one module that this process runs at once.
        pub concurrency: usize = "10",
        /// Weights of queues beside `default`, which has 1: `tasks.queues.urgent = 5`.
        pub queues: BTreeMap<String, u32> = "",
        /// Tasks that a queue may hold which have not begun or wait for another attempt; more are refused.
        pub queue_max: u64 = "1000000",
        /// The heaviest queue always goes first, and lighter ones may starve.
        pub strict: bool = "false",
        /// A worker that gives no sign for so long is dead, and its tasks go to others.
        pub lease: Duration = "30s",
        /// How often to look for tasks of other processes when there is nothing to do.
        pub poll: Duration = "1s",
    }
}

mosaic_core::config! {
    /// What modules tell each other.
    pub struct EventsConfig in "events" {
        /// `embedded:` (in the database), a database that processes share (`postgres://...`, `mysql://...`, `sqlite:DIR/`), `memory:`,
        /// `kafka://...`, `nats://...` or `amqp://...`.
        pub url: EngineUrl = "embedded:",
        /// Keys of one partition that a process handles side by side.
        pub concurrency: usize = "16",
        /// Attempts before an event goes to the dead letters.
        pub attempts: u32 = "8",
        /// Rows of an outbox are kept for so long after they were sent.
        pub outbox_retention: Duration = "1h",
        /// For so long it is remembered that an event was handled: longer than any redelivery.
        pub inbox_retention: Duration = "7d",
    }
}
