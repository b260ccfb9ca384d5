//! The log in memory: for one process without durability, and for tests. What is kept is bounded by the topics' retention.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use mosaic_core::{Error, Result, Runtime, Timestamp};

use super::group::{Row, plan};
use super::{Batch, Bounds, GroupOf, Held, Log, Seat, age};
use crate::bus::{Delivered, Lag, Position, Start, Topic};
use crate::event::Message;
use crate::names::TopicName;

#[derive(Debug)]
pub(crate) struct MemoryLog {
    runtime: Runtime,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    topics: BTreeMap<TopicName, Stored>,
    groups: BTreeMap<GroupOf, Group>,
}

#[derive(Debug)]
struct Stored {
    topic: Topic,
    partitions: Vec<Partition>,
}

#[derive(Debug, Default)]
struct Partition {
    /// Offset of the first event that is kept.
    first: u64,
    events: VecDeque<(Timestamp, Message)>,
    n_bytes: u64,
}

impl Partition {
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    fn from(&self, offset: u64) -> impl Iterator<Item = (u64, &(Timestamp, Message))> {
        let skip = offset.saturating_sub(self.first);
        let events = self.events.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX));
        (self.first.max(offset)..).zip(events)
    }

    /// Drops the oldest event if `is_over` says so.
    fn trim(&mut self, topic: &Topic, now: Timestamp) -> bool {
        let Some((at, message)) = self.events.front() else {
            return false;
        };
        let is_over = now.since(*at) > topic.retention || self.n_bytes > topic.retention_bytes;
        if is_over {
            self.n_bytes -= message.n_bytes() as u64;
            self.first += 1;
            self.events.pop_front();
        }
        is_over
    }
}

#[derive(Debug, Default)]
struct Group {
    rows: Vec<Row>,
    members: BTreeMap<String, Timestamp>,
}

impl Group {
    fn held(&mut self, member: &str, partition: u32, fence: i64) -> Option<&mut Row> {
        let row = self.rows.get_mut(partition as usize)?;
        (row.is_of(member) && row.fence == fence).then_some(row)
    }
}

impl MemoryLog {
    pub(crate) fn new(runtime: &Runtime) -> Self {
        Self {
            runtime: runtime.clone(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn partitions(&self, topic: &TopicName) -> Result<&[Partition]> {
        let stored = self.topics.get(topic).map(|stored| stored.partitions.as_slice());
        stored.ok_or_else(|| Error::internal("the topic was not declared"))
    }

    fn partition(&self, topic: &TopicName, partition: u32) -> Result<&Partition> {
        let found = self.partitions(topic)?.get(partition as usize);
        found.ok_or_else(|| Error::internal("the topic has no such partition"))
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn declare(&self, topic: &Topic, is_set: bool) -> Result<u32> {
        let mut state = self.state();
        let stored = state.topics.entry(topic.name.clone()).or_insert_with(|| Stored {
            topic: topic.clone(),
            partitions: (0..topic.partitions).map(|_| Partition::default()).collect(),
        });
        if is_set {
            stored.topic = topic.clone();
        }
        Ok(stored.partitions.len() as u32)
    }

    async fn append(&self, batches: &[Batch<'_>]) -> Result<()> {
        let now = self.runtime.now();
        let mut state = self.state();
        for batch in batches {
            state.partition(batch.topic, batch.partition)?;
        }
        for batch in batches {
            let stored = state.topics.get_mut(batch.topic);
            let Some(partition) = stored.and_then(|stored| stored.partitions.get_mut(batch.partition as usize)) else {
                continue;
            };
            for message in &batch.messages {
                partition.n_bytes += message.n_bytes() as u64;
                partition.events.push_back((now, (*message).clone()));
            }
        }
        Ok(())
    }

    async fn ends(&self, topic: &TopicName) -> Result<Vec<Bounds>> {
        let state = self.state();
        let bounds = |(partition, stored): (u32, &Partition)| Bounds {
            partition,
            end: stored.end(),
        };
        Ok((0..).zip(state.partitions(topic)?).map(bounds).collect())
    }

    async fn fetch(&self, topic: &TopicName, partition: u32, from: u64, max_bytes: usize) -> Result<Vec<Delivered>> {
        let state = self.state();
        let mut n_bytes = 0;
        let mut events = Vec::new();
        for (position, (_, message)) in state.partition(topic, partition)?.from(from) {
            if n_bytes >= max_bytes {
                break;
            }
            n_bytes += message.n_bytes();
            events.push(Delivered {
                position,
                message: message.clone(),
            });
        }
        Ok(events)
    }

    async fn open_group(&self, of: &GroupOf, start: Start) -> Result<()> {
        let mut state = self.state();
        let rows = (0..).zip(state.partitions(&of.topic)?).map(|(partition, stored)| Row {
            partition,
            owner: None,
            fence: 0,
            lease_until: Timestamp::EPOCH,
            next: match start {
                Start::Beginning => stored.first,
                Start::End => stored.end(),
            },
        });
        let rows = rows.collect();
        state.groups.entry(of.clone()).or_insert(Group {
            rows,
            members: BTreeMap::new(),
        });
        Ok(())
    }

    async fn beat(&self, seat: &Seat) -> Result<Vec<Held>> {
        let now = self.runtime.now();
        let until = now.plus(seat.lease);
        let mut state = self.state();
        let group = state.groups.get_mut(&seat.of).ok_or_else(no_group)?;
        group.members.retain(|_, until| *until > now);
        group.members.insert(seat.member.clone(), until);
        let members: Vec<String> = group.members.keys().cloned().collect();
        let plan = plan(&group.rows, &members, &seat.member, now);
        let mut held = Vec::new();
        for row in &mut group.rows {
            if plan.take.contains(&row.partition) {
                row.owner = Some(seat.member.clone());
                row.fence += 1;
            }
            if row.is_of(&seat.member) {
                row.lease_until = until;
                held.push(Held {
                    partition: row.partition,
                    fence: row.fence,
                    next: row.next,
                    is_surplus: plan.give.contains(&row.partition),
                });
            }
        }
        Ok(held)
    }

    async fn commit(&self, seat: &Seat, partition: u32, fence: i64, next: u64) -> Result<bool> {
        let mut state = self.state();
        let row = state
            .groups
            .get_mut(&seat.of)
            .and_then(|group| group.held(&seat.member, partition, fence));
        let is_ours = row.is_some();
        if let Some(row) = row {
            row.next = row.next.max(next);
        }
        Ok(is_ours)
    }

    async fn release(&self, seat: &Seat, partition: u32, fence: i64) -> Result<()> {
        let mut state = self.state();
        let row = state
            .groups
            .get_mut(&seat.of)
            .and_then(|group| group.held(&seat.member, partition, fence));
        if let Some(row) = row {
            row.owner = None;
        }
        Ok(())
    }

    async fn leave(&self, seat: &Seat) -> Result<()> {
        let mut state = self.state();
        if let Some(group) = state.groups.get_mut(&seat.of) {
            group.members.remove(&seat.member);
            for row in group.rows.iter_mut().filter(|row| row.is_of(&seat.member)) {
                row.owner = None;
            }
        }
        Ok(())
    }

    async fn seek(&self, of: &GroupOf, to: &Position) -> Result<()> {
        let mut state = self.state();
        let State { topics, groups } = &mut *state;
        let stored = topics.get(&of.topic).ok_or_else(no_group)?;
        let group = groups.get_mut(of).ok_or_else(no_group)?;
        for (row, partition) in group.rows.iter_mut().zip(&stored.partitions) {
            let next = match to {
                Position::Beginning => partition.first,
                Position::End => partition.end(),
                Position::Time(time) => {
                    let mut later = partition.from(0).filter(|(_, (at, _))| at >= time);
                    later.next().map_or(partition.end(), |(offset, _)| offset)
                }
                Position::Offset { partition, offset } if *partition == row.partition => *offset,
                Position::Offset { .. } => continue,
            };
            row.next = next;
            row.owner = None;
            row.fence += 1;
        }
        Ok(())
    }

    async fn lag(&self, of: &GroupOf) -> Result<Vec<Lag>> {
        let now = self.runtime.now();
        let state = self.state();
        let Some(group) = state.groups.get(of) else {
            return Ok(Vec::new());
        };
        let lag = |(row, partition): (&Row, &Partition)| Lag {
            partition: row.partition,
            events: partition.end().saturating_sub(row.next.max(partition.first)),
            age: age(now, partition.from(row.next).next().map(|(_, (at, _))| *at)),
        };
        Ok(group.rows.iter().zip(state.partitions(&of.topic)?).map(lag).collect())
    }

    async fn trim(&self) -> Result<u64> {
        let now = self.runtime.now();
        let mut n_gone = 0;
        for Stored { topic, partitions } in self.state().topics.values_mut() {
            for partition in partitions {
                while partition.trim(topic, now) {
                    n_gone += 1;
                }
            }
        }
        Ok(n_gone)
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

pub(super) fn no_group() -> Error {
    Error::not_found("EVENTS_GROUP_UNKNOWN", "the topic has no such group")
}
