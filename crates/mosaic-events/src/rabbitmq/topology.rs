//! What stands in the broker: exchanges, queues and the number of partitions of a topic.
//!
//! Everything is declared as often as somebody needs it: declaring what is there is no change. A channel is closed by the broker
//! with each refusal, so each question has one of its own.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{ErrorKind, ExchangeKind, Queue};
use mosaic_core::Result;
use tokio::time::timeout;

use super::Inner;
use crate::bus::{Topic, unavailable};
use crate::names::TopicName;

/// The broker's answers to what is not there, and to what is there and different.
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;
/// Longest time that the broker's timers take.
const TTL_MAX_MS: u128 = u32::MAX as u128;
/// A broadcast's queue goes when nobody reads it for so long.
const EAR_EXPIRES_MS: i64 = 10 * 60 * 1000;

impl Inner {
    /// Makes what a topic needs; returns it with the number of partitions that it has.
    pub(super) async fn make(&self, topic: &Topic) -> Result<Topic> {
        let channel = self.writing.channel().await?;
        let options = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let exchange = self.exchange(&topic.name).into();
        let declared = channel.exchange_declare(exchange, ExchangeKind::Topic, options, FieldTable::default());
        self.in_time(declared).await.map_err(unavailable)?;
        let queue = format!("{}/{}/partitions", self.prefix, topic.name);
        let asked = self.declare_queue(&queue, limit(topic.partitions)).await;
        let partitions = match asked {
            Ok(_) => topic.partitions,
            Err(error) => {
                let there = refusal(&error, PRECONDITION_FAILED).and_then(|said| current_limit(&said));
                let there = there.ok_or_else(|| unavailable(error))?;
                // Proves that the number was understood.
                self.declare_queue(&queue, limit(there)).await.map_err(unavailable)?;
                there
            }
        };
        let made = Topic {
            partitions,
            ..topic.clone()
        };
        self.topics().insert(topic.name.clone(), made.clone());
        Ok(made)
    }

    /// Makes the queue of a group and a partition; what is there stays as it is, as whoever operates the broker may have made it.
    pub(super) async fn make_queue(&self, topic: &TopicName, queue: &str, partition: u32, known: &Topic) -> Result<()> {
        let mut arguments = retention(known);
        arguments.insert("x-queue-type".into(), text("quorum"));
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        // RabbitMQ 4 throws away what was handed out twenty times unless told otherwise. -1 would mean "for ever" there, and
        // "not once" to 3.10.
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(i32::MAX));
        match self.declare_queue(queue, arguments).await {
            Ok(_) => {}
            Err(error) if refusal(&error, PRECONDITION_FAILED).is_some() => {}
            Err(error) => return Err(unavailable(error)),
        }
        self.bind(topic, queue, &partition.to_string()).await
    }

    /// Makes the queue of one who listens alone: it outlives a lost connection.
    pub(super) async fn make_ear(&self, topic: &TopicName, queue: &str, known: &Topic) -> Result<()> {
        let mut arguments = retention(known);
        arguments.insert("x-expires".into(), AMQPValue::LongLongInt(EAR_EXPIRES_MS));
        self.declare_queue(queue, arguments).await.map_err(unavailable)?;
        self.bind(topic, queue, "#").await
    }

    pub(super) async fn delete_queue(&self, queue: &str) -> Result<()> {
        let channel = self.reading.channel().await?;
        let deleted = self.in_time(channel.queue_delete(queue.into(), QueueDeleteOptions::default()));
        deleted.await.map(|_| ()).map_err(unavailable)
    }

    /// Returns how many messages wait in a queue; `None` if there is no such queue.
    pub(super) async fn n_waiting(&self, queue: &str) -> Result<Option<u64>> {
        let channel = self.reading.channel().await?;
        let options = QueueDeclareOptions::durable().passive();
        let asked = self
            .in_time(channel.queue_declare(queue.into(), options, FieldTable::default()))
            .await;
        match asked {
            Ok(found) => Ok(Some(u64::from(found.message_count()))),
            Err(error) if refusal(&error, NOT_FOUND).is_some() => Ok(None),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn declare_queue(&self, queue: &str, arguments: FieldTable) -> lapin::Result<Queue> {
        let channel = self
            .reading
            .channel()
            .await
            .map_err(|error| std::io::Error::other(error.cause_chain()))?;
        self.in_time(channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments))
            .await
    }

    async fn bind(&self, topic: &TopicName, queue: &str, routing_key: &str) -> Result<()> {
        let channel = self.reading.channel().await?;
        let (exchange, options) = (self.exchange(topic).into(), QueueBindOptions::default());
        let bound = channel.queue_bind(
            queue.into(),
            exchange,
            routing_key.into(),
            options,
            FieldTable::default(),
        );
        self.in_time(bound).await.map_err(unavailable)
    }

    async fn in_time<T>(&self, asked: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
        let answer = timeout(self.options.timeout, asked).await;
        answer.unwrap_or_else(|_| Err(std::io::Error::other("no answer in time").into()))
    }
}

fn text(value: &str) -> AMQPValue {
    LongString::from(value).into()
}

fn limit(partitions: u32) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(partitions as i32));
    arguments
}

fn retention(topic: &Topic) -> FieldTable {
    let mut arguments = FieldTable::default();
    let ms = topic.retention.as_millis().clamp(1, TTL_MAX_MS) as i64;
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ms));
    let n_bytes = i64::try_from(topic.retention_bytes).unwrap_or(i64::MAX);
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(n_bytes));
    arguments
}

/// Returns what the broker said, if it refused with `code`.
fn refusal(error: &lapin::Error, code: u16) -> Option<String> {
    match error.kind() {
        ErrorKind::ProtocolError(said) if said.get_id() == code => Some(said.get_message().to_string()),
        _ => None,
    }
}

/// Reads the limit that is there from what the broker says of one that differs from it.
fn current_limit(said: &str) -> Option<u32> {
    let (_, current) = said
        .split_once("inequivalent arg 'x-max-length'")?
        .1
        .split_once("current is")?;
    let digits = current.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok().filter(|limit| (1..=256).contains(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_is_there_is_read_from_a_refusal() {
        let said = "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'a/9/partitions' in vhost '/': \
                    received the value '4' of type 'signedint' but current is the value '8' of type 'signedint'";
        assert_eq!(current_limit(said), Some(8));
        let said = "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received '4' but current is '16'";
        assert_eq!(current_limit(said), Some(16));
        for bad in [
            "",
            "inequivalent arg 'x-max-length'",
            "inequivalent arg 'durable' but current is '8'",
        ] {
            assert_eq!(current_limit(bad), None);
        }
        assert_eq!(
            current_limit("inequivalent arg 'x-max-length' but current is none"),
            None
        );
    }
}
