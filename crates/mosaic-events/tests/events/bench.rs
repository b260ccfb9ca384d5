//! Where a case finds its engine.

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{Context, Runtime};
use mosaic_events::{
    BUS_MIGRATIONS, Bus, Change, Delivered, Event, GroupName, LogBus, LogBusOptions, Member, Message, Mode, Start,
    TopicName,
};
use mosaic_sql::Database;
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio::time::timeout;

/// Longer than any machine needs for what is to happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// An event with a version that rises by one for each key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) account: String,
    pub(crate) version: u64,
}

impl Event for Counted {
    const TOPIC: &'static str = "accounts";
    const NAME: &'static str = "account.counted";

    fn key(&self) -> String {
        self.account.clone()
    }
}

/// A bus without topics.
pub(crate) struct Bench {
    pub(crate) bus: Arc<dyn Bus>,
    /// The same, if it is the embedded one.
    log: Option<LogBus>,
    pub(crate) runtime: Runtime,
    pub(crate) database: Option<Database>,
    /// URL of the server and the statement that removes the namespace.
    namespace: Option<(String, String)>,
}

impl Bench {
    pub(crate) async fn memory(_: &str) -> Option<Self> {
        let runtime = Runtime::system();
        let bus = LogBus::memory(&runtime, options());
        Some(Self {
            bus: Arc::new(bus.clone()),
            log: Some(bus),
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

    async fn sql(url: &str, module: &str, namespace: Option<(String, String)>) -> Self {
        let runtime = Runtime::system();
        let sql_options = mosaic_sql::Options::default();
        let database = Database::open(url, module, &sql_options, BUS_MIGRATIONS).await.unwrap();
        let bus = LogBus::embedded(&database, &runtime, options());
        Self {
            bus: Arc::new(bus.clone()),
            log: Some(bus),
            runtime,
            database: Some(database),
            namespace,
        }
    }

    /// Returns the bus as another process would have it.
    pub(crate) fn elsewhere(&self) -> Arc<dyn Bus> {
        match &self.database {
            None => self.bus.clone(),
            Some(database) => Arc::new(LogBus::embedded(database, &self.runtime, options())),
        }
    }

    /// Deletes what is not kept; returns how much went. `None` where the broker does so when it likes.
    pub(crate) async fn trim(&self) -> Option<u64> {
        match &self.log {
            Some(log) => Some(log.trim().await.unwrap()),
            None => None,
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

    pub(crate) fn message(&self, account: &str, version: u64) -> Message {
        let event = Counted {
            account: account.to_owned(),
            version,
        };
        Message::of(&Context::new(&self.runtime), &event).unwrap()
    }

    /// Publishes versions `from..to` of each account.
    pub(crate) async fn publish(&self, accounts: &[&str], versions: std::ops::Range<u64>) {
        let messages: Vec<Message> = versions
            .flat_map(|version| accounts.iter().map(move |account| (account, version)))
            .map(|(account, version)| self.message(account, version))
            .collect();
        self.bus.publish(&messages).await.unwrap();
    }
}

pub(crate) fn topic() -> TopicName {
    Counted::TOPIC.parse().unwrap()
}

pub(crate) fn name(name: &str) -> GroupName {
    name.parse().unwrap()
}

pub(crate) fn group(group: &str) -> Mode {
    Mode::Group {
        name: name(group),
        start: Start::Beginning,
    }
}

/// The next change; fails if none comes.
pub(crate) async fn next(member: &mut Box<dyn Member>) -> Change {
    timeout(SOON, member.next()).await.expect("a change").unwrap()
}

/// What members of a test do: read until `n` events came, committing each batch and releasing what is revoked.
pub(crate) async fn take(member: &mut Box<dyn Member>, n: usize) -> Vec<(u32, Delivered)> {
    let mut taken = Vec::new();
    while taken.len() < n {
        match next(member).await {
            Change::Assigned(_) | Change::Lost(_) => {}
            Change::Revoked(partition) => member.release(partition).await.unwrap(),
            Change::Events { partition, events } => {
                let last = events.last().unwrap().position;
                member.commit(partition, last).await.unwrap();
                taken.extend(events.into_iter().map(|event| (partition, event)));
            }
        }
    }
    taken
}

/// Fails unless each account's versions rise by one from `first`.
#[track_caller]
pub(crate) fn assert_in_order<'a>(events: impl IntoIterator<Item = &'a Delivered>, first: u64) -> usize {
    let mut next = std::collections::BTreeMap::new();
    let mut n = 0;
    for delivered in events {
        let event: Counted = delivered.message.event().unwrap();
        let expected = next.entry(event.account.clone()).or_insert(first);
        assert_eq!(event.version, *expected, "of {}", event.account);
        *expected += 1;
        n += 1;
    }
    n
}

pub(crate) fn options() -> LogBusOptions {
    LogBusOptions {
        lease: Duration::from_millis(1500),
        poll_max: Duration::from_millis(100),
        ..LogBusOptions::default()
    }
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

#[expect(clippy::disallowed_methods, reason = "tests have no configuration to ask")]
fn url_of(name: &str) -> Option<String> {
    let url = std::env::var(name).ok();
    if url.is_none() {
        let required = std::env::var("MOSAIC_TEST_ENGINES").is_ok_and(|value| value == "required");
        assert!(!required, "{name} is not set and engines are required");
    }
    url
}
