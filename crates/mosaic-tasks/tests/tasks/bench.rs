//! Where a case finds its engine, and the clock it goes by.

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{Context, ManualClock, Runtime, SystemRandom, Timestamp};
use mosaic_sql::Database;
use mosaic_tasks::{
    Claim, Claimed, Engine, Enqueued, Lease, MIGRATIONS, MemoryEngine, NewTask, Options, Outcome, RedisEngine, Report,
    SqlEngine, TaskId,
};
use sqlx::{AssertSqlSafe, Connection, Executor};

pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// An engine without tasks.
pub(crate) struct Bench {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) runtime: Runtime,
    pub(crate) database: Option<Database>,
    /// URL of the server and the statement, or in Redis the prefix, that removes the namespace.
    namespace: Option<(String, String)>,
}

impl Bench {
    pub(crate) async fn memory(_: &str) -> Option<Self> {
        let (clock, runtime) = still();
        Some(Self {
            engine: Arc::new(MemoryEngine::new(&runtime)),
            clock,
            runtime,
            database: None,
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

    pub(crate) async fn redis(module: &str) -> Option<Self> {
        let url = url_of("MOSAIC_TEST_REDIS")?;
        let prefix = format!("{module}:");
        wipe(&url, &prefix).await;
        let (clock, runtime) = still();
        let engine = RedisEngine::open(&url, &runtime).unwrap();
        Some(Self {
            engine: Arc::new(engine.with_prefix(&prefix).with_clock()),
            clock,
            runtime,
            database: None,
            namespace: Some((url, prefix)),
        })
    }

    async fn sql(url: &str, module: &str, namespace: Option<(String, String)>) -> Self {
        let (clock, runtime) = still();
        let options = mosaic_sql::Options::default();
        let database = Database::open(url, module, &options, MIGRATIONS).await.unwrap();
        Self {
            engine: Arc::new(SqlEngine::with_clock(&database, &runtime)),
            clock,
            runtime,
            database: Some(database),
            namespace,
        }
    }

    /// Leaves nothing behind in an engine that outlives the test.
    pub(crate) async fn remove(self) {
        if let Some(database) = self.database {
            database.close().await;
        }
        if let Some((server, drop)) = self.namespace {
            execute(&server, &drop).await;
        }
    }

    pub(crate) fn new_task(&self, options: Options) -> NewTask {
        NewTask::new(&Context::new(&self.runtime), "mail", b"hello".to_vec(), options).unwrap()
    }

    /// Adds one task of kind `mail`.
    pub(crate) async fn add(&self, options: Options) -> TaskId {
        match self.engine.enqueue(&[self.new_task(options)]).await.unwrap()[..] {
            [Enqueued::Added(id)] => id,
            ref other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn claim(&self, limit: usize) -> Vec<Claimed> {
        self.engine.claim(&mail(limit)).await.unwrap()
    }
}

pub(crate) fn mail(limit: usize) -> Claim {
    Claim {
        queue: mosaic_tasks::QueueName::default(),
        kinds: vec!["mail".to_owned()],
        limit,
        lease: LEASE,
    }
}

pub(crate) fn succeeded(result: &[u8]) -> Outcome {
    Outcome::Succeeded {
        result: result.to_vec(),
    }
}

pub(crate) fn failed() -> Outcome {
    Outcome::Failed {
        error: "no\0pe".to_owned(),
        is_final: false,
    }
}

pub(crate) fn reported(claimed: &Claimed, outcome: Outcome) -> Report {
    Report {
        lease: lease(claimed),
        outcome,
    }
}

/// Reports on a task; returns whether the report was taken.
pub(crate) async fn report(bench: &Bench, claimed: &Claimed, outcome: Outcome) -> bool {
    bench.engine.finish(&[reported(claimed, outcome)]).await.unwrap()[0]
}

pub(crate) fn lease(claimed: &Claimed) -> Lease {
    Lease {
        id: claimed.task.id,
        fence: claimed.task.fence,
    }
}

fn still() -> (Arc<ManualClock>, Runtime) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    (clock.clone(), Runtime::new(clock, Arc::new(SystemRandom)))
}

/// Removes all keys that begin with `prefix`.
pub(crate) async fn wipe(url: &str, prefix: &str) {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor)
            .arg("MATCH")
            .arg(format!("{prefix}*"))
            .arg("COUNT")
            .arg(1000);
        let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await.unwrap();
        if !keys.is_empty() {
            let _: () = redis::cmd("UNLINK")
                .arg(keys)
                .query_async(&mut connection)
                .await
                .unwrap();
        }
        if next == 0 {
            return;
        }
        cursor = next;
    }
}

async fn execute(url: &str, sql: &str) {
    if url.starts_with("redis") {
        return wipe(url, sql).await;
    }
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
pub(crate) fn url_of(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok();
    if url.is_none() {
        let required = std::env::var("MOSAIC_TEST_ENGINES").is_ok_and(|engines| engines == "required");
        assert!(!required, "{variable} is not set and MOSAIC_TEST_ENGINES=required");
        eprintln!("skipped: {variable} is not set");
    }
    url
}
