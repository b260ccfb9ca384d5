//! What every engine must do.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use mosaic_core::{Code, Error, Result};
use mosaic_sql::sea_orm::entity::prelude::*;
use mosaic_sql::sea_orm::sea_query::{ColumnDef, ForeignKey, Index, Query, Table};
use mosaic_sql::sea_orm::{DbBackend, ExprTrait, QuerySelect, Set, Statement};
use mosaic_sql::{Database, Migration, Options, Schema, into_error, unique_violation};
use tokio::sync::Barrier;

use crate::engine::Engine;

mod account {
    use mosaic_sql::sea_orm;
    use mosaic_sql::sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "accounts")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(super) id: i64,
        pub(super) name: String,
        pub(super) balance: i64,
        pub(super) created_at: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001_create_accounts",
        up: create_accounts,
    },
    Migration {
        name: "0002_accounts_by_name",
        up: index_names,
    },
];

fn create_accounts(schema: &mut Schema) {
    schema.run(
        Table::create()
            .table("accounts")
            .col(ColumnDef::new("id").big_integer().not_null().primary_key())
            .col(ColumnDef::new("name").string_len(190).not_null())
            .col(ColumnDef::new("balance").big_integer().not_null())
            .col(ColumnDef::new("created_at").big_integer().not_null()),
    );
}

fn index_names(schema: &mut Schema) {
    schema.run(
        Index::create()
            .name("uq_accounts_name")
            .table("accounts")
            .col("name")
            .unique(),
    );
}

fn named(id: i64, name: &str) -> account::ActiveModel {
    account::ActiveModel {
        id: Set(id),
        name: Set(name.to_owned()),
        balance: Set(0),
        created_at: Set(0),
    }
}

pub(crate) async fn insert(db: &impl ConnectionTrait, id: i64, name: &str) -> Result<(), DbErr> {
    account::Entity::insert(named(id, name))
        .exec_without_returning(db)
        .await
        .map(|_| ())
}

pub(crate) async fn count(db: &Database) -> u64 {
    account::Entity::find().count(db).await.unwrap()
}

pub(crate) async fn rows_survive_a_round_trip(engine: &Engine) {
    let db = engine.open(MIGRATIONS).await;
    for (id, name) in [
        (i64::MAX, "Grüße 你好 🦀👩‍👩‍👧"),
        (i64::MIN, "it's \"q\" \\ %_;--"),
        (0, ""),
    ] {
        let row = account::Model {
            id,
            name: name.to_owned(),
            balance: id,
            created_at: id,
        };
        let stored = account::ActiveModel::from(row.clone()).reset_all();
        account::Entity::insert(stored)
            .exec_without_returning(&db)
            .await
            .unwrap();
        assert_eq!(
            account::Entity::find_by_id(id).one(&db).await.unwrap(),
            Some(row.clone())
        );
        let by_name = account::Entity::find()
            .filter(account::Column::Name.eq(name))
            .one(&db)
            .await;
        assert_eq!(by_name.unwrap(), Some(row));
    }
    let mut row = account::ActiveModel::from(account::Entity::find_by_id(0_i64).one(&db).await.unwrap().unwrap());
    row.balance = Set(7);
    assert_eq!(row.update(&db).await.unwrap().balance, 7);
    account::Entity::delete_by_id(0_i64).exec(&db).await.unwrap();
    assert_eq!(count(&db).await, 2);
    db.ping().await.unwrap();
}

pub(crate) async fn of_parallel_inserts_of_one_key_exactly_one_wins(engine: &Engine) {
    let db = engine.open(MIGRATIONS).await;
    let results = join_all((0..50).map(|id| {
        let db = db.clone();
        async move { insert(&db, id, "alice").await }
    }));
    let results = results.await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for error in results.into_iter().filter_map(Result::err) {
        let violation = unique_violation(&error).unwrap_or_else(|| panic!("{error:?}"));
        assert!(violation.is_on("accounts", &["name"]), "{violation:?}");
        assert!(!violation.is_on("accounts", &["id"]), "{violation:?}");
        let error = into_error(error);
        assert_eq!((error.code(), error.reason()), (Code::AlreadyExists, "SQL_DUPLICATE"));
        assert!(!error.message().contains("alice"));
    }
    assert_eq!(count(&db).await, 1);
    let id = account::Entity::find().one(&db).await.unwrap().unwrap().id;
    let violation = unique_violation(&insert(&db, id, "bob").await.unwrap_err()).unwrap();
    assert!(!violation.is_on("accounts", &["name"]), "{violation:?}");
    let missing = db.execute_unprepared("DELETE FROM no_such_table").await.unwrap_err();
    assert_eq!(unique_violation(&missing), None);
    assert_eq!(into_error(missing).code(), Code::Internal);
}

pub(crate) async fn a_dropped_transaction_leaves_nothing(engine: &Engine) {
    let db = engine.open(MIGRATIONS).await;
    let tx = db.begin().await.unwrap();
    insert(&tx, 1, "alice").await.unwrap();
    assert_eq!(account::Entity::find().count(&tx).await.unwrap(), 1);
    drop(tx);
    assert_eq!(count(&db).await, 0);
    let tx = db.begin().await.unwrap();
    insert(&tx, 1, "alice").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(count(&db).await, 1);
}

/// Those who wait for a commit hear of it when others can see it, and of nothing that was undone.
pub(crate) async fn what_waits_for_the_commit_hears_of_no_other_end(engine: &Engine) {
    let db = engine.open(MIGRATIONS).await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = |word: &'static str| {
        let heard = heard.clone();
        move || heard.lock().unwrap().push(word)
    };
    let tx = db.begin().await.unwrap();
    tx.on_commit(hear("rolled back"));
    tx.rollback().await.unwrap();
    let tx = db.begin().await.unwrap();
    tx.on_commit(hear("dropped"));
    drop(tx);
    let failed = db.transaction(async |tx| {
        tx.on_commit(hear("failed"));
        Err::<(), _>(Error::not_found("NOTHING", "nothing there"))
    });
    failed.await.unwrap_err();
    let tx = db.begin().await.unwrap();
    tx.on_commit(hear("first"));
    tx.on_commit(hear("second"));
    assert_eq!(*heard.lock().unwrap(), [""; 0]);
    tx.commit().await.unwrap();
    assert_eq!(*heard.lock().unwrap(), ["first", "second"]);
}

pub(crate) async fn a_failed_body_leaves_nothing(engine: &Engine) {
    let db = engine.open(MIGRATIONS).await;
    let n_runs = AtomicU32::new(0);
    let result: Result<()> = db
        .transaction(async |tx| {
            n_runs.fetch_add(1, Ordering::SeqCst);
            insert(&tx, 1, "alice").await.map_err(into_error)?;
            Err(Error::failed_precondition("TOO_POOR", "no"))
        })
        .await;
    assert_eq!(result.unwrap_err().reason(), "TOO_POOR");
    assert_eq!((n_runs.into_inner(), count(&db).await), (1, 0));
}

async fn add_one(db: &Database, id: i64) -> Result<i64> {
    db.transaction(async |tx| {
        let found = account::Entity::find_by_id(id)
            .lock_exclusive()
            .one(&tx)
            .await
            .map_err(into_error)?;
        let found = found.ok_or_else(|| Error::not_found("ACCOUNT_NOT_FOUND", "no such account"))?;
        let balance = found.balance + 1;
        let mut row = account::ActiveModel::from(found);
        row.balance = Set(balance);
        row.update(&tx).await.map_err(into_error)?;
        Ok(balance)
    })
    .await
}

pub(crate) async fn parallel_read_modify_write_loses_nothing(engine: &Engine) {
    let db = engine.open(MIGRATIONS).await;
    insert(&db, 1, "alice").await.unwrap();
    // Two handles, as two processes would have: neither's queue of writers keeps the other out.
    let other = if engine.is_lasting() {
        engine.open(MIGRATIONS).await
    } else {
        db.clone()
    };
    // On tasks of their own, which also proves that the future may move between threads.
    let mut tasks = tokio::task::JoinSet::new();
    for db in std::iter::repeat([&db, &other]).flatten().take(50) {
        let db = db.clone();
        tasks.spawn(async move { add_one(&db, 1).await.unwrap() });
    }
    let mut balances = tasks.join_all().await;
    balances.sort_unstable();
    assert_eq!(balances, (1..=50).collect::<Vec<_>>());
    assert_eq!(
        account::Entity::find_by_id(1_i64)
            .one(&db)
            .await
            .unwrap()
            .unwrap()
            .balance,
        50
    );
}

/// On SQLite the other writer waits; one that wrote after our read would make our write fail.
pub(crate) async fn what_reads_first_may_write_later(engine: &Engine) {
    let db = engine.open(MIGRATIONS).await;
    let other = if engine.is_lasting() {
        engine.open(MIGRATIONS).await
    } else {
        db.clone()
    };
    let tx = db.begin().await.unwrap();
    assert_eq!(account::Entity::find().count(&tx).await.unwrap(), 0);
    let mut writes = tokio::task::JoinSet::new();
    writes.spawn(async move { insert(&other, 1, "bob").await });
    // Gives the other one the chance to come in between, where the engine lets it.
    let between = tokio::time::timeout(Duration::from_millis(100), writes.join_next()).await;
    insert(&tx, 2, "alice").await.unwrap();
    tx.commit().await.unwrap();
    let written = match between {
        Ok(written) => written,
        Err(_) => writes.join_next().await,
    };
    written.unwrap().unwrap().unwrap();
    assert_eq!(count(&db).await, 2);
}

/// Two transactions that lock two rows in opposite order; SQLite's writers cannot meet so.
pub(crate) async fn a_conflict_runs_the_body_again(engine: &Engine) {
    let db = engine.open(MIGRATIONS).await;
    if db.backend() == DbBackend::Sqlite {
        return;
    }
    insert(&db, 1, "alice").await.unwrap();
    insert(&db, 2, "bob").await.unwrap();
    let (both_hold_one, n_runs) = (Arc::new(Barrier::new(2)), Arc::new(AtomicU32::new(0)));
    let transfer = |first: i64, second: i64| {
        let (db, both_hold_one, n_runs) = (db.clone(), both_hold_one.clone(), n_runs.clone());
        async move {
            db.transaction(async |tx| {
                let raise = |id: i64| {
                    account::Entity::update_many()
                        .col_expr(account::Column::Balance, ExprTrait::add(Expr::col("balance"), 1))
                        .filter(account::Column::Id.eq(id))
                        .exec(&tx)
                };
                let run = n_runs.fetch_add(1, Ordering::SeqCst);
                raise(first).await.map_err(into_error)?;
                if run < 2 {
                    both_hold_one.wait().await;
                }
                raise(second).await.map_err(into_error)?;
                Ok(())
            })
            .await
        }
    };
    try_join_all([transfer(1, 2), transfer(2, 1)]).await.unwrap();
    assert!(n_runs.load(Ordering::SeqCst) > 2, "there was a deadlock");
    let rows = account::Entity::find().all(&db).await.unwrap();
    assert!(rows.iter().all(|row| row.balance == 2), "{rows:?}");
}

pub(crate) async fn reads_go_on_while_a_transaction_writes(engine: &Engine) {
    let db = engine.open(MIGRATIONS).await;
    insert(&db, 1, "alice").await.unwrap();
    let tx = db.begin().await.unwrap();
    insert(&tx, 2, "bob").await.unwrap();
    assert_eq!(count(&db).await, 1);
    tx.commit().await.unwrap();
    assert_eq!(count(&db).await, 2);
}

pub(crate) async fn a_full_pool_answers_unavailable_in_time(engine: &Engine) {
    let options = Options {
        max_connections: 2,
        acquire_timeout: Duration::from_millis(100),
        ..Options::default()
    };
    let db = engine.open_with(&options, MIGRATIONS).await;
    let started = tokio::time::Instant::now();
    if db.backend() == DbBackend::Sqlite {
        let first = db.begin().await.unwrap();
        let error = db.begin().await.unwrap_err();
        assert_eq!(error.reason(), "SQL_UNAVAILABLE");
        drop(first);
    } else {
        let (first, second) = (db.begin().await.unwrap(), db.begin().await.unwrap());
        let error = db.begin().await.unwrap_err();
        assert_eq!((error.code(), error.reason()), (Code::Unavailable, "SQL_UNAVAILABLE"));
        let error = account::Entity::find()
            .count(&db)
            .await
            .map_err(into_error)
            .unwrap_err();
        assert_eq!(error.reason(), "SQL_UNAVAILABLE");
        drop((first, second));
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    db.begin().await.unwrap().commit().await.unwrap();
}

pub(crate) async fn a_slow_query_is_logged_without_its_values(engine: &Engine) {
    let log = crate::log::Log::default();
    let options = Options {
        slow_query: Duration::ZERO,
        ..Options::default()
    };
    let db = engine.open_with(&options, MIGRATIONS).await;
    // The subscriber is of this thread; a query of SeaORM reports on the thread that awaits it.
    let guard = tracing::subscriber::set_default(log.subscriber());
    insert(&db, 1, "hunter2").await.unwrap();
    drop(guard);
    let text = log.text();
    assert!(
        text.contains("slow query") && text.contains("elapsed_ms") && text.contains("INSERT INTO"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
}

fn create_pair(schema: &mut Schema) {
    let mut owned = Table::create();
    owned
        .table("owned")
        .col(ColumnDef::new("owner").big_integer().not_null());
    owned.foreign_key(
        ForeignKey::create()
            .name("fk_owned")
            .from("owned", "owner")
            .to("accounts", "id"),
    );
    schema.run(&owned);
}

pub(crate) async fn foreign_keys_hold(engine: &Engine) {
    let pair = Migration {
        name: "0002_owned",
        up: create_pair,
    };
    let db = engine.open(&[MIGRATIONS[0], pair]).await;
    let orphan = Query::insert()
        .into_table("owned")
        .columns(["owner"])
        .values_panic([404.into()])
        .to_owned();
    let error = db.execute(&orphan).await.unwrap_err();
    assert_eq!(unique_violation(&error), None);
    assert_eq!(into_error(error).code(), Code::Internal);
    if db.backend() == DbBackend::Sqlite {
        let mode = Statement::from_string(db.backend(), "PRAGMA journal_mode");
        let mode: String = db
            .query_one_raw(mode)
            .await
            .unwrap()
            .unwrap()
            .try_get("", "journal_mode")
            .unwrap();
        assert_eq!(mode, "wal", "readers and the writer must not wait for each other");
    }
}

pub(crate) async fn equality_is_by_bytes(engine: &Engine) {
    let db = engine.open(MIGRATIONS).await;
    for (id, name) in (1..).zip(["a", "A", "ä", "a ", "ａ"]) {
        insert(&db, id, name)
            .await
            .unwrap_or_else(|error| panic!("{name:?} {error}"));
    }
    let found = account::Entity::find()
        .filter(account::Column::Name.eq("a"))
        .all(&db)
        .await
        .unwrap();
    assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), [1]);
}

pub(crate) async fn a_closed_database_is_unavailable(engine: &Engine) {
    let db = engine.open(MIGRATIONS).await;
    db.close().await;
    assert_eq!(db.ping().await.unwrap_err().reason(), "SQL_UNAVAILABLE");
    assert_eq!(db.begin().await.unwrap_err().reason(), "SQL_UNAVAILABLE");
}
