//! Where a case finds its engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use mosaic_core::{Context, Result, Runtime};
use mosaic_events::{
    BUS_MIGRATIONS, Bus, Capabilities, Change, Delivered, Event, GroupName, Lag, LogBus, LogBusOptions, MIGRATIONS,
    Member, Message, Mode, Position, Start, Topic, TopicName,
};
use mosaic_sql::sea_orm::ConnectionTrait;
use mosaic_sql::sea_orm::sea_query::{ColumnDef, Expr, ExprTrait as _, Order, Query, Table};
use mosaic_sql::{Database, Migration, into_error};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio::time::{Instant, sleep, timeout};

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
    /// The database of a module that publishes and consumes.
    pub(crate) module: Database,
    /// Is the bus in it?
    is_embedded: bool,
    /// URL of the server and the statement that removes the namespace.
    namespace: Option<(String, String)>,
    /// A second connection to a broker, and what removes what the test left there.
    broker: Option<(Arc<dyn Bus>, BoxFuture<'static, ()>)>,
}

impl Bench {
    pub(crate) async fn memory(_: &str) -> Option<Self> {
        let runtime = Runtime::system();
        let bus = LogBus::memory(&runtime, options());
        Some(Self {
            bus: Arc::new(bus.clone()),
            log: Some(bus),
            runtime,
            module: open("sqlite::memory:", "module").await,
            is_embedded: false,
            namespace: None,
            broker: None,
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
        let database = open(url, module).await;
        let bus = LogBus::embedded(&database, &runtime, options());
        Self {
            bus: Arc::new(bus.clone()),
            log: Some(bus),
            runtime,
            module: database,
            is_embedded: true,
            namespace,
            broker: None,
        }
    }

    pub(crate) async fn sqlite_apart(module: &str) -> Option<Self> {
        Self::sqlite(module).await.map(Self::apart)
    }

    pub(crate) async fn postgres_apart(module: &str) -> Option<Self> {
        Self::postgres(&module.replacen("events", "apart", 1))
            .await
            .map(Self::apart)
    }

    /// Lets all be published from another process than the one that reads, where nothing of it is in memory.
    fn apart(mut self) -> Self {
        self.bus = Arc::new(Apart {
            writer: self.elsewhere(),
            reader: self.bus,
        });
        self
    }

    /// A bus over a broker, with another connection to it.
    #[cfg(any(feature = "nats", feature = "rabbitmq", feature = "kafka"))]
    pub(crate) async fn broker(bus: Arc<dyn Bus>, other: Arc<dyn Bus>, clean: BoxFuture<'static, ()>) -> Self {
        Self {
            bus,
            log: None,
            runtime: Runtime::system(),
            module: open("sqlite::memory:", "module").await,
            is_embedded: false,
            namespace: None,
            broker: Some((other, clean)),
        }
    }

    /// Returns the bus as another process would have it.
    pub(crate) fn elsewhere(&self) -> Arc<dyn Bus> {
        if let Some((other, _)) = &self.broker {
            return other.clone();
        }
        match self.is_embedded {
            false => self.bus.clone(),
            true => Arc::new(LogBus::embedded(&self.module, &self.runtime, options())),
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
        self.module.close().await;
        if let Some((_, clean)) = self.broker {
            clean.await;
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

/// What a consumer of a test does: notes what it saw, in a table without a unique key.
const EFFECTS: Migration = Migration {
    name: "0001_create_effect",
    up: |schema| {
        let mut table = Table::create();
        table
            .table("effect")
            .col(
                ColumnDef::new("seq")
                    .big_integer()
                    .not_null()
                    .auto_increment()
                    .primary_key(),
            )
            .col(ColumnDef::new("kind").string_len(20).not_null())
            .col(ColumnDef::new("account").string_len(80).not_null())
            .col(ColumnDef::new("version").big_integer().not_null());
        schema.run(&table);
    },
};

/// Opens a module's database with all tables of this crate.
pub(crate) async fn open(url: &str, module: &str) -> Database {
    let migrations = [BUS_MIGRATIONS, MIGRATIONS, mosaic_lease::MIGRATIONS, &[EFFECTS]].concat();
    Database::open(url, module, &mosaic_sql::Options::default(), &migrations)
        .await
        .unwrap()
}

/// Notes an effect in `db`, a database or a transaction of it.
pub(crate) async fn note(db: &impl ConnectionTrait, kind: &str, event: &Counted) -> Result<()> {
    let mut insert = Query::insert();
    insert.into_table("effect").columns(["kind", "account", "version"]);
    insert.values_panic([
        kind.into(),
        event.account.as_str().into(),
        (event.version as i64).into(),
    ]);
    db.execute(&insert).await.map(|_| ()).map_err(into_error)
}

/// Returns the versions noted of each account, as they were noted.
pub(crate) async fn noted(db: &Database, kind: &str) -> BTreeMap<String, Vec<u64>> {
    let mut find = Query::select();
    find.columns(["account", "version"])
        .from("effect")
        .and_where(Expr::col("kind").eq(kind));
    find.order_by("seq", Order::Asc);
    let mut noted: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for row in db.query_all(&find).await.unwrap() {
        let version: i64 = row.try_get("", "version").unwrap();
        noted
            .entry(row.try_get("", "account").unwrap())
            .or_default()
            .push(version as u64);
    }
    noted
}

/// Waits until `holds` does.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < deadline, "not soon: {what}");
        sleep(Duration::from_millis(5)).await;
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

/// Reads until `n` events of one partition came, and commits nothing; a broker hands out as many at once as it likes.
pub(crate) async fn gather(member: &mut Box<dyn Member>, n: usize) -> (u32, Vec<Delivered>) {
    let mut gathered = Vec::new();
    loop {
        if let Change::Events { partition, events } = next(member).await {
            gathered.extend(events);
            if gathered.len() >= n {
                return (partition, gathered);
            }
        }
    }
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

/// Two buses of which one publishes and the other does everything else.
#[derive(Debug)]
struct Apart {
    writer: Arc<dyn Bus>,
    reader: Arc<dyn Bus>,
}

#[async_trait]
impl Bus for Apart {
    fn capabilities(&self) -> Capabilities {
        self.reader.capabilities()
    }
    async fn declare(&self, topic: &Topic) -> Result<()> {
        self.reader.declare(topic).await
    }
    async fn publish(&self, messages: &[Message]) -> Result<()> {
        self.writer.publish(messages).await
    }
    async fn subscribe(&self, topic: &TopicName, mode: &Mode) -> Result<Box<dyn Member>> {
        self.reader.subscribe(topic, mode).await
    }
    async fn seek(&self, topic: &TopicName, group: &GroupName, to: &Position) -> Result<()> {
        self.reader.seek(topic, group, to).await
    }
    async fn lag(&self, topic: &TopicName, group: &GroupName) -> Result<Vec<Lag>> {
        self.reader.lag(topic, group).await
    }
    async fn ping(&self) -> Result<()> {
        self.reader.ping().await
    }
}

pub(crate) fn options() -> LogBusOptions {
    LogBusOptions {
        lease: Duration::from_millis(1500),
        poll_max: Duration::from_millis(100),
        ..LogBusOptions::default()
    }
}

pub(crate) async fn execute(url: &str, sql: &str) {
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
pub(crate) fn url_of(name: &str) -> Option<String> {
    let url = std::env::var(name).ok();
    if url.is_none() {
        let required = std::env::var("MOSAIC_TEST_ENGINES").is_ok_and(|value| value == "required");
        assert!(!required, "{name} is not set and engines are required");
    }
    url
}
