//! A connection for as long as a transaction.
//!
//! Under the entities of SeaORM, but not its own transaction: that sends `COMMIT` by itself, and here what is to be said last travels with
//! it. A session that is dropped between `BEGIN` and the end would go back to the pool with a transaction that nobody ends; who has one
//! sees to it ([`Session::rollback`]), and what cannot be rolled back is not used again.

use std::pin::Pin;

use sea_orm::{ConnAcquireErr, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement};
use sea_query_sqlx::SqlxValues;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, MySql, Postgres, Sqlite};

/// See the module documentation.
pub(crate) enum Session {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
    MySql(PoolConnection<MySql>),
}

/// What is done to a statement in a session.
pub(crate) type Run<T> = for<'a> fn(&'a mut Session, Statement) -> Asked<'a, T>;
type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, DbErr>> + Send + 'a>>;

/// Does the same to a connection of each kind.
macro_rules! on {
    ($session:expr, $connection:ident => $body:expr) => {
        match $session {
            Session::Sqlite($connection) => $body,
            Session::Postgres($connection) => $body,
            Session::MySql($connection) => $body,
        }
    };
}

impl Session {
    /// Takes a connection out of a pool.
    pub(crate) async fn acquire(pool: &DatabaseConnection) -> Result<Self, DbErr> {
        let session = match pool.get_database_backend() {
            DbBackend::Postgres => pool.get_postgres_connection_pool().acquire().await.map(Self::Postgres),
            DbBackend::MySql => pool.get_mysql_connection_pool().acquire().await.map(Self::MySql),
            _ => pool.get_sqlite_connection_pool().acquire().await.map(Self::Sqlite),
        };
        session.map_err(|error| match error {
            sqlx::Error::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
            sqlx::Error::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
            other => DbErr::Conn(RuntimeErr::SqlxError(other.into())),
        })
    }

    /// Says statements without values, in one trip.
    pub(crate) async fn say(&mut self, sql: &str) -> Result<ExecResult, DbErr> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql));
        on!(self, c => sql.execute(&mut **c).await.map(ExecResult::from)).map_err(exec_error)
    }

    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<ExecResult, DbErr> {
        let (sql, values) = parts(statement);
        on!(self, c => sqlx::query_with(sql, values).execute(&mut **c).await.map(ExecResult::from)).map_err(exec_error)
    }

    pub(crate) async fn query_one(&mut self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let (sql, values) = parts(statement);
        on!(self, c => {
            let row = sqlx::query_with(sql, values).fetch_optional(&mut **c).await;
            row.map(|row| row.map(QueryResult::from))
        })
        .map_err(query_error)
    }

    pub(crate) async fn query_all(&mut self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let (sql, values) = parts(statement);
        on!(self, c => {
            let rows = sqlx::query_with(sql, values).fetch_all(&mut **c).await;
            rows.map(|rows| rows.into_iter().map(QueryResult::from).collect())
        })
        .map_err(query_error)
    }

    /// Ends what was begun; a connection that does not take it is closed.
    pub(crate) async fn rollback(mut self) -> Result<Self, DbErr> {
        match self.say("ROLLBACK").await {
            Ok(_) => Ok(self),
            // A full disk, for one, makes SQLite roll back by itself.
            Err(error) if error.to_string().contains("no transaction is active") => Ok(self),
            Err(error) => {
                on!(&mut self, c => c.close_on_drop());
                Err(error)
            }
        }
    }
}

fn parts(statement: Statement) -> (AssertSqlSafe<String>, SqlxValues) {
    let values = statement.values.unwrap_or(sea_orm::Values(Vec::new()));
    (AssertSqlSafe(statement.sql), SqlxValues(values))
}

fn exec_error(error: sqlx::Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(error.into()))
}

fn query_error(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}
