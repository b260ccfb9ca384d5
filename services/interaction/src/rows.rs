//! Many rows as one parameter of a statement.
//!
//! A statement with a placeholder for each value of each row has another text for each number of rows, so the engine would read and plan
//! it anew for each batch. Here rows travel as one JSON text that the engine takes apart, and the statement is prepared once.
//! The dialects differ in how; nothing else knows.

use mosaic::sql::sea_orm::{DbBackend, Statement};
use mosaic::{Error, Result};
use serde::Serialize;

/// A column of the rows; its place in [`Rows::table`] is its place in the JSON array of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Column {
    Text(&'static str),
    Number(&'static str),
}

/// Returns a table expression over the JSON array of arrays that is the statement's only parameter, to be given a name.
pub(crate) fn table(backend: DbBackend, columns: &[Column]) -> String {
    let column = |(place, column): (usize, &Column)| match (backend, column) {
        (DbBackend::Postgres, Column::Text(name)) => format!("e->>{place} AS {name}"),
        (DbBackend::Postgres, Column::Number(name)) => format!("(e->>{place})::bigint AS {name}"),
        // The database's collation is that of its tables; a JSON text's would be another one.
        (DbBackend::MySql, Column::Text(name)) => format!("{name} VARCHAR(64) PATH '$[{place}]'"),
        (DbBackend::MySql, Column::Number(name)) => format!("{name} BIGINT PATH '$[{place}]'"),
        (_, Column::Text(name) | Column::Number(name)) => format!("value->>{place} AS {name}"),
    };
    let list: Vec<_> = columns.iter().enumerate().map(column).collect();
    let list = list.join(", ");
    match backend {
        DbBackend::Postgres => format!("(SELECT {list} FROM json_array_elements($1::json) AS e)"),
        DbBackend::MySql => format!("JSON_TABLE(?, '$[*]' COLUMNS ({list}))"),
        _ => format!("(SELECT {list} FROM json_each(?))"),
    }
}

/// Makes a statement of a text with one [`table`] and its rows, tuples.
pub(crate) fn statement(backend: DbBackend, sql: String, rows: &[impl Serialize]) -> Result<Statement> {
    let json = serde_json::to_string(rows).map_err(Error::internal)?;
    Ok(Statement::from_sql_and_values(backend, sql, [json.into()]))
}
