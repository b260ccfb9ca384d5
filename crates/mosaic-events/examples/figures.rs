//! Measures the embedded bus and the outbox on this machine: `cargo run --release -p mosaic-events --example figures`.
//!
//! With the URL of a database as argument it uses that one, else a SQLite file. Prints events per second and what an event adds to
//! a transaction.

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mosaic_core::{Context, Result, Runtime};
use mosaic_events::{
    BUS_MIGRATIONS, BatchSize, Bus, ConsumerOptions, Consumers, Event, Group, Handle, HandleBatch, HandleBatchIn,
    LogBus, LogBusOptions, MIGRATIONS, Message, Outbox,
};
use mosaic_sql::sea_orm::ConnectionTrait as _;
use mosaic_sql::{Database, Migration, Options, Transaction, into_error};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

const N_EVENTS: usize = 200_000;
const BATCH: usize = 1000;

#[derive(Serialize, Deserialize)]
struct Registered {
    account: u64,
    name: String,
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
    async fn handle(&self, _: &Context, _: Registered) -> Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl HandleBatch<Registered> for Counting {
    async fn handle(&self, events: Vec<(Context, Registered)>) -> Result<()> {
        self.0.fetch_add(events.len(), Ordering::Relaxed);
        Ok(())
    }
}

impl HandleBatchIn<Registered> for Counting {
    async fn handle(&self, events: Vec<(Context, Registered)>, _: &Transaction) -> Result<()> {
        self.0.fetch_add(events.len(), Ordering::Relaxed);
        Ok(())
    }
}

const ACCOUNTS: Migration = Migration {
    name: "0001_create_account",
    up: |schema| {
        schema.sql("CREATE TABLE account (id BIGINT PRIMARY KEY, name VARCHAR(80) NOT NULL, n BIGINT NOT NULL)");
    },
};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| format!("sqlite:{}/", folder.path().display()));
    let migrations = [BUS_MIGRATIONS, MIGRATIONS, mosaic_lease::MIGRATIONS, &[ACCOUNTS]].concat();
    let module = format!("figures_{}", Runtime::system().random_hex::<4>());
    let database = Database::open(&url, &module, &Options::default(), &migrations).await?;
    let runtime = Runtime::system();
    throughput("memory", &LogBus::memory(&runtime, LogBusOptions::default()), &database).await?;
    let name = url.split(':').next().unwrap_or_default();
    throughput(
        name,
        &LogBus::embedded(&database, &runtime, LogBusOptions::default()),
        &database,
    )
    .await?;
    latency(name, &database).await
}

fn rate(n: usize, since: Instant) -> String {
    format!("{:.0} events/s", n as f64 / since.elapsed().as_secs_f64())
}

async fn throughput(name: &str, bus: &LogBus, database: &Database) -> Result<()> {
    let runtime = Runtime::system();
    let bus: Arc<dyn Bus> = Arc::new(bus.clone());
    let cx = Context::new(&runtime);
    let messages = (0..N_EVENTS as u64).map(|n| {
        let name = format!("somebody with the number {n}");
        Message::of(
            &cx,
            &Registered {
                account: n % 5000,
                name,
            },
        )
    });
    let messages = messages.collect::<Result<Vec<_>>>()?;
    let since = Instant::now();
    for batch in messages.chunks(BATCH) {
        bus.publish(batch).await?;
    }
    println!("{name}: published in batches of {BATCH}: {}", rate(N_EVENTS, since));
    let size = BatchSize {
        events: BATCH,
        wait: Duration::from_millis(5),
    };
    let group = |name: &str| {
        let name = name.parse().expect("a valid name");
        Group::new(name, database, &runtime, ConsumerOptions::default())
    };
    let counting = Arc::new(Counting::default());
    consume(
        name,
        "in batches",
        &bus,
        group("batch").on_batch(size, counting.clone()),
        &counting,
    )
    .await;
    let counting = Arc::new(Counting::default());
    consume(
        name,
        "one by one",
        &bus,
        group("single").on(counting.clone()),
        &counting,
    )
    .await;
    let counting = Arc::new(Counting::default());
    let once = group("once").on_batch_in_transaction(size, counting.clone());
    consume(name, "in batches with inbox", &bus, once, &counting).await;
    Ok(())
}

async fn consume(name: &str, how: &str, bus: &Arc<dyn Bus>, group: Group, counting: &Counting) {
    let consumers = Consumers::new(bus.clone(), &Runtime::system());
    let since = Instant::now();
    consumers.start(group);
    while counting.0.load(Ordering::Relaxed) < N_EVENTS {
        sleep(Duration::from_millis(1)).await;
    }
    println!("{name}: consumed {how}: {}", rate(N_EVENTS, since));
    consumers.shutdown(Duration::from_secs(10)).await;
}

/// A transaction that reads a row, adds one and changes one, without and with an event.
async fn latency(name: &str, database: &Database) -> Result<()> {
    let runtime = Runtime::system();
    let (outbox, cx) = (Outbox::new(&runtime), Context::new(&runtime));
    let run = async |n: u64, is_told: bool| -> Result<Duration> {
        let since = Instant::now();
        let tx = database.begin().await?;
        let sql = [
            format!("SELECT n FROM account WHERE id = {}", n / 2),
            format!("INSERT INTO account (id, name, n) VALUES ({n}, 'somebody', 0)"),
            format!("UPDATE account SET n = n + 1 WHERE id = {}", n / 3),
        ];
        for sql in sql {
            tx.execute_unprepared(&sql).await.map_err(into_error)?;
        }
        if is_told {
            let name = "somebody".to_owned();
            outbox.publish(&tx, &cx, &Registered { account: n, name }).await?;
        }
        tx.commit().await?;
        Ok(since.elapsed())
    };
    let (mut plain, mut told) = (Vec::new(), Vec::new());
    for n in 0..6000 {
        let is_told = n % 2 == 1;
        let took = run(n, is_told).await?;
        if n >= 1000 {
            if is_told { told.push(took) } else { plain.push(took) }
        }
    }
    plain.sort();
    told.sort();
    let (plain, told) = (plain[plain.len() / 2], told[told.len() / 2]);
    let percent = (told.as_secs_f64() / plain.as_secs_f64() - 1.0) * 100.0;
    println!("{name}: a transaction of three statements: {plain:?}, with an event {told:?} (+{percent:.0} %)");
    Ok(())
}
