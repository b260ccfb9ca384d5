//! The newest batches that this process has stored, still in memory.
//!
//! Whoever follows closely (most readers, most of the time) finds here what he would ask the database for and decode again, once for
//! each group. As with the page cache under a Kafka broker this changes nothing but the cost: what is stored at an offset never
//! changes, and what is not here is read from the table. What other processes store never is here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use mosaic_core::lock;

use crate::bus::Delivered;
use crate::event::Message;
use crate::log::Batch;
use crate::names::TopicName;

/// Bytes that are kept of a partition: a second of it at a good load.
const KEPT_MAX: usize = 512 << 10;

#[derive(Debug, Default)]
pub(super) struct Tail {
    topics: Mutex<HashMap<TopicName, BTreeMap<u32, Newest>>>,
}

/// The newest batches of a partition by their first offset; where others stored in between there are gaps.
#[derive(Debug, Default)]
struct Newest {
    batches: BTreeMap<u64, Kept>,
    n_bytes: usize,
}

#[derive(Debug)]
struct Kept {
    messages: Vec<Message>,
    n_bytes: usize,
}

impl Kept {
    fn end(&self, base: u64) -> u64 {
        base + self.messages.len() as u64
    }
}

impl Tail {
    /// Keeps a batch that is committed and begins at `base`.
    pub(super) fn keep(&self, batch: &Batch<'_>, base: u64) {
        let messages: Vec<Message> = batch.messages.iter().copied().cloned().collect();
        let n_bytes = messages.iter().map(|message| message.n_bytes()).sum();
        let mut topics = lock(&self.topics);
        let partitions = topics.entry(batch.topic.clone()).or_default();
        let newest = partitions.entry(batch.partition).or_default();
        newest.n_bytes += n_bytes;
        newest.batches.insert(base, Kept { messages, n_bytes });
        while newest.n_bytes > KEPT_MAX
            && let Some((_, oldest)) = newest.batches.pop_first()
        {
            newest.n_bytes -= oldest.n_bytes;
        }
    }

    /// Returns events from offset `from` on without a gap, about `max_bytes` of them but at least a batch; none if the first of them is
    /// not here.
    pub(super) fn read(&self, topic: &TopicName, partition: u32, from: u64, max_bytes: usize) -> Vec<Delivered> {
        let mut events = Vec::new();
        let topics = lock(&self.topics);
        let Some(newest) = topics.get(topic).and_then(|partitions| partitions.get(&partition)) else {
            return events;
        };
        let first = newest
            .batches
            .range(..=from)
            .next_back()
            .map_or(from, |(base, _)| *base);
        let (mut next, mut n_bytes) = (from, 0);
        for (base, kept) in newest.batches.range(first..) {
            if *base > next || next >= kept.end(*base) || n_bytes >= max_bytes {
                break;
            }
            let delivered = (*base..).zip(&kept.messages).filter(|(position, _)| *position >= from);
            events.extend(delivered.map(|(position, message)| Delivered {
                position,
                message: message.clone(),
            }));
            next = kept.end(*base);
            n_bytes += kept.n_bytes;
        }
        events
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        lock(&self.topics).clear();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mosaic_core::Timestamp;

    use super::*;
    use crate::event::{EventId, Record};
    use crate::headers::Headers;

    fn message(n: u64, n_bytes: usize) -> Message {
        Message::from(Record {
            id: EventId::from_bits(u128::from(n)),
            topic: "t".parse().unwrap(),
            name: "n".into(),
            key: String::new(),
            payload: Bytes::from(vec![b' '; n_bytes]),
            headers: Headers::default(),
            at: Timestamp::EPOCH,
        })
    }

    /// Keeps events of these offsets, whose ids are their offsets.
    fn keep(tail: &Tail, offsets: std::ops::Range<u64>, n_bytes: usize) {
        let messages: Vec<Message> = offsets.clone().map(|offset| message(offset, n_bytes)).collect();
        let batch = Batch {
            topic: &messages[0].topic,
            partition: 3,
            messages: messages.iter().collect(),
        };
        tail.keep(&batch, offsets.start);
    }

    fn read(tail: &Tail, partition: u32, from: u64, max_bytes: usize) -> Vec<u64> {
        let events = tail.read(&"t".parse().unwrap(), partition, from, max_bytes);
        let is_itself = |event: &Delivered| event.message.id == EventId::from_bits(u128::from(event.position));
        assert!(events.iter().all(is_itself));
        events.iter().map(|event| event.position).collect()
    }

    #[test]
    fn what_is_here_is_read_up_to_the_next_gap() {
        let tail = Tail::default();
        // Two commits may be noted in the other order, and 20 to 29 are somebody else's.
        for offsets in [10..20, 5..10, 30..33] {
            keep(&tail, offsets, 1);
        }
        assert_eq!(read(&tail, 3, 7, 1 << 20), Vec::from_iter(7..20));
        assert_eq!(read(&tail, 3, 7, 1), [7, 8, 9], "a batch at least");
        assert_eq!(read(&tail, 3, 32, 1 << 20), [32]);
        for (partition, from) in [(3, 0), (3, 4), (3, 20), (3, 29), (3, 33), (0, 7)] {
            assert_eq!(read(&tail, partition, from, 1 << 20), [0; 0], "{partition} from {from}");
        }
        tail.clear();
        assert_eq!(read(&tail, 3, 7, 1 << 20), [0; 0]);
    }

    #[test]
    fn the_oldest_batches_make_room() {
        let tail = Tail::default();
        for first in (0..100).step_by(10) {
            keep(&tail, first..first + 10, 10_000);
        }
        assert_eq!(read(&tail, 3, 0, usize::MAX), [0; 0]);
        assert_eq!(read(&tail, 3, 50, usize::MAX), Vec::from_iter(50..100));
        keep(&tail, 100..101, KEPT_MAX);
        assert_eq!(
            read(&tail, 3, 100, usize::MAX),
            [0; 0],
            "one that is too large is not kept"
        );
    }
}
