//! What an event adds to the transaction that publishes it.

use std::time::Duration;

use mosaic::{Context, Runtime};
use mosaic_events::Outbox;
use mosaic_sql::sea_orm::{ConnectionTrait as _, DbBackend, Statement, Value};
use mosaic_sql::{Migration, Transaction};
use tokio::time::Instant;

use crate::events::{Registered, migrations};
use crate::report::{Result, Samples, bar, say, table};
use crate::stores::Store;

const N_ACCOUNTS: i64 = 1000;
const N_WARM_UP: i64 = 1000;
const N_MEASURED: i64 = 6000;
const BAR_RATIO: f64 = 1.15;

/// An order, as the transactions that publish usually are: a row is looked at, one is added, one is changed.
const ORDERS: Migration = Migration {
    name: "0001_create_orders",
    up: |schema| {
        schema.sql("CREATE TABLE account (id BIGINT PRIMARY KEY, name VARCHAR(80) NOT NULL, balance BIGINT NOT NULL)");
        schema.sql(
            "CREATE TABLE purchase (id BIGINT PRIMARY KEY, account_id BIGINT NOT NULL, what VARCHAR(80) NOT NULL, \
             state BIGINT NOT NULL, price BIGINT NOT NULL, made_at BIGINT NOT NULL)",
        );
        schema.sql("CREATE INDEX ix_purchase_account ON purchase (account_id, made_at)");
    },
};

pub(crate) async fn measure() -> Result<()> {
    let mut all = migrations();
    all.push(ORDERS);
    let mut stores = vec![Store::sqlite(&all).await?];
    stores.extend(Store::named("PostgreSQL", "MOSAIC_TEST_POSTGRES", &all).await?);
    stores.extend(Store::durable_postgres(&all).await?);
    let mut rows = Vec::new();
    let mut bars = Vec::new();
    for store in stores {
        let [without, with, trip] = compare(&store).await?;
        let ratio = with.median() / without.median();
        bars.push((
            format!("{}: at most {BAR_RATIO}: {ratio:.2}", store.name),
            ratio <= BAR_RATIO,
        ));
        let tenth = |samples: &Samples| {
            format!(
                "{:.0} ({:.0}..{:.0})",
                samples.median(),
                samples.at(0.1),
                samples.at(0.9)
            )
        };
        rows.push(vec![
            store.name.to_owned(),
            tenth(&without),
            tenth(&with),
            tenth(&trip),
            format!("{ratio:.2}"),
        ]);
        store.remove().await?;
    }
    let head = [
        "database",
        "without an event, us",
        "with one, us",
        "with a statement that does nothing, us",
        "ratio",
    ];
    table(
        "events: a transaction of three statements, median (p10..p90)",
        &head,
        &rows,
    );
    say(&format!("{N_MEASURED} transactions, the sides in turns"));
    for (what, met) in bars {
        bar(&what, met);
    }
    Ok(())
}

async fn compare(store: &Store) -> Result<[Samples; 3]> {
    let runtime = Runtime::system();
    let (outbox, cx) = (Outbox::new(&runtime), Context::new(&runtime));
    let accounts: Vec<String> = (0..N_ACCOUNTS).map(|id| format!("({id}, 'somebody', 0)")).collect();
    let sql = format!("INSERT INTO account (id, name, balance) VALUES {}", accounts.join(", "));
    store.database.execute_unprepared(&sql).await?;
    let mut taken = [const { Vec::new() }; 3];
    for number in 0..N_WARM_UP + N_MEASURED {
        let side = usize::try_from(number % 3)?;
        let since = Instant::now();
        let tx = store.database.begin().await?;
        order(&tx, number).await?;
        // What a trip costs, to see what is the row's.
        if side == 2 {
            let backend = tx.get_database_backend();
            tx.query_one_raw(Statement::from_sql_and_values(backend, "SELECT 1", []))
                .await?;
        }
        if side == 1 {
            let account = (number % N_ACCOUNTS).unsigned_abs();
            let name = "somebody".to_owned();
            outbox.publish(&tx, &cx, &Registered { account, name }).await?;
        }
        tx.commit().await?;
        if number >= N_WARM_UP {
            taken[side].push(micros(since.elapsed()));
        }
    }
    Ok(taken.map(|taken| taken.into_iter().collect()))
}

fn micros(taken: Duration) -> f64 {
    taken.as_secs_f64() * 1e6
}

async fn order(tx: &Transaction, number: i64) -> Result<()> {
    let backend = tx.get_database_backend();
    let account = number % N_ACCOUNTS;
    let statement = |sql: [&str; 2], values: Vec<Value>| {
        let sql = if backend == DbBackend::Postgres { sql[1] } else { sql[0] };
        Statement::from_sql_and_values(backend, sql, values)
    };
    let look = [
        "SELECT id, name, balance FROM account WHERE id = ?",
        "SELECT id, name, balance FROM account WHERE id = $1 FOR UPDATE",
    ];
    tx.query_one_raw(statement(look, vec![account.into()])).await?;
    let add = [
        "INSERT INTO purchase (id, account_id, what, state, price, made_at) VALUES (?, ?, ?, ?, ?, ?)",
        "INSERT INTO purchase (id, account_id, what, state, price, made_at) VALUES ($1, $2, $3, $4, $5, $6)",
    ];
    let values = [number, account].map(Value::from).into_iter();
    let rest = [
        "a night by the sea".into(),
        1_i64.into(),
        12_300_i64.into(),
        number.into(),
    ];
    tx.execute_raw(statement(add, values.chain(rest).collect())).await?;
    let change = [
        "UPDATE account SET balance = balance - ? WHERE id = ?",
        "UPDATE account SET balance = balance - $1 WHERE id = $2",
    ];
    tx.execute_raw(statement(change, vec![12_300_i64.into(), account.into()]))
        .await?;
    Ok(())
}
