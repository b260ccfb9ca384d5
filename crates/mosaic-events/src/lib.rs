//! Events between modules: what happened in one is told to all who care, once it is certain, and never lost on the way.
//!
//! A transaction publishes through its [`Outbox`]; the [`Relay`] brings rows to a [`Bus`]; [`Consumers`] run the handlers of a
//! [`Group`], with an inbox in the handler's transaction. What is promised:
//!
//! - **Published if, and only if, the transaction commits**; at least once, in order for each key.
//! - **Effects once** for handlers in a transaction; the others must be repeatable.
//! - **Handled or kept**: what cannot be handled becomes a [`DeadLetter`], and holds up nobody but its own key meanwhile.
//!
//! Not promised: order between keys, order of what is replayed, delivery of what a topic's retention has deleted, and that a
//! [`Listener`] hears what is published while it is not there.

mod broker;
mod bus;
mod consumer;
mod event;
mod headers;
#[cfg(feature = "kafka")]
mod kafka;
mod log;
mod names;
#[cfg(feature = "nats")]
mod nats;
mod outbox;
mod partition;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod reporter;
mod schema;
mod text;

pub use broker::{BrokerOptions, open};
pub use bus::{
    Bus, Capabilities, Change, Delivered, Lag, Member, Mode, Position, Start, Topic, fenced, group_active, unavailable,
    unsupported,
};
pub use consumer::{
    Arrived, BatchSize, ConsumerOptions, Consumers, DeadLetter, DeadLetters, Group, Handle, HandleBatch, HandleBatchIn,
    HandleIn, Inbox, Listener, Running,
};
pub use event::{Event, EventId, HEADER_BYTES_MAX, HEADERS_MAX, KEY_MAX, Message, NAME_MAX, PAYLOAD_MAX, Record};
pub use headers::{Header, Headers, TRACEPARENT};
pub use log::{BUS_MIGRATIONS, LogBus, LogBusOptions};
pub use names::{GroupName, TopicName};
pub use outbox::{Outbox, OutboxDeadLetter, Pass, Relay, RelayOptions, StoredTask, TaskSink};
pub use partition::partition_of;
pub use reporter::{ReportOptions, Reporter, Reports};
pub use schema::MIGRATIONS;
