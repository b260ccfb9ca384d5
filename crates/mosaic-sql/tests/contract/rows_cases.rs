//! Rows that are one parameter.

use mosaic_sql::rows::{Column, statement, table};
use mosaic_sql::sea_orm::{ConnectionTrait as _, DbBackend};

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
    let backend = db.get_database_backend();
    let sql = format!("SELECT k.words FROM {} k", table(backend, &[Column::Text("words")]));
    let found = db
        .query_all_raw(statement(backend, sql, &NASTY, []).unwrap())
        .await
        .unwrap();
    let found: Vec<String> = found.iter().map(|row| row.try_get("", "words").unwrap()).collect();
    assert_eq!(found, NASTY);

    let numbers = [i64::MAX, 0, i64::MIN];
    let sql = format!("SELECT k.n FROM {} k", table(backend, &[Column::Number("n")]));
    let found = db
        .query_all_raw(statement(backend, sql, &numbers, []).unwrap())
        .await
        .unwrap();
    let found: Vec<i64> = found.iter().map(|row| row.try_get("", "n").unwrap()).collect();
    assert_eq!(found, numbers);
}
