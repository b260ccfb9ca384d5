//! What consumers promise, on every engine: order by key, effects once, retries, dead letters, batches, a graceful end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mosaic_core::{Context, Error, Result};
use mosaic_events::{
    Arrived, BatchSize, ConsumerOptions, Consumers, Event, Group, Handle, HandleBatchIn, HandleIn, Listener, Message,
};
use mosaic_sql::{Database, Transaction};
use serde::{Deserialize, Serialize};

use crate::bench::{Bench, Counted, SOON, name, note, noted, topic, until};

/// Notes what it sees in the transaction; fails as told.
#[derive(Default)]
pub(crate) struct Noting {
    /// Accounts that fail, panic.
    poison: Mutex<BTreeMap<String, &'static str>>,
    n_calls: AtomicUsize,
    traces: Mutex<Vec<u128>>,
}

impl Noting {
    fn check(&self, event: &Counted) -> Result<()> {
        self.n_calls.fetch_add(1, Ordering::SeqCst);
        let poison = self.poison.lock().unwrap().get(&event.account).copied();
        match poison {
            None => Ok(()),
            Some("panics") => panic!("told to"),
            Some("busy") => Err(Error::unavailable("BUSY", "try later")),
            Some(reason) => Err(Error::failed_precondition(reason, "told to fail")),
        }
    }

    fn poison(&self, account: &str, how: &'static str) {
        self.poison.lock().unwrap().insert(account.to_owned(), how);
    }

    fn heal(&self) {
        self.poison.lock().unwrap().clear();
    }
}

impl HandleIn<Counted> for Noting {
    async fn handle(&self, cx: &Context, event: Counted, tx: &Transaction) -> Result<()> {
        self.traces.lock().unwrap().push(cx.trace().trace_id);
        // The effect first: a failure must take it back.
        note(tx, "handled", &event).await?;
        self.check(&event)
    }
}

impl HandleBatchIn<Counted> for Noting {
    async fn handle(&self, events: Vec<Arrived<Counted>>, tx: &Transaction) -> Result<()> {
        for arrived in &events {
            note(tx, "handled", &arrived.event).await?;
        }
        events.iter().try_for_each(|arrived| self.check(&arrived.event))
    }
}

pub(crate) fn options() -> ConsumerOptions {
    ConsumerOptions {
        attempts_max: 3,
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
        commit_every: Duration::from_millis(10),
        measure_every: Duration::from_millis(50),
        ..ConsumerOptions::default()
    }
}

fn group(bench: &Bench) -> Group {
    Group::new(name("readers"), &bench.module, &bench.runtime, options())
}

async fn n_noted(db: &Database) -> usize {
    noted(db, "handled").await.values().map(Vec::len).sum()
}

async fn all_noted(bench: &Bench, n: usize) {
    until("all is handled", async || n_noted(&bench.module).await >= n).await;
    until("all is committed", async || {
        let lag = bench.bus.lag(&topic(), &name("readers")).await.unwrap();
        lag.iter().all(|lag| lag.events == 0)
    })
    .await;
    assert_eq!(n_noted(&bench.module).await, n);
}

fn versions(range: std::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

pub(crate) async fn events_are_handled_once_in_order_and_in_their_trace(bench: &Bench) {
    let consumers = Consumers::new(bench.bus.clone(), &bench.runtime);
    let noting = Arc::new(Noting::default());
    let running = consumers.start(group(bench).on_in_transaction(noting.clone()));
    let messages: Vec<Message> = (0..20)
        .map(|n| bench.message(["a", "b"][n % 2], n as u64 / 2))
        .collect();
    // Everything comes twice, as from a relay that crashed before it marked.
    bench.bus.publish(&messages).await.unwrap();
    bench.bus.publish(&messages).await.unwrap();
    all_noted(bench, 20).await;
    let seen = noted(&bench.module, "handled").await;
    assert_eq!(
        seen,
        BTreeMap::from([("a".into(), versions(0..10)), ("b".into(), versions(0..10))])
    );
    let traces: Vec<u128> = noting.traces.lock().unwrap().clone();
    assert!(
        messages
            .iter()
            .all(|message| traces.contains(&message.context(&bench.runtime).trace().trace_id))
    );
    assert_eq!(running.dead_letters().unwrap().count().await.unwrap(), 0);
    assert_eq!(consumers.shutdown(SOON).await, 0);
}

pub(crate) async fn a_poison_event_becomes_a_dead_letter_and_can_be_replayed(bench: &Bench) {
    let consumers = Consumers::new(bench.bus.clone(), &bench.runtime);
    let noting = Arc::new(Noting::default());
    noting.poison("bad", "BROKEN");
    noting.poison("worse", "panics");
    let running = consumers.start(group(bench).on_in_transaction(noting.clone()));
    let mut garbage = bench.message("garbage", 0);
    garbage.payload = b"{".as_slice().into();
    bench.bus.publish(&[garbage]).await.unwrap();
    bench.publish(&["bad", "good", "worse"], 0..2).await;
    let dead = running.dead_letters().unwrap();
    until("five are dead", async || dead.count().await.unwrap() == 5).await;
    all_noted(bench, 2).await;
    let letters = dead.list(0, 10).await.unwrap();
    let said = |account: &str| {
        letters
            .iter()
            .filter(|letter| letter.message.key == account)
            .collect::<Vec<_>>()
    };
    assert!(
        said("bad")
            .iter()
            .all(|letter| letter.error.contains("BROKEN") && letter.attempts == 3)
    );
    assert!(said("worse").iter().all(|letter| letter.error.contains("told to")));
    assert_eq!(said("garbage")[0].attempts, 1, "what cannot be read is not tried again");
    // Still broken: it stays.
    assert_eq!(running.replay(said("bad")[0].seq).await.unwrap_err().reason(), "BROKEN");
    noting.heal();
    dead.delete(said("garbage")[0].seq).await.unwrap();
    assert_eq!(
        dead.delete(said("garbage")[0].seq).await.unwrap_err().reason(),
        "DEAD_LETTER_NOT_FOUND"
    );
    assert_eq!(running.replay_all().await.unwrap(), 4);
    assert_eq!(dead.count().await.unwrap(), 0);
    assert_eq!(noted(&bench.module, "handled").await["bad"], versions(0..2));
    consumers.shutdown(SOON).await;
}

pub(crate) async fn of_a_batch_only_the_poison_event_is_dead(bench: &Bench) {
    let noting = Arc::new(Noting::default());
    noting.poison("bad", "BROKEN");
    let accounts: Vec<String> = (0..30).map(|n| format!("account-{n}")).collect();
    let mut accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    accounts.push("bad");
    bench.publish(&accounts, 0..1).await;
    bench.publish(&accounts[..30], 1..4).await;
    let consumers = Consumers::new(bench.bus.clone(), &bench.runtime);
    let size = BatchSize {
        events: 50,
        wait: Duration::from_millis(20),
    };
    let running = consumers.start(group(bench).on_batch_in_transaction(size, noting.clone()));
    let dead = running.dead_letters().unwrap();
    until("it is dead", async || dead.count().await.unwrap() == 1).await;
    all_noted(bench, 120).await;
    assert_eq!(dead.list(0, 9).await.unwrap()[0].message.key, "bad");
    let seen = noted(&bench.module, "handled").await;
    assert!(seen.values().all(|seen| *seen == versions(0..4)), "{seen:?}");
    consumers.shutdown(SOON).await;
}

pub(crate) async fn a_failing_key_does_not_hold_up_others_and_keeps_its_order(bench: &Bench) {
    let noting = Arc::new(Noting::default());
    noting.poison("slow", "busy");
    let patient = ConsumerOptions {
        attempts_max: 100_000,
        ..options()
    };
    let consumers = Consumers::new(bench.bus.clone(), &bench.runtime);
    let group = Group::new(name("readers"), &bench.module, &bench.runtime, patient);
    consumers.start(group.on_in_transaction(noting.clone()));
    bench.publish(&["slow", "a", "b", "c", "d", "e", "f"], 0..5).await;
    until("the others are done", async || n_noted(&bench.module).await == 30).await;
    noting.heal();
    all_noted(bench, 35).await;
    assert_eq!(noted(&bench.module, "handled").await["slow"], versions(0..5));
    consumers.shutdown(SOON).await;
}

/// An event of the same topic that the group does not know.
#[derive(Debug, Serialize, Deserialize)]
struct Closed;

impl Event for Closed {
    const TOPIC: &'static str = "accounts";
    const NAME: &'static str = "account.closed";

    fn key(&self) -> String {
        "a".to_owned()
    }
}

pub(crate) async fn unknown_events_are_skipped_and_a_stopped_group_goes_on_later(bench: &Bench) {
    let closed = Message::of(&Context::new(&bench.runtime), &Closed).unwrap();
    bench.bus.publish(&[closed]).await.unwrap();
    bench.publish(&["a"], 0..10).await;
    let consumers = Consumers::new(bench.bus.clone(), &bench.runtime);
    let running = consumers.start(group(bench).on_in_transaction(Arc::new(Noting::default())));
    all_noted(bench, 10).await;
    running.pause();
    bench.publish(&["a"], 10..20).await;
    until("they wait", async || {
        let lag = bench.bus.lag(&topic(), &name("readers")).await.unwrap();
        lag.iter().map(|lag| lag.events).sum::<u64>() == 10
    })
    .await;
    assert_eq!(n_noted(&bench.module).await, 10);
    running.resume();
    all_noted(bench, 20).await;
    assert_eq!(consumers.shutdown(SOON).await, 0);
    bench.publish(&["a"], 20..30).await;
    let consumers = Consumers::new(bench.elsewhere(), &bench.runtime);
    consumers.start(group(bench).on_in_transaction(Arc::new(Noting::default())));
    all_noted(bench, 30).await;
    assert_eq!(noted(&bench.module, "handled").await["a"], versions(0..30));
    consumers.shutdown(SOON).await;
}

/// Notes without a transaction, then takes its time.
struct Slow(Database);

impl Handle<Counted> for Slow {
    async fn handle(&self, _: &Context, event: Counted) -> Result<()> {
        note(&self.0, "handled", &event).await?;
        tokio::time::sleep(Duration::from_millis(3)).await;
        Ok(())
    }
}

pub(crate) async fn a_graceful_handover_repeats_nothing(bench: &Bench) {
    let slow = Arc::new(Slow(bench.module.clone()));
    let accounts: Vec<String> = (0..20).map(|n| format!("account-{n}")).collect();
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    bench.publish(&accounts, 0..10).await;
    let one = Consumers::new(bench.elsewhere(), &bench.runtime);
    one.start(group(bench).on(slow.clone()));
    until("some are handled", async || n_noted(&bench.module).await >= 20).await;
    let other = Consumers::new(bench.elsewhere(), &bench.runtime);
    other.start(group(bench).on(slow));
    until("more are handled", async || n_noted(&bench.module).await >= 60).await;
    assert_eq!(one.shutdown(SOON).await, 0);
    all_noted(bench, 200).await;
    let seen = noted(&bench.module, "handled").await;
    assert!(seen.values().all(|seen| *seen == versions(0..10)), "{seen:?}");
    other.shutdown(SOON).await;
}

/// Counts, without a transaction.
#[derive(Default)]
struct Hearing {
    n: AtomicUsize,
    has_failed: AtomicBool,
}

impl Handle<Counted> for Hearing {
    async fn handle(&self, _: &Context, _: Counted) -> Result<()> {
        if !self.has_failed.swap(true, Ordering::SeqCst) {
            return Err(Error::unavailable("BUSY", "try later"));
        }
        self.n.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

pub(crate) async fn every_process_hears_what_is_broadcast(bench: &Bench) {
    bench.publish(&["a"], 0..5).await;
    let hearing = [Arc::new(Hearing::default()), Arc::new(Hearing::default())];
    let consumers = [0, 1].map(|_| Consumers::new(bench.elsewhere(), &bench.runtime));
    for (consumers, hearing) in consumers.iter().zip(&hearing) {
        consumers.listen(Listener::new("revocations", options()).on(hearing.clone()));
    }
    // They listen once they hear: until then events are lost on them, as promised.
    until("both listen", async || {
        bench.publish(&["a"], 0..1).await;
        hearing.iter().all(|hearing| hearing.n.load(Ordering::SeqCst) > 0)
    })
    .await;
    for consumers in &consumers {
        assert_eq!(consumers.shutdown(SOON).await, 0);
    }
}
