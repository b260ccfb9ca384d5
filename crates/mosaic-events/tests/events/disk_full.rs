//! A disk that is full (SQLite's `max_page_count`): writers are told, nothing is half there, all goes on when there is room.

use std::sync::Arc;

use mosaic_core::{Context, Runtime};
use mosaic_events::{BUS_MIGRATIONS, Bus, LogBus, MIGRATIONS, Message, Outbox, Relay};
use mosaic_lease::{Acquired, Leases, SqlLeases};
use mosaic_sql::Database;
use mosaic_sql::sea_orm::{ConnectionTrait as _, Statement};

use crate::bench::{Counted, SOON, assert_in_order, group, take, topic};
use crate::outbox_cases;

/// A database of which the test has the only connection: the limit is one of the connection.
async fn narrow() -> Database {
    let migrations = [BUS_MIGRATIONS, MIGRATIONS, mosaic_lease::MIGRATIONS].concat();
    let options = mosaic_sql::Options {
        max_connections: 1,
        ..mosaic_sql::Options::default()
    };
    Database::open("sqlite::memory:", "module", &options, &migrations)
        .await
        .unwrap()
}

/// Lets the database grow by `n` pages and no more.
async fn leave_pages(database: &Database, n: i64) {
    let query = Statement::from_string(database.backend(), "PRAGMA page_count");
    let row = database.query_one_raw(query).await.unwrap().unwrap();
    let n_pages: i64 = row.try_get("", "page_count").unwrap();
    let limit = format!("PRAGMA max_page_count = {}", n_pages + n);
    database.execute_unprepared(&limit).await.unwrap();
}

fn message(runtime: &Runtime, version: u64) -> Message {
    let account = "a".to_owned();
    let mut message = Message::of(&Context::new(runtime), &Counted { account, version }).unwrap();
    message.headers.push("padding", "x".repeat(4000));
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_whole_transactions_and_is_retried() {
    let (runtime, database) = (Runtime::system(), narrow().await);
    let bus: Arc<dyn Bus> = Arc::new(LogBus::embedded(&database, &runtime, crate::bench::options()));
    let outbox = Outbox::new(&runtime);
    let relay = Relay::new("accounts", &database, &outbox, bus.clone(), outbox_cases::options());
    let leases = SqlLeases::new(&database, &runtime);
    let Acquired::Ours(lease) = leases.acquire("mosaic-outbox-relay", "me", SOON).await.unwrap() else {
        panic!("nobody else wants it")
    };
    let write = async |version| {
        let messages = [message(&runtime, version)];
        database
            .transaction(async |tx| outbox.publish_all(&tx, &messages).await)
            .await
    };
    leave_pages(&database, 40).await;
    let mut n_written = 0;
    let full = loop {
        match write(n_written).await {
            Ok(()) => n_written += 1,
            Err(error) => break error,
        }
    };
    assert!(full.is_retryable() && full.reason() == "SQL_UNAVAILABLE", "{full:?}");
    assert!((5..60).contains(&n_written), "{n_written}");
    // The bus is in the same database: there is no room for its rows either, and that is no reason to give events up.
    let refused = relay.pass(&lease).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused:?}");
    assert!(outbox.dead_letters(&database, 9).await.unwrap().is_empty());
    leave_pages(&database, 10_000).await;
    write(n_written).await.unwrap();
    let n_all = usize::try_from(n_written).unwrap() + 1;
    assert_eq!(relay.pass(&lease).await.unwrap().n_sent, n_all);
    let mut member = bus.subscribe(&topic(), &group("readers")).await.unwrap();
    let taken = take(&mut member, n_all).await;
    assert_eq!(assert_in_order(taken.iter().map(|(_, event)| event), 0), n_all);
}
