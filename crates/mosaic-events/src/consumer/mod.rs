//! Consumers: handlers of events, run over any bus until they succeed or somebody must look.
//!
//! Events of one key are handled in order, keys side by side ([`lanes`]); failures are repeated and then kept as dead letters
//! ([`run`]); positions are committed behind what is done ([`driver`]). With a transaction and an inbox effects happen once,
//! without they happen at least once.

mod dead_letter;
mod driver;
mod group;
mod handler;
mod hands;
mod inbox;
mod lanes;
mod run;

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{Error, Result, Runtime, StopSignal, TaskGroup};
use mosaic_sql::Database;
use tokio::sync::watch;
use tokio::time::sleep;

pub use dead_letter::{DeadLetter, DeadLetters};
pub use group::{BatchSize, ConsumerOptions, Group, Listener};
pub use handler::{Arrived, Handle, HandleBatch, HandleBatchIn, HandleIn};
pub use inbox::Inbox;

use crate::bus::{Bus, Mode};
use crate::names::TopicName;
use crate::text::describe;
use driver::Driver;
use group::Plan;
use run::Shop;

/// Dead letters read at once.
const LETTERS_MAX: usize = 100;

/// The consumers of a process.
#[derive(Debug)]
pub struct Consumers {
    bus: Arc<dyn Bus>,
    runtime: Runtime,
    tasks: TaskGroup,
}

/// A group or listener at work. Dropping it changes nothing.
pub struct Running {
    shops: Vec<Arc<Shop>>,
    paused: watch::Sender<bool>,
    dead: Option<DeadLetters>,
}

impl Consumers {
    /// Makes a process's consumers of `bus`.
    pub fn new(bus: Arc<dyn Bus>, runtime: &Runtime) -> Self {
        Self {
            bus,
            runtime: runtime.clone(),
            tasks: TaskGroup::new(|panic| tracing::error!(task = panic.task, panic.message, "a consumer panicked")),
        }
    }

    /// Starts a group; if the bus is away it begins when the bus is there.
    pub fn start(&self, group: Group) -> Running {
        self.run(group.into_plan())
    }

    /// Starts a listener; if the bus is away it hears what is published once it is there.
    pub fn listen(&self, listener: Listener) -> Running {
        self.run(listener.into_plan())
    }

    fn run(&self, plan: Plan) -> Running {
        let paused = watch::Sender::new(false);
        let (database, dead) = plan.kept.unzip();
        let mut shops = Vec::new();
        for (topic, handlers) in plan.topics {
            let shop = Arc::new(Shop {
                label: plan.label.clone(),
                topic,
                handlers,
                options: plan.options.clone(),
                runtime: self.runtime.clone(),
                dead: dead.clone(),
            });
            let consume = consume(
                self.bus.clone(),
                shop.clone(),
                plan.mode.clone(),
                self.tasks.stop_signal(),
                paused.clone(),
            );
            self.tasks.spawn("events.consume", consume);
            if let Mode::Group { .. } = plan.mode {
                let (bus, shop, mode) = (self.bus.clone(), shop.clone(), plan.mode.clone());
                let mut stop = self.tasks.stop_signal();
                self.tasks.spawn("events.lag", async move {
                    tokio::select! {
                        () = measure_for_ever(bus, shop, mode) => {}
                        () = stop.stopped() => {}
                    }
                });
            }
            shops.push(shop);
        }
        if let Some((database, dead)) = database.zip(dead.clone()) {
            let (runtime, options, label) = (self.runtime.clone(), plan.options, plan.label);
            let mut stop = self.tasks.stop_signal();
            self.tasks.spawn("events.tidy", async move {
                tokio::select! {
                    () = tidy_for_ever(database, dead, runtime, options, label) => {}
                    () = stop.stopped() => {}
                }
            });
        }
        Running { shops, paused, dead }
    }

    /// Stops all: what is begun ends, positions are committed, seats are given up. Returns how many tasks had to be cut.
    pub async fn shutdown(&self, grace: Duration) -> usize {
        self.tasks.shutdown(grace).await
    }
}

/// Joins, as often as it takes, and works until asked to stop.
async fn consume(bus: Arc<dyn Bus>, shop: Arc<Shop>, mode: Mode, mut stop: StopSignal, paused: watch::Sender<bool>) {
    let member = loop {
        match bus.subscribe(&shop.topic, &mode).await {
            Ok(member) => break member,
            Err(error) => tracing::warn!(group = shop.label, "cannot join: {}", describe(&error)),
        }
        tokio::select! {
            () = sleep(Duration::from_secs(1)) => {}
            () = stop.stopped() => return,
        }
    };
    let receiver = paused.subscribe();
    Driver::new(shop, member).drive(stop, receiver).await;
}

async fn measure_for_ever(bus: Arc<dyn Bus>, shop: Arc<Shop>, mode: Mode) {
    let Mode::Group { name, .. } = mode else { return };
    loop {
        sleep(shop.options.measure_every).await;
        match bus.lag(&shop.topic, &name).await {
            Ok(lags) => {
                let labels = [("group", shop.label.clone()), ("topic", shop.topic.to_string())];
                let n_events: u64 = lags.iter().map(|lag| lag.events).sum();
                let age = lags.iter().map(|lag| lag.age).max().unwrap_or_default();
                metrics::gauge!("events_lag", &labels).set(n_events as f64);
                metrics::gauge!("events_lag_seconds", &labels).set(age.as_secs_f64());
            }
            Err(error) => tracing::warn!(group = shop.label, "cannot measure the lag: {}", describe(&error)),
        }
    }
}

async fn tidy_for_ever(
    database: Database,
    dead: DeadLetters,
    runtime: Runtime,
    options: ConsumerOptions,
    label: String,
) {
    loop {
        sleep(options.measure_every).await;
        let tidied = async {
            metrics::gauge!("events_dead_letters", "group" => label.clone()).set(dead.count().await? as f64);
            Inbox::purge(&database, runtime.now().minus(options.inbox_retention)).await
        };
        if let Err(error) = tidied.await {
            tracing::warn!(group = label, "cannot tidy: {}", describe(&error));
        }
    }
}

impl Running {
    /// Lets nothing new begin in this process, until [`Running::resume`]; what was begun ends.
    pub fn pause(&self) {
        self.paused.send_replace(true);
    }

    /// Goes on.
    pub fn resume(&self) {
        self.paused.send_replace(false);
    }

    /// Returns the topics that it reads.
    pub fn topics(&self) -> impl Iterator<Item = &TopicName> {
        self.shops.iter().map(|shop| &shop.topic)
    }

    /// Returns the dead letters of a group; a listener has none.
    pub fn dead_letters(&self) -> Option<&DeadLetters> {
        self.dead.as_ref()
    }

    /// Handles a dead letter again, now, and deletes it if that succeeds. Its order among others of its key is lost.
    ///
    /// # Errors
    /// `DEAD_LETTER_NOT_FOUND`; that of the handler, and then the dead letter stays.
    pub async fn replay(&self, seq: i64) -> Result<()> {
        let dead = self
            .dead
            .as_ref()
            .ok_or_else(|| Error::unimplemented("EVENTS_UNSUPPORTED", "a listener keeps nothing"))?;
        let letter = dead.get(seq).await?;
        let shop = self.shops.iter().find(|shop| shop.topic == letter.message.topic);
        let shop =
            shop.ok_or_else(|| Error::unimplemented("EVENT_UNKNOWN", "the group has no handler of this event"))?;
        shop.replay(&letter.message).await?;
        dead.delete(seq).await
    }

    /// Handles all dead letters again, each once, in their order; returns how many succeeded.
    ///
    /// # Errors
    /// Failures of the database; those of handlers are counted and logged.
    pub async fn replay_all(&self) -> Result<usize> {
        let Some(dead) = &self.dead else { return Ok(0) };
        let (mut after, mut n_done) = (0, 0);
        loop {
            let letters = dead.list(after, LETTERS_MAX).await?;
            let Some(last) = letters.last() else { return Ok(n_done) };
            after = last.seq;
            for letter in letters {
                match self.replay(letter.seq).await {
                    Ok(()) => n_done += 1,
                    Err(error) => tracing::warn!(seq = letter.seq, "a dead letter failed again: {}", describe(&error)),
                }
            }
        }
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let topics: Vec<_> = self.shops.iter().map(|shop| shop.topic.as_str()).collect();
        f.debug_struct("Running")
            .field("topics", &topics)
            .finish_non_exhaustive()
    }
}
