//! Hot lists and the most liked, over tables of three sizes, on the engines that are there.
//!
//! Each measurement is a process of its own (`serve-ranking`) over a table that was filled before, so that its memory is that of
//! the service and of nothing else.

use std::time::Duration;

use mosaic::{ManualClock, Runtime, SeededRandom, Timestamp};
use mosaic_sql::sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use mosaic_sql::sea_orm::{ConnectionTrait as _, DbBackend};
use mosaic_sql::{Database, Options};
use tempfile::TempDir;
use tokio::process::Command;

use crate::ranking_node;
use crate::report::{Result, bar, say, table};
use crate::stores::url_of;

/// The module's name here, and with it that of its tables' namespace.
pub(crate) const MODULE: &str = "bench_ranking";
/// Kinds that are measured: likes as they are, and likes made so that each item is hotter than all newer ones.
pub(crate) const USUAL: &str = "usual";
pub(crate) const WORST: &str = "worst";
const SIZES: [i64; 3] = [10_000, 100_000, 1_000_000];
/// Rows in a statement.
const ROWS: i64 = 2000;
/// A hot list looks back so far.
const WEEK_US: i64 = 7 * 24 * 3600 * 1_000_000;

const BAR_HOT_S: f64 = 3.0;
const BAR_MB: f64 = 64.0;
const BAR_TOP_MS: f64 = 1.0;
const BAR_RESTART_MS: f64 = 5.0;

/// What a process says of itself, in the order in which `ranking_node::serve` prints it.
const HEAD: [&str; 9] = [
    "engine",
    "items",
    "hot list s",
    "hot list s, worst case",
    "RSS MB: at start, peak, more",
    "GetHot us p50/p99",
    "GetTop(100) us p50/p99",
    "top 100 from the index ms p50/p99",
    "top 1000 from the index ms p50/p99",
];

pub(crate) async fn measure() -> Result<()> {
    let folder = TempDir::new()?;
    let sqlite = format!("sqlite:{}/", folder.path().display());
    let engines = [
        ("SQLite file", Some(sqlite)),
        ("PostgreSQL", url_of("PostgreSQL", "MOSAIC_TEST_POSTGRES")),
        ("MariaDB", url_of("MariaDB", "MOSAIC_TEST_MYSQL")),
    ];
    let mut rows = Vec::new();
    for (engine, url) in engines {
        let Some(url) = url else { continue };
        for size in SIZES {
            remove(&url).await?;
            fill(&url, size).await?;
            let measured = node(&url).await?;
            judge(engine, size, &measured);
            rows.push([vec![engine.to_owned(), size.to_string()], shown(&measured)].concat());
        }
        remove(&url).await?;
    }
    table("ranking: lists of one kind of items", &HEAD, &rows);
    say(
        "PostgreSQL and MariaDB as tests have them: no fsync, on the same machine; tables analysed after they were filled",
    );
    Ok(())
}

/// Removes what an earlier run has left.
async fn remove(url: &str) -> Result<()> {
    let database = Database::open(url, MODULE, &Options::default(), &[]).await?;
    let sql = match database.backend() {
        DbBackend::Postgres => format!("DROP SCHEMA {MODULE} CASCADE"),
        DbBackend::MySql => {
            let prefix = url.rsplit('/').next().unwrap_or_default();
            format!("DROP DATABASE `{prefix}_{MODULE}`")
        }
        _ => {
            database.close().await;
            let folder = url.trim_start_matches("sqlite:");
            for ending in ["", "-wal", "-shm"] {
                // It may not be there.
                let _ = std::fs::remove_file(format!("{folder}{MODULE}.db{ending}"));
            }
            return Ok(());
        }
    };
    database.execute_unprepared(&sql).await?;
    database.close().await;
    Ok(())
}

/// Makes the tables as the service does, and `size` items of each kind in them.
async fn fill(url: &str, size: i64) -> Result<()> {
    let (process, _data) = ranking_node::start(url).await?;
    process.stop().await;
    let options = Options {
        slow_query: Duration::from_secs(60),
        ..Options::default()
    };
    let database = Database::open(url, MODULE, &options, &[]).await?;
    nobody_leads(&database).await?;
    let now = Runtime::system().now();
    let random = Runtime::new(
        std::sync::Arc::new(ManualClock::at(now)),
        std::sync::Arc::new(SeededRandom::new(1)),
    );
    for kind in [USUAL, WORST] {
        for first in (0..size).step_by(usize::try_from(ROWS)?) {
            let mut insert = Query::insert();
            insert.into_table("ranked_item");
            insert.columns([
                "biz",
                "biz_id",
                "author_id",
                "published_at",
                "likes",
                "state",
                "item_seen",
                "likes_seen",
            ]);
            for position in first..Ord::min(size, first + ROWS) {
                // The oldest first, as they come.
                let age_us = WEEK_US - WEEK_US / size * position - 1;
                let likes = if kind == USUAL {
                    usual_likes(&random)
                } else {
                    worst_likes(age_us)
                };
                let numbers = [position + 1, 7, now.as_micros() - age_us, likes, 1, 0, 0].map(Into::into);
                insert.values_panic([kind.into()].into_iter().chain(numbers));
            }
            database.execute(&insert).await?;
        }
        let mut version = Query::insert();
        version
            .into_table("ranked_kind")
            .columns(["biz", "version"])
            .values_panic([kind.into(), 1.into()]);
        database.execute(&version).await?;
    }
    let analyse = match database.backend() {
        DbBackend::Postgres => "VACUUM ANALYZE ranked_item",
        DbBackend::MySql => "ANALYZE TABLE ranked_item",
        _ => "ANALYZE",
    };
    database.execute_unprepared(analyse).await?;
    database.close().await;
    Ok(())
}

/// Somebody has the lease who will never do anything, so that lists are computed when they are measured and not before.
async fn nobody_leads(database: &Database) -> Result<()> {
    const NAME: &str = "ranking_hot";
    const IN_A_CENTURY: i64 = 4_900_000_000_000_000;
    let mut delete = Query::delete();
    delete.from_table("mosaic_lease").and_where(Expr::col("name").eq(NAME));
    database.execute(&delete).await?;
    let mut insert = Query::insert();
    insert
        .into_table("mosaic_lease")
        .columns(["name", "holder", "fence", "until_at"]);
    insert.values_panic([NAME.into(), "bench".into(), 1.into(), IN_A_CENTURY.into()]);
    database.execute(&insert).await?;
    Ok(())
}

/// Most items have few likes, some have many: Pareto, cut at a million.
fn usual_likes(random: &Runtime) -> i64 {
    let part = random.random_fraction().max(1e-9);
    (part.powf(-0.8) - 1.0).min(1e6) as i64
}

/// Likes that make an item hotter than all that are newer, so that no bound excludes anything.
fn worst_likes(age_us: i64) -> i64 {
    let age = Timestamp::from_micros(age_us).since(Timestamp::EPOCH).as_secs_f64();
    2 + (age + 2.0).powf(1.6) as i64
}

async fn node(url: &str) -> Result<Vec<f64>> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(["serve-ranking", url]).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(300), output).await??;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().last().ok_or("the child said nothing")?;
    let numbers = line
        .split(' ')
        .map(str::parse)
        .collect::<std::result::Result<Vec<f64>, _>>();
    match numbers {
        Ok(numbers) if numbers.len() == ranking_node::N_MEASURED => Ok(numbers),
        _ => Err(format!("the child said {line:?} {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

fn shown(m: &[f64]) -> Vec<String> {
    vec![
        format!("{:.2}", m[0]),
        format!("{:.2}", m[1]),
        format!("{:.0}, {:.0}, {:.0}", m[2], m[3], m[3] - m[2]),
        format!("{:.1} / {:.1}", m[4], m[5]),
        format!("{:.1} / {:.1}", m[6], m[7]),
        format!("{:.2} / {:.2}", m[8], m[9]),
        format!("{:.2} / {:.2}", m[10], m[11]),
    ]
}

fn judge(engine: &str, size: i64, m: &[f64]) {
    if size < 1_000_000 {
        return;
    }
    let bars = [
        (
            format!("a hot list in {BAR_HOT_S} s: {:.2}, worst case {:.2}", m[0], m[1]),
            m[0].max(m[1]) < BAR_HOT_S,
        ),
        (
            format!("under {BAR_MB} MB more: {:.0}", m[3] - m[2]),
            m[3] - m[2] < BAR_MB,
        ),
        (
            format!("top 100 from memory in {BAR_TOP_MS} ms: p99 {:.1} us", m[7]),
            m[7] < BAR_TOP_MS * 1000.0,
        ),
        (
            format!("top 100 from the index in {BAR_RESTART_MS} ms: p99 {:.2}", m[9]),
            m[9] < BAR_RESTART_MS,
        ),
    ];
    for (what, is_met) in bars {
        bar(&format!("{engine}, 1,000,000 items: {what}"), is_met);
    }
}
