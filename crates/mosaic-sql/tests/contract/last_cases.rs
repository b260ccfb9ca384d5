//! Rows that are added by the trip that commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mosaic_sql::sea_orm::ConnectionTrait as _;
use mosaic_sql::sea_orm::sea_query::{ColumnDef, Query, Table};
use mosaic_sql::{Database, Migration, Plain, Schema};

use crate::cases::{MIGRATIONS, insert};
use crate::engine::Engine;

const NOTES: Migration = Migration {
    name: "0003_create_notes",
    up: create_notes,
};
const INTO: &str = "notes (id, text, body)";

fn create_notes(schema: &mut Schema) {
    let body = match schema.backend() {
        mosaic_sql::sea_orm::DbBackend::MySql => ColumnDef::new("body").custom("longblob").take(),
        _ => ColumnDef::new("body").blob().take(),
    };
    schema.run(
        Table::create()
            .table("notes")
            .col(ColumnDef::new("id").big_integer().not_null().primary_key())
            .col(ColumnDef::new("text").string_len(190).not_null())
            .col(body),
    );
}

async fn open(engine: &Engine) -> Database {
    let mut all = MIGRATIONS.to_vec();
    all.push(NOTES);
    engine.open(&all).await
}

async fn notes(db: &Database) -> Vec<(i64, String, Vec<u8>)> {
    let mut find = Query::select();
    find.columns(["id", "text", "body"]).from("notes");
    find.order_by("id", mosaic_sql::sea_orm::Order::Asc);
    let rows = db.query_all(&find).await.unwrap();
    let read = |row: &mosaic_sql::sea_orm::QueryResult| {
        let text = row.try_get("", "text").unwrap();
        (row.try_get("", "id").unwrap(), text, row.try_get("", "body").unwrap())
    };
    rows.iter().map(read).collect()
}

pub(crate) async fn rows_that_come_last_commit_with_the_rest(engine: &Engine) {
    let db = open(engine).await;
    let all: Vec<u8> = (0..=255).collect();
    let big = vec![7; 100_000];
    let want = [
        (i64::MIN, "", [].as_slice()),
        (1, "'); DROP TABLE notes; --", b"\0'\\\"".as_slice()),
        (2, "\\' é \u{1F600} \n", &all),
        (3, "a plain one? :x $1", br#"{"plain": true}"#.as_slice()),
        (4, "'", b"'".as_slice()),
        (5, "\\", b"\\x41".as_slice()),
        (i64::MAX, "big", &big),
    ];
    let n_heard = Arc::new(AtomicU32::new(0));
    let tx = db.begin().await.unwrap();
    for (id, text, body) in want {
        let row = [Plain::Number(id), Plain::Text(text), Plain::Bytes(body)];
        tx.insert_last(INTO, &row).await.unwrap();
    }
    insert(&tx, 1, "one").await.unwrap();
    assert_eq!(notes(&db).await, []);
    let heard = n_heard.clone();
    tx.on_commit(move || _ = heard.fetch_add(1, Ordering::Relaxed));
    tx.commit().await.unwrap();
    let want = want.map(|(id, text, body)| (id, text.to_owned(), body.to_vec()));
    assert_eq!(notes(&db).await, want);
    assert_eq!(n_heard.load(Ordering::Relaxed), 1);
    // What is dropped leaves nothing, and the connections are as good as before.
    for id in 10..30 {
        let tx = db.begin().await.unwrap();
        let row = [Plain::Number(id), Plain::Text("x"), Plain::Bytes(b"")];
        tx.insert_last(INTO, &row).await.unwrap();
        if id % 2 == 0 {
            tx.commit().await.unwrap();
        } else {
            drop(tx);
        }
        insert(&db, id, &format!("plain {id}")).await.unwrap();
    }
    assert_eq!(notes(&db).await.len(), want.len() + 10);
}

pub(crate) async fn a_last_row_that_is_refused_undoes_all(engine: &Engine) {
    let db = open(engine).await;
    for _ in 0..3 {
        let tx = db.begin().await.unwrap();
        insert(&tx, 1, "one").await.unwrap();
        for id in [5, 5] {
            let row = [Plain::Number(id), Plain::Text("twice"), Plain::Bytes(b"")];
            tx.insert_last(INTO, &row).await.unwrap();
        }
        tx.commit().await.unwrap_err();
        assert_eq!(notes(&db).await, []);
    }
    insert(&db, 1, "one").await.unwrap();
}
