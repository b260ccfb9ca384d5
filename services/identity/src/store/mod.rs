//! The tables of accounts, credentials, sessions and revocations.
//!
//! The unique constraint on credentials is the referee of every race; the generation of a session is changed by one
//! statement that names the generation it expects.

mod accounts;
mod schema;
mod sessions;

use std::time::Duration;

use mosaic::Transactions;
use mosaic::cache::{Cache, ReadThrough};
use mosaic::sql::Database;

pub(crate) use accounts::CredentialKey;
pub(crate) use schema::MIGRATIONS;
pub(crate) use sessions::Session;

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    database: Database,
    transactions: Transactions,
    /// Kind and identifier of each credential of an account.
    credentials: ReadThrough<Vec<(String, String)>>,
}

/// How long an account's credentials are cached; a change removes them earlier.
const CACHED_FOR: Duration = Duration::from_secs(3600);

impl Store {
    pub(crate) fn new(transactions: Transactions, cache: &Cache) -> Self {
        Self {
            database: transactions.database().clone(),
            transactions,
            credentials: ReadThrough::new(cache, CACHED_FOR),
        }
    }
}
