//! How Kafka is asked: settings, topics, and what a group has committed.
//!
//! librdkafka blocks; every question runs on a thread for such things and has a limit of its own. One client that never joins
//! a group asks for the offsets of all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mosaic_core::{Error, Result};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::FutureProducer;
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::sleep;

use super::failed;
use crate::broker::{Address, BrokerOptions};
use crate::bus::{Position, Topic, group_active, unavailable};
use crate::names::TopicName;

/// Says in our log what librdkafka has to say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Telling;

impl ClientContext for Telling {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tell(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("Kafka: {error}: {reason}");
    }
}

impl ConsumerContext for Telling {}

/// Says a line of librdkafka: what it calls an error is a broker that is away, which whoever asked it hears as well.
pub(super) fn tell(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!("Kafka: {facility} {message}");
        }
        _ => tracing::debug!("Kafka: {facility} {message}"),
    }
}

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    config: ClientConfig,
    prefix: String,
    replicas: i32,
    options: BrokerOptions,
    /// Ask for offsets, by group.
    observers: Arc<Mutex<HashMap<String, Arc<BaseConsumer<Telling>>>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(mut address: Address, options: BrokerOptions) -> Result<Self> {
        let invalid = |message: &'static str| Error::invalid_argument("EVENTS_URL_INVALID", message);
        let prefix = address.take_prefix()?;
        let replicas = address.take("replicas")?;
        if address.take::<bool>("tls")?.unwrap_or(false) {
            return Err(invalid(
                "this build speaks to Kafka without TLS only; put a proxy beside it",
            ));
        }
        let mut config = ClientConfig::new();
        let ms = |duration: Duration| duration.as_millis().to_string();
        config
            .set("bootstrap.servers", address.hosts.join(","))
            .set("client.id", "mosaic-events")
            .set("socket.timeout.ms", ms(options.timeout))
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.propagation.max.ms", "10000")
            .set("allow.auto.create.topics", "false")
            .set_log_level(RDKafkaLogLevel::Info);
        if let Some(user) = address.user.clone() {
            let mechanism = address.take::<String>("sasl")?.unwrap_or_else(|| "PLAIN".to_owned());
            if mechanism != "PLAIN" {
                return Err(invalid(
                    "this build knows PLAIN of Kafka's mechanisms; SCRAM needs OpenSSL",
                ));
            }
            let password = address
                .password
                .as_ref()
                .map_or("", |password| password.expose().as_str());
            config
                .set("security.protocol", "SASL_PLAINTEXT")
                .set("sasl.mechanism", mechanism);
            config.set("sasl.username", user).set("sasl.password", password);
        }
        address.finish()?;
        Ok(Self {
            config,
            prefix,
            replicas: replicas.unwrap_or(-1),
            options,
            observers: Arc::default(),
        })
    }

    pub(super) fn topic(&self, topic: &TopicName) -> String {
        format!("{}.{topic}", self.prefix)
    }

    /// Returns the id of a consumer group; a slash is in no name.
    pub(super) fn group(&self, topic: &TopicName, group: &str) -> String {
        format!("{}/{topic}/{group}", self.prefix)
    }

    pub(super) fn producer(&self) -> Result<FutureProducer<Telling>> {
        let mut config = self.config.clone();
        config
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            // Who publishes has a limit, and then throws the producer away: nothing may be given up one by one.
            .set("message.timeout.ms", "0")
            .set("linger.ms", "2")
            .set("compression.type", "lz4");
        config.create_with_context(Telling).map_err(failed)
    }

    /// Makes a consumer that commits what it is told and nothing else.
    pub(super) fn consumer<C, T>(&self, group: &str, context: C) -> Result<T>
    where
        C: ConsumerContext,
        T: FromClientConfigAndContext<C>,
    {
        // No broker takes less than six seconds unless it was told to.
        let lease = self.options.lease.max(Duration::from_secs(6));
        let mut config = self.config.clone();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", lease.as_millis().to_string())
            .set("heartbeat.interval.ms", (lease.as_millis() / 6).to_string())
            .set("max.poll.interval.ms", "300000")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "100")
            .set("queued.max.messages.kbytes", "16384");
        config.create_with_context(context).map_err(failed)
    }

    /// Makes a topic unless it is there; returns its number of partitions.
    pub(super) async fn make_topic(&self, topic: &Topic) -> Result<u32> {
        let n_partitions = self.n_partitions(&topic.name).await?;
        if n_partitions > 0 {
            return Ok(n_partitions);
        }
        let name = self.topic(&topic.name);
        let (retention_ms, bytes) = (
            topic.retention.as_millis().to_string(),
            topic.retention_bytes.to_string(),
        );
        let admin: AdminClient<Telling> = self.config.create_with_context(Telling).map_err(failed)?;
        let wanted = NewTopic::new(&name, topic.partitions as i32, TopicReplication::Fixed(self.replicas))
            .set("retention.ms", &retention_ms)
            .set("retention.bytes", &bytes);
        let options = AdminOptions::new()
            .request_timeout(Some(self.options.timeout))
            .operation_timeout(Some(self.options.timeout));
        for made in admin.create_topics([&wanted], &options).await.map_err(failed)? {
            match made {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(failed(KafkaError::AdminOp(code))),
            }
        }
        // What was made is known to the broker that we ask a moment later.
        for _ in 0..50 {
            let n_partitions = self.n_partitions(&topic.name).await?;
            if n_partitions > 0 {
                return Ok(n_partitions);
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(unavailable("the topic is not known yet"))
    }

    async fn n_partitions(&self, topic: &TopicName) -> Result<u32> {
        let (observer, name, limit) = (self.asker()?, self.topic(topic), self.options.timeout);
        blocking(move || {
            let metadata = observer.fetch_metadata(Some(&name), limit).map_err(failed)?;
            Ok(metadata
                .topics()
                .first()
                .map_or(0, |topic| topic.partitions().len() as u32))
        })
        .await
    }

    /// Returns the client for questions about no group.
    fn asker(&self) -> Result<Arc<BaseConsumer<Telling>>> {
        self.observer(&format!("{}/asker", self.prefix))
    }

    fn observer(&self, group: &str) -> Result<Arc<BaseConsumer<Telling>>> {
        let mut observers = self.observers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(observer) = observers.get(group) {
            return Ok(observer.clone());
        }
        let observer: Arc<BaseConsumer<Telling>> = Arc::new(self.consumer(group, Telling)?);
        observers.insert(group.to_owned(), observer.clone());
        Ok(observer)
    }

    /// Returns the first offset and the next one of each partition.
    pub(super) async fn watermarks(&self, topic: &TopicName, n_partitions: u32) -> Result<Vec<(i64, i64)>> {
        let (observer, topic, limit) = (self.asker()?, self.topic(topic), self.options.timeout);
        blocking(move || marks(&observer, &topic, n_partitions, limit)).await
    }

    /// Returns what a group has committed, by partition.
    pub(super) async fn committed(
        &self,
        topic: &TopicName,
        group: &str,
        n_partitions: u32,
    ) -> Result<Vec<Option<i64>>> {
        let (observer, topic, limit) = (self.observer(group)?, self.topic(topic), self.options.timeout);
        blocking(move || committed(&observer, &topic, n_partitions, limit)).await
    }

    /// Says where a group begins, for partitions where it has not begun.
    pub(super) async fn begin(&self, topic: &TopicName, group: &str, n_partitions: u32, is_end: bool) -> Result<()> {
        let (observer, topic, limit) = (self.observer(group)?, self.topic(topic), self.options.timeout);
        blocking(move || {
            let known = committed(&observer, &topic, n_partitions, limit)?;
            if known.iter().all(Option::is_some) {
                return Ok(());
            }
            let marks = marks(&observer, &topic, n_partitions, limit)?;
            let mut list = TopicPartitionList::new();
            for ((known, (low, high)), partition) in known.iter().zip(marks).zip(0..) {
                if known.is_none() {
                    let offset = if is_end { high } else { low };
                    list.add_partition_offset(&topic, partition, Offset::Offset(offset))
                        .map_err(failed)?;
                }
            }
            match observer.commit(&list, CommitMode::Sync) {
                // Somebody has begun meanwhile.
                Err(error) if is_active(&error) => Ok(()),
                committed => committed.map_err(failed),
            }
        })
        .await
    }

    /// Moves a group without members.
    pub(super) async fn seek(&self, topic: &TopicName, group: &str, n_partitions: u32, to: &Position) -> Result<()> {
        let (observer, topic, limit) = (self.observer(group)?, self.topic(topic), self.options.timeout);
        let (group, to) = (group.to_owned(), to.clone());
        blocking(move || {
            if let Ok(found) = observer.fetch_group_list(Some(&group), limit)
                && found.groups().iter().any(|found| !found.members().is_empty())
            {
                return Err(group_active());
            }
            let list = targets(&observer, &topic, n_partitions, &to, limit)?;
            match observer.commit(&list, CommitMode::Sync) {
                Err(error) if is_active(&error) => Err(group_active()),
                committed => committed.map_err(failed),
            }
        })
        .await
    }

    pub(super) async fn ping(&self) -> Result<()> {
        let (observer, limit) = (self.asker()?, self.options.timeout);
        blocking(move || observer.fetch_metadata(None, limit).map(|_| ()).map_err(failed)).await
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| Err(Error::internal(panic)))
}

fn marks(observer: &BaseConsumer<Telling>, topic: &str, n: u32, limit: Duration) -> Result<Vec<(i64, i64)>> {
    let marks = (0..n).map(|partition| observer.fetch_watermarks(topic, partition as i32, limit));
    marks.collect::<std::result::Result<_, _>>().map_err(failed)
}

fn committed(observer: &BaseConsumer<Telling>, topic: &str, n: u32, limit: Duration) -> Result<Vec<Option<i64>>> {
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, n as i32 - 1);
    let found = observer.committed_offsets(list, limit).map_err(failed)?;
    let mut offsets = vec![None; n as usize];
    for element in found.elements() {
        element.error().map_err(failed)?;
        if let (Offset::Offset(offset), Ok(at)) = (element.offset(), usize::try_from(element.partition())) {
            offsets[at] = Some(offset);
        }
    }
    Ok(offsets)
}

fn targets(
    observer: &BaseConsumer<Telling>,
    topic: &str,
    n: u32,
    to: &Position,
    limit: Duration,
) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    let mut add = |partition: u32, offset: i64| {
        list.add_partition_offset(topic, partition as i32, Offset::Offset(offset))
            .map_err(failed)
    };
    match to {
        Position::Offset { partition, offset } => add(*partition, i64::try_from(*offset).unwrap_or(i64::MAX))?,
        Position::Beginning | Position::End => {
            for ((low, high), partition) in marks(observer, topic, n, limit)?.into_iter().zip(0..) {
                add(partition, if *to == Position::End { high } else { low })?;
            }
        }
        Position::Time(time) => {
            let mut times = TopicPartitionList::new();
            for partition in 0..n {
                let ms = Offset::Offset(time.as_micros().div_euclid(1000).max(0));
                times
                    .add_partition_offset(topic, partition as i32, ms)
                    .map_err(failed)?;
            }
            let found = observer.offsets_for_times(times, limit).map_err(failed)?;
            let marks = marks(observer, topic, n, limit)?;
            for element in found.elements() {
                let partition = element.partition() as u32;
                let end = marks.get(partition as usize).map_or(0, |(_, high)| *high);
                // Nothing is as young as that.
                add(
                    partition,
                    element.offset().to_raw().filter(|offset| *offset >= 0).unwrap_or(end),
                )?;
            }
        }
    }
    Ok(list)
}

/// Does the error say that the group has members?
fn is_active(error: &KafkaError) -> bool {
    let KafkaError::ConsumerCommit(code) = error else {
        return false;
    };
    matches!(
        code,
        RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::IllegalGeneration | RDKafkaErrorCode::RebalanceInProgress
    )
}
