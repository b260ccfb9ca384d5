//! Events over RabbitMQ: an exchange a topic, a quorum queue a (group, partition) with a single active consumer.
//!
//! The broker keeps no history: a queue gets what is published after it was made, so a group begins with its first member and
//! cannot move. It keeps no facts about us either, so how many partitions a topic has stands in the limit of an empty queue:
//! declaring it is atomic, and who declares another number is told the number that is there ([`topology`]).
//!
//! Members wait in line: the first one at a queue has it, the next one when that is gone. Nothing is balanced, and `Revoked` never
//! comes. A partition is told as assigned with its first events: RabbitMQ says nothing before. The lag counts what waits in
//! the queues and what members *of this process* have in hand.
//!
//! What is published goes over one connection and what is read over another: a broker that is short of memory or disk stops
//! those who publish, by connection.

mod link;
mod member;
mod reader;
mod topology;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, ErrorKind};
use mosaic_core::{Error, Result, Runtime, TaskGroup};
use tokio::time::timeout;

use crate::broker::{self, Address, BrokerOptions};
use crate::bus::{Bus, Capabilities, Lag, Member, Mode, Position, Topic, unavailable, unsupported};
use crate::event::Message;
use crate::names::{GroupName, TopicName};
use crate::partition::partition_of;
use link::Link;
use reader::Hand;

/// Delivery mode of a message that survives a restart of the broker.
const PERSISTENT: u8 = 2;

/// See the module documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct RabbitBus(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Runtime,
    options: BrokerOptions,
    prefix: String,
    writing: Link,
    reading: Link,
    /// The channel that everything is published on; its order is theirs.
    publisher: tokio::sync::Mutex<Option<Channel>>,
    /// As they were declared here, with the numbers of partitions that they have.
    topics: Mutex<HashMap<TopicName, Topic>>,
    /// What members of this process have in hand, by queue.
    hands: Mutex<HashMap<String, Hand>>,
    tasks: TaskGroup,
}

impl RabbitBus {
    pub(crate) fn open(mut address: Address, runtime: &Runtime, options: BrokerOptions) -> Result<Self> {
        let (prefix, vhost) = (address.take_prefix()?, std::mem::take(&mut address.path));
        address.finish()?;
        let writing = Link::new(&address, &vhost, options, "mosaic-events publishes")?;
        let reading = Link::new(&address, &vhost, options, "mosaic-events reads")?;
        Ok(Self(Arc::new(Inner {
            runtime: runtime.clone(),
            options,
            prefix,
            writing,
            reading,
            publisher: tokio::sync::Mutex::default(),
            topics: Mutex::default(),
            hands: Mutex::default(),
            tasks: TaskGroup::new(|panic| tracing::error!(task = panic.task, panic.message, "the bus panicked")),
        })))
    }

    async fn known(&self, topic: &TopicName) -> Result<Topic> {
        let known = self.0.topics().get(topic).cloned();
        match known {
            Some(known) => Ok(known),
            None => self.0.make(&Topic::new(topic.clone())).await,
        }
    }

    /// Returns the channel to publish on, made anew if it is gone.
    async fn publisher(&self) -> Result<Channel> {
        let mut publisher = self.0.publisher.lock().await;
        if let Some(channel) = publisher.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let channel = self.0.writing.channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(unavailable)?;
        *publisher = Some(channel.clone());
        Ok(channel)
    }

    async fn send(&self, channel: &Channel, wave: &[&Message], topics: &HashMap<&TopicName, Topic>) -> Result<()> {
        let mut confirms = Vec::with_capacity(wave.len());
        for message in wave {
            let n_partitions = topics.get(&message.topic).map_or(1, |topic| topic.partitions);
            let partition = partition_of(&message.key, n_partitions);
            let published = channel.basic_publish(
                self.0.exchange(&message.topic).into(),
                partition.to_string().into(),
                BasicPublishOptions::default(),
                &message.payload,
                properties(message)?,
            );
            confirms.push(published.await.map_err(refused)?);
        }
        for confirmed in join_all(confirms).await {
            match confirmed.map_err(refused)? {
                Confirmation::Ack(_) => {}
                Confirmation::Nack(_) | Confirmation::NotRequested => return Err(unavailable("the broker refused it")),
            }
        }
        Ok(())
    }

    async fn send_all(&self, messages: &[Message], topics: &HashMap<&TopicName, Topic>) -> Result<()> {
        for wave in broker::waves(messages) {
            let sent = timeout(self.0.options.timeout, async {
                let channel = self.publisher().await?;
                self.send(&channel, &wave, topics).await
            });
            let sent = sent.await.unwrap_or_else(|_| Err(unavailable("no answer in time")));
            if let Err(error) = sent {
                // What is still on its way on the old channel must not mix with what is sent again.
                if let Some(channel) = self.0.publisher.lock().await.take() {
                    let _ = timeout(Duration::from_secs(1), channel.close(200, "failed".into())).await;
                }
                messages.iter().for_each(|message| {
                    self.0.topics().remove(&message.topic);
                });
                return Err(error);
            }
        }
        Ok(())
    }
}

fn properties(message: &Message) -> Result<BasicProperties> {
    let mut headers = FieldTable::default();
    let head = lapin::types::LongString::from(broker::head(message)?);
    headers.insert(broker::HEADER.into(), head.into());
    Ok(BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_message_id(message.id.to_string().into())
        .with_type((*message.name).into())
        .with_headers(headers))
}

fn refused(error: lapin::Error) -> Error {
    match error.kind() {
        ErrorKind::ProtocolError(said) if said.get_message().as_str().contains("larger than") => broker::too_large(),
        _ => unavailable(error),
    }
}

impl Inner {
    fn topics(&self) -> std::sync::MutexGuard<'_, HashMap<TopicName, Topic>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hands(&self) -> std::sync::MutexGuard<'_, HashMap<String, Hand>> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exchange(&self, topic: &TopicName) -> String {
        format!("{}/{topic}", self.prefix)
    }

    fn queue(&self, topic: &TopicName, group: &GroupName, partition: u32) -> String {
        format!("{}/{topic}/{group}/{partition}", self.prefix)
    }
}

#[async_trait]
impl Bus for RabbitBus {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            seek: false,
            seek_live: false,
            lag_age: false,
            balances: false,
        }
    }

    async fn declare(&self, topic: &Topic) -> Result<()> {
        broker::check_partitions(topic)?;
        self.0.make(topic).await.map(|_| ())
    }

    async fn publish(&self, messages: &[Message]) -> Result<()> {
        let mut topics = HashMap::new();
        for message in messages {
            message.check()?;
            if !topics.contains_key(&message.topic) {
                topics.insert(&message.topic, self.known(&message.topic).await?);
            }
        }
        self.send_all(messages, &topics).await?;
        broker::count_published(messages);
        Ok(())
    }

    async fn subscribe(&self, topic: &TopicName, mode: &Mode) -> Result<Box<dyn Member>> {
        let known = self.known(topic).await?;
        let Mode::Group { name, .. } = mode else {
            let queue = format!("{}/{topic}//{}", self.0.prefix, self.0.runtime.random_hex::<8>());
            self.0.make_ear(topic, &queue, &known).await?;
            return Ok(Box::new(member::Listener::new(&self.0, topic, queue, known.partitions)));
        };
        let mut queues = Vec::new();
        for partition in 0..known.partitions {
            let queue = self.0.queue(topic, name, partition);
            self.0.make_queue(topic, &queue, partition, &known).await?;
            queues.push(queue);
        }
        Ok(Box::new(member::GroupMember::new(&self.0, topic, queues)))
    }

    async fn seek(&self, _topic: &TopicName, _group: &GroupName, _to: &Position) -> Result<()> {
        Err(unsupported("RabbitMQ keeps no history to move in"))
    }

    async fn lag(&self, topic: &TopicName, group: &GroupName) -> Result<Vec<Lag>> {
        let known = self.known(topic).await?;
        let mut lags = Vec::new();
        for partition in 0..known.partitions {
            let queue = self.0.queue(topic, group, partition);
            let Some(n_waiting) = self.0.n_waiting(&queue).await? else {
                return Ok(Vec::new());
            };
            let n_in_hand = self.0.hands().get(&queue).map_or(0, Hand::count);
            let events = n_waiting + n_in_hand;
            lags.push(Lag {
                partition,
                events,
                age: Duration::ZERO,
            });
        }
        Ok(lags)
    }

    async fn ping(&self) -> Result<()> {
        // A channel that opens is an answer.
        self.0.writing.channel().await.map(|_| ())
    }
}
