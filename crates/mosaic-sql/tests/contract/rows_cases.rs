//! Rows that are one parameter.

use mosaic_sql::Database;
use mosaic_sql::rows::{Column, statement, table};
use mosaic_sql::sea_orm::{ConnectionTrait as _, DbBackend, TryGetable};
use serde::Serialize;

use crate::engine::Engine;

const NASTY: [&str; 4] = ["", "it's \"q\" \\ %_;--", "Grüße 你好 🦀", "[1, null]"];

pub(crate) async fn many_rows_are_one_parameter(engine: &Engine) {
    let db = engine.open(&[]).await;
    let backend = db.get_database_backend();
    let from = table(
        backend,
        &[Column::Text("words"), Column::Fixed("code", 4), Column::Number("n")],
    );
    let rows: Vec<_> = NASTY
        .iter()
        .zip([i64::MIN, 0, 1, i64::MAX])
        .map(|(words, n)| (words, "c0de", n))
        .collect();
    let other = if backend == DbBackend::Postgres { "$2" } else { "?" };
    let sql = format!("SELECT k.words, k.code, k.n FROM {from} k WHERE k.words <> {other} ORDER BY k.n");
    let found = db
        .query_all_raw(statement(backend, sql, &rows, ["nothing".into()]).unwrap())
        .await
        .unwrap();
    let found: Vec<(String, String, i64)> = found
        .iter()
        .map(|row| {
            (
                row.try_get("", "words").unwrap(),
                row.try_get("", "code").unwrap(),
                row.try_get("", "n").unwrap(),
            )
        })
        .collect();
    let want: Vec<_> = rows
        .iter()
        .map(|(words, code, n)| ((**words).to_owned(), (*code).to_owned(), *n))
        .collect();
    assert_eq!(found, want);
}

pub(crate) async fn rows_of_one_column_are_plain_values(engine: &Engine) {
    let db = engine.open(&[]).await;
    assert_eq!(returned::<String>(&db, Column::Text("v"), &NASTY).await, NASTY);
    let numbers = [i64::MAX, 0, i64::MIN];
    assert_eq!(returned::<i64>(&db, Column::Number("v"), &numbers).await, numbers);
}

/// Sends `values` as the column `v` and returns what comes back.
async fn returned<T: TryGetable>(db: &Database, column: Column, values: &[impl Serialize]) -> Vec<T> {
    let backend = db.get_database_backend();
    let sql = format!("SELECT k.v FROM {} k", table(backend, &[column]));
    let found = db
        .query_all_raw(statement(backend, sql, values, []).unwrap())
        .await
        .unwrap();
    found.iter().map(|row| row.try_get("", "v").unwrap()).collect()
}
