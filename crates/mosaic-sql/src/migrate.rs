//! Schema changes, each applied once, in order, whoever starts first.
//!
//! A migration is a name and a function that lists statements, built with sea-query for the engine at hand. They only go
//! forward: expand, move, contract in three releases, so that old code runs on the new schema. For the same reason a
//! database with migrations this program does not know is fine: a newer release was here.
//!
//! One process at a time migrates a namespace (advisory lock, `GET_LOCK`, SQLite's write lock). On SQLite and PostgreSQL
//! all pending migrations commit together or not at all. MySQL commits every schema change at once, so there the number
//! of statements done is kept, and a start after a crash goes on behind the last of them.

use mosaic_core::{Code, Error, Result, Runtime};
use sea_orm::sea_query::{ColumnDef, Expr, ExprTrait, Query, Table, TableCreateStatement};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqliteTransactionMode, Statement,
    StatementBuilder, TransactionOptions, TransactionTrait,
};

use crate::connect::{self, LOCK_NAME, Server};
use crate::error::into_error;
use crate::options::Options;

/// Longest wait for another process that migrates.
const LOCK_WAIT_S: u32 = 300;

/// A schema change with a name that is never used twice in a module, e.g. `0001_create_users`.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Name, as stored.
    pub name: &'static str,
    /// Lists the statements; must list the same ones whenever it runs.
    pub up: fn(&mut Schema),
}

/// Collects the statements of a migration for one engine.
#[derive(Debug)]
pub struct Schema {
    backend: DbBackend,
    statements: Vec<Statement>,
}

impl Schema {
    /// Adds a sea-query statement: `Table::create()`, `Table::alter()`, `Index::create()`, `Query::insert()` ...
    pub fn run(&mut self, statement: &impl StatementBuilder) {
        self.statements.push(self.backend.build(statement));
    }

    /// Creates a table whose rows lie in the tree of its primary key and not beside it: for short rows that are looked for by that key.
    /// MySQL does so always, PostgreSQL never, SQLite when told to.
    pub fn run_clustered(&mut self, table: &mut TableCreateStatement) {
        if self.backend == DbBackend::Sqlite {
            table.extra("WITHOUT ROWID");
        }
        self.run(table);
    }

    /// Adds SQL that every engine understands.
    pub fn sql(&mut self, sql: impl Into<String>) {
        self.statements.push(Statement::from_string(self.backend, sql));
    }

    /// Returns the engine, where a statement must differ.
    pub fn backend(&self) -> DbBackend {
        self.backend
    }
}

const TABLE: &str = "mosaic_migrations";

/// Applies what is missing of `migrations`.
pub(crate) async fn run(
    server: &Server,
    options: &Options,
    module: &str,
    migrations: &[Migration],
    runtime: &Runtime,
) -> Result<()> {
    check(migrations)?;
    let connection = connect::for_migrations(server, options);
    let result = migrate(&connection, module, migrations, runtime).await;
    // Ends the session, and MySQL's lock with it. Closing a pool does not fail.
    let _ = connection.close().await;
    result
}

async fn migrate(
    connection: &DatabaseConnection,
    module: &str,
    migrations: &[Migration],
    runtime: &Runtime,
) -> Result<()> {
    let tx = lock(connection).await?;
    let n_applied = apply(&tx, migrations, runtime).await?;
    tx.commit().await.map_err(into_error)?;
    if n_applied > 0 {
        tracing::info!(module, n_applied, "applied {n_applied} migrations to {module}");
    }
    Ok(())
}

fn check(migrations: &[Migration]) -> Result<()> {
    for (position, migration) in migrations.iter().enumerate() {
        let is_repeated = migrations[..position]
            .iter()
            .any(|earlier| earlier.name == migration.name);
        if is_repeated || migration.name.is_empty() || migration.name.len() > 190 {
            let message = format!("migration name \"{}\" is empty, too long or used twice", migration.name);
            return Err(Error::invalid_argument("SQL_MIGRATIONS_INVALID", message));
        }
    }
    Ok(())
}

/// Begins the transaction that holds the right to migrate.
///
/// On MySQL the first schema change ends the transaction; what is left of it is one session that keeps the lock.
async fn lock(connection: &DatabaseConnection) -> Result<DatabaseTransaction> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let mut n_refused = 0;
    let tx = loop {
        match connection.begin_with_options(options).await.map_err(into_error) {
            // SQLite: another process writes for longer than the busy timeout, or switches a new file to WAL.
            Err(error) if error.reason() == crate::error::CONFLICT && n_refused < 30 => {
                n_refused += 1;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            result => break result?,
        }
    };
    let lock = match tx.get_database_backend() {
        DbBackend::Postgres => {
            format!(
                "SELECT 1 AS locked FROM pg_advisory_xact_lock(hashtext('{LOCK_NAME}'), hashtext(current_schema()))"
            )
        }
        DbBackend::MySql => format!("SELECT GET_LOCK(CONCAT('{LOCK_NAME}.', DATABASE()), {LOCK_WAIT_S}) AS locked"),
        _ => return Ok(tx),
    };
    let answer = tx
        .query_one_raw(Statement::from_string(tx.get_database_backend(), lock))
        .await;
    let row = answer.map_err(into_error)?;
    let is_locked = match (&row, tx.get_database_backend()) {
        (Some(row), DbBackend::MySql) => row.try_get::<Option<i64>>("", "locked").map_err(into_error)? == Some(1),
        (row, _) => row.is_some(),
    };
    if is_locked {
        Ok(tx)
    } else {
        Err(Error::unavailable(
            "SQL_UNAVAILABLE",
            "another process keeps migrating the database",
        ))
    }
}

async fn apply(tx: &DatabaseTransaction, migrations: &[Migration], runtime: &Runtime) -> Result<usize> {
    tx.execute(&table()).await.map_err(into_error)?;
    let known = progress(tx).await.map_err(into_error)?;
    for (name, ..) in &known {
        if !migrations.iter().any(|migration| migration.name == name) {
            tracing::info!(migration = name, "the database knows a migration of a newer release");
        }
    }
    let mut n_applied = 0;
    for migration in migrations {
        let found = known.iter().find(|(name, ..)| name == migration.name);
        let done = match found {
            Some((_, done, total)) if done == total => continue,
            Some((_, done, _)) => Some(*done),
            None => None,
        };
        apply_one(tx, migration, done, runtime)
            .await
            .map_err(|cause| failed(migration, cause))?;
        n_applied += 1;
    }
    Ok(n_applied)
}

async fn apply_one(
    tx: &DatabaseTransaction,
    migration: &Migration,
    done: Option<i64>,
    runtime: &Runtime,
) -> Result<(), DbErr> {
    let mut schema = Schema {
        backend: tx.get_database_backend(),
        statements: Vec::new(),
    };
    (migration.up)(&mut schema);
    let total = schema.statements.len() as i64;
    let now = crate::micros(runtime.now());
    if done.is_none() {
        let row = [migration.name.into(), 0_i64.into(), total.into(), now.into()];
        let columns = ["name", "done", "total", "changed_at"];
        tx.execute(Query::insert().into_table(TABLE).columns(columns).values_panic(row))
            .await?;
    }
    let first = done.unwrap_or(0);
    for (position, statement) in (0..)
        .zip(schema.statements)
        .skip_while(|(position, _)| *position < first)
    {
        tx.execute_raw(statement).await?;
        let mut step = Query::update();
        step.table(TABLE).value("done", position + 1).value("changed_at", now);
        tx.execute(step.and_where(Expr::col("name").eq(migration.name))).await?;
    }
    Ok(())
}

/// Returns (name, statements done, statements in all) of each migration the database knows.
async fn progress(tx: &DatabaseTransaction) -> Result<Vec<(String, i64, i64)>, DbErr> {
    let rows = tx
        .query_all(Query::select().columns(["name", "done", "total"]).from(TABLE))
        .await?;
    let read = |row: &sea_orm::QueryResult| {
        Ok((
            row.try_get("", "name")?,
            row.try_get("", "done")?,
            row.try_get("", "total")?,
        ))
    };
    rows.iter().map(read).collect()
}

fn table() -> TableCreateStatement {
    Table::create()
        .table(TABLE)
        .if_not_exists()
        .col(ColumnDef::new("name").string_len(190).not_null().primary_key())
        .col(ColumnDef::new("done").big_integer().not_null())
        .col(ColumnDef::new("total").big_integer().not_null())
        .col(ColumnDef::new("changed_at").big_integer().not_null())
        .to_owned()
}

fn failed(migration: &Migration, cause: DbErr) -> Error {
    let error = into_error(cause);
    if error.is_retryable() {
        return error;
    }
    let message = format!("migration {} failed", migration.name);
    Error::new(Code::Internal, "SQL_MIGRATION_FAILED", message).caused_by(error)
}
