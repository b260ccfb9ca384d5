//! What the thread that reads Kafka and the member have in common, and the callbacks in between.
//!
//! A rebalance that takes partitions away is answered when the member released them all, or when the time is up: until then the
//! group waits, as the protocol means it to, and our heartbeats go on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::client::tell;
use crate::bus::{Change, Delivered};

/// More events of a partition than this are left with the broker; below the second number they come again.
const WAITING_MAX: usize = 2000;
const WAITING_MIN: usize = 500;
/// Most events of a change.
const EVENTS_MAX: usize = 500;

/// One partition that is assigned.
#[derive(Debug, Default)]
struct Place {
    waiting: VecDeque<Delivered>,
    is_told: bool,
    is_paused: bool,
    /// Is the broker told to send nothing?
    is_stopped: bool,
    is_revoked: bool,
    is_told_revoked: bool,
}

/// Partitions that are being taken away.
struct Revocation {
    list: TopicPartitionList,
    /// Those that the member has not released.
    left: BTreeSet<u32>,
    until: Instant,
}

#[derive(Default)]
struct State {
    places: BTreeMap<u32, Place>,
    /// Lost, and not told.
    lost: VecDeque<u32>,
    /// The partition that was read last.
    last: u32,
    revocation: Option<Revocation>,
    is_closing: bool,
}

/// See the module documentation. Cheap to clone; the context of the consumer.
#[derive(Clone)]
pub(super) struct Shared {
    state: Arc<Mutex<State>>,
    /// Rung when something changed.
    pub(super) bell: Arc<Notify>,
    lease: Duration,
}

impl Shared {
    pub(super) fn new(lease: Duration) -> Self {
        Self {
            state: Arc::default(),
            bell: Arc::default(),
            lease,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what the member was not yet told.
    pub(super) fn change(&self) -> Option<Change> {
        let mut state = self.state();
        if let Some(partition) = state.lost.pop_front() {
            return Some(Change::Lost(partition));
        }
        let last = state.last;
        let mut order: Vec<u32> = state.places.keys().copied().collect();
        let n_first = order.partition_point(|partition| *partition <= last);
        order.rotate_left(n_first);
        for partition in order {
            let Some(place) = state.places.get_mut(&partition) else {
                continue;
            };
            if !std::mem::replace(&mut place.is_told, true) {
                return Some(Change::Assigned(partition));
            }
            if place.is_revoked {
                if !std::mem::replace(&mut place.is_told_revoked, true) {
                    return Some(Change::Revoked(partition));
                }
                continue;
            }
            if !place.is_paused && !place.waiting.is_empty() {
                let n = place.waiting.len().min(EVENTS_MAX);
                let events = place.waiting.drain(..n).collect();
                state.last = partition;
                return Some(Change::Events { partition, events });
            }
        }
        None
    }

    pub(super) fn assign(&self, partitions: impl Iterator<Item = u32>) {
        let mut state = self.state();
        for partition in partitions {
            state.places.insert(partition, Place::default());
        }
        drop(state);
        self.bell.notify_one();
    }

    pub(super) fn has(&self, partition: u32) -> bool {
        self.state().places.contains_key(&partition)
    }

    pub(super) fn set_paused(&self, partition: u32, is_paused: bool) {
        if let Some(place) = self.state().places.get_mut(&partition) {
            place.is_paused = is_paused;
        }
    }

    pub(super) fn put(&self, partition: u32, event: Delivered) {
        let mut state = self.state();
        if let Some(place) = state.places.get_mut(&partition).filter(|place| !place.is_revoked) {
            place.waiting.push_back(event);
        }
        drop(state);
        self.bell.notify_one();
    }

    /// Returns partitions that the broker is to stop sending, and those that it is to send again.
    pub(super) fn throttle(&self) -> (Vec<u32>, Vec<u32>) {
        let (mut stop, mut go) = (Vec::new(), Vec::new());
        for (partition, place) in &mut self.state().places {
            if !place.is_stopped && place.waiting.len() >= WAITING_MAX {
                place.is_stopped = true;
                stop.push(*partition);
            } else if place.is_stopped && place.waiting.len() < WAITING_MIN {
                place.is_stopped = false;
                go.push(*partition);
            }
        }
        (stop, go)
    }

    pub(super) fn release(&self, partition: u32) {
        let mut state = self.state();
        state.places.remove(&partition);
        if let Some(revocation) = &mut state.revocation {
            revocation.left.remove(&partition);
        }
    }

    /// Returns what can be given back by now.
    pub(super) fn take_released(&self) -> Option<TopicPartitionList> {
        let mut state = self.state();
        let is_over = |revocation: &Revocation| {
            revocation.left.is_empty() || state.is_closing || revocation.until <= Instant::now()
        };
        if !state.revocation.as_ref().is_some_and(is_over) {
            return None;
        }
        let revocation = state.revocation.take()?;
        state.drop_places(revocation.left.into_iter());
        drop(state);
        self.bell.notify_one();
        Some(revocation.list)
    }

    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closing = true;
        state.places.clear();
        drop(state);
        self.bell.notify_one();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.state().is_closing
    }

    fn revoke(&self, list: &TopicPartitionList) {
        let mut state = self.state();
        let mut left = BTreeSet::new();
        for partition in partitions(list) {
            match state.places.get_mut(&partition) {
                Some(place) if place.is_told => {
                    place.is_revoked = true;
                    left.insert(partition);
                }
                _ => {
                    state.places.remove(&partition);
                }
            }
        }
        let until = Instant::now() + self.lease;
        state.revocation = Some(Revocation {
            list: list.clone(),
            left,
            until,
        });
        drop(state);
        self.bell.notify_one();
    }

    fn lose(&self, list: &TopicPartitionList) {
        let mut state = self.state();
        state.revocation = None;
        state.drop_places(partitions(list));
        drop(state);
        self.bell.notify_one();
    }
}

impl State {
    fn drop_places(&mut self, partitions: impl Iterator<Item = u32>) {
        for partition in partitions {
            if self.places.remove(&partition).is_some_and(|place| place.is_told) {
                self.lost.push_back(partition);
            }
        }
    }
}

fn partitions(list: &TopicPartitionList) -> impl Iterator<Item = u32> {
    let partitions: Vec<u32> = list
        .elements()
        .iter()
        .map(|element| element.partition() as u32)
        .collect();
    partitions.into_iter()
}

/// Gives partitions back to the group.
pub(super) fn unassign(consumer: &BaseConsumer<Shared>, list: &TopicPartitionList) {
    let given = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    };
    if let Err(error) = given {
        tracing::debug!("cannot give partitions back: {error}");
    }
}

impl ClientContext for Shared {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tell(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("Kafka: {error}: {reason}");
    }
}

impl ConsumerContext for Shared {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let given = match consumer.rebalance_protocol() {
                RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
                RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(list),
            };
            match given {
                Ok(()) => self.assign(partitions(list)),
                Err(error) => tracing::warn!("cannot take partitions: {error}"),
            }
        } else if consumer.assignment_lost() || self.is_closing() {
            self.lose(list);
            unassign(consumer, list);
        } else {
            self.revoke(list);
        }
    }
}
