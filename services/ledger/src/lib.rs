//! Who has how much, as double entry.
//!
//! Money is never made or lost here: a posting moves it between accounts, and its entries add up to nothing. A balance is kept
//! beside the entries and changed in their transaction, under a lock of its row, so it is always their sum and never below its
//! floor. What came from outside came from an account without a floor, which stands for the outside.
//!
//! A posting is of `(biz, biz_id)`, and a unique index makes it one, however often it is asked for.

mod model;
mod service;
mod store;

use std::sync::Arc;

use mosaic::{Module, Result};
use mosaic_api::ledger::v1::LedgerServer;

use model::Floors;
use service::Service;
use store::Store;

mosaic::config! {
    /// The ledger.
    pub struct LedgerConfig in "ledger" {
        /// Kinds of accounts that may fall below zero: those that stand for the outside.
        pub without_floor: Vec<String> = "wechat,external",
    }
}

/// Wires the module up.
///
/// # Errors
/// A configuration with mistakes; a database that cannot be used.
pub async fn install(m: &mut Module) -> Result<()> {
    let config = m.config::<LedgerConfig>()?;
    let database = m.database(store::MIGRATIONS).await?;
    let store = Store::new(database, Floors::new(config.without_floor));
    m.serve(LedgerServer::new(Arc::new(Service::new(store))));
    Ok(())
}
