//! Profiles: what people say of themselves, for every product.
//!
//! Read through the cache; a change removes the cached copy after its commit and never before, so that nobody puts the
//! old row back. An account without a profile has the defaults: nothing is written until somebody says something. A change
//! publishes [`mosaic_api::events::ProfileChanged`] in its transaction.

mod model;
mod service;
mod store;

use std::sync::Arc;

use mosaic::{Module, Result};
use mosaic_api::users::v1::UsersServer;

use service::Service;
use store::Store;

/// Wires the module up.
///
/// # Errors
/// A database that cannot be used.
pub async fn install(m: &mut Module) -> Result<()> {
    m.database(store::MIGRATIONS).await?;
    let store = Store::new(m.transactions()?, m.cache());
    m.serve(UsersServer::new(Arc::new(Service::new(store))));
    Ok(())
}
