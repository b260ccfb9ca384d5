//! Who has read what, and when last.

use mosaic::sql::sea_orm::{ConnectionTrait as _, DbBackend};
use mosaic::sql::{Database, into_error};
use mosaic::{AccountId, Result};

use super::upsert;
use crate::model::Item;
use mosaic::sql::rows::{self, Column};

/// The last time that an account read an item. Ordered: rows are written in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Visit {
    pub(crate) account: AccountId,
    pub(crate) item: Item,
}

const COLUMNS: [Column; 4] = [
    Column::Number("account_id"),
    Column::Text("biz"),
    Column::Number("biz_id"),
    Column::Number("read_at"),
];

/// Keeps visits, each with its time, each once and in their order. The later of two times stays, so that it changes nothing if they come
/// again, or late.
pub(crate) async fn keep(database: &Database, visits: impl IntoIterator<Item = (&Visit, &i64)>) -> Result<()> {
    let row = |(visit, at): (&Visit, &i64)| (visit.account.get(), visit.item.biz.to_string(), visit.item.biz_id, *at);
    let visits: Vec<_> = visits.into_iter().map(row).collect();
    if visits.is_empty() {
        return Ok(());
    }
    let backend = database.backend();
    let later = match backend {
        DbBackend::MySql => "read_at = GREATEST(history.read_at, VALUES(read_at))",
        DbBackend::Postgres => "read_at = GREATEST(history.read_at, excluded.read_at)",
        _ => "read_at = MAX(history.read_at, excluded.read_at)",
    };
    let from = rows::table(backend, &COLUMNS);
    let columns = "account_id, biz, biz_id, read_at";
    let sql = upsert(backend, "history", columns, &from, "account_id, biz, biz_id", later);
    let statement = rows::statement(backend, sql, &visits, [])?;
    database.execute_raw(statement).await.map(drop).map_err(into_error)
}
