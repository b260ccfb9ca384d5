//! Events over NATS JetStream: a stream a topic, a subject a partition, groups as documents in a key-value bucket.
//!
//! A group is one JSON document (see [`group`]): who is in it, who has which partition, how far it is. Every change is a
//! compare-and-set on its revision, so a member that lost a partition can neither commit nor move anything back, and a group
//! moves while it works. JetStream's own durable consumers know no owner of an acknowledgement: whoever was away too long
//! could still move the position. What is read comes through consumers that live as long as their reader ([`feed`]).
//!
//! Messages carry `Nats-Msg-Id`: what a relay repeats within two minutes is stored once. Retention in bytes is JetStream's, of the
//! whole stream: the limit of a partition times their number, for topics that are declared. Needs a server of 2.11 or later.

mod feed;
mod group;
mod member;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions, Event};
use async_trait::async_trait;
use futures::future::{join_all, try_join_all};
use mosaic_core::{Error, Result, Runtime};

use crate::broker::{self, Address, BrokerOptions};
use crate::bus::{Bus, Capabilities, Lag, Member, Mode, Position, Start, Topic, unavailable};
use crate::event::Message;
use crate::names::{GroupName, TopicName};
use crate::partition::partition_of;
use group::Groups;

/// For so long the broker knows an event by its id.
const DUPLICATES_FOR: Duration = Duration::from_secs(120);
/// Longest pause between two attempts to connect.
const RECONNECT_MAX: Duration = Duration::from_secs(2);
/// Where the stream keeps its number of partitions.
const PARTITIONS: &str = "mosaic-partitions";

/// See the module documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct NatsBus(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    jetstream: jetstream::Context,
    runtime: Runtime,
    options: BrokerOptions,
    prefix: String,
    replicas: usize,
    /// Numbers of partitions.
    topics: Mutex<HashMap<TopicName, u32>>,
    groups: Groups,
}

impl NatsBus {
    pub(crate) async fn open(mut address: Address, runtime: &Runtime, options: BrokerOptions) -> Result<Self> {
        let prefix = address.take_prefix()?;
        let replicas = address.take("replicas")?.unwrap_or(1);
        let connect = connect_options(&mut address, options).await?;
        address.finish()?;
        let hosts: Vec<String> = address
            .hosts
            .iter()
            .map(|host| format!("{}://{host}", address.scheme))
            .collect();
        let client = connect.connect(hosts).await.map_err(unavailable)?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(options.timeout);
        Ok(Self(Arc::new(Inner {
            groups: Groups::new(&jetstream, runtime, &prefix, replicas),
            client,
            jetstream,
            runtime: runtime.clone(),
            options,
            prefix,
            replicas,
            topics: Mutex::default(),
        })))
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<TopicName, u32>> {
        self.0.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn known(&self, topic: &TopicName) -> Result<u32> {
        let known = self.topics().get(topic).copied();
        match known {
            Some(n_partitions) => Ok(n_partitions),
            None => self.make(&Topic::new(topic.clone()), false).await,
        }
    }

    /// Makes the stream unless it is there, sets its retention if `is_set`; returns its number of partitions.
    async fn make(&self, topic: &Topic, is_set: bool) -> Result<u32> {
        self.connected()?;
        let inner = &*self.0;
        let wanted = inner.stream_config(topic);
        let config = match inner.jetstream.get_stream(&wanted.name).await {
            Ok(found) => found.cached_info().config.clone(),
            // Two that make it at once make the same, or the second fails and asks again.
            Err(_) => {
                let made = inner
                    .jetstream
                    .get_or_create_stream(wanted)
                    .await
                    .map_err(unavailable)?;
                made.cached_info().config.clone()
            }
        };
        let n_partitions = config.metadata.get(PARTITIONS).and_then(|text| text.parse().ok());
        let n_partitions = n_partitions.ok_or_else(|| unavailable("a stream of that name is not ours"))?;
        let max_bytes = max_bytes(topic, n_partitions);
        if is_set && (config.max_age, config.max_bytes) != (topic.retention, max_bytes) {
            let changed = stream::Config {
                max_age: topic.retention,
                max_bytes,
                ..config
            };
            inner.jetstream.update_stream(changed).await.map_err(unavailable)?;
        }
        self.topics().insert(topic.name.clone(), n_partitions);
        Ok(n_partitions)
    }

    /// Fails at once while there is no connection: what the client kept for later would come after what is sent then.
    fn connected(&self) -> Result<()> {
        match self.0.client.connection_state() {
            async_nats::connection::State::Connected => Ok(()),
            _ => Err(unavailable("not connected")),
        }
    }

    async fn send(&self, wave: &[&Message], n_partitions: &HashMap<&TopicName, u32>) -> Result<()> {
        self.connected()?;
        let mut acks = Vec::with_capacity(wave.len());
        for message in wave {
            let n_partitions = n_partitions.get(&message.topic).copied().unwrap_or(1);
            let subject = self.0.subject(&message.topic, partition_of(&message.key, n_partitions));
            let publish = PublishMessage::build()
                .message_id(message.id.to_string())
                .header(broker::HEADER, broker::head(message)?)
                .payload(message.payload.clone());
            acks.push(self.0.jetstream.send_publish(subject, publish).await);
        }
        // All of them are waited for: the next call must not overtake this one.
        let acks = acks.into_iter().zip(wave).map(async |(ack, message)| {
            let ack = match ack {
                Ok(ack) => ack.await,
                Err(error) => Err(error),
            };
            ack.map(|_| ()).map_err(|error| self.refused(&message.topic, error))
        });
        join_all(acks).await.into_iter().collect()
    }

    fn refused(&self, topic: &TopicName, error: PublishError) -> Error {
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => broker::too_large(),
            // 10054: the stream itself has a limit.
            PublishErrorKind::Other if format!("{error:?}").contains("10054") => broker::too_large(),
            PublishErrorKind::StreamNotFound => {
                self.topics().remove(topic);
                unavailable(error)
            }
            _ => unavailable(error),
        }
    }
}

impl Inner {
    /// Returns the name of a topic as a token of a subject: no dots, and no two topics the same.
    fn token(name: &str) -> String {
        name.replace('.', "=")
    }

    fn stream(&self, topic: &TopicName) -> String {
        format!("{}_{}", self.prefix, Self::token(topic.as_str()))
    }

    fn subject(&self, topic: &TopicName, partition: u32) -> String {
        format!("{}.{}.{partition}", self.prefix, Self::token(topic.as_str()))
    }

    fn all_subjects(&self, topic: &TopicName) -> String {
        format!("{}.{}.*", self.prefix, Self::token(topic.as_str()))
    }

    fn group_key(&self, topic: &TopicName, group: &GroupName) -> String {
        format!("{}.{}", Self::token(topic.as_str()), Self::token(group.as_str()))
    }

    fn stream_config(&self, topic: &Topic) -> stream::Config {
        stream::Config {
            name: self.stream(&topic.name),
            subjects: vec![self.all_subjects(&topic.name)],
            max_age: topic.retention,
            // Set when it is declared: JetStream sets aside at once what a stream may take.
            max_bytes: -1,
            num_replicas: self.replicas,
            duplicate_window: DUPLICATES_FOR.min(topic.retention),
            allow_direct: true,
            metadata: HashMap::from([(PARTITIONS.to_owned(), topic.partitions.to_string())]),
            ..stream::Config::default()
        }
    }

    /// Returns the position of the next event of the topic.
    async fn end(&self, topic: &TopicName) -> Result<u64> {
        let found = self
            .jetstream
            .get_stream(self.stream(topic))
            .await
            .map_err(unavailable)?;
        Ok(found.cached_info().state.last_sequence + 1)
    }

    /// Returns the position of the first event that was stored at `time` or later.
    async fn position_at(&self, topic: &TopicName, time: mosaic_core::Timestamp) -> Result<u64> {
        let start_time = async_nats::datetime::parse_rfc3339(&time.to_string()).map_err(Error::internal)?;
        let found = self
            .jetstream
            .get_stream(self.stream(topic))
            .await
            .map_err(unavailable)?;
        let config = jetstream::consumer::pull::Config {
            deliver_policy: DeliverPolicy::ByStartTime { start_time },
            ack_policy: jetstream::consumer::AckPolicy::None,
            inactive_threshold: Duration::from_secs(5),
            ..Default::default()
        };
        let probe = found.create_consumer(config).await.map_err(unavailable)?;
        // Ends by itself within seconds if this does not reach the server.
        let _ = found.delete_consumer(&probe.cached_info().name).await;
        Ok(probe.cached_info().delivered.stream_sequence + 1)
    }

    /// Returns how many events of a partition come from `next` on, and how old the first of them is.
    async fn lag(&self, topic: &TopicName, partition: u32, next: u64) -> Result<Lag> {
        let subject = format!("$JS.API.DIRECT.GET.{}", self.stream(topic));
        let ask = serde_json::json!({ "seq": next.max(1), "next_by_subj": self.subject(topic, partition), "batch": 1 });
        let answer = self
            .client
            .request(subject, ask.to_string().into())
            .await
            .map_err(unavailable)?;
        let none = Lag {
            partition,
            events: 0,
            age: Duration::ZERO,
        };
        let header = |name: &str| {
            answer
                .headers
                .as_ref()
                .and_then(|headers| headers.get(name))
                .map(|value| value.as_str())
        };
        // An answer with a status has no message: nothing is there, or it is gone.
        let (None, Some(stored)) = (answer.status, header("Nats-Time-Stamp")) else {
            return Ok(none);
        };
        let n_more: u64 = header("Nats-Num-Pending")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let stored = stored.parse().unwrap_or_else(|_| self.runtime.now());
        Ok(Lag {
            partition,
            events: n_more + 1,
            age: self.runtime.now().since(stored),
        })
    }
}

fn max_bytes(topic: &Topic, n_partitions: u32) -> i64 {
    let all = topic.retention_bytes.saturating_mul(u64::from(n_partitions));
    i64::try_from(all).unwrap_or(i64::MAX)
}

async fn connect_options(address: &mut Address, options: BrokerOptions) -> Result<ConnectOptions> {
    let mut connect = ConnectOptions::new()
        .name("mosaic-events")
        .retry_on_initial_connect()
        .connection_timeout(options.timeout)
        .ping_interval(Duration::from_secs(5))
        .reconnect_delay_callback(|n| {
            RECONNECT_MAX.min(Duration::from_millis(50) * 2_u32.saturating_pow(n.min(10) as u32))
        })
        .event_callback(|event| async move {
            match event {
                Event::Connected => tracing::info!("connected to NATS"),
                event => tracing::warn!("NATS: {event}"),
            }
        });
    if let Some(path) = address.take::<String>("ca")? {
        connect = connect.add_root_certificates(path.into());
    }
    if let Some(path) = address.take::<String>("creds")? {
        let with = connect.credentials_file(path).await;
        connect = with.map_err(|cause| {
            Error::invalid_argument("EVENTS_URL_INVALID", "the file of credentials cannot be read").caused_by(cause)
        })?;
    }
    Ok(match (address.user.take(), address.password.take()) {
        (Some(user), Some(password)) => connect.user_and_password(user, password.expose().clone()),
        (Some(token), None) => connect.token(token),
        (None, _) => connect,
    })
}

#[async_trait]
impl Bus for NatsBus {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            seek: true,
            seek_live: true,
            lag_age: true,
            balances: true,
        }
    }

    async fn declare(&self, topic: &Topic) -> Result<()> {
        broker::check_partitions(topic)?;
        self.make(topic, true).await.map(|_| ())
    }

    async fn publish(&self, messages: &[Message]) -> Result<()> {
        let mut n_partitions = HashMap::new();
        for message in messages {
            message.check()?;
            if !n_partitions.contains_key(&message.topic) {
                n_partitions.insert(&message.topic, self.known(&message.topic).await?);
            }
        }
        for wave in broker::waves(messages) {
            self.send(&wave, &n_partitions).await?;
        }
        broker::count_published(messages);
        Ok(())
    }

    async fn subscribe(&self, topic: &TopicName, mode: &Mode) -> Result<Box<dyn Member>> {
        let n_partitions = self.known(topic).await?;
        let Mode::Group { name, start } = mode else {
            let end = self.0.end(topic).await?;
            return Ok(Box::new(member::Listener::new(&self.0, topic, n_partitions, end)));
        };
        let next = match start {
            Start::Beginning => 1,
            Start::End => self.0.end(topic).await?,
        };
        let key = self.0.group_key(topic, name);
        self.0.groups.open(&key, n_partitions, next).await?;
        Ok(Box::new(member::GroupMember::new(&self.0, topic, key)))
    }

    async fn seek(&self, topic: &TopicName, group: &GroupName, to: &Position) -> Result<()> {
        let n_partitions = self.known(topic).await?;
        let (only, next) = match to {
            Position::Beginning => (None, 1),
            Position::End => (None, self.0.end(topic).await?),
            Position::Time(time) => (None, self.0.position_at(topic, *time).await?),
            Position::Offset { partition, offset } => (Some(*partition), *offset),
        };
        let key = self.0.group_key(topic, group);
        self.0.groups.open(&key, n_partitions, 1).await?;
        self.0.groups.seek(&key, only, next).await
    }

    async fn lag(&self, topic: &TopicName, group: &GroupName) -> Result<Vec<Lag>> {
        let Some(found) = self.0.groups.find(&self.0.group_key(topic, group)).await? else {
            return Ok(Vec::new());
        };
        let lags = found
            .places
            .iter()
            .zip(0..)
            .map(|(place, partition)| self.0.lag(topic, partition, place.next));
        try_join_all(lags).await
    }

    async fn ping(&self) -> Result<()> {
        self.connected()?;
        self.0.jetstream.query_account().await.map(|_| ()).map_err(unavailable)
    }
}
