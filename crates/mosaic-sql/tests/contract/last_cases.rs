//! Statements that travel with the commit.

use mosaic_sql::sea_orm::sea_query::{ColumnDef, Expr, ExprTrait as _, Order, Query, Table};
use mosaic_sql::sea_orm::{ConnectionTrait as _, DbBackend, Value};
use mosaic_sql::{Database, Migration, Schema, Transaction};

use crate::cases::{MIGRATIONS, count, insert};
use crate::engine::Engine;

const LETTERS: Migration = Migration {
    name: "0003_create_letters",
    up: create_letters,
};

fn create_letters(schema: &mut Schema) {
    let mut bytes = ColumnDef::new("bytes");
    match schema.backend() {
        // MySQL's BLOB ends at 64 KiB.
        DbBackend::MySql => bytes.custom("longblob").null(),
        _ => bytes.blob().null(),
    };
    schema.run(
        Table::create()
            .table("letters")
            .col(
                ColumnDef::new("place")
                    .big_integer()
                    .not_null()
                    .auto_increment()
                    .primary_key(),
            )
            .col(ColumnDef::new("id").big_integer().not_null().unique_key())
            .col(ColumnDef::new("words").text().null())
            .col(bytes),
    );
}

async fn open(engine: &Engine) -> Database {
    let migrations = [MIGRATIONS, &[LETTERS]].concat();
    engine.open(&migrations).await
}

async fn put_last(tx: &Transaction, id: i64, words: Option<&str>, bytes: Option<&[u8]>) {
    let mut insert = Query::insert();
    insert.into_table("letters").columns(["id", "words", "bytes"]);
    insert.values_panic([
        id.into(),
        words.map(str::to_owned).into(),
        Value::Bytes(bytes.map(<[u8]>::to_vec)).into(),
    ]);
    let statement = tx.get_database_backend().build(&insert);
    tx.execute_last(statement).await.unwrap();
}

async fn letter(db: &Database, id: i64) -> Option<(Option<String>, Option<Vec<u8>>)> {
    let mut find = Query::select();
    find.columns(["words", "bytes"]).from("letters");
    find.and_where(Expr::col("id").eq(id));
    let row = db.query_one(&find).await.unwrap()?;
    Some((row.try_get("", "words").unwrap(), row.try_get("", "bytes").unwrap()))
}

pub(crate) async fn what_is_said_last_is_done_with_the_rest_or_not_at_all(engine: &Engine) {
    let db = open(engine).await;
    let tx = db.begin().await.unwrap();
    put_last(&tx, 1, Some("one"), None).await;
    insert(&tx, 1, "alice").await.unwrap();
    put_last(&tx, 2, Some("two"), None).await;
    tx.commit().await.unwrap();
    assert_eq!(count(&db).await, 1);
    assert!(letter(&db, 1).await.is_some() && letter(&db, 2).await.is_some());

    let tx = db.begin().await.unwrap();
    put_last(&tx, 3, None, None).await;
    tx.rollback().await.unwrap();
    let tx = db.begin().await.unwrap();
    put_last(&tx, 3, None, None).await;
    drop(tx);
    let tx = db.begin().await.unwrap();
    insert(&tx, 2, "bob").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(letter(&db, 3).await, None);
}

pub(crate) async fn what_fails_last_undoes_the_rest(engine: &Engine) {
    let db = open(engine).await;
    let tx = db.begin().await.unwrap();
    put_last(&tx, 1, None, None).await;
    tx.commit().await.unwrap();

    let tx = db.begin().await.unwrap();
    insert(&tx, 1, "alice").await.unwrap();
    let twice = Query::insert()
        .into_table("letters")
        .columns(["id"])
        .values_panic([1_i64.into()])
        .take();
    // Some engines say so at once, some with the commit.
    let error = match tx.execute_last(tx.get_database_backend().build(&twice)).await {
        Err(error) => error,
        Ok(()) => tx.commit().await.unwrap_err(),
    };
    assert_eq!(error.reason(), "SQL_DUPLICATE");
    // Whoever has the connection next finds no transaction.
    for (id, name) in [(2, "bob"), (3, "carol"), (4, "dave")] {
        let tx = db.begin().await.unwrap();
        insert(&tx, id, name).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(count(&db).await, 3, "alice is not there");
}

pub(crate) async fn what_is_said_last_is_taken_by_the_letter(engine: &Engine) {
    let db = open(engine).await;
    let words = [
        "it's; DROP TABLE letters; --",
        "\\'; DELETE FROM letters; --",
        "\\\\' \\x27 \\u0027 \\",
        "$1 $2 ? ?? :id %s {}",
        "line\nline\r\n\ttab \u{1}",
        "Grüße 你好 🦀 \u{2019} \u{ff07} ' \u{feff}",
        "/* -- */ $$ $tag$ E'\\\\' \"quoted\" `ticks`",
        "",
    ];
    let all: Vec<u8> = (0..=255).collect();
    for (id, words) in (1..).zip(words) {
        let tx = db.begin().await.unwrap();
        put_last(&tx, id, Some(words), Some(&all)).await;
        tx.commit().await.unwrap();
        let kept = (Some(words.to_owned()), Some(all.clone()));
        assert_eq!(letter(&db, id).await, Some(kept), "{words:?}");
    }
    let tx = db.begin().await.unwrap();
    put_last(&tx, 99, None, None).await;
    tx.commit().await.unwrap();
    assert_eq!(letter(&db, 99).await, Some((None, None)));
}

pub(crate) async fn much_that_is_said_last_is_said_in_its_order(engine: &Engine) {
    let db = open(engine).await;
    let tx = db.begin().await.unwrap();
    for id in 0..60 {
        // Small ones, ones that do not fit together, and a long one.
        let n_bytes = [10, 20_000, 40_000, 10, 700_000][id % 5];
        put_last(&tx, id as i64, None, Some(&vec![7; n_bytes])).await;
    }
    tx.commit().await.unwrap();
    let mut find = Query::select();
    find.column("id").from("letters").order_by("place", Order::Asc);
    let rows = db.query_all(&find).await.unwrap();
    let ids: Vec<i64> = rows.iter().map(|row| row.try_get("", "id").unwrap()).collect();
    assert_eq!(ids, (0..60).collect::<Vec<i64>>());
}
