//! Money that readers give to authors.
//!
//! A reward is opened here and paid at `payments`; when that says that it was paid, the ledger books it, nine tenths for the
//! author and one for the platform, and only then the reward says so. Each step can be repeated: the payment by its number,
//! the posting by `("reward", id)`, the state by its own order. What becomes of a reward is always read from `payments`,
//! never from the event, which only says that it is time to look; so lost, repeated and reordered events do no harm.
//!
//! A reconciler (`reconcile`) compares what the three of them, and the provider's bill, say of the same money; people ask it by
//! the [commands](RewardsCommands) of the program.

mod model;
mod operate;
mod reconcile;
mod reports;
mod service;
mod settle;
mod store;

use std::sync::Arc;
use std::time::Duration;

use mosaic::{Module, Result};
use mosaic_api::rewards::v1::RewardsServer;

use operate::Desk;
pub use operate::RewardsCommands;
use reconcile::Reconciler;
use reports::Reports;
use service::Service;
use settle::Settlement;
use store::Store;

mosaic::config! {
    /// Rewards.
    pub struct RewardsConfig in "rewards" {
        /// Time for which the same reward gets the same code.
        pub code_cached_for: Duration = "30m",
        /// Age up to which payments are left alone by the reconciler that runs by itself: they may be on their way.
        pub reconcile_lag: Duration = "10m",
        /// Time for which reports are kept.
        pub reports_kept: Duration = "90d",
    }
}

/// Wires the module up.
///
/// # Errors
/// A configuration with mistakes; a database that cannot be used.
pub async fn install(m: &mut Module) -> Result<()> {
    let config = m.config::<RewardsConfig>()?;
    let database = m.database(store::MIGRATIONS).await?;
    let store = Store::new(database.clone());
    let settlement = Settlement {
        store: store.clone(),
        payments: m.client(),
        ledger: m.client(),
    };
    settle::install(m, &settlement)?;
    let reconciler = Reconciler {
        store: store.clone(),
        payments: m.client(),
        ledger: m.client(),
        reports: Reports::new(database),
    };
    reconcile::install(m, &reconciler, &config)?;
    m.admin(operate::router(Desk {
        runtime: m.runtime().clone(),
        rewards: m.client(),
        lag: config.reconcile_lag,
    }));
    m.serve(RewardsServer::new(Arc::new(Service {
        store,
        settlement,
        reconciler,
        payments: m.client(),
        code_cached_for: config.code_cached_for,
    })));
    Ok(())
}
