//! SQL for services: connections by URL, migrations, transactions and errors that mean the same on every engine.
//!
//! Queries are written with SeaORM entities and sea-query, so one text serves SQLite, PostgreSQL and MySQL/MariaDB; this
//! crate adds what SeaORM leaves open and must not differ between engines: one namespace a module, transactions that
//! neither lose updates nor fail because somebody else writes, unique violations that can be told apart, migrations that
//! many processes may start at once. Ids are `BIGINT`, times are `BIGINT` microseconds ([`timestamp`], [`micros`]).
//!
//! Every transaction is `READ COMMITTED` (on SQLite: one writer at a time). Check-then-act on shared rows therefore needs
//! one statement, `lock_exclusive()` or a unique constraint, and then behaves alike everywhere.
//!
//! Failures leave through [`into_error`]: conflicts as `SQL_CONFLICT`, a database that cannot be reached as
//! `SQL_UNAVAILABLE`, the rest as internal errors whose text stays in the log.

mod clock;
mod connect;
mod database;
mod error;
mod finish;
mod migrate;
mod options;
pub mod rows;
mod session;
mod target;
mod transaction;

pub use clock::DatabaseClock;
pub use database::Database;
pub use error::{UniqueViolation, into_error, unique_violation};
pub use migrate::{Migration, Schema};
pub use options::Options;
pub use sea_orm;
pub use transaction::Transaction;

use mosaic_core::Timestamp;

/// Reads a time column.
pub const fn timestamp(column: i64) -> Timestamp {
    Timestamp::from_micros(column)
}

/// Returns what a time column stores.
pub const fn micros(time: Timestamp) -> i64 {
    time.as_micros()
}
