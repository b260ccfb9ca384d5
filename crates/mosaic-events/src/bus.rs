//! The port: what a broker must be able to do.
//!
//! A topic is P partitions (fixed when it is declared); [`partition_of`](crate::partition_of) says which one a key belongs to. A
//! subscription sees each partition as a sequence of [`Delivered`] with rising positions. What each engine promises:
//!
//! 1. **Publish**: `Ok` means that every message is durable (fsynced as the engine is set up, acknowledged by its quorum). `Err`
//!    means that nothing is known but this: *no message is stored before an earlier one of the same key in the batch*. The
//!
//! 2. **Groups**: each partition is with at most one member that may commit; `Revoked` comes before another member gets it, and it
//!    waits (for as long as a lease) until [`Member::release`]. A dead member's partitions go to others within a lease.
//!    A member that lost a partition gets `Lost`, and its commits fail with `EVENTS_FENCED`: positions never move back.
//! 3. **At least once, in order**: a member that is assigned a partition sees everything after the last committed position, in
//!    the order of publication per key; a redelivery repeats the order.
//! 4. **Broadcast**: every subscription sees everything published after [`Bus::subscribe`] returned, as long as it lives.
//!
//! How brokers map to it. *Kafka*: partitions are partitions, positions are offsets, `Revoked` is the pre-rebalance callback that
//! waits for `release`, `pause` is `pause`; broadcast assigns all partitions at their end; producers are idempotent and send a
//! key's next message after the last one's acknowledgement (or set `enable.gapless.guarantee`). *NATS JetStream*: a stream a topic, a
//! subject a partition, a durable pull consumer a (group, partition) with acknowledgement of all up to one; who may pull a
//! partition is decided by a pinned-client priority group or a lease; broadcast is an ordered consumer from now on. *RabbitMQ*: a
//! topic exchange, a quorum queue a (group, partition) with a single active consumer, positions are delivery tags (multiple
//! ack); broadcast is an exclusive queue; no seek, no history: see [`Capabilities`]. *Embedded*: see [`LogBus`](crate::LogBus).

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Error, Result, Timestamp};

use crate::event::Message;
use crate::names::{GroupName, TopicName};

/// A topic to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// Partitions, if it is not there yet: the most members that a group can put to work. Default 8, at most 256.
    pub partitions: u32,
    /// Events older than this may be deleted, read or not. Default 7 days.
    pub retention: Duration,
    /// The oldest events of a partition above so many bytes may be deleted, read or not. Default 1 GiB.
    pub retention_bytes: u64,
}

impl Topic {
    /// Makes a topic with defaults.
    pub fn new(name: TopicName) -> Self {
        Self {
            name,
            partitions: 8,
            retention: Duration::from_secs(7 * 24 * 3600),
            retention_bytes: 1 << 30,
        }
    }
}

/// Who gets which events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Each event goes to one member of the group; positions are kept.
    Group {
        /// The group.
        name: GroupName,
        /// Where a group begins that is not known yet.
        start: Start,
    },
    /// Each subscription gets all events from now on; nothing is kept.
    Broadcast,
}

/// Where a new group begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With all that is kept.
    #[default]
    Beginning,
    /// With what comes.
    End,
}

/// Where to go on reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// The oldest event that is kept.
    Beginning,
    /// The next event that comes.
    End,
    /// The first event that was stored at this time or later, by the engine's clock and as exactly as it indexes.
    Time(Timestamp),
    /// The event at this offset of this partition; other partitions stay where they are.
    Offset {
        /// The partition.
        partition: u32,
        /// The position that is read next.
        offset: u64,
    },
}

/// An event as a member gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Rises within a partition as long as it is assigned; equal to the offset where [`Capabilities::seek`].
    pub position: u64,
    /// The event.
    pub message: Message,
}

/// What a member is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A partition is ours; events follow.
    Assigned(u32),
    /// Events of one of our partitions, in order, at least one.
    Events {
        /// The partition.
        partition: u32,
        /// What is new.
        events: Vec<Delivered>,
    },
    /// Somebody else is to have it: finish what is begun, commit, call [`Member::release`]. No more events come of it.
    Revoked(u32),
    /// It is somebody else's already (or its position was moved): drop what is begun; commits fail.
    Lost(u32),
}

/// How far a group is behind in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// The partition.
    pub partition: u32,
    /// Events published and not committed.
    pub events: u64,
    /// How long the oldest of them has been stored; zero if there are none.
    pub age: Duration,
}

/// What an engine can do beyond the promises of the module documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// [`Bus::seek`], and new groups that start at the beginning. Without: a group gets what comes after its first member.
    pub seek: bool,
    /// [`Bus::seek`] while the group has members; without: `EVENTS_GROUP_ACTIVE`.
    pub seek_live: bool,
    /// [`Lag::age`] is known; without it is zero.
    pub lag_age: bool,
    /// Partitions are shared evenly between the members; without: one member may have them all.
    pub balances: bool,
}

/// See the module documentation. Every method may be dropped at any time: it happened or it did not.
#[async_trait]
pub trait Bus: Send + Sync + fmt::Debug + 'static {
    /// Returns what this engine can do.
    fn capabilities(&self) -> Capabilities;

    /// Makes the topic unless it is there, and sets its retention. Topics that nobody declared are made with defaults when used.
    ///
    /// # Errors
    /// `EVENTS_UNAVAILABLE`; `EVENTS_TOPIC_INVALID` for a number of partitions that is none.
    async fn declare(&self, topic: &Topic) -> Result<()>;

    /// Publishes messages of any topics, in this order per key; see promise 1.
    ///
    /// # Errors
    /// As [`Message::check`]; `EVENTS_UNAVAILABLE`.
    async fn publish(&self, messages: &[Message]) -> Result<()>;

    /// Joins a group, or listens to all; see promises 2 to 4.
    ///
    /// # Errors
    /// `EVENTS_UNAVAILABLE`.
    async fn subscribe(&self, topic: &TopicName, mode: &Mode) -> Result<Box<dyn Member>>;

    /// Moves a group; events are handled again, or never.
    ///
    /// # Errors
    /// `EVENTS_UNSUPPORTED`, `EVENTS_GROUP_ACTIVE` (see [`Capabilities`]), `EVENTS_UNAVAILABLE`.
    async fn seek(&self, topic: &TopicName, group: &GroupName, to: &Position) -> Result<()>;

    /// Returns how far a group is behind, by partition; empty if nobody knows the group.
    ///
    /// # Errors
    /// `EVENTS_UNAVAILABLE`.
    async fn lag(&self, topic: &TopicName, group: &GroupName) -> Result<Vec<Lag>>;

    /// Asks the engine for a sign of life; for readiness.
    ///
    /// # Errors
    /// `EVENTS_UNAVAILABLE`.
    async fn ping(&self) -> Result<()>;
}

/// A seat in a group, or a broadcast subscription. Dropping it is a crash: others wait for its lease to end.
///
/// The engine keeps the seat warm (heartbeats, leases) whether or not `next` is called.
#[async_trait]
pub trait Member: Send {
    /// Waits for what is new. Cancel safe: nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// `EVENTS_UNAVAILABLE`: call again, after a pause.
    async fn next(&mut self) -> Result<Change>;

    /// Stops events of a partition from coming, until [`Member::resume`]; changes still come.
    fn pause(&mut self, partition: u32);

    /// Lets events of a partition come again.
    fn resume(&mut self, partition: u32);

    /// Says that everything of the partition up to and including `position` is done with. Nothing happens for broadcasts.
    ///
    /// # Errors
    /// `EVENTS_FENCED` if the partition is not ours; `EVENTS_UNAVAILABLE`.
    async fn commit(&mut self, partition: u32, position: u64) -> Result<()>;

    /// Gives up a partition that was revoked, once all is committed that is to be.
    ///
    /// # Errors
    /// `EVENTS_UNAVAILABLE`: it goes to others when the lease ends.
    async fn release(&mut self, partition: u32) -> Result<()>;

    /// Gives up all partitions and the seat, once all is committed that is to be; others go on at once.
    ///
    /// # Errors
    /// `EVENTS_UNAVAILABLE`: others go on when the lease ends.
    async fn leave(&mut self) -> Result<()>;
}

/// Makes the error of an engine that lost a partition to somebody else.
pub fn fenced() -> Error {
    Error::aborted("EVENTS_FENCED", "the partition belongs to another member")
}

/// Makes the error of an engine that cannot do `what`.
pub fn unsupported(what: &'static str) -> Error {
    Error::unimplemented("EVENTS_UNSUPPORTED", what)
}

/// Makes the error of an engine that cannot be reached.
pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::unavailable("EVENTS_UNAVAILABLE", "the event bus cannot be reached").caused_by(cause)
}

/// Makes the error of a group that cannot be moved while it has members.
pub fn group_active() -> Error {
    Error::failed_precondition("EVENTS_GROUP_ACTIVE", "stop the members of the group first")
}
