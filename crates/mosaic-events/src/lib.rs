//! Events between modules: what happened in one is told to all who care, once it is certain, and never lost on the way.
mod bus;
mod consumer;
mod event;
mod log;
mod names;
mod outbox;
mod partition;
mod schema;
mod text;

pub use bus::{
    Bus, Capabilities, Change, Delivered, Lag, Member, Mode, Position, Start, Topic, fenced, group_active, unavailable,
    unsupported,
};
pub use consumer::{
    BatchSize, ConsumerOptions, Consumers, DeadLetter, DeadLetters, Group, Handle, HandleBatch, HandleBatchIn,
    HandleIn, Inbox, Listener, Running,
};
pub use event::{Event, EventId, HEADER_BYTES_MAX, HEADERS_MAX, KEY_MAX, Message, NAME_MAX, PAYLOAD_MAX, TRACEPARENT};
pub use log::{BUS_MIGRATIONS, LogBus, LogBusOptions};
pub use names::{GroupName, TopicName};
pub use outbox::{Outbox, OutboxDeadLetter, Pass, Relay, RelayOptions, StoredTask, TaskSink};
pub use partition::partition_of;
pub use schema::MIGRATIONS;
