//! Who handles what: groups, which share events and keep what they cannot handle, and listeners, which hear everything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mosaic_core::Runtime;
use mosaic_sql::Database;

use super::dead_letter::DeadLetters;
use super::handler::{self, Desk, Handle, HandleBatch, HandleBatchIn, HandleIn, Handler};
use super::inbox::Inbox;
use crate::bus::{Mode, Start};
use crate::event::{Event, topic_of};
use crate::names::{GroupName, TopicName};

/// How a consumer works; `default()` suits a service.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerOptions {
    /// Keys of a partition that are handled side by side. Default 16.
    pub concurrency: usize,
    /// Events of a partition in hand before no more are read; where a batch has more, two batches. Default 2,000.
    pub in_hand_max: usize,
    /// An attempt that takes longer has failed. Default 30 s.
    pub timeout: Duration,
    /// Attempts before an event goes to the dead letters. Default 8.
    pub attempts_max: u32,
    /// First pause between attempts, doubled for each further one, of which between a half and all is waited. Default 100 ms.
    pub backoff_min: Duration,
    /// Longest pause between attempts. Default 30 s.
    pub backoff_max: Duration,
    /// How often positions are committed. Default 100 ms.
    pub commit_every: Duration,
    /// Time for what was begun to end when asked to stop. Default 10 s.
    pub drain: Duration,
    /// How often lag and dead letters are measured, and old rows of the inbox deleted. Default 10 s.
    pub measure_every: Duration,
    /// Rows of the inbox are kept for so long: longer than any redelivery. Default 7 days.
    pub inbox_retention: Duration,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            concurrency: 16,
            in_hand_max: 2000,
            timeout: Duration::from_secs(30),
            attempts_max: 8,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            commit_every: Duration::from_millis(100),
            drain: Duration::from_secs(10),
            measure_every: Duration::from_secs(10),
            inbox_retention: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// How many events a batch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSize {
    /// At most so many.
    pub events: usize,
    /// Fewer, if the first of them has waited so long.
    pub wait: Duration,
}

/// The handlers of one topic.
#[derive(Default)]
pub(super) struct TopicHandlers {
    pub(super) by_name: BTreeMap<&'static str, Arc<dyn Handler>>,
    pub(super) batch: Option<BatchSize>,
}

/// What the runtime starts.
pub(super) struct Plan {
    /// Group in metrics and logs.
    pub(super) label: String,
    pub(super) mode: Mode,
    pub(super) options: ConsumerOptions,
    pub(super) topics: BTreeMap<TopicName, TopicHandlers>,
    /// Where a group keeps what it cannot handle.
    pub(super) kept: Option<(Database, DeadLetters)>,
}

impl Plan {
    fn add<E: Event>(&mut self, batch: Option<BatchSize>, handler: Arc<dyn Handler>) {
        let handlers = self.topics.entry(topic_of::<E>()).or_default();
        let is_mixed = !handlers.by_name.is_empty() && handlers.batch.is_some() != batch.is_some();
        assert!(
            !is_mixed,
            "a group takes topic {} either singly or in batches",
            E::TOPIC
        );
        handlers.batch = batch;
        let earlier = handlers.by_name.insert(E::NAME, handler);
        assert!(earlier.is_none(), "a group has two handlers of {}", E::NAME);
    }
}

/// A group of consumers: each event goes to one member, in order by key, until it is handled or among the dead letters.
pub struct Group {
    plan: Plan,
    desk: Desk,
}

impl Group {
    /// Makes a group without handlers, whose inbox and dead letters are in `database`, its module's own.
    pub fn new(name: GroupName, database: &Database, runtime: &Runtime, options: ConsumerOptions) -> Self {
        let desk = Desk {
            database: database.clone(),
            inbox: Inbox::new(name.as_str()),
            runtime: runtime.clone(),
        };
        let plan = Plan {
            label: name.to_string(),
            options,
            topics: BTreeMap::new(),
            kept: Some((database.clone(), DeadLetters::new(database, &name))),
            mode: Mode::Group {
                name,
                start: Start::Beginning,
            },
        };
        Self { plan, desk }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.plan.label
    }

    /// Lets the group begin with what comes, if the bus does not know it yet.
    #[must_use]
    pub fn from_now_on(mut self) -> Self {
        if let Mode::Group { start, .. } = &mut self.plan.mode {
            *start = Start::End;
        }
        self
    }

    /// Handles events of type `E` one by one.
    ///
    /// # Panics
    /// If `E` has a handler already, or another type of its topic is taken in batches.
    #[must_use]
    pub fn on<E: Event>(mut self, handler: Arc<impl Handle<E>>) -> Self {
        self.plan.add::<E>(None, handler::plain(handler));
        self
    }

    /// Handles events of type `E` one by one, each in a transaction of the group's database, with effects that happen once.
    ///
    /// # Panics
    /// As [`Group::on`].
    #[must_use]
    pub fn on_in_transaction<E: Event>(mut self, handler: Arc<impl HandleIn<E>>) -> Self {
        self.plan.add::<E>(None, handler::plain_in(handler, self.desk.clone()));
        self
    }

    /// Handles events of type `E` in batches; the size is that of the last type added of a topic.
    ///
    /// # Panics
    /// If `E` has a handler already, or another type of its topic is taken singly.
    #[must_use]
    pub fn on_batch<E: Event>(mut self, size: BatchSize, handler: Arc<impl HandleBatch<E>>) -> Self {
        self.plan.add::<E>(Some(size), handler::batch(handler));
        self
    }

    /// Handles events of type `E` in batches, one transaction a batch, with effects that happen once.
    ///
    /// # Panics
    /// As [`Group::on_batch`].
    #[must_use]
    pub fn on_batch_in_transaction<E: Event>(mut self, size: BatchSize, handler: Arc<impl HandleBatchIn<E>>) -> Self {
        self.plan
            .add::<E>(Some(size), handler::batch_in(handler, self.desk.clone()));
        self
    }

    pub(super) fn into_plan(self) -> Plan {
        self.plan
    }
}

/// Hears everything from now on, in every process; for revocations, caches, settings. What cannot be handled is logged.
pub struct Listener {
    plan: Plan,
}

impl Listener {
    /// Makes a listener without handlers; `label` is its name in metrics.
    pub fn new(label: &str, options: ConsumerOptions) -> Self {
        let plan = Plan {
            label: label.to_owned(),
            mode: Mode::Broadcast,
            options,
            topics: BTreeMap::new(),
            kept: None,
        };
        Self { plan }
    }

    /// Handles events of type `E` one by one.
    ///
    /// # Panics
    /// If `E` has a handler already.
    #[must_use]
    pub fn on<E: Event>(mut self, handler: Arc<impl Handle<E>>) -> Self {
        self.plan.add::<E>(None, handler::plain(handler));
        self
    }

    pub(super) fn into_plan(self) -> Plan {
        self.plan
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self
            .topics
            .values()
            .flat_map(|handlers| handlers.by_name.keys())
            .collect();
        f.debug_struct("Plan")
            .field("label", &self.label)
            .field("names", &names)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.plan.fmt(f)
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.plan.fmt(f)
    }
}
