//! Finds people by nickname, and items of every product by title, content and tags.
//!
//! The truth is a table: what is accepted is a row and a task, in one transaction, and the task brings the row to the search
//! engine as often as it takes. So an engine that is away delays what is found and loses nothing, an engine that lost its files is
//! filled again, and a rebuild is a walk over the table. Searches fail while it is away (`SEARCH_UNAVAILABLE`); nothing else does.
//!
//! People are found without anybody indexing them: who registers or changes his profile says so by an event, a task asks users.
//! What the caller has collected and liked is asked of interaction within a short time; if it does not answer, results come in the order
//! in which strangers see them.
//!
//! Promises: an older version never replaces a newer one, in whatever order they come; a removal is a version like others.

mod boosts;
mod follow;
mod indexes;
mod model;
mod service;
mod store;
mod tasks;

use std::sync::Arc;

use mosaic::{Module, Result};
use mosaic_api::search::v1::SearchServer;

use boosts::Boosts;
use indexes::Indexes;
use service::Service;
use store::Store;

/// Wires the module up.
///
/// # Errors
/// A configuration with mistakes; a database that cannot be used.
pub async fn install(m: &mut Module) -> Result<()> {
    m.database(store::MIGRATIONS).await?;
    let store = Store::new(m.transactions()?);
    let indexes = Arc::new(Indexes::new(m.search()?, store.clone(), m.runtime()));
    tasks::install(m, &store, &indexes)?;
    follow::install(m, &store)?;
    let boosts = Boosts::new(m.client());
    m.serve(SearchServer::new(Arc::new(Service::new(store, indexes, boosts))));
    Ok(())
}
