//! What becomes of those who come after somebody who was given up half-way.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use mosaic_core::Result;
use mosaic_sql::sea_orm::{ConnectionTrait as _, Statement};
use mosaic_sql::{Database, Options, into_error};
use tokio::time::timeout;

use crate::cases::{MIGRATIONS, insert};
use crate::engine::Engine;

const N_ROUNDS: i64 = 60;
/// Times that something is asked how far it is before it is given up.
const POLLS_MAX: i64 = 12;
const N_CONNECTIONS: u32 = 3;

/// Polls `future` so many times, whenever it has got on, and drops it.
async fn give_up_after(n_polls: i64, future: impl Future) {
    let mut future = pin!(future);
    let mut n_polled = 0;
    std::future::poll_fn(|cx| {
        n_polled += 1;
        match future.as_mut().poll(cx) {
            Poll::Pending if n_polled <= n_polls => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
}

/// Asks for what was said, in words that no connection has prepared.
async fn echo(db: &impl mosaic_sql::sea_orm::ConnectionTrait, n: i64) -> Result<i64> {
    let backend = db.get_database_backend();
    let place = if backend == mosaic_sql::sea_orm::DbBackend::Postgres {
        "$1"
    } else {
        "?"
    };
    let sql = format!("SELECT id, balance, created_at, balance + {n} AS said FROM accounts WHERE id = {place}");
    let row = db
        .query_one_raw(Statement::from_sql_and_values(backend, sql, [1_i64.into()]))
        .await;
    row.map_err(into_error)?
        .expect("the account is there")
        .try_get("", "said")
        .map_err(into_error)
}

async fn change(db: &Database, n: i64) -> Result<()> {
    let tx = db.begin().await?;
    echo(&tx, n).await?;
    insert(&tx, 1000 + n, &format!("given up {n}"))
        .await
        .map_err(into_error)?;
    echo(&tx, -n).await?;
    tx.rollback().await
}

pub(crate) async fn what_is_given_up_breaks_nothing(engine: &Engine) {
    let options = Options {
        max_connections: N_CONNECTIONS,
        ..Options::default()
    };
    let db = engine.open_with(&options, MIGRATIONS).await;
    insert(&db, 1, "one").await.unwrap();
    let patience = Duration::from_secs(4);
    for n in 0..N_ROUNDS {
        give_up_after(n % POLLS_MAX, echo(&db, 3 * n)).await;
        give_up_after(n % POLLS_MAX, change(&db, n)).await;
        let said = timeout(patience, echo(&db, 3 * n + 1)).await;
        assert_eq!(said.unwrap().unwrap(), 3 * n + 1, "round {n}");
        // Were it in somebody's transaction, the others would not see it.
        timeout(patience, insert(&db, 2 + n, &format!("kept {n}")))
            .await
            .unwrap()
            .unwrap();
        let mut readers = Vec::new();
        for _ in 0..N_CONNECTIONS {
            readers.push(async {
                let sql = format!("SELECT COUNT(*) AS n FROM accounts WHERE id = {}", 2 + n);
                let row = db.query_one_raw(Statement::from_string(db.backend(), sql)).await;
                row.unwrap().unwrap().try_get::<i64>("", "n").unwrap()
            });
        }
        let seen = timeout(patience, futures::future::join_all(readers)).await.unwrap();
        assert_eq!(seen, [1; N_CONNECTIONS as usize], "round {n}");
    }
}
