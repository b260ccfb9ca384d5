//! Events over Kafka: partitions are partitions, positions are offsets, groups are consumer groups.
//!
//! The partition is ours to say, the producer is idempotent and waits for all replicas in sync, and any gap is fatal to it: a
//! producer that failed is thrown away with everything that it still has, so that nothing comes late behind what is sent
//! again. What was on its way may have been stored: whoever repeats it repeats the order. Groups rebalance cooperatively;
//! what is revoked is handed over when it was released, or after a lease ([`member`]).
//!
//! A topic's retention is set when it is made; later it is Kafka's tools that change it, since the protocol we have would set
//! everything else back. There is no TLS: librdkafka has OpenSSL for that, which this platform leaves out.

mod client;
mod member;
mod shared;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use mosaic_core::{Error, Result, Runtime};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig};
use tokio::time::timeout;

use crate::broker::{self, Address, BrokerOptions};
use crate::bus::{Bus, Capabilities, Lag, Member, Mode, Position, Start, Topic, unavailable};
use crate::event::Message;
use crate::names::{GroupName, TopicName};
use crate::partition::partition_of;
use client::{Client, Telling};

/// Messages that are sent at once, at most.
const CHUNK: usize = 5000;

/// See the module documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct KafkaBus(Arc<Inner>);

struct Inner {
    client: Client,
    runtime: Runtime,
    options: BrokerOptions,
    producer: Mutex<Option<Arc<FutureProducer<Telling>>>>,
    /// Numbers of partitions.
    topics: Mutex<HashMap<TopicName, u32>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaBus")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl KafkaBus {
    pub(crate) fn open(address: Address, runtime: &Runtime, options: BrokerOptions) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            client: Client::new(address, options)?,
            runtime: runtime.clone(),
            options,
            producer: Mutex::default(),
            topics: Mutex::default(),
        })))
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<TopicName, u32>> {
        self.0.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn producer_slot(&self) -> MutexGuard<'_, Option<Arc<FutureProducer<Telling>>>> {
        self.0.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn producer(&self) -> Result<Arc<FutureProducer<Telling>>> {
        let mut slot = self.producer_slot();
        if let Some(producer) = slot.as_ref() {
            return Ok(producer.clone());
        }
        let producer = Arc::new(self.0.client.producer()?);
        *slot = Some(producer.clone());
        Ok(producer)
    }

    /// Throws a producer away, with what it still has.
    fn discard(&self, producer: Arc<FutureProducer<Telling>>) {
        let mut slot = self.producer_slot();
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, &producer)) {
            *slot = None;
        }
        drop(slot);
        producer.purge(PurgeConfig::default().queue().inflight());
        // Its thread is waited for.
        tokio::task::spawn_blocking(move || drop(producer));
    }

    async fn known(&self, topic: &TopicName) -> Result<u32> {
        let known = self.topics().get(topic).copied();
        match known {
            Some(n_partitions) => Ok(n_partitions),
            None => self.make(&Topic::new(topic.clone())).await,
        }
    }

    async fn make(&self, topic: &Topic) -> Result<u32> {
        let n_partitions = self.0.client.make_topic(topic).await?;
        self.topics().insert(topic.name.clone(), n_partitions);
        Ok(n_partitions)
    }

    async fn send(&self, messages: &[Message], n_partitions: &HashMap<&TopicName, u32>) -> Result<()> {
        let producer = self.producer()?;
        let (deliveries, mut failed) = self.enqueue(&producer, messages, n_partitions)?;
        match timeout(self.0.options.timeout, join_all(deliveries)).await {
            Ok(delivered) => {
                for result in delivered {
                    match result {
                        Ok(Ok(_)) => {}
                        Ok(Err((error, _))) => failed = failed.or(Some(error)),
                        Err(_) => failed = failed.or(Some(KafkaError::Canceled)),
                    }
                }
            }
            Err(_) => failed = Some(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)),
        }
        let Some(error) = failed else { return Ok(()) };
        self.discard(producer);
        if error == KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge) {
            return Err(broker::too_large());
        }
        // Whether they are there is asked again.
        messages.iter().for_each(|message| {
            self.topics().remove(&message.topic);
        });
        Err(unavailable(error))
    }

    /// Hands messages to the producer up to the first that it refuses.
    fn enqueue(
        &self,
        producer: &FutureProducer<Telling>,
        messages: &[Message],
        n_partitions: &HashMap<&TopicName, u32>,
    ) -> Result<(Vec<rdkafka::producer::DeliveryFuture>, Option<KafkaError>)> {
        let mut deliveries = Vec::with_capacity(messages.len());
        for message in messages {
            let n_partitions = n_partitions.get(&message.topic).copied().unwrap_or(1);
            let (topic, head) = (self.0.client.topic(&message.topic), broker::head(message)?);
            let header = Header {
                key: broker::HEADER,
                value: Some(head.as_bytes()),
            };
            let record = FutureRecord::to(&topic)
                .partition(partition_of(&message.key, n_partitions) as i32)
                .key(message.key.as_bytes())
                .payload(message.payload.as_ref())
                .headers(OwnedHeaders::new().insert(header));
            match producer.send_result(record) {
                Ok(delivery) => deliveries.push(delivery),
                Err((error, _)) => return Ok((deliveries, Some(error))),
            }
        }
        Ok((deliveries, None))
    }
}

#[async_trait]
impl Bus for KafkaBus {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            seek: true,
            seek_live: false,
            lag_age: false,
            balances: true,
        }
    }

    async fn declare(&self, topic: &Topic) -> Result<()> {
        broker::check_partitions(topic)?;
        self.make(topic).await.map(|_| ())
    }

    async fn publish(&self, messages: &[Message]) -> Result<()> {
        let mut n_partitions = HashMap::new();
        for message in messages {
            message.check()?;
            if !n_partitions.contains_key(&message.topic) {
                n_partitions.insert(&message.topic, self.known(&message.topic).await?);
            }
        }
        for chunk in messages.chunks(CHUNK) {
            self.send(chunk, &n_partitions).await?;
        }
        broker::count_published(messages);
        Ok(())
    }

    async fn subscribe(&self, topic: &TopicName, mode: &Mode) -> Result<Box<dyn Member>> {
        let n_partitions = self.known(topic).await?;
        let client = &self.0.client;
        let Mode::Group { name, start } = mode else {
            let group = format!(
                "{}/{}",
                client.group(topic, "listener"),
                self.0.runtime.random_hex::<8>()
            );
            let ends = client.watermarks(topic, n_partitions).await?;
            let ends: Vec<i64> = ends.into_iter().map(|(_, high)| high).collect();
            return Ok(Box::new(member::ConsumerMember::listen(
                client,
                topic,
                &group,
                &ends,
                self.0.options,
            )?));
        };
        let group = client.group(topic, name.as_str());
        client.begin(topic, &group, n_partitions, *start == Start::End).await?;
        Ok(Box::new(member::ConsumerMember::join(
            client,
            topic,
            &group,
            self.0.options,
        )?))
    }

    async fn seek(&self, topic: &TopicName, group: &GroupName, to: &Position) -> Result<()> {
        let n_partitions = self.known(topic).await?;
        let client = &self.0.client;
        client
            .seek(topic, &client.group(topic, group.as_str()), n_partitions, to)
            .await
    }

    async fn lag(&self, topic: &TopicName, group: &GroupName) -> Result<Vec<Lag>> {
        let n_partitions = self.known(topic).await?;
        let client = &self.0.client;
        let committed = client
            .committed(topic, &client.group(topic, group.as_str()), n_partitions)
            .await?;
        if committed.iter().all(Option::is_none) {
            return Ok(Vec::new());
        }
        let marks = client.watermarks(topic, n_partitions).await?;
        let both = committed.iter().zip(marks).zip(0..);
        let lags = both.map(|((committed, (low, high)), partition)| Lag {
            partition,
            events: u64::try_from(high - committed.unwrap_or(low).max(low)).unwrap_or(0),
            age: Duration::ZERO,
        });
        Ok(lags.collect())
    }

    async fn ping(&self) -> Result<()> {
        self.0.client.ping().await
    }
}

/// The error of a broker that cannot be asked, or does not answer as it should.
fn failed(error: KafkaError) -> Error {
    unavailable(error)
}
