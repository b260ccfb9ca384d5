//! Limits of a connection pool.
//!
//! One plain struct, filled by whoever reads the configuration; every number has its unit and default beside it.

use std::time::Duration;

/// Limits of one module's connections; `Options::default()` suits a module of a running service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Most connections open at once. Default 10. A process needs this for every module it runs.
    pub max_connections: u32,
    /// Connections kept open while nobody asks. Default 0.
    pub min_connections: u32,
    /// Longest wait for a free connection, and on SQLite for the one writer's turn. Default 5 s.
    pub acquire_timeout: Duration,
    /// Longest time for the first connection, while [`Database::open`](crate::Database::open) runs. Default 10 s.
    pub connect_timeout: Duration,
    /// A connection unused for this long is closed. Default 10 min.
    pub idle_timeout: Duration,
    /// A connection older than this is closed, so that moved or restarted servers are noticed. Default 30 min.
    pub max_lifetime: Duration,
    /// A statement that takes at least this long is logged as a warning, without its values. Default 200 ms.
    pub slow_query: Duration,
    /// The server ends a statement that takes longer; zero for never. Default 30 s. SQLite has no such limit, MySQL (not
    /// MariaDB) applies it to `SELECT` only. Migrations are exempt.
    pub statement_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: 10,
            min_connections: 0,
            acquire_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(600),
            max_lifetime: Duration::from_secs(1800),
            slow_query: Duration::from_millis(200),
            statement_timeout: Duration::from_secs(30),
        }
    }
}
