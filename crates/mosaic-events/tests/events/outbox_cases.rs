//! What the outbox promises on every database: with the transaction or not at all, in order, past poison, through outages.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mosaic_core::{Context, Error, Result, TaskGroup, Timestamp};
use mosaic_events::{
    Bus, Capabilities, EventId, GroupName, Lag, Member, Message, Mode, Outbox, Pass, Position, Relay, RelayOptions,
    StoredTask, TaskSink, Topic, TopicName,
};
use mosaic_lease::{Acquired, CandidateOptions, Lease, Leases, SqlLeases};

use crate::bench::{Bench, Counted, SOON, assert_in_order, group, take, topic, until};

/// A bus that can go away, and refuses what its broker would.
#[derive(Debug)]
pub(crate) struct Moody {
    bus: Arc<dyn Bus>,
    pub(crate) is_away: AtomicBool,
    /// Keys that are refused.
    refused: BTreeSet<String>,
    n_published: AtomicUsize,
}

impl Moody {
    pub(crate) fn over(bus: Arc<dyn Bus>) -> Self {
        Self {
            bus,
            is_away: AtomicBool::new(false),
            refused: ["poison".to_owned()].into(),
            n_published: AtomicUsize::new(0),
        }
    }
}

#[async_trait]
impl Bus for Moody {
    fn capabilities(&self) -> Capabilities {
        self.bus.capabilities()
    }

    async fn declare(&self, topic: &Topic) -> Result<()> {
        self.bus.declare(topic).await
    }

    async fn publish(&self, messages: &[Message]) -> Result<()> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(mosaic_events::unavailable("told to be away"));
        }
        if messages.iter().any(|message| self.refused.contains(&message.key)) {
            return Err(Error::invalid_argument(
                "EVENT_TOO_LARGE",
                "larger than the broker takes",
            ));
        }
        self.bus.publish(messages).await?;
        self.n_published.fetch_add(messages.len(), Ordering::SeqCst);
        Ok(())
    }

    async fn subscribe(&self, topic: &TopicName, mode: &Mode) -> Result<Box<dyn Member>> {
        self.bus.subscribe(topic, mode).await
    }

    async fn seek(&self, topic: &TopicName, group: &GroupName, to: &Position) -> Result<()> {
        self.bus.seek(topic, group, to).await
    }

    async fn lag(&self, topic: &TopicName, group: &GroupName) -> Result<Vec<Lag>> {
        self.bus.lag(topic, group).await
    }

    async fn ping(&self) -> Result<()> {
        self.bus.ping().await
    }
}

pub(crate) fn options() -> RelayOptions {
    RelayOptions {
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(50),
        candidate: CandidateOptions {
            ttl: Duration::from_millis(600),
            ..CandidateOptions::default()
        },
        ..RelayOptions::default()
    }
}

pub(crate) async fn write(bench: &Bench, outbox: &Outbox, account: &str, version: u64) -> Result<EventId> {
    let cx = Context::new(&bench.runtime);
    let event = Counted {
        account: account.to_owned(),
        version,
    };
    let written = bench
        .module
        .transaction(async |tx| outbox.publish(&tx, &cx, &event).await);
    written.await
}

async fn lease(bench: &Bench, holder: &str) -> Lease {
    let leases = SqlLeases::new(&bench.module, &bench.runtime);
    match leases
        .acquire("mosaic-outbox-relay", holder, Duration::from_millis(1))
        .await
        .unwrap()
    {
        Acquired::Ours(lease) => lease,
        Acquired::Theirs(_) => panic!("nobody holds it for longer than a millisecond"),
    }
}

pub(crate) async fn what_commits_is_published_and_nothing_else(bench: &Bench) {
    let outbox = Outbox::new(&bench.runtime);
    let cx = Context::new(&bench.runtime);
    for version in 0..5 {
        write(bench, &outbox, "a", version).await.unwrap();
        let tx = bench.module.begin().await.unwrap();
        let event = Counted {
            account: "a".to_owned(),
            version: 99,
        };
        outbox.publish(&tx, &cx, &event).await.unwrap();
        drop(tx);
    }
    let relay = Relay::new("accounts", &bench.module, &outbox, bench.bus.clone(), options());
    let lease = lease(bench, "me").await;
    assert_eq!(relay.pass(&lease).await.unwrap(), Pass { n_sent: 5, n_dead: 0 });
    assert_eq!(relay.pass(&lease).await.unwrap(), Pass::default());
    let mut member = bench.bus.subscribe(&topic(), &group("readers")).await.unwrap();
    let taken = take(&mut member, 5).await;
    assert_eq!(assert_in_order(taken.iter().map(|(_, event)| event), 0), 5);
}

pub(crate) async fn a_relay_that_lost_its_lease_marks_nothing(bench: &Bench) {
    let outbox = Outbox::new(&bench.runtime);
    write(bench, &outbox, "a", 0).await.unwrap();
    let relay = Relay::new("accounts", &bench.module, &outbox, bench.bus.clone(), options());
    let old = lease(bench, "old").await;
    let new = loop {
        let leases = SqlLeases::new(&bench.module, &bench.runtime);
        if let Acquired::Ours(lease) = leases.acquire(&old.name, "new", Duration::from_secs(60)).await.unwrap() {
            break lease;
        }
    };
    assert_eq!(relay.pass(&old).await.unwrap_err().reason(), "LEASE_LOST");
    assert_eq!(relay.pass(&new).await.unwrap(), Pass { n_sent: 1, n_dead: 0 });
}

pub(crate) async fn two_relays_send_everything_once_and_follow_each_other(bench: &Bench) {
    let outbox = Outbox::new(&bench.runtime);
    let bus = Arc::new(Moody::over(bench.bus.clone()));
    let start = || {
        let tasks = TaskGroup::new(|panic| panic!("{panic:?}"));
        let relay = Relay::new("accounts", &bench.module, &outbox, bus.clone(), options());
        let stop = tasks.stop_signal();
        tasks.spawn("relay", async move { relay.run(stop).await });
        tasks
    };
    let (one, other) = (start(), start());
    for version in 0..20 {
        write(bench, &outbox, "a", version).await.unwrap();
    }
    until("all is sent", async || bus.n_published.load(Ordering::SeqCst) >= 20).await;
    // Whoever it was: one leaves, the other one crashes, a third one goes on.
    one.shutdown(SOON).await;
    write(bench, &outbox, "a", 20).await.unwrap();
    until("the other one follows", async || {
        bus.n_published.load(Ordering::SeqCst) >= 21
    })
    .await;
    drop(other);
    write(bench, &outbox, "a", 21).await.unwrap();
    let third = start();
    until("the third one follows", async || {
        bus.n_published.load(Ordering::SeqCst) >= 22
    })
    .await;
    third.shutdown(SOON).await;
    let mut member = bench.bus.subscribe(&topic(), &group("readers")).await.unwrap();
    let taken = take(&mut member, 22).await;
    let ids: BTreeSet<_> = taken.iter().map(|(_, event)| event.message.id).collect();
    assert_eq!(ids.len(), 22);
}

pub(crate) async fn a_bus_that_is_away_delays_and_poison_does_not_block(bench: &Bench) {
    let outbox = Outbox::new(&bench.runtime);
    let bus = Arc::new(Moody::over(bench.bus.clone()));
    bus.is_away.store(true, Ordering::SeqCst);
    let tasks = TaskGroup::new(|panic| panic!("{panic:?}"));
    let relay = Relay::new("accounts", &bench.module, &outbox, bus.clone(), options());
    let stop = tasks.stop_signal();
    tasks.spawn("relay", async move { relay.run(stop).await });
    for version in 0..10 {
        write(bench, &outbox, "a", version).await.unwrap();
        if version == 4 {
            write(bench, &outbox, "poison", 0).await.unwrap();
        }
    }
    bus.is_away.store(false, Ordering::SeqCst);
    let mut member = bench.bus.subscribe(&topic(), &group("readers")).await.unwrap();
    let taken = take(&mut member, 10).await;
    assert_eq!(assert_in_order(taken.iter().map(|(_, event)| event), 0), 10);
    until("the poison is dead", async || {
        !outbox.dead_letters(&bench.module, 9).await.unwrap().is_empty()
    })
    .await;
    let dead = outbox.dead_letters(&bench.module, 9).await.unwrap();
    assert!(dead.len() == 1 && dead[0].error.contains("EVENT_TOO_LARGE"), "{dead:?}");
    outbox.retry_dead_letter(&bench.module, dead[0].seq).await.unwrap();
    until("it is dead again", async || {
        !outbox.dead_letters(&bench.module, 9).await.unwrap().is_empty()
    })
    .await;
    let dead = outbox.dead_letters(&bench.module, 9).await.unwrap();
    outbox.delete_dead_letter(&bench.module, dead[0].seq).await.unwrap();
    let gone = outbox.delete_dead_letter(&bench.module, dead[0].seq).await.unwrap_err();
    assert_eq!(gone.reason(), "OUTBOX_ROW_NOT_FOUND");
    tasks.shutdown(SOON).await;
}

#[derive(Debug, Default)]
struct Sink(Mutex<Vec<StoredTask>>);

#[async_trait]
impl TaskSink for Sink {
    async fn enqueue(&self, tasks: &[StoredTask]) -> Result<()> {
        self.0.lock().unwrap().extend(tasks.iter().cloned());
        Ok(())
    }
}

pub(crate) async fn tasks_go_to_their_sink_and_old_rows_are_deleted(bench: &Bench) {
    let outbox = Outbox::new(&bench.runtime);
    write(bench, &outbox, "a", 0).await.unwrap();
    let task = StoredTask {
        id: EventId::new(&bench.runtime),
        queue: "mail".to_owned(),
        name: "welcome".to_owned(),
        payload: Bytes::from_static(b"\x00\xff"),
        at: Timestamp::from_micros(7),
    };
    bench
        .module
        .transaction(async |tx| outbox.enqueue(&tx, &task).await)
        .await
        .unwrap();
    let lease = lease(bench, "me").await;
    let retention = Duration::ZERO;
    let relay_options = RelayOptions { retention, ..options() };
    let relay = Relay::new(
        "accounts",
        &bench.module,
        &outbox,
        bench.bus.clone(),
        relay_options.clone(),
    );
    assert_eq!(
        relay.pass(&lease).await.unwrap().n_sent,
        1,
        "a task waits for a relay with a sink"
    );
    let sink = Arc::new(Sink::default());
    let relay = Relay::new("accounts", &bench.module, &outbox, bench.bus.clone(), relay_options);
    let relay = relay.with_tasks(sink.clone());
    assert_eq!(relay.pass(&lease).await.unwrap().n_sent, 1);
    assert_eq!(*sink.0.lock().unwrap(), [task]);
    assert_eq!(relay.tidy().await.unwrap(), 2);
    assert_eq!(relay.tidy().await.unwrap(), 0);
}
