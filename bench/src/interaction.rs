//! Likes and reads a second: callers in the process of the service, which share its cores.
//!
//! Likes are calls through the local client by so many callers at once, each waiting for its answer; beside them the same with one
//! transaction a call. Reads are reported at a fixed rate and must be counted and remembered as fast as they come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mosaic::auth::{KeyRing, PublicKeys};
use mosaic::config::Layers;
use mosaic::events::Reporter;
use mosaic::{AccountId, App, Context, Module, Process, Runtime};
use mosaic_api::events::ArticleRead;
use mosaic_api::interaction::v1::{InteractionClient, SetLikeRequest};
use mosaic_sql::sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use mosaic_sql::{Database, Options};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::child::cpu_time;
use crate::report::{Result, Samples, bar, table};
use crate::stores::{DurablePostgres, url_of};

/// The module's name here, and with it that of its tables' namespace.
const MODULE: &str = "bench_interaction";
const N_ITEMS: u64 = 1000;
const N_ACCOUNTS: u64 = 100_000;
const N_ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const READS_FOR: Duration = Duration::from_secs(10);
const READS_PER_S: u64 = 50_000;
const TICK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(120);

/// Callers at once, and likes that share a transaction at most; the last is what the bars are about.
const LIKERS: [(u64, usize); 3] = [(64, 1), (64, 500), (256, 500)];
const BEHIND_MAX_S: f64 = 2.0;
const BAR_SQLITE: f64 = 5_000.0;
const BAR_POSTGRES: f64 = 10_000.0;

/// Measures what `parts` names, everything without a name.
pub(crate) async fn measure(parts: &[&str]) -> Result<()> {
    let chosen = |name: &str| parts.is_empty() || parts.contains(&name);
    let folder = TempDir::new()?;
    let durable = DurablePostgres::start().await?;
    let sqlite = Some(format!("sqlite:{}/", folder.path().display()));
    let fsynced = durable.as_ref().map(|server| server.url.clone());
    let engines = [
        ("SQLite file", sqlite, BAR_SQLITE),
        ("PostgreSQL", url_of("PostgreSQL", "MOSAIC_TEST_POSTGRES"), BAR_POSTGRES),
        ("PostgreSQL, fsync on", fsynced, BAR_POSTGRES),
        ("MariaDB", url_of("MariaDB", "MOSAIC_TEST_MYSQL"), BAR_SQLITE),
    ];
    let (mut likes, mut reads) = (Vec::new(), Vec::new());
    for (engine, url, at_least) in engines {
        let Some(url) = url else { continue };
        if chosen("likes") {
            likes.push(liked(engine, &url, at_least).await?);
        }
        if chosen("reads") {
            reads.push(read(engine, &url).await?);
        }
    }
    if !likes.is_empty() {
        let callers = ["64 callers, a transaction each", "64 callers", "256 callers"];
        let head = [&["database"][..], &callers].concat();
        table("interaction: likes/s, median (min..max)", &head, &likes);
    }
    if !reads.is_empty() {
        let counted = [
            "reads lost",
            "reads/s counted",
            "last one counted after s",
            "remembered after s",
            "processor us a read, without the engine's",
        ];
        let head = [&["database"][..], &counted].concat();
        let title = format!("interaction: {READS_PER_S} reads/s for {} s", READS_FOR.as_secs());
        table(&title, &head, &reads);
    }
    Ok(())
}

async fn liked(engine: &str, url: &str, at_least: f64) -> Result<Vec<String>> {
    let mut row = vec![engine.to_owned()];
    let mut best = f64::NAN;
    for (n_callers, batch_max) in LIKERS {
        let sample = likes_per_s(url, n_callers, batch_max).await?;
        best = sample.median();
        row.push(sample.show(0));
    }
    bar(&format!("{engine}: {at_least:.0} likes/s: {best:.0}"), best >= at_least);
    Ok(row)
}

async fn read(engine: &str, url: &str) -> Result<Vec<String>> {
    let lag = reads_behind(url).await?;
    let what = format!(
        "{engine}: {READS_PER_S} reads/s accepted and counted without growing lag: {:.0} lost, {:.1} s behind",
        lag[0], lag[2]
    );
    bar(&what, lag[0] < 1.0 && lag[2] < BEHIND_MAX_S);
    let shown = lag.iter().map(|number| format!("{number:.1}"));
    Ok([engine.to_owned()].into_iter().chain(shown).collect())
}

/// The service, its namespace and what it was given.
struct Node {
    process: Process,
    database: Database,
    reporter: Reporter<ArticleRead>,
    data: TempDir,
}

impl Node {
    async fn start(url: &str, batch_max: usize) -> Result<Self> {
        let kept: Arc<OnceLock<Reporter<ArticleRead>>> = Arc::default();
        let keep = kept.clone();
        let install = async move |m: &mut Module| {
            let runtime = m.runtime().clone();
            let mut ring = KeyRing::new(Duration::ZERO);
            let added = ring.add("bench", runtime.now(), &KeyRing::generate(&runtime));
            added.map_err(mosaic::Error::internal)?;
            m.verifier()
                .set_keys(PublicKeys::from_jwks(&ring.jwks()).map_err(mosaic::Error::internal)?);
            keep.get_or_init(|| m.reporter());
            interaction::install(m).await
        };
        let data = TempDir::new()?;
        let mut layers = Layers::default()
            .set("data", data.path().display().to_string())
            .set("database.url", url)
            .set("interaction.batch_max", batch_max.to_string())
            .set("guard.shed", "off")
            .set("rpc.peer_key", "0123456789abcdef0123456789abcdef");
        for key in ["http", "grpc", "admin"] {
            layers = layers.set(key, "127.0.0.1:0");
        }
        let app = App::new("bench").module(MODULE, install);
        let process = app.start(&Runtime::system(), layers).await?;
        let database = Database::open(url, MODULE, &Options::default(), &[]).await?;
        let reporter = kept.get().ok_or("the module was not installed")?.clone();
        Ok(Self {
            process,
            database,
            reporter,
            data,
        })
    }

    async fn number(&self, sql: &str) -> Result<i64> {
        let statement = Statement::from_string(self.database.backend(), sql);
        let row = self.database.query_one_raw(statement).await?.ok_or("a row")?;
        Ok(row.try_get("", "n")?)
    }

    /// Ends it and empties its tables, for the next one.
    async fn stop(self) -> Result<()> {
        self.process.stop().await;
        for name in [
            "item",
            "mark",
            "history",
            "mosaic_outbox_waiting",
            "mosaic_outbox_done",
            "mosaic_inbox",
        ] {
            self.database.execute_unprepared(&format!("DELETE FROM {name}")).await?;
        }
        self.database.close().await;
        Ok(self.data.close()?)
    }
}

async fn likes_per_s(url: &str, n_callers: u64, batch_max: usize) -> Result<Samples> {
    let node = Node::start(url, batch_max).await?;
    let client: InteractionClient = node.process.directory().client("bench");
    let runtime = Runtime::system();
    let mut samples = Samples::new();
    for round in 0..=N_ROUNDS {
        let (n_done, end) = (Arc::new(AtomicU64::new(0)), Instant::now() + ROUND);
        let mut callers = JoinSet::new();
        for _ in 0..n_callers {
            let (client, runtime, n_done) = (client.clone(), runtime.clone(), n_done.clone());
            callers.spawn(async move {
                while Instant::now() < end {
                    let request = SetLikeRequest {
                        biz: "article".to_owned(),
                        biz_id: runtime.random_below(N_ITEMS) as i64 + 1,
                        account_id: runtime.random_below(N_ACCOUNTS) as i64 + 1,
                        liked: runtime.random_below(5) > 0,
                    };
                    client.set_like(&Context::new(&runtime), request).await?;
                    n_done.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, mosaic::Error>(())
            });
        }
        while let Some(caller) = callers.join_next().await {
            caller??;
        }
        if round > 0 {
            samples.add(n_done.load(Ordering::Relaxed) as f64 / ROUND.as_secs_f64());
        }
    }
    let wrong = node
        .number(
            "SELECT COUNT(*) AS n FROM item WHERE n_likes <> (SELECT COUNT(*) FROM mark WHERE mark.biz = item.biz \
             AND mark.biz_id = item.biz_id AND mark.kind = 1)",
        )
        .await?;
    bar(
        &format!(
            "{} likes are counted exactly",
            node.number("SELECT COUNT(*) AS n FROM mark").await?
        ),
        wrong == 0,
    );
    node.stop().await?;
    Ok(samples)
}

/// Returns how many reads were lost, how many a second were counted, after how many seconds the last was counted and remembered, and
/// the microseconds of this process for each.
async fn reads_behind(url: &str) -> Result<[f64; 5]> {
    let node = Node::start(url, 500).await?;
    let runtime = Runtime::system();
    let cx = Context::new(&runtime);
    let n_reads = READS_PER_S * READS_FOR.as_secs();
    let per_tick = READS_PER_S * TICK.as_millis() as u64 / 1000;
    let mut ticks = interval(TICK);
    // Late is late: what was missed comes at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (begun, used) = (Instant::now(), cpu_time(std::process::id())?);
    for _ in 0..n_reads / per_tick {
        ticks.tick().await;
        for _ in 0..per_tick {
            let reader = AccountId::try_from(runtime.random_below(N_ACCOUNTS) as i64 + 1)?;
            let event = ArticleRead {
                article_id: runtime.random_below(N_ITEMS) as i64 + 1,
                reader: Some(reader),
                at_us: runtime.now().as_micros(),
            };
            node.reporter.report(&cx, &event);
        }
    }
    let reported = Instant::now();
    // For each of the two: how far it is, and since when.
    let mut counted = (0, Instant::now());
    let mut remembered = counted;
    let quiet = Duration::from_secs(3);
    while counted.1.max(remembered.1).elapsed() < quiet && reported.elapsed() < PATIENCE {
        for (seen, sql) in [(&mut counted, counted_sql(&node)), (&mut remembered, REMEMBERED)] {
            let now = node.number(sql).await?;
            if now != seen.0 {
                *seen = (now, Instant::now());
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    let behind = |at: Instant| at.saturating_duration_since(reported).as_secs_f64();
    let lost = n_reads as f64 - counted.0 as f64;
    let rate = counted.0 as f64 / counted.1.duration_since(begun).as_secs_f64();
    let used = cpu_time(std::process::id())?.saturating_sub(used);
    let cpu = used.as_secs_f64() * 1e6 / (n_reads as f64 - lost);
    let answer = [lost, rate, behind(counted.1), behind(remembered.1), cpu];
    node.stop().await?;
    Ok(answer)
}

const REMEMBERED: &str = "SELECT COALESCE(MAX(read_at), 0) AS n FROM history";

fn counted_sql(node: &Node) -> &'static str {
    match node.database.backend() {
        DbBackend::MySql => "SELECT CAST(COALESCE(SUM(n_reads), 0) AS SIGNED) AS n FROM item",
        _ => "SELECT CAST(COALESCE(SUM(n_reads), 0) AS BIGINT) AS n FROM item",
    }
}
