//! Where a case finds its engine, and the clock it goes by.

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{Clock, ManualClock, Runtime, SystemRandom, Timestamp};
use mosaic_lease::{Jobs, Leases, MIGRATIONS, MemoryLeases, RedisLeases, SqlLeases};
use mosaic_sql::{Database, DatabaseClock, Migration};
use sqlx::{AssertSqlSafe, Connection, Executor};

/// An engine without leases.
pub(crate) struct Bench {
    pub(crate) leases: Arc<dyn Leases>,
    pub(crate) database: Option<Database>,
    pub(crate) clock: Option<DatabaseClock>,
    /// Moves by hand where the engine allows; Redis has a clock of its own.
    time: Option<Arc<ManualClock>>,
    /// In front of names: Redis is shared.
    prefix: String,
    namespace: Option<(String, String)>,
}

fn still() -> (Arc<ManualClock>, Runtime) {
    let time = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    (time.clone(), Runtime::new(time, Arc::new(SystemRandom)))
}

impl Bench {
    pub(crate) async fn memory(_: &str) -> Option<Self> {
        let (time, runtime) = still();
        Some(Self {
            leases: Arc::new(MemoryLeases::new(&runtime)),
            database: None,
            clock: None,
            time: Some(time),
            prefix: String::new(),
            namespace: None,
        })
    }

    pub(crate) async fn redis(case: &str) -> Option<Self> {
        let url = url_of("MOSAIC_TEST_REDIS")?;
        Some(Self {
            leases: Arc::new(RedisLeases::open(&url).unwrap()),
            database: None,
            clock: None,
            time: None,
            prefix: format!("{case}_{}_", Runtime::system().random_hex::<6>()),
            namespace: None,
        })
    }

    pub(crate) async fn sqlite(module: &str) -> Option<Self> {
        Some(Self::sql("sqlite::memory:", module, None).await)
    }

    pub(crate) async fn postgres(module: &str) -> Option<Self> {
        let url = url_of("MOSAIC_TEST_POSTGRES")?;
        let drop = format!("SET client_min_messages = error; DROP SCHEMA IF EXISTS \"{module}\" CASCADE");
        execute(&url, &drop).await;
        Some(Self::sql(&url, module, Some((url.clone(), drop))).await)
    }

    pub(crate) async fn mysql(module: &str) -> Option<Self> {
        let url = url_of("MOSAIC_TEST_MYSQL")?;
        let (server, prefix) = url.rsplit_once('/').unwrap();
        let drop = format!("DROP DATABASE IF EXISTS `{prefix}_{module}`");
        execute(server, &drop).await;
        Some(Self::sql(&url, module, Some((server.to_owned(), drop))).await)
    }

    async fn sql(url: &str, module: &str, namespace: Option<(String, String)>) -> Self {
        let (time, runtime) = still();
        let migrations: Vec<Migration> = MIGRATIONS.iter().chain(Jobs::MIGRATIONS).copied().collect();
        let options = mosaic_sql::Options::default();
        let database = Database::open(url, module, &options, &migrations).await.unwrap();
        let clock = DatabaseClock::of_runtime(&runtime);
        Self {
            leases: Arc::new(SqlLeases::with_clock(&database, clock.clone())),
            database: Some(database),
            clock: Some(clock),
            time: Some(time),
            prefix: String::new(),
            namespace,
        }
    }

    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(crate) fn jobs(&self) -> Jobs {
        Jobs::with_clock(self.database.as_ref().unwrap(), self.clock.clone().unwrap())
    }

    /// Returns a time to live: long where time stands still, short where it has to be waited for.
    pub(crate) fn ttl(&self) -> Duration {
        match self.time {
            Some(_) => Duration::from_secs(30),
            None => Duration::from_millis(400),
        }
    }

    /// Lets `n` tenths of [`Bench::ttl`] go by.
    pub(crate) async fn pass(&self, n: u32) {
        let by = self.ttl() / 10 * n;
        match &self.time {
            Some(time) => time.advance(by),
            // The clock of a server cannot be held still.
            None => tokio::time::sleep(by).await,
        }
    }

    pub(crate) async fn remove(self) {
        if let Some(database) = self.database {
            database.close().await;
        }
        if let Some((server, drop)) = self.namespace {
            execute(&server, &drop).await;
        }
    }
}

/// A clock that goes with tokio's, which tests pause.
#[derive(Debug)]
pub(crate) struct PausedClock(tokio::time::Instant);

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_800_000_000).plus(self.0.elapsed())
    }

    fn instant(&self) -> std::time::Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// A runtime whose clock is tokio's.
pub(crate) fn paused() -> Runtime {
    Runtime::new(
        Arc::new(PausedClock(tokio::time::Instant::now())),
        Arc::new(SystemRandom),
    )
}

async fn execute(url: &str, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    if url.starts_with("postgres") {
        sqlx::PgConnection::connect(url)
            .await
            .unwrap()
            .execute(sql)
            .await
            .unwrap();
    } else {
        sqlx::MySqlConnection::connect(url)
            .await
            .unwrap()
            .execute(sql)
            .await
            .unwrap();
    }
}

/// Returns the URL of an engine; `None`, with a word about it, where it is not set and engines are not required.
#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the environment where the engines are"
)]
fn url_of(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok();
    if url.is_none() {
        let required = std::env::var("MOSAIC_TEST_ENGINES").is_ok_and(|engines| engines == "required");
        assert!(!required, "{variable} is not set and MOSAIC_TEST_ENGINES=required");
        eprintln!("skipped: {variable} is not set");
    }
    url
}
