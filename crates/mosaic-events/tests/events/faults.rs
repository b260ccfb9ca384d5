//! Crashes at every step, by seed: what committed is published, its effects happen once and in order (P4, P5).
//!
//! A crash is a future that is dropped after so many polls: it may stand at any await, before or after any commit. Each run
//! prints its seed; `MOSAIC_SEED=7 cargo test -p mosaic-events --test events faults` repeats one, `MOSAIC_SEEDS=5000` does more.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use mosaic_core::{Context, Error, Result, Runtime, SeededRandom, SystemClock};
use mosaic_events::{Bus, ConsumerOptions, Consumers, Group, HandleIn, LogBus, LogBusOptions, Message, Outbox, Relay};
use mosaic_lease::{Acquired, Leases, SqlLeases};
use mosaic_sql::{Database, Transaction};

use crate::bench::{Counted, SOON, name, note, noted, open, until};
use crate::consumer_cases;
use crate::outbox_cases::{self, Moody};

/// Drops a future after so many polls.
struct Crash<F> {
    future: Pin<Box<F>>,
    n_left: u64,
}

impl<F: Future> Future for Crash<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<F::Output>> {
        if self.n_left == 0 {
            return Poll::Ready(None);
        }
        self.n_left -= 1;
        self.future.as_mut().poll(cx).map(Some)
    }
}

/// Polls `future` at most `n` times; `None` if that was not enough.
async fn crash<F: Future>(n: u64, future: F) -> Option<F::Output> {
    let future = Box::pin(future);
    Crash { future, n_left: n }.await
}

/// Notes what it sees; one time in ten it fails afterwards, so that the next event of the key could come first.
struct Once(Runtime);

impl HandleIn<Counted> for Once {
    async fn handle(&self, _: &Context, event: Counted, tx: &Transaction) -> Result<()> {
        note(tx, "handled", &event).await?;
        match self.0.random_below(10) {
            0 => Err(Error::unavailable("BUSY", "told to fail")),
            _ => Ok(()),
        }
    }
}

struct World {
    random: Runtime,
    runtime: Runtime,
    module: Database,
    bus: Arc<Moody>,
    outbox: Outbox,
}

const ACCOUNTS: [&str; 3] = ["a", "b", "c"];

impl World {
    async fn new(seed: u64) -> Self {
        let runtime = Runtime::system();
        let random = Runtime::new(Arc::new(SystemClock), Arc::new(SeededRandom::new(seed)));
        let options = LogBusOptions {
            lease: Duration::from_millis(150),
            ..LogBusOptions::default()
        };
        let module = open("sqlite::memory:", "module").await;
        let bus: Arc<dyn Bus> = match seed % 2 {
            0 => Arc::new(LogBus::memory(&runtime, options)),
            _ => Arc::new(LogBus::embedded(&module, &runtime, options)),
        };
        Self {
            random,
            module,
            bus: Arc::new(Moody::over(bus)),
            outbox: Outbox::new(&runtime),
            runtime,
        }
    }

    fn chance(&self, percent: u64) -> bool {
        self.random.random_below(100) < percent
    }

    /// Writes the next version of an account with its event; crashes somewhere, or rolls back, or commits.
    async fn write(&self, account: &str) {
        let cx = Context::new(&self.runtime);
        let write = async {
            let tx = self.module.begin().await?;
            let versions = noted_in(&tx, account).await;
            let event = Counted {
                account: account.to_owned(),
                version: versions,
            };
            note(&tx, "written", &event).await?;
            self.outbox.publish(&tx, &cx, &event).await?;
            if self.chance(20) {
                tx.rollback().await
            } else {
                tx.commit().await
            }
        };
        let n_polls = if self.chance(30) {
            self.random.random_below(14)
        } else {
            10_000
        };
        let _ = crash(n_polls, write).await;
    }

    /// One pass of a relay that is new to its office and dies somewhere.
    async fn relay(&self, n_polls: u64) {
        let relay = Relay::new(
            "accounts",
            &self.module,
            &self.outbox,
            self.bus.clone(),
            outbox_cases::options(),
        );
        let leases = SqlLeases::new(&self.module, &self.runtime);
        let lease = loop {
            match leases
                .acquire("mosaic-outbox-relay", "me", Duration::from_millis(1))
                .await
            {
                Ok(Acquired::Ours(lease)) => break lease,
                _ => tokio::task::yield_now().await,
            }
        };
        let _ = crash(n_polls, relay.pass(&lease)).await;
    }

    fn consume(&self) -> Consumers {
        let consumers = Consumers::new(self.bus.clone(), &self.runtime);
        let options = ConsumerOptions {
            attempts_max: 1000,
            ..consumer_cases::options()
        };
        let group = Group::new(name("readers"), &self.module, &self.runtime, options);
        consumers.start(group.on_in_transaction(Arc::new(Once(self.random.clone()))));
        consumers
    }

    /// Takes a consumer out of `consumers`: it leaves, or dies.
    async fn end(&self, consumers: &mut Vec<Consumers>) {
        if consumers.is_empty() {
            return;
        }
        let at = self.random.random_below(consumers.len() as u64) as usize;
        let gone = consumers.swap_remove(at);
        if self.chance(50) {
            gone.shutdown(SOON).await;
        }
    }

    async fn assert_settled(&self, what: &str) {
        let n = |noted: &BTreeMap<String, Vec<u64>>| noted.values().map(Vec::len).sum::<usize>();
        let written = noted(&self.module, what).await;
        until("everything is handled", async || {
            n(&noted(&self.module, "handled").await) >= n(&written)
        })
        .await;
        let handled = noted(&self.module, "handled").await;
        assert_eq!(handled, written, "effects are not what committed, once and in order");
        for versions in written.values() {
            assert!(versions.iter().enumerate().all(|(at, version)| at as u64 == *version));
        }
    }
}

/// Returns how many versions an account has, within the transaction.
async fn noted_in(tx: &Transaction, account: &str) -> u64 {
    use mosaic_sql::sea_orm::ConnectionTrait as _;
    use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, Query};
    let mut find = Query::select();
    find.column("seq").from("effect");
    find.and_where(Expr::col("kind").eq("written"))
        .and_where(Expr::col("account").eq(account));
    tx.query_all(&find).await.unwrap().len() as u64
}

/// P4: whoever crashes where, events are what committed, and effects happen once.
async fn writers_relays_and_consumers_crash(seed: u64) {
    let world = World::new(seed).await;
    let mut consumers = vec![world.consume()];
    for _ in 0..25 {
        world.write(ACCOUNTS[world.random.random_below(3) as usize]).await;
        match world.random.random_below(10) {
            0..4 => world.relay(world.random.random_below(40)).await,
            4 => world.end(&mut consumers).await,
            5 if consumers.len() < 3 => consumers.push(world.consume()),
            6 => world.bus.is_away.store(world.chance(50), Ordering::SeqCst),
            _ => {}
        }
    }
    world.bus.is_away.store(false, Ordering::SeqCst);
    consumers.push(world.consume());
    // One pass more may be needed if the writers' last connection is still to be rolled back.
    world.relay(100_000).await;
    world.relay(100_000).await;
    world.assert_settled("written").await;
    for consumers in consumers {
        consumers.shutdown(SOON).await;
    }
}

/// P5: duplicates of what came before, consumers that come, leave and die: versions rise by one.
async fn deliveries_repeat_and_partitions_move(seed: u64) {
    let world = World::new(seed).await;
    let cx = Context::new(&world.runtime);
    let mut consumers = vec![world.consume()];
    let mut sent: Vec<Message> = Vec::new();
    for version in 0..30 {
        let mut batch = Vec::new();
        for account in ACCOUNTS {
            let event = Counted {
                account: account.to_owned(),
                version,
            };
            note(&world.module, "sent", &event).await.unwrap();
            batch.push(Message::of(&cx, &event).unwrap());
        }
        sent.extend(batch.iter().cloned());
        if world.chance(30) {
            // From some event on all is delivered again, as after a crash of the relay.
            let from = world.random.random_below(sent.len() as u64) as usize;
            batch.extend(sent[from..].iter().cloned());
        }
        world.bus.publish(&batch).await.unwrap();
        match world.random.random_below(8) {
            0 => world.end(&mut consumers).await,
            1 if consumers.len() < 3 => consumers.push(world.consume()),
            _ => tokio::task::yield_now().await,
        }
    }
    consumers.push(world.consume());
    world.assert_settled("sent").await;
    for consumers in consumers {
        consumers.shutdown(SOON).await;
    }
}

/// Runs `run` with each seed, a few at a time.
async fn by_seeds<F: Future<Output = ()>>(n_default: u64, run: impl Fn(u64) -> F) {
    let one: Option<u64> = number("MOSAIC_SEED");
    let n_seeds = number("MOSAIC_SEEDS").unwrap_or(n_default);
    let seeds = match one {
        Some(seed) => seed..seed + 1,
        None => 0..n_seeds,
    };
    for seed in seeds {
        eprintln!("seed {seed}");
        pin!(run(seed)).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration to ask")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test]
async fn p4_events_are_what_committed_and_effects_happen_once() {
    by_seeds(50, writers_relays_and_consumers_crash).await;
}

#[tokio::test]
async fn p5_versions_rise_by_one_whatever_is_repeated_and_moved() {
    by_seeds(50, deliveries_repeat_and_partitions_move).await;
}
