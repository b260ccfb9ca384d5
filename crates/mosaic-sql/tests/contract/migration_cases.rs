//! What every engine must do with migrations.

use futures::future::try_join_all;
use mosaic_sql::sea_orm::sea_query::Query;
use mosaic_sql::sea_orm::{ConnectionTrait, Statement};
use mosaic_sql::{Database, Migration, Options, Schema};

use crate::cases::{MIGRATIONS, count, insert};
use crate::engine::Engine;

pub(crate) async fn migrations_run_once_however_often_and_by_whom(engine: &Engine) {
    // Each `open` is a pool of its own, as a process would have.
    let opened = try_join_all((0..8).map(|_| async {
        let options = Options {
            max_connections: 2,
            ..Options::default()
        };
        Database::open(&engine.url, &engine.module, &options, MIGRATIONS).await
    }));
    let opened = opened.await.unwrap();
    insert(&opened[0], 1, "alice").await.unwrap();
    if engine.is_lasting() {
        let again = engine.open(MIGRATIONS).await;
        assert_eq!(count(&again).await, 1);
        let known = Statement::from_string(again.backend(), "SELECT name FROM mosaic_migrations WHERE done = total");
        assert_eq!(again.query_all_raw(known).await.unwrap().len(), 2);
    } else {
        assert_eq!(count(&opened[1]).await, 0, "in-memory databases are private");
    }
}

fn broken(schema: &mut Schema) {
    schema.sql("CREATE TABLE half (id BIGINT PRIMARY KEY)");
    schema.sql("CREATE TABEL half_done (id BIGINT)");
}

fn repaired(schema: &mut Schema) {
    schema.sql("CREATE TABLE half (id BIGINT PRIMARY KEY)");
    schema.sql("CREATE TABLE half_done (id BIGINT)");
}

pub(crate) async fn a_migration_that_fails_is_named_and_goes_on_later(engine: &Engine) {
    let broken = [
        MIGRATIONS[0],
        Migration {
            name: "0002_broken",
            up: broken,
        },
    ];
    let error = Database::open(&engine.url, &engine.module, &Options::default(), &broken)
        .await
        .unwrap_err();
    assert_eq!(
        (error.reason(), error.message()),
        ("SQL_MIGRATION_FAILED", "migration 0002_broken failed")
    );
    let repaired = [
        MIGRATIONS[0],
        Migration {
            name: "0002_broken",
            up: repaired,
        },
    ];
    let db = engine.open(&repaired).await;
    db.execute(
        Query::insert()
            .into_table("half_done")
            .columns(["id"])
            .values_panic([1.into()]),
    )
    .await
    .unwrap();
    let twice = [MIGRATIONS[0], MIGRATIONS[0]];
    let error = Database::open(&engine.url, &engine.module, &Options::default(), &twice)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "SQL_MIGRATIONS_INVALID");
}

pub(crate) async fn a_newer_schema_is_accepted(engine: &Engine) {
    let newer = engine.open(MIGRATIONS).await;
    insert(&newer, 1, "alice").await.unwrap();
    let older = engine.open(&MIGRATIONS[..1]).await;
    assert_eq!(count(&older).await, u64::from(engine.is_lasting()));
}
