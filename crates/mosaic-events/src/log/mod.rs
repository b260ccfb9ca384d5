//! The store under the embedded bus: partitions as append-only logs, groups as rows with leases.
//!
//! [`LogBus`] turns it into a [`Bus`](crate::Bus); here is only what must be atomic. As in Kafka, what is stored and read are
//! batches of records: statements and indexes cost by batches, not by events. Which member has which partition is decided by one pure
//! function ([`group::plan`]) in every store. The store's clock is the only one: no method takes the time.

mod bus;
mod codec;
pub(crate) mod group;
mod member;
mod memory;
mod sql;

use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Result, Timestamp};

use crate::bus::{Delivered, Lag, Position, Start, Topic};
use crate::event::Message;
use crate::names::{GroupName, TopicName};

pub use bus::{LogBus, LogBusOptions};
pub use sql::BUS_MIGRATIONS;

/// A group of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupOf {
    pub(crate) topic: TopicName,
    pub(crate) group: GroupName,
}

/// A member's place in a group.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    pub(crate) of: GroupOf,
    pub(crate) member: String,
    pub(crate) lease: Duration,
}

/// A partition that a member has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) partition: u32,
    /// Rises with each grant and each move.
    pub(crate) fence: i64,
    /// Where to go on reading.
    pub(crate) next: u64,
    /// Somebody else should have it.
    pub(crate) is_surplus: bool,
}

/// What a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) partition: u32,
    /// Offset of the next event to be stored.
    pub(crate) end: u64,
}

#[async_trait]
pub(crate) trait Log: Send + Sync + std::fmt::Debug + 'static {
    /// Makes the topic unless it is there, sets its retention if `is_set`; returns its number of partitions.
    async fn declare(&self, topic: &Topic, is_set: bool) -> Result<u32>;

    /// Stores messages by partition, all or none.
    async fn append(&self, batches: &[Batch<'_>]) -> Result<()>;

    /// Returns the ends of all partitions.
    async fn ends(&self, topic: &TopicName) -> Result<Vec<Bounds>>;

    /// Returns events from offset `from` on, about `max_bytes` of them but at least a batch.
    async fn fetch(&self, topic: &TopicName, partition: u32, from: u64, max_bytes: usize) -> Result<Vec<Delivered>>;

    /// Makes the group unless it is there.
    async fn open_group(&self, of: &GroupOf, start: Start) -> Result<()>;

    /// Keeps the seat and the partitions of a member for its lease, and takes what it should have and nobody holds.
    async fn beat(&self, seat: &Seat) -> Result<Vec<Held>>;

    /// Stores that reading goes on at `next`, unless that moves it back; `false` if the partition is not held under this fence.
    async fn commit(&self, seat: &Seat, partition: u32, fence: i64, next: u64) -> Result<bool>;

    /// Gives up a partition, if it is held under this fence.
    async fn release(&self, seat: &Seat, partition: u32, fence: i64) -> Result<()>;

    /// Gives up the seat and every partition.
    async fn leave(&self, seat: &Seat) -> Result<()>;

    /// Moves a group; who held its partitions has lost them.
    async fn seek(&self, of: &GroupOf, to: &Position) -> Result<()>;

    /// Returns how far a group is behind.
    async fn lag(&self, of: &GroupOf) -> Result<Vec<Lag>>;

    /// Deletes what no topic keeps; returns how many batches went.
    async fn trim(&self) -> Result<u64>;

    /// Gives a sign of life.
    async fn ping(&self) -> Result<()>;
}

/// Messages of one partition, in order.
#[derive(Debug, Clone)]
pub(crate) struct Batch<'a> {
    pub(crate) topic: &'a TopicName,
    pub(crate) partition: u32,
    pub(crate) messages: Vec<&'a Message>,
}

/// Returns how long ago `then` was at `now`.
fn age(now: Timestamp, then: Option<Timestamp>) -> Duration {
    then.map_or(Duration::ZERO, |then| now.since(then))
}
