//! What an engine's failure means, the same for every engine.
//!
//! Three things matter to a caller: somebody was there first (a unique violation, which the store turns into a domain
//! error), somebody was in the way (a conflict: run the transaction again), or the database is not there (try later).
//! Everything else is a defect of ours. The engines' texts name tables and quote values, so they stay in the cause.

use mosaic_core::Error;
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};
use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;
use sqlx::postgres::PgDatabaseError;

/// Reason of the error that says that a transaction lost against another one.
pub(crate) const CONFLICT: &str = "SQL_CONFLICT";

/// Turns a SeaORM failure into the error that leaves a service; for `.map_err(into_error)`.
///
/// `Aborted` `SQL_CONFLICT` for serialization failures, deadlocks and busy writers; `Unavailable` `SQL_UNAVAILABLE` for a
/// pool timeout and a lost connection; `DeadlineExceeded` `SQL_TIMEOUT` when the server ended a statement that took too
/// long; `AlreadyExists` `SQL_DUPLICATE` for a unique violation that the caller did not look at with
/// [`unique_violation`]; otherwise internal.
pub fn into_error(error: DbErr) -> Error {
    let outward = match meaning(&error) {
        Meaning::Conflict => Error::aborted(CONFLICT, "another change came first, try again"),
        Meaning::Unavailable => Error::unavailable("SQL_UNAVAILABLE", "the database cannot be reached"),
        Meaning::Timeout => Error::deadline_exceeded("SQL_TIMEOUT", "the database took too long"),
        Meaning::Duplicate => Error::already_exists("SQL_DUPLICATE", "exists already"),
        Meaning::Other => return Error::internal(error),
    };
    outward.caused_by(error)
}

/// Which unique constraint an insert or update ran into.
///
/// SQLite tells the columns, PostgreSQL and MySQL the constraint: [`UniqueViolation::is_on`] asks without caring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueViolation {
    /// Name of the constraint or index, where the engine tells it.
    pub constraint: Option<String>,
    /// Table, where the engine tells it.
    pub table: Option<String>,
    /// Columns, where the engine tells them.
    pub columns: Vec<String>,
}

impl UniqueViolation {
    /// Is this the unique index over exactly `columns` of `table`?
    ///
    /// Holds for an index named `uq_<table>_<columns joined by _>`, which is the convention, and for the names that the
    /// engines give to unnamed unique columns.
    pub fn is_on(&self, table: &str, columns: &[&str]) -> bool {
        if self.table.as_deref().is_some_and(|theirs| theirs != table) {
            return false;
        }
        let joined = columns.join("_");
        match self.constraint.as_deref() {
            Some(name) => {
                name == format!("uq_{table}_{joined}") || name == format!("{table}_{joined}_key") || name == columns[0]
            }
            None => self.columns == columns,
        }
    }
}

/// Returns which unique constraint `error` speaks of, `None` if it is about something else.
pub fn unique_violation(error: &DbErr) -> Option<UniqueViolation> {
    let error = database_error(error)?;
    if !error.is_unique_violation() {
        return None;
    }
    if let Some(postgres) = error.try_downcast_ref::<PgDatabaseError>() {
        return Some(UniqueViolation {
            constraint: postgres.constraint().map(str::to_owned),
            table: postgres.table().map(str::to_owned),
            columns: Vec::new(),
        });
    }
    if error.try_downcast_ref::<MySqlDatabaseError>().is_some() {
        return Some(from_mysql_message(error.message()));
    }
    Some(from_sqlite_message(error.message()))
}

/// `Duplicate entry 'it''s' for key 'uq_users_phone'`, in MySQL 8 `'users.uq_users_phone'`. The entry is the user's text
/// and may hold anything, so the key is looked for from the end.
fn from_mysql_message(message: &str) -> UniqueViolation {
    let key = message
        .rsplit_once("for key '")
        .map(|(_, key)| key.trim_end_matches('\''));
    let (table, name) = match key.and_then(|key| key.split_once('.')) {
        Some((table, name)) => (Some(table.to_owned()), Some(name.to_owned())),
        None => (None, key.map(str::to_owned)),
    };
    UniqueViolation {
        constraint: name,
        table,
        columns: Vec::new(),
    }
}

/// `UNIQUE constraint failed: users.biz, users.phone`; for an index on an expression `index 'name'`.
fn from_sqlite_message(message: &str) -> UniqueViolation {
    let what = message.rsplit_once(": ").map_or(message, |(_, what)| what);
    if let Some(name) = what.strip_prefix("index '") {
        return UniqueViolation {
            constraint: Some(name.trim_end_matches('\'').to_owned()),
            table: None,
            columns: Vec::new(),
        };
    }
    let mut table = None;
    let mut columns = Vec::new();
    for part in what.split(", ") {
        if let Some((of, column)) = part.split_once('.') {
            table = Some(of.to_owned());
            columns.push(column.to_owned());
        }
    }
    UniqueViolation {
        constraint: None,
        table,
        columns,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Conflict,
    Unavailable,
    Timeout,
    Duplicate,
    Other,
}

fn meaning(error: &DbErr) -> Meaning {
    if let DbErr::ConnectionAcquire(ConnAcquireErr::Timeout | ConnAcquireErr::ConnectionClosed) = error {
        return Meaning::Unavailable;
    }
    match sqlx_error(error) {
        Some(sqlx::Error::Database(error)) => meaning_of_answer(error.as_ref()),
        Some(
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed,
        ) => Meaning::Unavailable,
        _ => Meaning::Other,
    }
}

/// What the database itself said.
fn meaning_of_answer(error: &dyn DatabaseError) -> Meaning {
    if error.is_unique_violation() {
        return Meaning::Duplicate;
    }
    if let Some(mysql) = error.try_downcast_ref::<MySqlDatabaseError>() {
        return match mysql.number() {
            // lock wait timeout, deadlock; MariaDB: record has changed since last read
            1205 | 1213 | 1020 => Meaning::Conflict,
            // too many connections, server shutdown, connection killed
            1040 | 1053 | 1203 | 1927 | 2006 | 2013 => Meaning::Unavailable,
            // max_statement_time of MariaDB, max_execution_time of MySQL
            1969 | 3024 => Meaning::Timeout,
            _ => Meaning::Other,
        };
    }
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<PgDatabaseError>().is_some() {
        return match code.as_ref() {
            "40001" | "40P01" | "55P03" => Meaning::Conflict,
            "57014" => Meaning::Timeout,
            // too many connections, shutdown, crash, not yet up
            "53300" | "57P01" | "57P02" | "57P03" => Meaning::Unavailable,
            class if class.starts_with("08") => Meaning::Unavailable,
            _ => Meaning::Other,
        };
    }
    // SQLite: the low byte is the primary code. 5 busy, 6 locked; 10 disk, 13 full, 14 cannot open.
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(5 | 6) => Meaning::Conflict,
        Ok(10 | 13 | 14) => Meaning::Unavailable,
        _ => Meaning::Other,
    }
}

fn sqlx_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}

fn database_error(error: &DbErr) -> Option<&dyn DatabaseError> {
    match sqlx_error(error) {
        Some(sqlx::Error::Database(error)) => Some(error.as_ref()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mysql_key_is_read_whatever_the_entry_says() {
        let entry = "Duplicate entry 'x' for key 'users.fake' for key 'uq_users_phone'";
        let violation = from_mysql_message(entry);
        assert!(violation.is_on("users", &["phone"]));
        let violation = from_mysql_message("Duplicate entry '1' for key 'users.uq_users_phone'");
        assert!(violation.is_on("users", &["phone"]));
        assert!(!violation.is_on("accounts", &["phone"]));
        assert!(!violation.is_on("users", &["email"]));
    }

    #[test]
    fn sqlite_columns_are_read() {
        let violation = from_sqlite_message("UNIQUE constraint failed: users.biz, users.phone");
        assert!(violation.is_on("users", &["biz", "phone"]));
        assert!(!violation.is_on("users", &["phone"]));
        let violation = from_sqlite_message("UNIQUE constraint failed: index 'uq_users_lower'");
        assert_eq!(violation.constraint.as_deref(), Some("uq_users_lower"));
    }

    #[test]
    fn causes_stay_private() {
        let error = into_error(DbErr::Custom("select secret from users".into()));
        assert_eq!(error.message(), "internal error");
        assert!(error.cause_chain().contains("select secret"));
        let error = into_error(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout));
        assert_eq!(error.reason(), "SQL_UNAVAILABLE");
        assert!(error.is_retryable());
    }
}
