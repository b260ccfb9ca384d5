//! Members over RabbitMQ: queues are read in the background; `next` says what came and what was lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lapin::message::Delivery;
use lapin::types::AMQPValue;
use mosaic_core::Result;
use tokio::sync::Notify;

use super::Inner;
use super::reader::{Hand, Readers};
use crate::broker;
use crate::bus::{Change, Delivered, Member, fenced};
use crate::event::Message;
use crate::names::TopicName;

/// Most events of a change.
const EVENTS_MAX: usize = 500;

fn message(topic: &TopicName, delivery: Delivery) -> Option<Message> {
    let headers = delivery.properties.headers().as_ref();
    let head = match headers.and_then(|headers| headers.inner().get(broker::HEADER)) {
        Some(AMQPValue::LongString(head)) => Some(head.as_bytes()),
        _ => None,
    };
    let head = head.map(<[u8]>::to_vec);
    broker::message(topic, head.as_deref(), delivery.data.into())
}

/// One queue of a group.
struct Place {
    queue: String,
    hand: Hand,
    is_assigned: bool,
    is_paused: bool,
}

/// A place in the line at each queue of a group.
pub(super) struct GroupMember {
    bus: Arc<Inner>,
    topic: TopicName,
    /// By partition.
    places: Vec<Place>,
    /// The partition that was read last.
    last: usize,
    bell: Arc<Notify>,
    readers: Readers,
}

impl GroupMember {
    pub(super) fn new(bus: &Arc<Inner>, topic: &TopicName, queues: Vec<String>) -> Self {
        let (bell, tasks) = (Arc::<Notify>::default(), Readers::new());
        let places = queues.into_iter().map(|queue| {
            let hand = Hand::new(&bell);
            bus.hands().insert(queue.clone(), hand.clone());
            tasks.start(bus, &queue, &hand);
            Place {
                queue,
                hand,
                is_assigned: false,
                is_paused: false,
            }
        });
        Self {
            bus: bus.clone(),
            topic: topic.clone(),
            places: places.collect(),
            last: 0,
            bell,
            readers: tasks,
        }
    }

    /// Returns what is new of one partition, the next in turn that has something.
    fn change(&mut self) -> Option<Change> {
        let n = self.places.len();
        let turns = (0..n).map(|turn| (self.last + 1 + turn) % n);
        for at in turns {
            let (place, partition) = (&mut self.places[at], at as u32);
            if place.hand.take_lost() && std::mem::take(&mut place.is_assigned) {
                place.is_paused = false;
                return Some(Change::Lost(partition));
            }
            if place.is_paused {
                continue;
            }
            if !place.is_assigned {
                if place.hand.count() == 0 {
                    continue;
                }
                place.is_assigned = true;
                return Some(Change::Assigned(partition));
            }
            let delivered = place.hand.take(EVENTS_MAX);
            let topic = &self.topic;
            let events: Vec<Delivered> = delivered
                .into_iter()
                .filter_map(|delivery| {
                    let position = delivery.delivery_tag;
                    message(topic, delivery).map(|message| Delivered { position, message })
                })
                .collect();
            if !events.is_empty() {
                self.last = at;
                return Some(Change::Events { partition, events });
            }
        }
        None
    }

    fn place(&self, partition: u32) -> Option<&Place> {
        self.places.get(partition as usize).filter(|place| place.is_assigned)
    }
}

#[async_trait]
impl Member for GroupMember {
    async fn next(&mut self) -> Result<Change> {
        loop {
            // A ring between the look and the wait is kept.
            if let Some(change) = self.change() {
                return Ok(change);
            }
            self.bell.notified().await;
        }
    }

    fn pause(&mut self, partition: u32) {
        if let Some(place) = self.places.get_mut(partition as usize) {
            place.is_paused = true;
        }
    }

    fn resume(&mut self, partition: u32) {
        if let Some(place) = self.places.get_mut(partition as usize) {
            place.is_paused = false;
        }
    }

    async fn commit(&mut self, partition: u32, position: u64) -> Result<()> {
        let place = self.place(partition).ok_or_else(fenced)?;
        place.hand.acknowledge(position).await
    }

    async fn release(&mut self, _partition: u32) -> Result<()> {
        Ok(())
    }

    async fn leave(&mut self) -> Result<()> {
        self.places.iter_mut().for_each(|place| place.is_assigned = false);
        self.readers.stop().await;
        Ok(())
    }
}

impl Drop for GroupMember {
    fn drop(&mut self) {
        let mut hands = self.bus.hands();
        for place in &self.places {
            hands.remove(&place.queue);
        }
    }
}

/// A broadcast subscription: a queue of its own.
pub(super) struct Listener {
    bus: Arc<Inner>,
    topic: TopicName,
    queue: String,
    hand: Hand,
    bell: Arc<Notify>,
    /// Partitions not yet told.
    new: Vec<u32>,
    /// What came and was not yet told, by partition.
    waiting: BTreeMap<u32, Vec<Delivered>>,
    paused: Vec<u32>,
    n_heard: u64,
    reader: Readers,
}

impl Listener {
    pub(super) fn new(bus: &Arc<Inner>, topic: &TopicName, queue: String, n_partitions: u32) -> Self {
        let (bell, tasks) = (Arc::<Notify>::default(), Readers::new());
        let hand = Hand::new(&bell);
        tasks.start(bus, &queue, &hand);
        Self {
            bus: bus.clone(),
            topic: topic.clone(),
            queue,
            hand,
            bell,
            new: (0..n_partitions).rev().collect(),
            waiting: BTreeMap::new(),
            paused: Vec::new(),
            n_heard: 0,
            reader: tasks,
        }
    }

    fn take(&mut self) -> Option<Change> {
        let mut partitions = self.waiting.keys().copied();
        let partition = partitions.find(|partition| !self.paused.contains(partition))?;
        let events = self.waiting.remove(&partition)?;
        Some(Change::Events { partition, events })
    }

    /// Sorts what came; returns the last of it.
    fn sort(&mut self) -> Option<u64> {
        let delivered = self.hand.take(EVENTS_MAX);
        let last = delivered.last()?.delivery_tag;
        for delivery in delivered {
            let partition = delivery.routing_key.as_str().parse().ok();
            if let (Some(partition), Some(message)) = (partition, message(&self.topic, delivery)) {
                // Tags begin anew with each channel; positions rise.
                self.n_heard += 1;
                let event = Delivered {
                    position: self.n_heard,
                    message,
                };
                self.waiting.entry(partition).or_default().push(event);
            }
        }
        Some(last)
    }
}

#[async_trait]
impl Member for Listener {
    async fn next(&mut self) -> Result<Change> {
        if let Some(partition) = self.new.pop() {
            return Ok(Change::Assigned(partition));
        }
        loop {
            if let Some(change) = self.take() {
                return Ok(change);
            }
            self.hand.take_lost();
            // A partition that rests while others go on must not fill the memory.
            let is_full = self.waiting.values().map(Vec::len).sum::<usize>() >= 20 * EVENTS_MAX;
            let last = if is_full { None } else { self.sort() };
            match last {
                // A channel that was lost hands it out again.
                Some(last) => self.hand.acknowledge(last).await.unwrap_or_default(),
                None => self.bell.notified().await,
            }
        }
    }

    fn pause(&mut self, partition: u32) {
        self.paused.push(partition);
    }

    fn resume(&mut self, partition: u32) {
        self.paused.retain(|paused| *paused != partition);
    }

    async fn commit(&mut self, _partition: u32, _position: u64) -> Result<()> {
        Ok(())
    }

    async fn release(&mut self, _partition: u32) -> Result<()> {
        Ok(())
    }

    async fn leave(&mut self) -> Result<()> {
        self.reader.stop().await;
        self.bus.delete_queue(&self.queue).await
    }
}
