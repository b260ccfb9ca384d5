//! Who follows whom.
//!
//! The relation rows are the truth; each account's two counters are a row beside them that changes in the same transaction,
//! and only if a relation did, so that they are equal whenever somebody looks. Counting the rows instead would make the
//! profile of somebody with a million followers the most expensive page of all.
//!
//! Promises: following twice is following once; nobody follows himself; one follows at most so many (`relations.followees_max`),
//! so that all of them can be gone through while a person waits; who cares for a change hears of it exactly if there was one.

mod model;
mod service;
mod store;

use std::sync::Arc;

use mosaic::{Module, Result};
use mosaic_api::relations::v1::RelationsServer;

use service::Service;
use store::Store;

mosaic::config! {
    /// Who follows whom.
    pub struct RelationsConfig in "relations" {
        /// Most accounts that one account follows.
        pub followees_max: u32 = "5000",
    }
}

/// Wires the module up.
///
/// # Errors
/// A configuration with mistakes; a database that cannot be used.
pub async fn install(m: &mut Module) -> Result<()> {
    let config = m.config::<RelationsConfig>()?;
    m.database(store::MIGRATIONS).await?;
    let store = Store::new(m.transactions()?, config.followees_max);
    m.serve(RelationsServer::new(Arc::new(Service { store })));
    Ok(())
}
