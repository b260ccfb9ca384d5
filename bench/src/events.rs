//! Events a second through the embedded bus.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mosaic::{Context, Runtime};
use mosaic_events::{
    Arrived, BUS_MIGRATIONS, BatchSize, Bus, ConsumerOptions, Consumers, Event, Group, Handle, HandleBatch,
    HandleBatchIn, LogBus, LogBusOptions, MIGRATIONS, Message,
};
use mosaic_sql::{Migration, Transaction};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::events_outbox;
use crate::report::{Result, Samples, bar, say, table};
use crate::stores::Store;
use crate::tasks::until;

const N_EVENTS: usize = 200_000;
const BATCH: usize = 1000;
const N_KEYS: u64 = 5000;
const N_ROUNDS: usize = 3;
const BAR_PER_SECOND: f64 = 50_000.0;

/// Measures what `parts` names, everything without a name.
pub(crate) async fn measure(parts: &[&str]) -> Result<()> {
    let chosen = |name: &str| parts.is_empty() || parts.contains(&name);
    if chosen("bus") {
        bus().await?;
    }
    if chosen("outbox") {
        events_outbox::measure().await?;
    }
    Ok(())
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Registered {
    pub(crate) account: u64,
    pub(crate) name: String,
}

impl Event for Registered {
    const TOPIC: &'static str = "users";
    const NAME: &'static str = "user.registered";

    fn key(&self) -> String {
        self.account.to_string()
    }
}

#[derive(Default)]
struct Counting(AtomicUsize);

impl Handle<Registered> for Counting {
    async fn handle(&self, _: &Context, _: Registered) -> mosaic::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl HandleBatch<Registered> for Counting {
    async fn handle(&self, events: Vec<Arrived<Registered>>) -> mosaic::Result<()> {
        self.0.fetch_add(events.len(), Ordering::Relaxed);
        Ok(())
    }
}

impl HandleBatchIn<Registered> for Counting {
    async fn handle(&self, events: Vec<Arrived<Registered>>, _: &Transaction) -> mosaic::Result<()> {
        self.0.fetch_add(events.len(), Ordering::Relaxed);
        Ok(())
    }
}

/// The tables of a module that publishes and consumes, and of the bus.
pub(crate) fn migrations() -> Vec<Migration> {
    [BUS_MIGRATIONS, MIGRATIONS, mosaic_lease::MIGRATIONS].concat()
}

async fn bus() -> Result<()> {
    let mut stores = vec![Store::sqlite(&migrations()).await?];
    stores.extend(Store::named("PostgreSQL", "MOSAIC_TEST_POSTGRES", &migrations()).await?);
    stores.extend(Store::named("MariaDB", "MOSAIC_TEST_MYSQL", &migrations()).await?);
    stores.extend(Store::durable_postgres(&migrations()).await?);
    let mut rows = Vec::new();
    let mut bars = Vec::new();
    for store in stores {
        let mut samples = [const { Samples::new() }; 4];
        for round in 0..N_ROUNDS {
            for (samples, rate) in samples.iter_mut().zip(rates(&store, round).await?) {
                samples.add(rate);
            }
        }
        if store.name != "MariaDB" {
            let slower = samples[0].median().min(samples[1].median());
            let what = format!(
                "{}: {BAR_PER_SECOND} events/s published and consumed: {slower:.0}",
                store.name
            );
            bars.push((what, slower >= BAR_PER_SECOND));
        }
        let cells = samples.iter().map(|samples| samples.show(0));
        rows.push([store.name.to_owned()].into_iter().chain(cells).collect());
        store.remove().await?;
    }
    let head = [
        "store",
        "published",
        "consumed in batches",
        "one by one",
        "in batches, with the inbox",
    ];
    table(
        &format!("events: events/s through the embedded bus, batches of {BATCH}"),
        &head,
        &rows,
    );
    say(&format!("{N_ROUNDS} rounds of {N_EVENTS} events with {N_KEYS} keys"));
    for (what, met) in bars {
        bar(&what, met);
    }
    Ok(())
}

/// Publishes and consumes in a topic of this round's own.
async fn rates(store: &Store, round: usize) -> Result<[f64; 4]> {
    let runtime = Runtime::system();
    let bus = LogBus::embedded(&store.database, &runtime, LogBusOptions::default());
    let bus: Arc<dyn Bus> = Arc::new(bus);
    let cx = Context::new(&runtime);
    let message = |number: u64| {
        let name = format!("somebody with the number {number}");
        let account = number % N_KEYS;
        Message::of(&cx, &Registered { account, name })
    };
    let messages = (0..N_EVENTS as u64).map(message).collect::<mosaic::Result<Vec<_>>>()?;
    let since = Instant::now();
    for batch in messages.chunks(BATCH) {
        bus.publish(batch).await?;
    }
    let published = per_second(since);
    drop(messages);
    let size = BatchSize {
        events: BATCH,
        wait: Duration::from_millis(5),
    };
    let group = |name: &str| -> Result<Group> {
        let name = format!("{name}-{round}").parse()?;
        Ok(Group::new(name, &store.database, &runtime, ConsumerOptions::default()))
    };
    // Groups begin with the oldest event: of every round there are as many more.
    let n_all = N_EVENTS * (round + 1);
    let of_all = |rate: f64| rate * (round + 1) as f64;
    let counting = Arc::new(Counting::default());
    let batches = group("batches")?.on_batch(size, counting.clone());
    let batches = of_all(consume(&bus, batches, &counting, n_all).await?);
    let counting = Arc::new(Counting::default());
    let singly = group("singly")?.on(counting.clone());
    let singly = of_all(consume(&bus, singly, &counting, n_all).await?);
    let counting = Arc::new(Counting::default());
    let once = group("once")?.on_batch_in_transaction(size, counting.clone());
    let once = of_all(consume(&bus, once, &counting, n_all).await?);
    Ok([published, batches, singly, once])
}

fn per_second(since: Instant) -> f64 {
    N_EVENTS as f64 / since.elapsed().as_secs_f64()
}

async fn consume(bus: &Arc<dyn Bus>, group: Group, counting: &Counting, n_all: usize) -> Result<f64> {
    let consumers = Consumers::new(bus.clone(), &Runtime::system());
    let since = Instant::now();
    consumers.start(group);
    until(|| counting.0.load(Ordering::Relaxed) >= n_all).await?;
    let rate = per_second(since);
    consumers.shutdown(Duration::from_secs(10)).await;
    Ok(rate)
}
