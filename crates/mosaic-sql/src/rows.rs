//! Many rows as one parameter of a statement.
//!
//! A statement with a placeholder for each value of each row has another text for each number of rows, so the engine would read and plan
//! it anew for each batch. Here rows travel as one JSON text that the engine takes apart, and the statement is prepared once.
//! The dialects differ in how; nothing else knows.

use mosaic_core::{Error, Result};
use sea_orm::{DbBackend, Statement, Value};
use serde::Serialize;

/// A column of the rows; its place in the list for [`table`] is its place in a row.
#[derive(Debug, Clone, Copy)]
pub enum Column {
    /// A text of at most 64 characters.
    Text(&'static str),
    /// A text of exactly so many characters, in a column of that type: compared as any other text, PostgreSQL would not use its index.
    Fixed(&'static str, u32),
    /// A `BIGINT`.
    Number(&'static str),
}

/// Returns a table expression over the JSON array that is the statement's first parameter, to be given a name. Its elements are rows:
/// arrays, or plain values where there is one column, which are taken apart in half the time.
pub fn table(backend: DbBackend, columns: &[Column]) -> String {
    let is_plain = columns.len() == 1;
    let column = |(place, column): (usize, &Column)| {
        let at = match (backend, is_plain) {
            (DbBackend::Postgres, true) => "e #>> '{}'".to_owned(),
            (DbBackend::Postgres, false) => format!("e->>{place}"),
            (DbBackend::MySql, true) => "$".to_owned(),
            (DbBackend::MySql, false) => format!("$[{place}]"),
            (_, true) => "value".to_owned(),
            (_, false) => format!("value->>{place}"),
        };
        match (backend, column) {
            (DbBackend::Postgres, Column::Text(name)) => format!("{at} AS {name}"),
            (DbBackend::Postgres, Column::Fixed(name, len)) => format!("({at})::char({len}) AS {name}"),
            (DbBackend::Postgres, Column::Number(name)) => format!("({at})::bigint AS {name}"),
            // The database's collation is that of its tables; a JSON text's would be another one.
            (DbBackend::MySql, Column::Text(name)) => format!("{name} VARCHAR(64) PATH '{at}'"),
            (DbBackend::MySql, Column::Fixed(name, len)) => format!("{name} CHAR({len}) PATH '{at}'"),
            (DbBackend::MySql, Column::Number(name)) => format!("{name} BIGINT PATH '{at}'"),
            (_, Column::Text(name) | Column::Fixed(name, _) | Column::Number(name)) => format!("{at} AS {name}"),
        }
    };
    let list: Vec<_> = columns.iter().enumerate().map(column).collect();
    let list = list.join(", ");
    match backend {
        DbBackend::Postgres => format!("(SELECT {list} FROM json_array_elements($1::json) AS e)"),
        DbBackend::MySql => format!("JSON_TABLE(?, '$[*]' COLUMNS ({list}))"),
        _ => format!("(SELECT {list} FROM json_each(?))"),
    }
}

/// Makes a statement of a text with one [`table`] and its rows, a list of tuples or of plain values; and of what comes behind it in the text.
///
/// # Errors
/// Internal, if rows cannot be written as JSON.
pub fn statement<const N: usize>(
    backend: DbBackend,
    sql: String,
    rows: &(impl Serialize + ?Sized),
    rest: [Value; N],
) -> Result<Statement> {
    let json = serde_json::to_string(rows).map_err(Error::internal)?;
    let values = std::iter::once(json.into()).chain(rest);
    Ok(Statement::from_sql_and_values(backend, sql, values))
}
