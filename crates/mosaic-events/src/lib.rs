//! Events between modules: what happened in one is told to all who care, once it is certain, and never lost on the way.
mod bus;
mod event;
mod log;
mod names;
mod partition;

pub use bus::{
    Bus, Capabilities, Change, Delivered, Lag, Member, Mode, Position, Start, Topic, fenced, group_active, unavailable,
    unsupported,
};
pub use event::{Event, EventId, HEADER_BYTES_MAX, HEADERS_MAX, KEY_MAX, Message, NAME_MAX, PAYLOAD_MAX, TRACEPARENT};
pub use log::{BUS_MIGRATIONS, LogBus, LogBusOptions};
pub use names::{GroupName, TopicName};
pub use partition::partition_of;
