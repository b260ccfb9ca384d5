//! The embedded bus: a durable log in a SQL database (or in memory), without a broker to run.
//!
//! Meant for one process, or for some that share a database; a topic takes tens of thousands of events a second because
//! what is stored are batches. Whoever publishes rings for the members of this process; those of other processes look again
//! after [`LogBusOptions::poll_min`], and ever later (up to `poll_max`) while nothing comes. Members keep seats in the same
//! database, so a group spreads over processes, and commits carry a fencing number: see [`Member`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::{Error, Result, Runtime, TaskGroup};
use mosaic_sql::Database;
use tokio::sync::watch;

use super::member::{GroupMember, Listener};
use super::memory::MemoryLog;
use super::sql::SqlLog;
use super::{Batch, GroupOf, Log, Seat};
use crate::bus::{Bus, Capabilities, Lag, Member, Mode, Position, Topic};
use crate::event::Message;
use crate::names::{GroupName, TopicName};
use crate::partition::partition_of;

/// Most partitions of a topic.
const PARTITIONS_MAX: u32 = 256;
/// Most messages and (but for one) bytes of a row.
const BATCH_MAX: usize = 1000;
const BATCH_BYTES: usize = 512 << 10;
/// How often what no topic keeps is deleted.
const TRIM_EVERY: Duration = Duration::from_secs(60);

/// How the embedded bus waits; `default()` suits a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBusOptions {
    /// A member that gives no sign for so long is dead. Default 10 s.
    pub lease: Duration,
    /// First pause before looking for what other processes published. Default 20 ms.
    pub poll_min: Duration,
    /// Longest pause. Default 500 ms.
    pub poll_max: Duration,
    /// About how many bytes are read at once. Default 1 MiB.
    pub fetch_bytes: usize,
}

impl Default for LogBusOptions {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            poll_min: Duration::from_millis(20),
            poll_max: Duration::from_millis(500),
            fetch_bytes: 1 << 20,
        }
    }
}

/// See the module documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogBus(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) log: Arc<dyn Log>,
    pub(super) runtime: Runtime,
    pub(super) options: LogBusOptions,
    topics: Mutex<HashMap<TopicName, Known>>,
    /// Rung when a partition became free.
    pub(super) moves: watch::Sender<()>,
    _tasks: TaskGroup,
}

/// What this process knows of a topic.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) n_partitions: u32,
    /// Rung when something was published here.
    pub(super) news: watch::Sender<()>,
}

impl LogBus {
    /// Makes a bus in memory: gone with the process, for tests and for what nobody misses.
    pub fn memory(runtime: &Runtime, options: LogBusOptions) -> Self {
        Self::over(Arc::new(MemoryLog::new(runtime)), runtime, options)
    }

    /// Makes a bus in `database`, which has [`BUS_MIGRATIONS`](crate::BUS_MIGRATIONS).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn embedded(database: &Database, runtime: &Runtime, options: LogBusOptions) -> Self {
        Self::over(Arc::new(SqlLog::new(database, runtime)), runtime, options)
    }

    fn over(log: Arc<dyn Log>, runtime: &Runtime, options: LogBusOptions) -> Self {
        let tasks = TaskGroup::new(|panic| tracing::error!(task = panic.task, panic.message, "the bus panicked"));
        let trimmed = log.clone();
        tasks.supervise("events.trim", TRIM_EVERY, move || trim_for_ever(trimmed.clone()));
        Self(Arc::new(Inner {
            log,
            runtime: runtime.clone(),
            options,
            topics: Mutex::default(),
            moves: watch::Sender::new(()),
            _tasks: tasks,
        }))
    }

    /// Deletes what no topic keeps now rather than within a minute; returns how many batches went.
    ///
    /// # Errors
    /// `EVENTS_UNAVAILABLE`.
    pub async fn trim(&self) -> Result<u64> {
        self.0.log.trim().await
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<TopicName, Known>> {
        self.0.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn known(&self, topic: &TopicName) -> Result<Known> {
        let known = self.topics().get(topic).cloned();
        match known {
            Some(known) => Ok(known),
            None => self.make(&Topic::new(topic.clone()), false).await,
        }
    }

    async fn make(&self, topic: &Topic, is_set: bool) -> Result<Known> {
        let n_partitions = self.0.log.declare(topic, is_set).await?;
        let mut topics = self.topics();
        let known = topics.entry(topic.name.clone()).or_insert_with(|| Known {
            n_partitions,
            news: watch::Sender::new(()),
        });
        Ok(known.clone())
    }
}

async fn trim_for_ever(log: Arc<dyn Log>) {
    loop {
        tokio::time::sleep(TRIM_EVERY).await;
        if let Err(error) = log.trim().await {
            tracing::warn!(
                reason = error.reason(),
                cause = error.cause_chain(),
                "cannot delete old events"
            );
        }
    }
}

/// Messages of one topic on their way into rows.
struct Sorted<'a> {
    topic: &'a TopicName,
    known: Known,
    n_messages: u64,
    /// The row of each partition that is filled now, by its number among all, and its bytes.
    open: Vec<Option<(usize, usize)>>,
}

impl<'a> Sorted<'a> {
    fn new(topic: &'a TopicName, known: Known) -> Self {
        Self {
            topic,
            n_messages: 0,
            open: vec![None; known.n_partitions.max(1) as usize],
            known,
        }
    }

    /// Puts a message into the row of its partition, or begins one.
    fn put(&mut self, message: &'a Message, batches: &mut Vec<Batch<'a>>) {
        self.n_messages += 1;
        let partition = partition_of(&message.key, self.known.n_partitions);
        let open = &mut self.open[partition as usize];
        let has_room = |(at, n_bytes): &(usize, usize)| {
            batches[*at].messages.len() < BATCH_MAX && n_bytes + message.n_bytes() <= BATCH_BYTES
        };
        let (at, n_bytes) = open.filter(has_room).unwrap_or_else(|| {
            batches.push(Batch {
                topic: self.topic,
                partition,
                messages: Vec::new(),
            });
            (batches.len() - 1, 0)
        });
        batches[at].messages.push(message);
        *open = Some((at, n_bytes + message.n_bytes()));
    }
}

#[async_trait]
impl Bus for LogBus {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            seek: true,
            seek_live: true,
            lag_age: true,
            balances: true,
        }
    }

    async fn declare(&self, topic: &Topic) -> Result<()> {
        if !(1..=PARTITIONS_MAX).contains(&topic.partitions) {
            let message = "a topic has 1 to 256 partitions";
            return Err(Error::invalid_argument("EVENTS_TOPIC_INVALID", message));
        }
        self.make(topic, true).await.map(|_| ())
    }

    async fn publish(&self, messages: &[Message]) -> Result<()> {
        let mut topics: Vec<Sorted<'_>> = Vec::new();
        let mut batches = Vec::new();
        for message in messages {
            message.check()?;
            // There are few, and neighbours mostly have the same.
            let at = match topics.iter().rposition(|sorted| *sorted.topic == message.topic) {
                Some(at) => at,
                None => {
                    topics.push(Sorted::new(&message.topic, self.known(&message.topic).await?));
                    topics.len() - 1
                }
            };
            topics[at].put(message, &mut batches);
        }
        self.0.log.append(&batches).await?;
        for Sorted {
            topic,
            known,
            n_messages,
            ..
        } in topics
        {
            metrics::counter!("events_published_total", "topic" => topic.to_string()).increment(n_messages);
            known.news.send_replace(());
        }
        Ok(())
    }

    async fn subscribe(&self, topic: &TopicName, mode: &Mode) -> Result<Box<dyn Member>> {
        let known = self.known(topic).await?;
        let Mode::Group { name, start } = mode else {
            let ends = self.0.log.ends(topic).await?;
            return Ok(Box::new(Listener::new(&self.0, topic, &known, &ends)));
        };
        let of = GroupOf {
            topic: topic.clone(),
            group: name.clone(),
        };
        self.0.log.open_group(&of, *start).await?;
        let seat = Seat {
            of,
            member: self.0.runtime.random_hex::<8>(),
            lease: self.0.options.lease,
        };
        Ok(Box::new(GroupMember::new(&self.0, seat, &known)))
    }

    async fn seek(&self, topic: &TopicName, group: &GroupName, to: &Position) -> Result<()> {
        let of = GroupOf {
            topic: topic.clone(),
            group: group.clone(),
        };
        self.0.log.seek(&of, to).await?;
        self.0.moves.send_replace(());
        Ok(())
    }

    async fn lag(&self, topic: &TopicName, group: &GroupName) -> Result<Vec<Lag>> {
        let of = GroupOf {
            topic: topic.clone(),
            group: group.clone(),
        };
        self.0.log.lag(&of).await
    }

    async fn ping(&self) -> Result<()> {
        self.0.log.ping().await
    }
}
