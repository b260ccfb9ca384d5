//! An outbox of an older release, which had one table with a state: nothing of it is lost.

use std::sync::Arc;

use mosaic_core::{Context, Runtime};
use mosaic_events::{Bus, LogBus, MIGRATIONS, Message, Outbox, Relay};
use mosaic_lease::{Acquired, Leases, SqlLeases};
use mosaic_sql::sea_orm::ConnectionTrait as _;
use mosaic_sql::{Database, Options};
use tempfile::TempDir;

use crate::bench::{self, Counted, SOON, execute, group, take, topic, url_of};
use crate::outbox_cases;

const MODULE: &str = "t_outbox_upgrade";

/// Fills an outbox as the older release left it: two rows wait, one was sent, one was refused.
async fn left_behind(url: &str) {
    let old = [&MIGRATIONS[..1], mosaic_lease::MIGRATIONS].concat();
    let database = Database::open(url, MODULE, &Options::default(), &old).await.unwrap();
    let runtime = Runtime::system();
    for (version, state) in [(0, 2), (1, 1), (9, 3), (2, 1)] {
        let account = "a".to_owned();
        let event = Counted { account, version };
        let message = Message::of(&Context::new(&runtime), &event).unwrap();
        let error = if state == 3 { "'EVENT_TOO_LARGE'" } else { "NULL" };
        let payload: String = message.payload.iter().map(|byte| format!("{byte:02x}")).collect();
        let payload = match url.split(':').next() {
            Some("postgres") => format!("decode('{payload}', 'hex')"),
            _ => format!("x'{payload}'"),
        };
        let sql = format!(
            "INSERT INTO mosaic_outbox (state, done_at, error, kind, id, target, name, event_key, headers, at, payload) \
             VALUES ({state}, 0, {error}, 1, '{}', '{}', '{}', 'a', '[]', {}, {payload})",
            message.id,
            message.topic,
            message.name,
            message.at.as_micros()
        );
        database.execute_unprepared(&sql).await.unwrap();
    }
    database.close().await;
}

async fn check(url: &str) {
    left_behind(url).await;
    let database = bench::open(url, MODULE).await;
    let runtime = Runtime::system();
    let bus: Arc<dyn Bus> = Arc::new(LogBus::memory(&runtime, bench::options()));
    let outbox = Outbox::new(&runtime);
    let relay = Relay::new("accounts", &database, &outbox, bus.clone(), outbox_cases::options());
    let leases = SqlLeases::new(&database, &runtime);
    let Acquired::Ours(lease) = leases.acquire("mosaic-outbox-relay", "me", SOON).await.unwrap() else {
        panic!("nobody else wants it")
    };
    assert_eq!(relay.pass(&lease).await.unwrap().n_sent, 2);
    let mut member = bus.subscribe(&topic(), &group("readers")).await.unwrap();
    let versions = take(&mut member, 2).await;
    let versions: Vec<u64> = versions
        .iter()
        .map(|(_, event)| event.message.event::<Counted>().unwrap().version)
        .collect();
    assert_eq!(versions, [1, 2], "in their order");
    let dead = outbox.dead_letters(&database, 9).await.unwrap();
    assert_eq!(
        dead.iter().map(|dead| dead.error.as_str()).collect::<Vec<_>>(),
        ["EVENT_TOO_LARGE"]
    );
    assert_eq!(relay.tidy().await.unwrap(), 1, "what was sent long ago");
    database.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() {
    let files = TempDir::new().unwrap();
    check(&format!("sqlite:{}/", files.path().display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    let Some(url) = url_of("MOSAIC_TEST_POSTGRES") else {
        return;
    };
    let drop = format!("SET client_min_messages = error; DROP SCHEMA IF EXISTS \"{MODULE}\" CASCADE");
    execute(&url, &drop).await;
    check(&url).await;
    execute(&url, &drop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql() {
    let Some(url) = url_of("MOSAIC_TEST_MYSQL") else { return };
    let (server, prefix) = url.rsplit_once('/').unwrap();
    let drop = format!("DROP DATABASE IF EXISTS `{prefix}_{MODULE}`");
    execute(server, &drop).await;
    check(&url).await;
    execute(server, &drop).await;
}
